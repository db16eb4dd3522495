package membership

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
)

// Measure hears what is measured. Each may be nil. They are called in Raft's goroutines and must
// not block.
type Measure struct {
	Wrote         func(took time.Duration)                      // each write to the log
	Applied       func(before, after *fsm.State, c fsm.Command) // each command that was done since the node caught up
	LeaderChanged func()                                        // each time that a leader was found
}

// followApplied has the machine tell of what is applied from the point on at which the node has
// caught up: what it reads again from its log was told in an earlier life.
func (n *Node) followApplied() {
	if n.cfg.Applied == nil {
		return
	}
	n.Machine.applied = func(before, after *fsm.State, c fsm.Command) {
		if n.CaughtUp() {
			n.cfg.Applied(before, after, c)
		}
	}
}

// Disk tells about the log's file: its size in bytes, the longest write so far,
// whether one hangs now, and how many bytes its file system has left, -1 if that is not known.
type Disk struct {
	Bytes   int64
	Free    int64
	Worst   time.Duration
	Stalled bool
}

// Disk returns the present figures.
func (n *Node) Disk() Disk {
	d := Disk{Free: -1, Worst: time.Duration(n.guard.longest.Load()), Stalled: n.guard.Stalled()}
	var fs unix.Statfs_t
	if err := unix.Statfs(n.path, &fs); err == nil {
		d.Free = int64(fs.Bavail * uint64(fs.Bsize))
	}
	if st, err := os.Stat(n.path); err == nil {
		d.Bytes = st.Size()
	}
	return d
}
