package membership

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"havip-cluster/fsm"
)

var (
	// ErrNotLeader is returned by what only the leader can do.
	ErrNotLeader = errors.New("membership: this node is not the leader")
	// ErrUnknownOutcome is returned when leadership was lost, or time ran out, while a
	// command was on its way: it may still be committed, or never be.
	ErrUnknownOutcome = errors.New("membership: nobody knows yet whether the change was committed; repeat it with the same idempotency key")
	// ErrNoLog is returned by Open when the log's file is missing. A voter that starts
	// with an empty log has forgotten its votes, so it must come back as a new node.
	ErrNoLog = errors.New("membership: the log of this data directory is missing")
)

// Config says how a node takes part in Raft.
type Config struct {
	Dir    string // the data directory's raft folder
	Node   string // id; the Raft server id
	Listen netip.AddrPort
	Server *tls.Config
	Client *tls.Config

	Heartbeat   time.Duration // also the election time-out
	LeaderLease time.Duration

	Logger *slog.Logger
}

const (
	applyTimeout   = 5 * time.Second // for a place in Raft's queue
	barrierTimeout = 5 * time.Second
	transferWait   = 3 * time.Second
	readyLag       = 64 // entries that a future voter may be behind
	// commitPause is when an idle leader tells its followers how far it has committed.
	// Propose does not wait for that: it follows each command with a no-op.
	commitPause = 25 * time.Millisecond
)

// Node is a running Raft node. All methods may be called from any goroutine.
type Node struct {
	*Machine
	cfg    Config
	raft   *raft.Raft
	trans  *raft.NetworkTransport
	bolt   *raftboltdb.BoltStore
	guard  *guardedLog
	path   string
	notify chan bool
	lead   atomic.Uint64 // the term in which this node leads and is up to date, or 0
	// The last log entry on disk at start; see CaughtUp.
	startIndex, startTerm uint64
	caughtUp              atomic.Bool
	wg                    sync.WaitGroup
	done                  chan struct{}
}

// Prepare makes the empty log of a node that joins.
func Prepare(dir string) error {
	store, err := openBolt(dir)
	if err != nil {
		return err
	}
	return store.Close()
}

// Bootstrap makes the log of a cluster's first node, with that node as the only voter.
// It refuses if there is a log already.
func Bootstrap(dir, node string, address raft.ServerAddress) error {
	if _, err := os.Stat(filepath.Join(dir, logFile)); err == nil {
		return fmt.Errorf("membership: %s exists already: a cluster is bootstrapped once", filepath.Join(dir, logFile))
	}
	store, err := openBolt(dir)
	if err != nil {
		return err
	}
	snaps, err := raft.NewFileSnapshotStore(dir, snapshotsKept, nil)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(node)
	_, trans := raft.NewInmemTransport(address)
	err = raft.BootstrapCluster(conf, store, store, snaps, trans, raft.Configuration{
		Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(node), Address: address}},
	})
	if err != nil {
		err = fmt.Errorf("membership: bootstrap: %w", err)
	}
	return errors.Join(err, store.Close())
}

// Open starts the node. Close ends it.
func Open(cfg Config) (*Node, error) {
	path := filepath.Join(cfg.Dir, logFile)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w (%s): move the data directory away, remove this node on another one, and join again with a new token", ErrNoLog, path)
	}
	bolt, err := openBolt(cfg.Dir)
	if err != nil {
		return nil, err
	}
	n := &Node{Machine: NewMachine(), cfg: cfg, bolt: bolt, path: path, notify: make(chan bool, 8), done: make(chan struct{})}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) start() error {
	stream, err := listenTLS(n.cfg.Listen, n.cfg.Server, n.cfg.Client, n.cfg.Logger)
	if err != nil {
		return err
	}
	logger := newHCLog(n.cfg.Logger)
	n.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: stream, MaxPool: 3, Timeout: max(time.Second, 4*n.cfg.Heartbeat), Logger: logger,
	})
	snaps, err := raft.NewFileSnapshotStoreWithLogger(n.cfg.Dir, snapshotsKept, logger)
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	if n.startIndex, err = n.bolt.LastIndex(); err != nil {
		return fmt.Errorf("membership: read %s: %w", n.path, err)
	}
	if n.startIndex > 0 {
		var last raft.Log
		if err := n.bolt.GetLog(n.startIndex, &last); err != nil {
			return fmt.Errorf("membership: read %s: %w", n.path, err)
		}
		n.startTerm = last.Term
	}
	n.guard = newGuardedLog(n.bolt, 2*n.cfg.Heartbeat)
	cache, err := raft.NewLogCache(logCacheLength, n.guard)
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(n.cfg.Node)
	conf.HeartbeatTimeout, conf.ElectionTimeout = n.cfg.Heartbeat, n.cfg.Heartbeat
	conf.LeaderLeaseTimeout = n.cfg.LeaderLease
	conf.CommitTimeout = min(commitPause, n.cfg.Heartbeat/4)
	conf.NotifyCh = n.notify
	conf.Logger = logger
	conf.NoLegacyTelemetry = true
	if n.raft, err = raft.NewRaft(conf, n.Machine, cache, n.bolt, snaps, n.trans); err != nil {
		return fmt.Errorf("membership: start raft on %s: %w", n.cfg.Dir, err)
	}
	n.wg.Go(n.followLeadership)
	n.wg.Go(n.followObservations)
	return nil
}

// followLeadership drains Raft's notifications at once, because Raft waits for their
// reader (hashicorp/raft#384), and calls this node leader only after a barrier: before
// that its state may lack what an earlier leader committed.
func (n *Node) followLeadership() {
	for {
		select {
		case <-n.done:
			return
		case leads := <-n.notify:
			n.lead.Store(0)
			if leads {
				n.wg.Go(n.becomeLeader)
			}
			n.wake()
		}
	}
}

func (n *Node) becomeLeader() {
	term := n.raft.CurrentTerm()
	if err := n.raft.Barrier(barrierTimeout).Error(); err != nil {
		n.cfg.Logger.Info("leadership ended before it began", "term", term, "err", err)
		return
	}
	if n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term {
		n.lead.Store(term)
		n.cfg.Logger.Info("this node leads the cluster", "term", term)
		n.wake()
	}
}

// followObservations wakes the watchers when the leader changes.
func (n *Node) followObservations() {
	ch := make(chan raft.Observation, 16)
	o := raft.NewObserver(ch, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	n.raft.RegisterObserver(o)
	defer n.raft.DeregisterObserver(o)
	for {
		select {
		case <-n.done:
			return
		case <-ch:
			n.wake()
		}
	}
}

// Self is this node's id.
func (n *Node) Self() string { return n.cfg.Node }

// Leading returns the term in which this node leads, up to date with all that earlier
// leaders committed, or false.
func (n *Node) Leading() (term uint64, ok bool) {
	term = n.lead.Load()
	return term, term != 0
}

// LeaderID returns the id of the present leader as far as this node knows, or "".
func (n *Node) LeaderID() string {
	_, id := n.raft.LeaderWithID()
	return string(id)
}

// Servers returns Raft's servers by the latest configuration in the log, committed or not.
func (n *Node) Servers() []raft.Server {
	f := n.raft.GetConfiguration() // answers from memory
	return f.Configuration().Servers
}

// Voters returns the ids of those who vote by the latest configuration in the log, and
// the index of that entry. The lease protocol counts by it, as Raft does.
func (n *Node) Voters() (ids []string, index uint64) {
	f := n.raft.GetConfiguration()
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	return ids, f.Index()
}

// Suffrages returns what each server of Raft is, by node id: voter or nonvoter.
func (n *Node) Suffrages() map[string]string {
	out := map[string]string{}
	for _, s := range n.Servers() {
		out[string(s.ID)] = strings.ToLower(s.Suffrage.String())
	}
	return out
}

// CaughtUp reports whether everything in the log when the process started that was ever
// committed has been applied, so that no earlier promise of this node is unknown to it.
// The end of the log on disk may never have been committed: an applied entry of a later
// term says the same.
func (n *Node) CaughtUp() bool {
	if n.caughtUp.Load() {
		return true
	}
	applied := n.raft.AppliedIndex()
	if applied < n.startIndex {
		var entry raft.Log
		if n.bolt.GetLog(applied, &entry) != nil || entry.Term <= n.startTerm {
			return false
		}
	}
	n.caughtUp.Store(true)
	return true
}

// Applied returns the index up to which the log is applied here.
func (n *Node) Applied() uint64 { return n.raft.AppliedIndex() }

// Propose commits a command through this node, which must lead. term 0 means any term.
// The error is ErrNotLeader (nothing happened), ErrUnknownOutcome, or that of a halted
// machine; a refusal by the rules is in the Result.
func (n *Node) Propose(ctx context.Context, term uint64, key string, body fsm.Body) (fsm.Result, error) {
	return n.ProposeFor(ctx, n.cfg.Node, term, key, body)
}

// ProposeFor is Propose in the name of another node.
func (n *Node) ProposeFor(ctx context.Context, by string, term uint64, key string, body fsm.Body) (fsm.Result, error) {
	if _, ok := n.Leading(); !ok {
		return fsm.Result{}, ErrNotLeader
	}
	c, err := fsm.NewCommand(time.Now().UnixNano(), by, key, body)
	if err != nil {
		return fsm.Result{}, err
	}
	c.Term = term
	raw, err := c.Encode()
	if err != nil {
		if refusal := (*fsm.Refusal)(nil); errors.As(err, &refusal) {
			return fsm.Result{Refusal: refusal}, nil
		}
		return fsm.Result{}, err
	}
	f := n.raft.Apply(raw, applyTimeout)
	// A follower learns what is committed with the next message. Send one at once.
	defer n.raft.Barrier(barrierTimeout)
	if err := wait(ctx, f); err != nil {
		return fsm.Result{}, outcome(err)
	}
	switch r := f.Response().(type) {
	case fsm.Result:
		return r, nil
	case error:
		return fsm.Result{}, r
	default:
		return fsm.Result{}, fmt.Errorf("membership: the machine answered with %T", r)
	}
}

// wait waits for a future, but not longer than the context.
func wait(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func outcome(err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrEnqueueTimeout) {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// ReadIndex proves that this node leads and returns an index: a state that has it holds
// everything that was acknowledged before the call.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	if _, ok := n.Leading(); !ok {
		return 0, ErrNotLeader
	}
	if err := wait(ctx, n.raft.VerifyLeader()); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	if err := wait(ctx, n.raft.Barrier(barrierTimeout)); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return n.State().Index, nil
}

// WaitIndex waits until this node's state has an index.
func (n *Node) WaitIndex(ctx context.Context, index uint64) (*fsm.State, error) {
	ch, stop := n.Watch()
	defer stop()
	for {
		if s := n.State(); s.Index >= index {
			return s, nil
		}
		if err := n.Halted(); err != nil {
			return nil, err
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return nil, fmt.Errorf("membership: this node has applied the log up to %d, not yet %d: %w", n.State().Index, index, ctx.Err())
		}
	}
}

// Change carries out one change of Raft's servers. Only the leader can.
func (n *Node) Change(ctx context.Context, c Change) error {
	id := raft.ServerID(c.Node)
	var f raft.IndexFuture
	switch c.Kind {
	case AddReplica:
		f = n.raft.AddNonvoter(id, c.Address, 0, applyTimeout)
	case Promote:
		f = n.raft.AddVoter(id, c.Address, 0, applyTimeout)
	case Readdress:
		f = n.raft.AddNonvoter(id, c.Address, 0, applyTimeout) // keeps the suffrage of a voter
	case Remove:
		f = n.raft.RemoveServer(id, 0, applyTimeout)
	default:
		return fmt.Errorf("membership: unknown change %q", c.Kind)
	}
	if err := wait(ctx, f); err != nil {
		return fmt.Errorf("membership: %s %s: %w", c.Kind, c.Node, err)
	}
	return nil
}

// Ready reports whether a node that has applied the log up to applied may become a voter.
func (n *Node) Ready(applied uint64) bool {
	return applied+readyLag >= n.raft.CommitIndex()
}

// TransferLeadership hands leadership to another voter, best effort within a limit.
func (n *Node) TransferLeadership() error {
	ctx, cancel := context.WithTimeout(context.Background(), transferWait)
	defer cancel()
	if err := wait(ctx, n.raft.LeadershipTransfer()); err != nil {
		return fmt.Errorf("membership: hand leadership over: %w", err)
	}
	return nil
}

// Stopped reports whether Raft ended by itself, as it does on a node that was removed.
func (n *Node) Stopped() bool { return n.raft.State() == raft.Shutdown }

// Disk tells about the log's file: its size in bytes, the longest write so far, and
// whether one hangs now.
type Disk struct {
	Bytes   int64
	Worst   time.Duration
	Stalled bool
}

// Disk returns the present figures.
func (n *Node) Disk() Disk {
	d := Disk{Worst: time.Duration(n.guard.worst.Load()), Stalled: n.guard.Stalled()}
	if st, err := os.Stat(n.path); err == nil {
		d.Bytes = st.Size()
	}
	return d
}

// Close stops Raft, then what it uses: the transport last, because Raft's goroutines
// wait for their calls to return, and the file after them, because they still write.
func (n *Node) Close() error {
	var errs []error
	if n.raft != nil {
		errs = append(errs, n.raft.Shutdown().Error())
	}
	close(n.done)
	n.wg.Wait()
	if n.trans != nil {
		errs = append(errs, n.trans.Close())
	}
	return errors.Join(append(errs, n.bolt.Close())...)
}
