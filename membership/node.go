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
)

var (
	// ErrNotLeader is returned by what only the leader can do.
	ErrNotLeader = errors.New("membership: this node is not the leader")
	// ErrUnknownOutcome is returned when leadership was lost, or time ran out, while a
	// command was on its way: it may still be committed, or never be.
	ErrUnknownOutcome = errors.New("membership: nobody knows yet whether the change was committed; repeat it with the same idempotency key")
)

// Config says how a node takes part in Raft.
type Config struct {
	Dir    string // the data directory's raft folder
	Node   string // id; the Raft server id
	Listen netip.AddrPort
	Server *tls.Config
	// Client makes the configuration for connecting to one node, by its id, and no other.
	Client func(node string) *tls.Config

	Heartbeat   time.Duration // also the election time-out
	LeaderLease time.Duration
	Lease       time.Duration // of the cluster's sessions, when it starts; 0: unknown

	Logger *slog.Logger

	// Wall gives the time that commands carry; nil is the system's clock.
	Wall func() time.Time

	Measure

	wrap func(raft.LogStore) raft.LogStore // nil; a test puts a bad disk in between
}

// Parts are what a Node stands on: Open makes the real ones, a simulation its own.
type Parts struct {
	Store     Store
	Snapshots raft.SnapshotStore
	Transport raft.Transport
	// Tune changes Raft's settings before it starts; nil changes nothing.
	Tune func(*raft.Config)
}

// Store keeps the log, and the term and the vote.
type Store interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

const (
	applyTimeout   = 5 * time.Second // for a place in Raft's queue
	barrierTimeout = 5 * time.Second
	transferWait   = 3 * time.Second
	leadPause      = 20 * time.Millisecond // between two tries to begin to lead
	closeWait      = 15 * time.Second      // for Raft's calls to others, and for the disk
	readyLag       = 64                    // entries that a future voter may be behind
	commitEvery    = 4                     // heartbeat time-outs between two words of what is committed, at least

	// A node reads again at its start what its log has beyond the snapshot. On a busy host that takes 1.5 ms an entry, and
	// the node owns nothing for so long. Raft looks at moments of its own, one to two intervals apart: one that restarts
	// more often than that takes no snapshot at all.
	snapshotEvery    = 2048 // entries
	snapshotInterval = 10 * time.Second
)

// Node is a running Raft node. All methods may be called from any goroutine.
type Node struct {
	*Machine
	cfg    Config
	raft   *raft.Raft
	inner  atomic.Pointer[raft.Raft] // raft, for callbacks that may come before it is set
	parts  Parts
	guard  *guardedLog
	book   *ledger
	ballot *ballot
	voters atomic.Pointer[votersAt]
	path   string
	notify chan bool

	leadershipMu sync.Mutex
	leadership   uint64        // counts the changes of leadership that Raft has told
	lead         atomic.Uint64 // the term in which this node leads and is up to date, or 0; written with leadershipMu held
	reads        *readRounds
	pace         *pacedHeartbeats
	absent       *absentPeers
	notifier     *commitNotifier
	own          chan<- raft.RPC // requests of this node to its own Raft
	patience     writePatience
	removal      turn // held while a removal is checked and begun

	wg        sync.WaitGroup
	done      chan struct{}
	closing   sync.Once
	closeErr  error
	closeWait time.Duration
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
	// bbolt would make a new log of a file without content.
	if st, err := os.Stat(path); err != nil || st.Size() == 0 {
		return nil, fmt.Errorf("%w (%s): %s", ErrNoLog, path, joinAgain)
	}
	bolt, err := openBolt(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := checkReach(cfg.Dir, bolt); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	if err := checkEntries(cfg.Dir, bolt, joinAgain); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	parts, err := realParts(cfg)
	if err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	parts.Store = bolt
	return OpenOn(cfg, parts)
}

// realParts are the transport and the snapshots of a node on this host.
func realParts(cfg Config) (Parts, error) {
	logger := newHCLog(cfg.Logger)
	snaps, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, snapshotsKept, logger)
	if err != nil {
		return Parts{}, fmt.Errorf("membership: %w", err)
	}
	trans, err := openBound(cfg)
	if err != nil {
		return Parts{}, err
	}
	return Parts{Snapshots: snaps, Transport: trans}, nil
}

// OpenOn is Open on given parts, which it closes in the end, also when it fails.
func OpenOn(cfg Config, parts Parts) (*Node, error) {
	n := &Node{
		Machine: NewMachine(), cfg: cfg, parts: parts, removal: newTurn(), patience: writePatience{heartbeat: cfg.Heartbeat}, path: filepath.Join(cfg.Dir, logFile),
		notify: make(chan bool, 8), done: make(chan struct{}), closeWait: closeWait,
	}
	if n.cfg.Wall == nil {
		n.cfg.Wall = time.Now
	}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) start() (err error) {
	logger := newHCLog(n.cfg.Logger)
	if n.book, err = newLedger(n.parts.Store); err != nil {
		return fmt.Errorf("membership: read %s: %w", n.path, err)
	}
	if n.ballot, err = readBallot(n.parts.Store, n.parts.Snapshots); err != nil {
		return fmt.Errorf("membership: read %s: %w", n.path, err)
	}
	n.ballot.broken = n.broken
	n.guard = n.newGuard()
	n.followApplied()
	cache, err := raft.NewLogCache(logCacheLength, n.guard)
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(n.cfg.Node)
	conf.HeartbeatTimeout, conf.ElectionTimeout = n.cfg.Heartbeat, n.cfg.Heartbeat
	conf.LeaderLeaseTimeout = n.cfg.LeaderLease
	// How often an idle leader tells its followers how far it has committed, beside its heartbeats. Nobody
	// waits for that: what is proposed, changed or begun is told at once (commitNotifier).
	conf.CommitTimeout = commitEvery * n.cfg.Heartbeat
	conf.SnapshotThreshold, conf.SnapshotInterval = snapshotEvery, snapshotInterval
	conf.NotifyCh = n.notify
	conf.Logger = logger
	conf.NoLegacyTelemetry = true
	if n.parts.Tune != nil {
		n.parts.Tune(conf)
	}
	snaps := notedSnapshots{n.parts.Snapshots, n.book, n.ballot}
	trans, err := newFreshOnly(n.parts.Transport, heartbeatEvery(n.cfg.Heartbeat, n.cfg.Lease), n.committed, n.done)
	if err != nil {
		return err
	}
	trans.entry, trans.settle, n.pace, n.own = n.entryTerm, n.ballot.settle, trans.pace, trans.rpcs
	lines := &termLines{log: n.cfg.Logger}
	n.absent = newAbsentPeers(trans.votingTransport, n.replicates, n.logged)
	trans.votingTransport = voterTerms{n.absent, n.book.votes, lines.tell}
	serve := n.bindTransport(trans)
	if n.raft, err = newRaft(conf, n.Machine, cache, n.ballot, snaps, trans); err != nil {
		return fmt.Errorf("membership: start raft on %s: %w", n.cfg.Dir, err)
	}
	n.reads = newReadRounds(n.cfg.Node, conf.ProtocolVersion, n.parts.Transport, n.cfg.Heartbeat)
	n.reads.voters, n.reads.holds = n.Servers, func(term uint64) bool {
		return n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term
	}
	n.notifier = newCommitNotifier(n.cfg.Node, conf.ProtocolVersion, n.parts.Transport, n.done)
	n.notifier.servers = n.Servers
	n.notifier.push = func() { _ = n.raft.Barrier(n.cfg.Heartbeat) } // whoever missed the one before gets both
	n.inner.Store(n.raft)
	n.wg.Go(trans.run) // not before: it asks n.inner
	if err := serve(); err != nil {
		return err
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
			leadership := n.changeLeadership()
			if leads {
				n.wg.Go(func() { n.becomeLeader(leadership) })
			}
			n.wake()
		}
	}
}

// changeLeadership ends this node's leadership, if any, and whatever is about to begin one.
func (n *Node) changeLeadership() uint64 {
	n.leadershipMu.Lock()
	defer n.leadershipMu.Unlock()
	n.lead.Store(0)
	n.leadership++
	n.absent.look()
	return n.leadership
}

// begin makes this node the leader of a term, unless Raft has told otherwise since.
func (n *Node) begin(leadership, term uint64) bool {
	n.leadershipMu.Lock()
	defer n.leadershipMu.Unlock()
	if n.leadership != leadership || n.raft.State() != raft.Leader || n.raft.CurrentTerm() != term {
		return false
	}
	n.lead.Store(term)
	return true
}

// becomeLeader tries as long as Raft calls this node leader: one that never begins would
// keep the others from having another.
func (n *Node) becomeLeader(leadership uint64) {
	for n.raft.State() == raft.Leader {
		term := n.raft.CurrentTerm()
		barrier := n.raft.Barrier(barrierTimeout)
		err := barrier.Error()
		if err == nil && n.begin(leadership, term) {
			if b, known := barrier.(interface{ Index() uint64 }); known { // an entry of this term
				n.tellCommit(b.Index())
			}
			n.cfg.Logger.Info("this node leads the cluster", "term", term)
			n.wake()
			return
		}
		if !errors.Is(err, raft.ErrEnqueueTimeout) && !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			n.cfg.Logger.Info("leadership ended before it began", "term", term, "err", err)
			return
		}
		select {
		case <-n.done:
			return
		case <-time.After(leadPause):
		}
	}
}

// followObservations wakes the watchers when the leader changes, and tells a server that answers again what is committed.
func (n *Node) followObservations() {
	ch := make(chan raft.Observation, observationsMax)
	o := raft.NewObserver(ch, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(o)
	defer n.raft.DeregisterObserver(o)
	for {
		select {
		case <-n.done:
			return
		case o := <-ch:
			if back, ok := o.Data.(raft.ResumedHeartbeatObservation); ok {
				n.tellResumed(back.PeerID)
				continue
			}
			if o.Data.(raft.LeaderObservation).LeaderID != "" {
				n.patience.elected()
				if n.cfg.LeaderChanged != nil {
					n.cfg.LeaderChanged()
				}
			}
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

// Suffrages returns what each server of Raft is, by node id: voter or nonvoter.
func (n *Node) Suffrages() map[string]string {
	out := map[string]string{}
	for _, s := range n.Servers() {
		out[string(s.ID)] = strings.ToLower(s.Suffrage.String())
	}
	return out
}

// CaughtUp reports whether everything that was in the log when the process started is in
// the state, so that no earlier promise of this node is unknown to it. What was cut off
// since does not count: it was never committed.
func (n *Node) CaughtUp() bool {
	return n.reached.Load() >= n.book.atStart()
}

// Applied returns the index up to which the log is in the state. Raft's own figure counts
// entries that still wait for the machine; it is right once the machine has seen the
// newest one in the log. The order of the three readings matters.
func (n *Node) Applied() uint64 {
	queued := n.raft.AppliedIndex()
	newest := n.book.newest()
	reached := n.reached.Load()
	if newest <= reached {
		return max(queued, reached)
	}
	return reached
}

// Change carries out one change of Raft's servers. Only the leader can.
func (n *Node) Change(ctx context.Context, c Change) error {
	id := raft.ServerID(c.Node)
	var f func() raft.IndexFuture
	switch c.Kind {
	case AddReplica, Readdress: // it keeps the suffrage of a voter
		f = func() raft.IndexFuture { return n.raft.AddNonvoter(id, c.Address, 0, applyTimeout) }
	case Promote:
		f = func() raft.IndexFuture { return n.raft.AddVoter(id, c.Address, 0, applyTimeout) }
	case Demote:
		f = func() raft.IndexFuture { return n.raft.DemoteVoter(id, 0, applyTimeout) }
	case Remove:
		f = func() raft.IndexFuture { return n.raft.RemoveServer(id, 0, applyTimeout) }
	default:
		return fmt.Errorf("membership: unknown change %q", c.Kind)
	}
	index, err := wait(ctx, f)
	if err != nil {
		return fmt.Errorf("membership: %s %s: %w", c.Kind, c.Node, err)
	}
	n.tellCommit(index.Index())
	return nil
}

// Ready reports whether a node that has applied the log up to applied may become a voter.
func (n *Node) Ready(applied uint64) bool {
	return applied+readyLag >= n.raft.CommitIndex()
}

// Stopped reports whether Raft ended by itself, as it does on a node that was removed.
func (n *Node) Stopped() bool { return n.raft.State() == raft.Shutdown }

// Close stops the node. It gives up after a while, because a disk that hangs would hold
// it; then ErrDiskStalled says so, and only the end of the process frees the log's file.
// Calling it again changes nothing.
func (n *Node) Close() error {
	n.closing.Do(func() {
		ended := make(chan error, 1)
		go func() { ended <- n.close() }()
		select {
		case n.closeErr = <-ended:
		case <-time.After(n.closeWait):
			n.closeErr = fmt.Errorf("%w: raft has not stopped within %s", ErrDiskStalled, n.closeWait)
		}
	})
	return n.closeErr
}

// close stops Raft, then what it uses: the transport later, because Raft's goroutines
// wait for their calls to return, and the file last, because they still write.
func (n *Node) close() error {
	var errs []error
	if n.raft != nil {
		n.pace.follow(0) // nobody waits for a heartbeat any more
		n.absent.end()   // nor for a server
		errs = append(errs, n.raft.Shutdown().Error())
	}
	close(n.done)
	n.wg.Wait()
	if t, ok := n.parts.Transport.(interface{ CloseStreams() }); ok {
		t.CloseStreams()
	}
	if t, ok := n.parts.Transport.(raft.WithClose); ok {
		errs = append(errs, t.Close())
	}
	if n.guard != nil {
		n.guard.rest()
	}
	if n.ballot != nil {
		errs = append(errs, n.ballot.close())
	}
	return errors.Join(append(errs, n.parts.Store.Close())...)
}
