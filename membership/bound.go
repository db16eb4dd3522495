package membership

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

// The first byte of a request (hashicorp/raft v1.8.0, net_transport.go).
const (
	kindAppendEntries byte = iota
	kindRequestVote
	kindInstallSnapshot
	kindTimeoutNow
	kindRequestPreVote
)

const requestBuffer = 64 << 10 // bytes read ahead of a connection

// boundTransport is Raft's network transport in which each connection belongs to one node:
// hashicorp/raft's own one for what goes out, and a reader of its own for what comes in,
// because a raft.RPC does not say which connection it came by. The bytes are the same.
type boundTransport struct {
	*raft.NetworkTransport
	stream  *tlsStream
	out     *dialler
	roster  *roster // set by bind
	grace   time.Duration
	timeout time.Duration // of writing an answer

	consume chan raft.RPC
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	once    sync.Once

	mu        sync.Mutex
	heartbeat func(raft.RPC)
	pending   map[chan<- raft.RPCResponse]string // who sent a request that has no answer yet
}

// openBound listens for Raft. Nothing is read before serve.
func openBound(cfg Config) (*boundTransport, error) {
	stream, err := listenTLS(cfg.Listen, cfg.Server, cfg.Logger)
	if err != nil {
		return nil, err
	}
	t := &boundTransport{
		stream: stream, grace: cfg.Heartbeat, timeout: rpcTimeout(cfg.Heartbeat),
		out:     newDialler(cfg.Client, stream.Addr()),
		consume: make(chan raft.RPC), pending: map[chan<- raft.RPCResponse]string{},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.NetworkTransport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: t.out, MaxPool: 3, Timeout: rpcTimeout(cfg.Heartbeat), Logger: newHCLog(cfg.Logger),
	})
	return t, nil
}

// bind says whose configuration counts. It comes before Raft starts, because that dials.
func (t *boundTransport) bind(self string, book *ledger, sponsors []raft.Server) {
	t.roster = newRoster(self, book, sponsors, t.out.ask)
	t.out.roster = t.roster
}

// serve begins to read. It comes after Raft has read its log, so that the configuration is known.
func (t *boundTransport) serve() {
	t.stream.serve(t.roster)
	t.wg.Go(t.acceptLoop)
	t.wg.Go(t.followConfiguration)
	t.wg.Go(func() { t.out.keepSpares(t.ctx, t.roster.voters) })
}

// bindTransport binds a real transport to the node's log; a simulation's has no doors. What it
// returns begins to read, once Raft has read its log.
func (n *Node) bindTransport(trans *freshOnly) (serve func() error) {
	bound, real := n.parts.Transport.(*boundTransport)
	if !real {
		return func() error { return nil }
	}
	sponsors, spoilt := readSponsors(n.cfg.Dir)
	bound.bind(n.cfg.Node, n.book, sponsors)
	late := &lateComers{state: n.State, log: n.cfg.Logger}
	bound.stream.ended, bound.out.ended = late.judge, late.judge
	trans.still = bound.still
	return func() error {
		if list, _ := n.book.latest(); len(list) == 0 && spoilt != nil { // nobody needs them afterwards
			return spoilt
		}
		bound.serve()
		return nil
	}
}

// rpcTimeout is how long Raft waits for another node's answer.
func rpcTimeout(heartbeat time.Duration) time.Duration { return max(time.Second, 4*heartbeat) }

// Consumer implements raft.Transport.
func (t *boundTransport) Consumer() <-chan raft.RPC { return t.consume }

// SetHeartbeatHandler implements raft.Transport.
func (t *boundTransport) SetHeartbeatHandler(f func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = f
}

// Close ends everything that is open, and returns when nothing is read any more.
func (t *boundTransport) Close() error {
	var err error
	t.once.Do(func() {
		t.cancel()
		err = errors.Join(t.stream.Close(), t.NetworkTransport.Close())
		t.wg.Wait()
	})
	return err
}

// followConfiguration cuts who may not speak any more: what comes in at once, and what goes
// out a heartbeat later, so that a node that is removed can still be told so.
func (t *boundTransport) followConfiguration() {
	var late <-chan time.Time
	for {
		select {
		case <-t.roster.book.moved:
			t.stream.cut(func(node string) bool {
				_, err := t.roster.speaker(node)
				return err == nil
			})
			late = time.After(t.grace)
		case <-late:
			late = nil
			t.out.cut()
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *boundTransport) acceptLoop() {
	for {
		c, err := t.stream.Accept()
		if err != nil {
			return
		}
		t.wg.Go(func() {
			defer c.Close()
			if err := t.converse(c); errors.Is(err, ErrNoSpeaker) {
				t.stream.refused.note(c.RemoteAddr().String(), err)
			}
		})
	}
}

// converse reads requests and writes answers until either end stops.
func (t *boundTransport) converse(c *accepted) error {
	r := bufio.NewReaderSize(c, requestBuffer)
	w := bufio.NewWriter(c)
	dec := codec.NewDecoder(r, &codec.MsgpackHandle{})
	asRaft := &codec.MsgpackHandle{}
	asRaft.TimeNotBuiltin = true
	enc := codec.NewEncoder(w, asRaft)
	for {
		kind, err := r.ReadByte()
		if err != nil {
			return err
		}
		if _, err := t.roster.speaker(c.node); err != nil {
			return err // before a byte of its request is decoded
		}
		rpc, err := decodeRequest(kind, r, dec)
		if err != nil {
			return err
		}
		resp, err := t.exchange(c.node, rpc)
		if err != nil {
			return err
		}
		_ = c.SetWriteDeadline(time.Now().Add(t.timeout))
		text := ""
		if resp.Error != nil {
			text = resp.Error.Error()
		}
		if err := errors.Join(enc.Encode(text), enc.Encode(resp.Response), w.Flush()); err != nil {
			return err
		}
	}
}

// decodeRequest reads the rest of a request of a kind. The data of a snapshot stays in r.
func decodeRequest(kind byte, r io.Reader, dec *codec.Decoder) (raft.RPC, error) {
	var rpc raft.RPC
	switch kind {
	case kindAppendEntries:
		rpc.Command = &raft.AppendEntriesRequest{}
	case kindRequestVote:
		rpc.Command = &raft.RequestVoteRequest{}
	case kindRequestPreVote:
		rpc.Command = &raft.RequestPreVoteRequest{}
	case kindTimeoutNow:
		rpc.Command = &raft.TimeoutNowRequest{}
	case kindInstallSnapshot:
		rpc.Command = &raft.InstallSnapshotRequest{}
	default:
		return rpc, fmt.Errorf("membership: raft has no request of kind %d", kind)
	}
	if err := dec.Decode(rpc.Command); err != nil {
		return rpc, fmt.Errorf("membership: a request of kind %d cannot be read: %w", kind, err)
	}
	if s, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
		rpc.Reader = io.LimitReader(r, s.Size)
	}
	return rpc, nil
}

// exchange hands a request to Raft, if its sender may send it, and returns Raft's answer.
func (t *boundTransport) exchange(node string, rpc raft.RPC) (raft.RPCResponse, error) {
	speaker, err := t.roster.speaker(node)
	if err == nil {
		err = says(speaker, rpc.Command)
	}
	if err != nil {
		return raft.RPCResponse{}, err
	}
	answer := make(chan raft.RPCResponse, 1)
	rpc.RespChan = answer
	t.mu.Lock()
	t.pending[answer] = node
	heartbeat := t.heartbeat
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.pending, answer)
	}()
	if isHeartbeat(rpc.Command) && heartbeat != nil {
		heartbeat(rpc)
	} else {
		select {
		case t.consume <- rpc:
		case <-t.ctx.Done():
			return raft.RPCResponse{}, raft.ErrTransportShutdown
		}
	}
	select {
	case resp := <-answer:
		if errors.Is(resp.Error, ErrNoSpeaker) {
			return raft.RPCResponse{}, resp.Error
		}
		return resp, nil
	case <-t.ctx.Done():
		return raft.RPCResponse{}, raft.ErrTransportShutdown
	}
}

// still reports, with ErrNoSpeaker, that the sender of a request has lost the right to it
// while the request waited for its turn.
func (t *boundTransport) still(rpc raft.RPC) error {
	t.mu.Lock()
	node, ok := t.pending[rpc.RespChan]
	t.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: the transport has ended", ErrNoSpeaker)
	}
	_, err := t.roster.speaker(node)
	return err
}

// isHeartbeat tells what Raft takes past its queue, as hashicorp/raft does.
func isHeartbeat(cmd any) bool {
	req, ok := cmd.(*raft.AppendEntriesRequest)
	return ok && req.Term != 0 && req.PrevLogEntry == 0 && req.PrevLogTerm == 0 &&
		len(req.Entries) == 0 && req.LeaderCommitIndex == 0
}
