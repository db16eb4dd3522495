package datagram

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
	"havip-cluster/membership/identity"
)

const (
	tellEvery   = time.Minute     // between two lines about dropped datagrams
	silentAfter = 5 * time.Second // without an answer: something is wrong between two nodes
	socketBytes = 1 << 20         // that the kernel may keep in either direction
)

// ErrNoChannel is returned by Send while there is no channel yet. The message waits for one, but not for long.
var ErrNoChannel = errors.New("datagram: no channel to that node yet")

// Config says where a node speaks, and as whom.
type Config struct {
	Cluster string // id
	Node    string // id
	Listen  netip.AddrPort
	// State is the newest state that this node has applied.
	State func() *fsm.State
	// Keys are this node's own, the newest first.
	Keys func() ([]identity.DatagramKey, error)
	// Receive is called for each message with the id of the node that said it, in the goroutine of Run: it must not block,
	// and must not keep message.
	Receive func(from string, message []byte)
	Logger  *slog.Logger
	// Plane gives the thread that reads, and so answers, its priority; nil: an ordinary one.
	Plane *realtime.Plane
}

// Socket sends and takes sealed messages. All methods may be called from any goroutine.
type Socket struct {
	cfg    Config
	conn   *conn
	table  table
	counts counts
	asked  chan struct{} // a hello may be due
	opened time.Time
	offers atomic.Bool // see Offer
}

// Open starts to listen. Nothing is answered before Run.
func Open(cfg Config) (*Socket, error) {
	conn, err := listenUDP(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("datagram: listen on %s: %w", cfg.Listen, err)
	}
	s := &Socket{
		cfg: cfg, conn: conn, asked: make(chan struct{}, 1), opened: time.Now(),
		table: table{cluster: cfg.Cluster, self: cfg.Node, short: shortID(cfg.Node), state: cfg.State, keys: cfg.Keys},
	}
	s.table.changed = s.wake
	return s, nil
}

// Close ends the socket, and with it Run.
func (s *Socket) Close() error { return s.conn.close() }

// Dropped returns how many datagrams were dropped so far, by cause.
func (s *Socket) Dropped() map[string]uint64 { return s.counts.dropped() }

// frames are buffers for what is sent.
var frames = sync.Pool{New: func() any { return new([frameMax]byte) }}

// Silent returns the nodes to which this node speaks and that have answered no hello for
// silentAfter, sorted by id: they are down, or UDP to the lease port does not get through.
func (s *Socket) Silent() []string {
	now := time.Now()
	var out []string
	for _, p := range s.table.now().peers {
		p.mu.Lock()
		if silent(&p.send, s.opened, p.since, now) {
			out = append(out, p.id)
		}
		p.mu.Unlock()
	}
	slices.Sort(out)
	return out
}

// silent is Silent for one peer, of a process that was opened, and met it, at these times.
func silent(p *sending, opened, met, now time.Time) bool {
	speaks := now.Sub(p.spoke) < idleAfter && now.Sub(opened) > silentAfter && now.Sub(met) > silentAfter
	return speaks && now.Sub(p.heard) > silentAfter
}

// Send seals a message for a node and sends it. Nobody knows whether it arrives. It returns
// ErrNoChannel when the two have not met yet: the message waits for that for a moment.
func (s *Socket) Send(to fsm.Node, message []byte) error {
	if len(message) > PayloadMax {
		return fmt.Errorf("datagram: a message of %d bytes, at most %d", len(message), PayloadMax)
	}
	v := s.table.now()
	p := v.peers[shortID(to.ID)]
	if p == nil || p.id != to.ID {
		return fmt.Errorf("datagram: node %s has no key here", to.ID)
	}
	now := time.Now()
	buf := frames.Get().(*[frameMax]byte)
	defer frames.Put(buf)
	p.mu.Lock()
	first := now.Sub(p.send.spoke) >= idleAfter
	p.send.spoke = now
	frame, ok := p.send.seal(buf[:0], s.table.short, p.short, message)
	if !ok {
		p.send.hold(now, message)
	}
	address := p.address()
	p.mu.Unlock()
	if first || !ok {
		s.wake()
	}
	if !ok {
		return fmt.Errorf("%w: %s", ErrNoChannel, to.Name)
	}
	return s.write(frame, address)
}

// address is where the peer listens; with its lock held.
func (p *peer) address() netip.AddrPort {
	ip, err := netip.ParseAddr(p.node.Address)
	if err != nil { // the state has checked it
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, uint16(p.node.LeasePort))
}

func (s *Socket) write(frame []byte, to netip.AddrPort) error {
	if err := s.conn.write(frame, to); err != nil {
		s.counts.add(causeSend)
		return fmt.Errorf("datagram: to %s: %w", to, err)
	}
	return nil
}

// Run takes datagrams until ctx ends or the socket is closed.
func (s *Socket) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, s.conn.stop)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.keep(ctx) })
	defer wg.Wait()
	defer cancel()
	// What came is answered in this very thread, up to the acknowledgement on the wire.
	thread := s.cfg.Plane.Enter("answers")
	defer thread.Leave()
	buf := make([]byte, frameMax+1)
	for {
		n, from, err := s.conn.read(buf)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// It says nothing about the next datagram.
			s.counts.add(causeSend)
			continue
		}
		if why := s.take(buf[:n], from); why != "" {
			s.counts.add(why)
		}
		thread.Worked()
	}
}

// take handles one datagram. It says why it was dropped. Before the tag was checked it
// allocates nothing, but for keys that are made once for each pair.
func (s *Socket) take(frame []byte, from netip.AddrPort) cause {
	var h header
	if why := h.parse(frame); why != "" {
		return why
	}
	if h.to != s.table.short {
		return causeForeign
	}
	v := s.table.now()
	p := v.peers[h.from]
	if p == nil {
		return causeSender
	}
	p.mu.Lock()
	if p.address().Addr() != from.Addr().Unmap() {
		p.mu.Unlock()
		return causeAddress
	}
	x, why := s.table.named(v, p, &h)
	if why != "" {
		p.mu.Unlock()
		return why
	}
	if h.protection == protectControl {
		why := s.control(v, p, x, &h, frame)
		return why // the lock was given back
	}
	before := p.recv.invite
	message, why := p.open(&h, x, frame)
	begun := p.recv.invite != before
	p.send.doubt = p.send.doubt || begun
	id := p.id
	p.mu.Unlock()
	if begun {
		s.wake()
	}
	if why == "" && len(message) > 0 { // an empty one only begins a channel
		s.cfg.Receive(id, message)
	}
	return why
}

// open returns the message of a frame that carries one, in place; with the peer's lock held. An offer is
// noted here, and gives none.
func (p *peer) open(h *header, x *pair, frame []byte) ([]byte, cause) {
	if h.protection == protectTagged {
		return p.openTagged(h, x, frame)
	}
	message, why := p.recv.open(h, x, frame)
	if bytes.Equal(message, offer) {
		p.recv.offered = true
		return nil, why
	}
	if len(message) > 0 && message[0] == FixedMark {
		return nil, causeVersion
	}
	return message, why
}

// control handles a hello or a welcome. It is called with the peer's lock held, and gives it back.
func (s *Socket) control(v *view, p *peer, x *pair, h *header, frame []byte) cause {
	now := time.Now()
	if !x.tagged(frame) {
		p.mu.Unlock()
		return causeTag
	}
	if h.kind == typeHello {
		if h.channel == 0 { // it has just begun
			p.send.doubt = true
			s.wake()
		}
		return s.hello(p, x, h, now)
	}
	fresh, why := p.send.welcome(now, h, x)
	if why != "" {
		p.mu.Unlock()
		return why
	}
	out := s.afterWelcome(p, now, fresh)
	address := p.address()
	p.mu.Unlock()
	for _, f := range out {
		_ = s.write(f, address)
	}
	return ""
}

// afterWelcome gives the frames to send once the peer has answered a hello; fresh: in a new channel. With the
// peer's lock held.
func (s *Socket) afterWelcome(p *peer, now time.Time, fresh bool) (out [][]byte) {
	say := func(message []byte) {
		if f, ok := p.send.seal(nil, s.table.short, p.short, message); ok {
			out = append(out, f)
		}
	}
	if s.offers.Load() && p.send.offers < offersMax {
		p.send.offers++
		say(offer)
	}
	if !fresh {
		return out
	}
	waiting := p.send.waiting
	p.send.waiting = nil
	for _, w := range waiting {
		if now.Sub(w.at) <= waitingLife {
			say(w.text)
		}
	}
	if len(out) == 0 { // the first frame begins the channel there, also when nothing is to be said
		say(nil)
	}
	return out
}

// hello answers with an invitation, and says which channel is in use here. It gives the peer's lock back.
func (s *Socket) hello(p *peer, x *pair, h *header, now time.Time) cause {
	if !p.recv.mayWelcome(now) {
		p.mu.Unlock()
		return causeMany
	}
	answer := header{
		protection: protectControl, kind: typeWelcome, from: s.table.short, to: p.short, fromKey: h.toKey, toKey: h.fromKey,
		invite: p.recv.next, number: h.number,
	}
	if p.recv.aead != nil && p.recv.pair == x {
		answer.channel = p.recv.channel
	}
	var out [headerBytes + tagBytes]byte
	answer.put(out[:])
	x.tag(out[:])
	address := p.address()
	p.mu.Unlock()
	_ = s.write(out[:], address)
	return ""
}

// wake has keep look whether a hello is due.
func (s *Socket) wake() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// keep says hello to whom it is due, and tells once a minute what was dropped.
func (s *Socket) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	told := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.asked:
		case <-timer.C:
		}
		v := s.table.now()
		now := time.Now()
		next := told.Add(tellEvery)
		if len(v.said) > 0 {
			for _, p := range v.peers {
				if due := s.ask(v, p, now); due.Before(next) {
					next = due
				}
			}
		}
		if now.Sub(told) >= tellEvery {
			told = now
			s.counts.tell(s.cfg.Logger)
		}
		timer.Reset(max(time.Until(next), time.Millisecond))
	}
}

// ask says hello to a peer if it is due, and returns when the next one is.
func (s *Socket) ask(v *view, p *peer, now time.Time) time.Time {
	p.mu.Lock()
	x, err := s.chosen(v, p, now)
	if err != nil {
		p.mu.Unlock()
		return now.Add(never)
	}
	if due := p.send.due(now, x); now.Before(due) {
		p.mu.Unlock()
		return due
	}
	if p.send.question == 0 || p.send.asking != x || now.Sub(p.send.since) > helloLife/2 {
		p.send.question, p.send.asking, p.send.since = draw(), x, now
	}
	p.send.asked = now
	h := header{
		protection: protectControl, kind: typeHello, from: s.table.short, to: p.short,
		fromKey: ownKey(x.own), toKey: shortKey(x.other.Certificate), channel: p.send.channel, number: p.send.question,
	}
	var out [headerBytes + tagBytes]byte
	h.put(out[:])
	x.tag(out[:])
	address, due := p.address(), p.send.due(now, x)
	p.mu.Unlock()
	_ = s.write(out[:], address) // a hello that is lost is said again
	return due
}

// chosen are the keys of the next hello: the newest of both. A peer whose log lags may not know
// this node's newest key yet, so without an answer every other hello uses the one before.
func (s *Socket) chosen(v *view, p *peer, now time.Time) (*pair, error) {
	own := v.said[0]
	if len(v.said) > 1 && now.Sub(p.send.heard) > olderAfter && now.UnixMilli()/helloLife.Milliseconds()%2 == 1 {
		own = v.said[1]
	}
	return p.pair(s.table.cluster, s.table.self, own, p.keys[0])
}
