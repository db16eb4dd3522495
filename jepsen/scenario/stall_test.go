package scenario

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// From linux/fs.h: _IOWR('X', 119, int) and 120. A frozen file system lets every
	// write and fsync wait, and reads pass: a disk that stalls.
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878

	election = 250 * time.Millisecond // Raft's time-out in profile lan
	calm     = 20 * election
)

// ownDisk puts the data directory of a node onto a file system of its own.
func (b *Bed) ownDisk(node int) (freeze, thaw func()) {
	b.t.Helper()
	dir := b.Cluster.DataDir(node)
	image := filepath.Join(b.Cluster.Dir, "disk")
	b.must(os.MkdirAll(dir, 0o700))
	f, err := os.Create(image)
	b.must(err)
	b.must(f.Truncate(64 << 20))
	b.must(f.Close())
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			b.t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	b.t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			b.t.Error(err)
		}
	})
	b.must(os.Chmod(dir, 0o700))
	do := func(request uint) error {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer d.Close()
		return unix.IoctlSetInt(int(d.Fd()), request, 0)
	}
	thaw = sync.OnceFunc(func() { b.must(do(fiThaw)) })
	return func() {
		b.must(do(fiFreeze))
		b.t.Cleanup(thaw) // whatever comes: a process that writes to it cannot be killed
	}, thaw
}

// leaderAt is the leader's name as a node knows it, without asking others.
func (b *Bed) leaderAt(node int) string {
	out, _ := b.Cluster.CLI(node, "status", "-o", "json", "--timeout", "1s")
	var st struct {
		Leader *string `json:"leader"`
	}
	if json.Unmarshal(out, &st) != nil || st.Leader == nil {
		return ""
	}
	return *st.Leader
}

// ledSince is how long after start a node began to lead, by the nodes' own logs: to ask
// them takes longer while there is no leader.
func (b *Bed) ledSince(start time.Time) time.Duration {
	b.t.Helper()
	first := time.Duration(0)
	for i := range b.Lab.Nodes() {
		for line := range strings.Lines(b.Cluster.Tail(i + 1)) {
			if !strings.Contains(line, "this node leads the cluster") {
				continue
			}
			at, err := time.Parse(time.RFC3339, strings.TrimPrefix(strings.Fields(line)[0], "time="))
			if took := at.Sub(start); err == nil && took > 0 && (first == 0 || took < first) {
				first = took
			}
		}
	}
	if first == 0 {
		b.t.Error("no log says who leads")
	}
	return first
}

// The leader's disk stalls: it hands leadership over, its own HAVIP and those of others
// are served all the time, it says what is wrong, and afterwards it is well again.
func TestStalledDisk(t *testing.T) {
	beside(t)
	for name, owner := range map[string]int{"another node owns": 2, "it owns": 1} {
		t.Run(name, func(t *testing.T) {
			b := unformed(t, 3)
			freeze, thaw := b.ownDisk(1)
			b.form(3)
			for again := 0; again < attempts; again++ {
				b.leads(1)
				b.Place(owner)
				time.Sleep(calm) // right after elections a leader is more patient with its disk
				if b.Leader() == 1 {
					break
				}
			}
			s := &Series{Name: "the leader's disk stalls, " + name}
			m := b.Watch(func() {
				freeze()
				start := time.Now()
				created := make(chan error, 1)
				go func() { // a stall shows when there is something to write
					_, err := b.Cluster.CLI(2, "havip", "create", "late", "--subnet", "net-10.77.0.0-24", "--no-range-limit", "--timeout", "15s")
					created <- err
				}()
				b.Eventually("another leader", func() bool {
					leader := b.leaderAt(2)
					return leader != "" && leader != b.Cluster.NodeName(1)
				})
				took := b.ledSince(start)
				t.Logf("there was another leader %s after the stall", took.Round(time.Millisecond))
				// One for the stalled one to give up, and the vote, which it asks for itself.
				if limit := 2 * election; took > limit {
					timely(t, "another leader only after %s, more than %s", took, limit)
				}
				if err := <-created; err != nil {
					t.Errorf("what was asked for during the stall: %v", err)
				}
				b.Eventually("the status of the stalled node says so", func() bool {
					out, _ := b.Cluster.CLI(1, "status", "--timeout", "1s")
					return contains(out, "its disk does not take the log's writes")
				})
				time.Sleep(2 * Lease)
				thaw()
				b.Eventually("node-1 to be well again", func() bool {
					out, err := b.Cluster.CLI(1, "havip", "list", "-o", "json", "--timeout", "1s")
					st, _ := b.Cluster.CLI(1, "status", "--timeout", "1s")
					return err == nil && contains(out, `"late"`) && !contains(st, "its disk")
				})
			})
			noDual(t, m)
			s.Add(m)
			report(t, s, 20*time.Millisecond)
			if now := b.Owner(); now != owner {
				timely(t, "the HAVIP went from node-%d to node-%d, though its owner could serve it", owner, now)
			}
			b.WaitSessions(3)
		})
	}
}
