package membership

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	logFile        = "log.db"
	boltOpenPause  = time.Second // how long to wait for the file's lock
	snapshotsKept  = 2
	logCacheLength = 512 // entries
)

// ErrDiskStalled is returned when a write to the log takes longer than the guard's
// limit, and by every write until that one has ended and was taken back. A leader that
// gets it steps down, which is the point: its heartbeats run in another goroutine, so
// without the guard a hanging disk would leave a leader that nobody replaces
// (hashicorp/raft#503).
var ErrDiskStalled = errors.New("membership: the disk does not take the log's writes in time")

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
	if errors.Is(err, bbolt.ErrTimeout) {
		return nil, fmt.Errorf("membership: %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("membership: open %s: %w; the file is damaged: move this data directory away, remove the node on another one and join again", path, err)
	}
	return store, nil
}

// guardedLog is a log store whose writes fail instead of hanging.
//
// A write that came too late is taken back as soon as it ends, before any other one is
// let through. So the disk never holds entries behind the ones that Raft believes in.
type guardedLog struct {
	raft.LogStore
	limit time.Duration

	mu      sync.Mutex // held by the goroutine that writes; never while waiting for limit
	stalled atomic.Bool
	worst   atomic.Int64 // longest finished write, ns
}

func newGuardedLog(s raft.LogStore, limit time.Duration) *guardedLog {
	return &guardedLog{LogStore: s, limit: limit}
}

// StoreLog is StoreLogs for one entry.
func (g *guardedLog) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries, or returns ErrDiskStalled after the limit.
func (g *guardedLog) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	if g.stalled.Load() {
		return ErrDiskStalled
	}
	// late decides, exactly once, whether the caller still waits when the write ends.
	var late atomic.Int32
	done := make(chan error, 1)
	go func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		start := time.Now()
		err := g.LogStore.StoreLogs(logs)
		g.worst.Store(max(g.worst.Load(), int64(time.Since(start))))
		if late.CompareAndSwap(0, 1) {
			done <- err
			return
		}
		if err == nil {
			err = g.DeleteRange(logs[0].Index, logs[len(logs)-1].Index)
		}
		if err == nil {
			g.stalled.Store(false)
		}
	}()
	timer := time.NewTimer(g.limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
	}
	g.stalled.Store(true) // before the swap, so that the writer's Store(false) comes after it
	if late.CompareAndSwap(0, 2) {
		return ErrDiskStalled
	}
	g.stalled.Store(false) // it ended just now
	return <-done
}

// Stalled reports whether a write hangs now.
func (g *guardedLog) Stalled() bool { return g.stalled.Load() }
