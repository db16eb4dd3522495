package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/internal/limits"
)

// leases are the lengths that a measuring run tries: HAVIP_LEASES, such as "150ms,50ms".
func leases(t *testing.T, def string) (out []time.Duration) {
	t.Helper()
	text := os.Getenv("HAVIP_LEASES")
	if text == "" {
		text = def
	}
	for _, part := range strings.Split(text, ",") {
		d, err := time.ParseDuration(part)
		if err != nil {
			t.Fatalf("HAVIP_LEASES: %v", err)
		}
		out = append(out, d)
	}
	return out
}

// setLease changes the lease of the cluster, and waits until the sessions renew by it.
func (b *Bed) setLease(d time.Duration) {
	b.t.Helper()
	args := []string{"cluster", "set", "lease=" + d.String()}
	if out := b.CLI(1, "cluster", "set", "--help"); contains(out, "--force") {
		args = append(args, "--force") // what this machine keeps is measured, not asked
	}
	b.CLI(1, args...)
	time.Sleep(3 * time.Second) // the longer one runs out
}

// standing is what a lost lease changes: the HAVIP's epoch, and the numbers of the sessions.
func (b *Bed) standing() (epoch uint64, sessions map[string]uint64) {
	b.t.Helper()
	list, err := b.Cluster.Placement()
	b.must(err)
	for _, p := range list {
		if p.Name == "web" {
			epoch = p.Epoch
		}
	}
	nodes, err := b.Cluster.Nodes()
	b.must(err)
	sessions = map[string]uint64{}
	for _, n := range nodes {
		sessions[n.Name] = n.Session
	}
	return epoch, sessions
}

// TestLeaseUnderLoad: with eight busy loops on this machine no lease is lost and no owner changes. In
// a measuring run HAVIP_LEASES and HAVIP_LOAD_FOR say which lengths and for how long, HAVIP_BUSY how many loops, 0 for a
// machine at rest: `calibrate` then says what was worst.
func TestLeaseUnderLoad(t *testing.T) {
	long(t)
	span, err := time.ParseDuration(os.Getenv("HAVIP_LOAD_FOR"))
	if err != nil {
		span = 5 * time.Second
	}
	loops, err := strconv.Atoi(os.Getenv("HAVIP_BUSY"))
	if err != nil {
		loops = 8
	}
	for _, d := range leases(t, "500ms") {
		t.Run(d.String(), func(t *testing.T) {
			b := NewBed(t, 3)
			b.setLease(d)
			burn(t, loops)
			for range Runs(1) {
				epoch, before := b.standing()
				m := b.Watch(func() { time.Sleep(span) })
				noDual(t, m)
				after, now := b.standing()
				lost := 0
				for name, session := range before {
					if now[name] != session {
						lost++
					}
				}
				line := fmt.Sprintf("lease %v, %d busy loops for %v: %d changes of the owner, %d of 3 nodes lost their session, longest gap %v", d, loops, span, after-epoch, lost, m.Gap)
				t.Log(line)
				if after != epoch {
					timely(t, "%s", line)
				}
				if measuring() {
					t.Logf("%s", b.CLI(1, "calibrate", "--for", "10s"))
				}
				if loops == 0 {
					continue
				}
				b.planeIsThere()
			}
		})
	}
}

// planeIsThere: the guard's threads are real-time, all but the monitor of Go's runtime, and none of the agent's; its
// memory is locked; and calibrate tells of it.
func (b *Bed) planeIsThere() {
	b.t.Helper()
	out := b.CLI(1, "status")
	if !contains(out, "real-time priority, memory locked") {
		b.t.Skipf("this machine permits no real-time priority: %s", out)
	}
	agent, err := b.Cluster.AgentPID(1)
	b.must(err)
	guard, err := parentOf(agent)
	b.must(err)
	if plain, raised := b.threads(guard); raised < 2 || plain > 1 {
		b.t.Errorf("%d threads of the guard are real-time, and %d are not", raised, plain)
	}
	if _, raised := b.threads(agent); raised != 0 {
		b.t.Errorf("%d threads of the agent are real-time", raised)
	}
	text := b.CLI(1, "calibrate", "--for", "6s", "-o", "json")
	b.t.Logf("%s", text)
	var seen struct {
		Proposed struct {
			LeaseMS int64 `json:"lease_ms"`
		} `json:"proposed"`
		Nodes []struct {
			Renewals uint64 `json:"renewals"`
		} `json:"nodes"`
	}
	b.must(json.Unmarshal(text, &seen))
	if seen.Proposed.LeaseMS < limits.LeaseProposed.Milliseconds() || len(seen.Nodes) != 3 {
		b.t.Errorf("%+v", seen)
	}
	for _, n := range seen.Nodes {
		if n.Renewals == 0 {
			b.t.Errorf("%+v", seen)
		}
	}
}

// TestHostLossTimeline: where the time of a failover goes, by the leader's own record.
func TestHostLossTimeline(t *testing.T) {
	long(t)
	for _, d := range leases(t, "150ms") {
		t.Run(d.String(), func(t *testing.T) {
			b := NewBed(t, 3)
			b.setLease(d)
			if os.Getenv("HAVIP_RESTART") != "" { // Raft's timers are those of the lease from the start, then
				for node := range 3 {
					b.must(b.Cluster.Kill(node+1, syscall.SIGTERM))
					b.restart(node + 1)
					b.WaitSessions(3)
				}
			}
			for what, leads := range map[string]bool{"owner is not the leader": false, "owner leads": true} {
				s := &Series{Name: fmt.Sprintf("host loss, %s, lease %v", what, d)}
				for range Runs(1) {
					b.Eventually("the owner where it shall be", func() bool {
						leader, owner := b.Leader(), b.Owner()
						if (leader == owner) == leads {
							return true
						}
						to := leader
						if !leads {
							to = b.other(leader)
						}
						b.Place(to)
						return false
					})
					owner := b.Owner()
					m := b.Watch(func() {
						b.must(b.Lab.Node(owner).SetLink(0, false))
						b.NewOwner(b.other(owner), owner)
						time.Sleep(settleTime)
					})
					noDual(t, m)
					s.Add(m)
					t.Logf("gap %v\n%s", m.Gap, b.CLI(b.other(owner), "failovers", "web"))
					b.must(b.Lab.Node(owner).SetLink(0, true))
					b.WaitSessions(3)
				}
				report(t, s, 2*d+50*time.Millisecond)
			}
		})
	}
}

// threads counts the threads of a process without and with real-time priority.
func (b *Bed) threads(pid int) (plain, raised int) {
	b.t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	b.must(err)
	for _, task := range tasks {
		var id int
		fmt.Sscan(task.Name(), &id)
		attr, err := unix.SchedGetAttr(id, 0)
		switch {
		case err != nil: // it has ended meanwhile
		case attr.Policy == unix.SCHED_RR:
			raised++
		default:
			plain++
		}
	}
	return plain, raised
}

// parentOf is the process that started one.
func parentOf(pid int) (parent int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, _ := fmt.Sscanf(line, "PPid: %d", &parent); n == 1 {
			return parent, nil
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no parent", pid)
}
