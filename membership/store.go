package membership

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	logFile        = "log.db"
	boltOpenPause  = time.Second // how long to wait for the file's lock
	snapshotsKept  = 2
	logCacheLength = 512 // entries
)

// ErrDiskStalled is returned when a leader's write to the log takes longer than the
// guard's limit, and by every write until that one has ended. A leader that gets it steps
// down, which is the point: its heartbeats run in another goroutine, so without the guard
// a hanging disk would leave a leader that nobody replaces (hashicorp/raft#503).
var ErrDiskStalled = errors.New("membership: the disk does not take the log's writes in time")

// ErrContradiction is why a node halts when a write failed after Raft had acted on it:
// what Raft believes in is not what the log holds. A new start reads the log again.
var ErrContradiction = errors.New("membership: a write to the log failed half way; the agent has to start again")

// openBolt opens the log's file below dir. NoFreelistSync spares a rewrite of the free
// list at each commit (rqlite#968); the list is rebuilt when the file is opened.
func openBolt(dir string) (*raftboltdb.BoltStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	path := filepath.Join(dir, logFile)
	store, err := raftboltdb.New(raftboltdb.Options{
		Path:        path,
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: boltOpenPause},
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("membership: %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("membership: open %s: %w; the file is damaged: move this data directory away, remove the node on another one and join again", path, err)
	}
	return store, nil
}

// guardedLog is a log store on which a leader's writes fail instead of hanging, and which
// keeps the ledger.
//
// A write that failed or came too late is taken back before any other one is let through.
// So the disk never holds entries behind the ones that Raft believes in.
//
// Only a leader needs the limit. A follower's write waits: its leader does without it,
// and Raft does not get over a write that fails after conflicting entries were removed.
type guardedLog struct {
	raft.LogStore
	limit  func() time.Duration // for the write that begins
	book   *ledger
	ballot *ballot // is on disk before an entry is, and before one is removed

	// What Raft tells: whether this node leads, and how far it has applied. Both are
	// called in Raft's goroutines.
	leads   func() bool
	applied func() uint64
	// broken is called once Raft believes something that the log does not hold.
	broken func(error)
	// stalled is called when a leader's write has missed its limit. It must not block.
	stalled func()

	mu   turn // of the goroutine that writes; never held while waiting for limit
	owed span // entries to take back before the next write; guarded by mu

	cutOff  atomic.Bool  // entries were removed, and none written in their place yet
	late    atomic.Bool  // a write has missed its limit and still runs
	began   atomic.Int64 // when the write that runs began, ns after origin; 0 = none runs
	origin  time.Time
	longest atomic.Int64             // finished write, ns
	wrote   func(took time.Duration) // nil: nobody is told
}

func (n *Node) newGuard() *guardedLog {
	disk := raft.LogStore(n.parts.Store)
	if n.cfg.wrap != nil {
		disk = n.cfg.wrap(disk)
	}
	return &guardedLog{
		LogStore: summedLog{disk}, mu: newTurn(), limit: n.patience.limit, book: n.book, ballot: n.ballot, origin: time.Now(), wrote: n.cfg.Wrote,
		leads: func() bool {
			r := n.inner.Load()
			return r != nil && r.State() == raft.Leader
		},
		applied: func() uint64 {
			if r := n.inner.Load(); r != nil {
				return r.AppliedIndex()
			}
			return 0
		},
		broken: n.broken,
		stalled: func() {
			if n.inner.Load() != nil {
				go n.callElection() // has limits of its own, and Close need not wait for it
			}
		},
	}
}

// broken ends Raft on a node whose disk does not hold what Raft believes in.
func (n *Node) broken(err error) {
	_ = n.halt(err)
	if r := n.inner.Load(); r != nil {
		r.Shutdown() // does not wait
	}
}

// turn is a lock whose waiters wait at a channel: a write may hang for long, and virtual
// time stands still while somebody waits for a sync.Mutex.
type turn chan struct{}

func newTurn() turn    { return make(turn, 1) }
func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

// span is the entries from first to last; first is 0 when there are none.
type span struct{ first, last uint64 }

// GetLog reads an entry.
func (g *guardedLog) GetLog(index uint64, l *raft.Log) error {
	err := g.LogStore.GetLog(index, l)
	if err == nil {
		g.book.read(l)
	}
	if errors.Is(err, ErrDamagedEntry) {
		g.broken(err)
	}
	return err
}

// StoreLog is StoreLogs for one entry.
func (g *guardedLog) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries. For a leader it returns ErrDiskStalled after the limit.
func (g *guardedLog) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	isConfig := func(l *raft.Log) bool { return l.Type == raft.LogConfiguration }
	leads := g.leads()
	var err error
	if leads {
		err = g.writeInTime(logs)
	} else {
		err = g.write(logs)
	}
	if err == nil {
		g.cutOff.Store(false)
		if slices.ContainsFunc(logs, isConfig) {
			// After the write, however long that took, and before Raft counts or acknowledges it.
			defer g.book.changing()()
		}
		g.book.stored(logs...)
		return nil
	}
	switch {
	case leads && slices.ContainsFunc(logs, isConfig):
		g.broken(fmt.Errorf("%w: the voters of entry %d count in memory only: %w", ErrContradiction, logs[0].Index, err))
	case g.cutOff.Load():
		g.broken(fmt.Errorf("%w: the entries from %d on were removed and not replaced: %w", ErrContradiction, logs[0].Index, err))
	}
	return err
}

// write pays what is owed and writes, however long it takes.
func (g *guardedLog) write(logs []*raft.Log) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.put(logs)
}

// put writes with mu held.
func (g *guardedLog) put(logs []*raft.Log) error {
	start := time.Now()
	g.began.Store(int64(start.Sub(g.origin)) + 1) // never 0
	defer g.began.Store(0)
	if err := g.takeBack(); err != nil {
		return fmt.Errorf("membership: take back an earlier write: %w", err)
	}
	if err := g.ballot.settle(); err != nil {
		return err
	}
	err := g.LogStore.StoreLogs(logs)
	if err != nil { // bbolt may have written even so
		g.owe(logs)
	}
	took := time.Since(start)
	g.longest.Store(max(g.longest.Load(), int64(took)))
	if g.wrote != nil {
		g.wrote(took)
	}
	return err
}

func (g *guardedLog) owe(logs []*raft.Log) {
	first, last := logs[0].Index, logs[len(logs)-1].Index
	if g.owed.first != 0 {
		first, last = min(first, g.owed.first), max(last, g.owed.last)
	}
	g.owed = span{first, last}
}

// takeBack deletes what is owed, with mu held.
func (g *guardedLog) takeBack() error {
	if g.owed.first == 0 {
		return nil
	}
	if err := g.LogStore.DeleteRange(g.owed.first, g.owed.last); err != nil {
		return err
	}
	g.owed = span{}
	return nil
}

// writeInTime writes, or returns ErrDiskStalled when the limit is over.
func (g *guardedLog) writeInTime(logs []*raft.Log) error {
	if g.late.Load() {
		return ErrDiskStalled
	}
	// settled decides, exactly once, whether the caller still waits when the write ends.
	var settled atomic.Bool
	done := make(chan error, 1)
	go func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		err := g.put(logs)
		if settled.CompareAndSwap(false, true) {
			done <- err
			return
		}
		g.owe(logs)
		_ = g.takeBack() // what fails now is tried again before the next write
		g.late.Store(false)
	}()
	timer := time.NewTimer(g.limit())
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
	}
	g.late.Store(true) // before settled, so that the writer's Store(false) comes after it
	if settled.CompareAndSwap(false, true) {
		g.stalled()
		return ErrDiskStalled
	}
	g.late.Store(false) // it ended just now
	return <-done
}

// DeleteRange removes entries: old ones that a snapshot holds, or the end of the log when
// it conflicts with the leader's. The latter were never applied.
func (g *guardedLog) DeleteRange(lo, hi uint64) error {
	if lo <= g.applied() {
		return g.LogStore.DeleteRange(lo, hi)
	}
	err := g.ballot.settle()
	if err == nil {
		err = g.LogStore.DeleteRange(lo, hi)
	}
	newest := uint64(0)
	if err == nil {
		newest, err = lastSeen(g.LogStore, lo-1)
	}
	if err != nil {
		err = fmt.Errorf("%w: remove entries %d to %d: %w", ErrContradiction, lo, hi, err)
		g.broken(err)
		return err
	}
	g.cutOff.Store(true)
	if g.book.from(lo) {
		defer g.book.changing()()
	}
	g.book.cut(lo, newest)
	return nil
}

// Stalled reports whether a write has been running for longer than the limit.
func (g *guardedLog) Stalled() bool {
	began := g.began.Load()
	return g.late.Load() || began != 0 && time.Since(g.origin)-time.Duration(began) > g.limit()
}

// rest returns when no write runs any more.
func (g *guardedLog) rest() {
	g.mu.Lock()
	defer g.mu.Unlock()
}
