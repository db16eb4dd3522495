package membership

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
	"havip-cluster/testbed/labtest"
)

// answering is a transport whose servers answer or do not.
type answering struct {
	votingTransport
	down error
}

func (a *answering) AppendEntries(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error {
	return a.down
}

func (a *answering) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return a.down
}

// What is for a server that does not answer waits, and goes out with the first heartbeat that is answered, or is made anew
// if there is more by then. The wait ends without it when this node does not lead any more, when the server is
// removed, while leadership is handed over, and when the node closes. Other servers and another term do not wait.
func TestRequestsForAnAbsentServerWait(t *testing.T) {
	type bed struct {
		*absentPeers
		wire   *answering
		wanted bool
		newest uint64
		beat   func()
	}
	for _, row := range []struct {
		what string
		end  func(b *bed)
		want string
	}{
		{"nothing happens", func(*bed) {}, "waits"},
		{"another heartbeat fails", func(b *bed) { b.beat() }, "waits"},
		{"a heartbeat is answered", func(b *bed) { b.wire.down = nil; b.beat() }, "sent"},
		{"it is answered and there is more", func(b *bed) { b.wire.down, b.newest = nil, 1; b.beat() }, "anew"},
		{"leadership ends", func(b *bed) { b.wanted = false; b.look() }, "unwanted"},
		{"the server is removed", func(b *bed) { b.wanted = false; b.beat() }, "unwanted"},
		{"leadership is handed over", func(b *bed) { b.free() }, "unwanted"},
		{"the node closes", func(b *bed) { b.absentPeers.end() }, "unwanted"},
	} {
		t.Run(strings.ReplaceAll(row.what, " ", "-"), func(t *testing.T) {
			labtest.Bubble(t, func(t *testing.T) {
				gone := errors.New("no route")
				b := &bed{wire: &answering{down: gone}, wanted: true}
				b.absentPeers = newAbsentPeers(b.wire, func(raft.ServerID, uint64) bool { return b.wanted }, func() uint64 { return b.newest })
				b.beat = func() { _ = b.AppendEntries("b", "", &raft.AppendEntriesRequest{Term: 7}, nil) }
				entries := func(id raft.ServerID, term uint64) error {
					return b.AppendEntries(id, "", &raft.AppendEntriesRequest{Term: term, PrevLogEntry: 1}, nil)
				}
				if err := entries("b", 7); !errors.Is(err, gone) {
					t.Errorf("before a heartbeat failed: %v", err)
				}
				b.beat()
				if err := entries("c", 7); !errors.Is(err, gone) {
					t.Errorf("another server: %v", err)
				}
				sent := make(chan error, 2)
				go func() { sent <- entries("b", 7) }()
				go func() { sent <- b.InstallSnapshot("b", "", &raft.InstallSnapshotRequest{Term: 7}, nil, nil) }()
				synctest.Wait()
				row.end(b)
				synctest.Wait()
				for range 2 {
					got := "waits"
					select {
					case err := <-sent:
						got = map[error]string{nil: "sent", errAbsent: "unwanted", errAnew: "anew"}[err]
					default:
					}
					if got != row.want {
						t.Errorf("%s, want %s", got, row.want)
					}
				}
				if b.wanted && row.want == "waits" {
					if err := entries("b", 8); !errors.Is(err, gone) {
						t.Errorf("in another term: %v", err)
					}
				}
				b.absentPeers.end()
			})
		})
	}
}

// virtual is a cluster of real Raft nodes whose network and disks are in memory, in virtual time.
type virtual struct {
	t     *testing.T
	nodes []*Node
	wires []*raft.InmemTransport
}

type memoryStore struct{ *raft.InmemStore }

func (memoryStore) Close() error { return nil }

const (
	virtualHeartbeat = 250 * time.Millisecond // profile lan
	virtualLease     = 200 * time.Millisecond
)

func newVirtual(t *testing.T, n int) *virtual {
	t.Helper()
	v := &virtual{t: t}
	var servers raft.Configuration
	for i := range n {
		address, wire := raft.NewInmemTransport(raft.ServerAddress(fmt.Sprintf("10.9.8.%d:1", i+1)))
		v.wires = append(v.wires, wire)
		servers.Servers = append(servers.Servers, raft.Server{Suffrage: raft.Voter, ID: v.id(i), Address: address})
	}
	for i := range n {
		store, snaps := memoryStore{raft.NewInmemStore()}, raft.NewInmemSnapshotStore()
		conf := raft.DefaultConfig()
		conf.LocalID, conf.LogOutput = v.id(i), io.Discard
		check(t, raft.BootstrapCluster(conf, store, store, snaps, v.wires[i], servers))
		cfg := Config{Dir: t.TempDir(), Node: string(v.id(i)), Heartbeat: virtualHeartbeat, LeaderLease: virtualLease, Logger: slog.New(slog.DiscardHandler)}
		node, err := OpenOn(cfg, Parts{Store: store, Snapshots: snaps, Transport: v.wires[i], Tune: func(c *raft.Config) { c.TrailingLogs = 4 }})
		check(t, err)
		v.nodes = append(v.nodes, node)
	}
	for i := range n {
		v.back(i)
	}
	return v
}

func (v *virtual) id(i int) raft.ServerID { return raft.ServerID(fmt.Sprint("n-v", i)) }

func (v *virtual) close() {
	for i := range v.nodes {
		v.cut(i) // pipelines in memory do not survive an answer that is an error
	}
	time.Sleep(time.Second)
	for _, n := range v.nodes {
		check(v.t, n.Close())
	}
	time.Sleep(time.Minute) // what was on its way
}

// cut takes a node off the network, and back puts it there again.
func (v *virtual) cut(i int) {
	v.wires[i].DisconnectAll()
	for _, w := range v.wires {
		w.Disconnect(v.wires[i].LocalAddr())
	}
}

func (v *virtual) back(i int) {
	for j, w := range v.wires {
		if j != i {
			w.Connect(v.wires[i].LocalAddr(), v.wires[i])
			v.wires[i].Connect(w.LocalAddr(), w)
		}
	}
}

// until waits in virtual time and says for how long.
func (v *virtual) until(what string, cond func() bool) time.Duration {
	v.t.Helper()
	began := time.Now()
	for time.Since(began) < 2*time.Minute {
		if cond() {
			return time.Since(began)
		}
		time.Sleep(time.Millisecond)
	}
	v.t.Fatalf("never: %s", what)
	return 0
}

// leader waits for one, and returns it with a follower.
func (v *virtual) leader() (leader, follower int) {
	v.t.Helper()
	v.until("a leader", func() bool {
		for i, n := range v.nodes {
			if _, leads := n.Leading(); leads {
				leader, follower = i, (i+1)%len(v.nodes)
				return true
			}
		}
		return false
	})
	return leader, follower
}

// write commits an entry.
func (v *virtual) write(at int) {
	v.t.Helper()
	check(v.t, v.nodes[at].raft.Barrier(time.Second).Error())
}

// A server that was away, for however long, has what it missed a few heartbeats after its return: hashicorp/raft's own
// pause between two tries would be up to 10 s by then.
func TestBackAfterALongAbsence(t *testing.T) {
	for _, away := range []time.Duration{3 * time.Second, 41 * time.Second, 47 * time.Second, 53 * time.Second, 10 * time.Minute} {
		for _, snapshot := range []bool{false, true} {
			t.Run(fmt.Sprint(away, " snapshot=", snapshot), func(t *testing.T) {
				labtest.Bubble(t, func(t *testing.T) {
					v := newVirtual(t, 3)
					defer v.close()
					leader, gone := v.leader()
					v.write(leader)
					v.cut(gone)
					for end := time.Now().Add(away); time.Now().Before(end); time.Sleep(700 * time.Millisecond) {
						v.write(leader)
					}
					if snapshot {
						for i := range 8 {
							_, err := v.nodes[leader].Propose(t.Context(), 0, fmt.Sprint(i), fsm.InitCluster{})
							check(t, err)
						}
						check(t, v.nodes[leader].raft.Snapshot().Error())
					}
					want := v.nodes[leader].raft.LastIndex()
					v.back(gone)
					took := v.until("it has what it missed", func() bool { return v.nodes[gone].raft.AppliedIndex() >= want })
					t.Logf("after %v: %v", away, took)
					if took > 2*virtualHeartbeat {
						t.Errorf("it had what it missed after %v", took)
					}
					if i, _ := v.leader(); i != leader {
						t.Errorf("node %d leads instead of %d", i, leader)
					}
				})
			})
		}
	}
}

// waits counts the requests that wait for an absent server, in the whole process.
func waits() int {
	all := make([]byte, 4<<20)
	return strings.Count(string(all[:runtime.Stack(all, true)]), "absentPeers).wait(")
}

// absent is a cluster of three whose follower has been away for long enough that a request waits for it.
func newAbsent(t *testing.T) (v *virtual, leader, gone, other int) {
	t.Helper()
	v = newVirtual(t, 3)
	leader, gone = v.leader()
	v.cut(gone)
	for range 8 {
		v.write(leader)
		time.Sleep(virtualHeartbeat)
	}
	v.until("a request waits", func() bool { return waits() == 1 })
	return v, leader, gone, 3 - leader - gone
}

// Nothing that Raft does besides is held up by a request that waits: the removal of the server, leadership handed to
// it or to another one, leadership lost, and the end.
func TestAnAbsentServerHoldsNothingUp(t *testing.T) {
	for what, does := range map[string]func(v *virtual, leader, gone, other int){
		"removal": func(v *virtual, leader, gone, _ int) {
			check(v.t, v.nodes[leader].raft.RemoveServer(v.id(gone), 0, time.Second).Error())
			if took := v.until("nobody waits for it", func() bool { return waits() == 0 }); took > 2*virtualHeartbeat {
				v.t.Errorf("it is waited for %v longer", took)
			}
		},
		"handing over": func(v *virtual, leader, gone, other int) {
			if err := v.nodes[leader].YieldTo(string(v.id(gone))); err == nil {
				v.t.Error("it went to one that is away")
			}
			for range 4 { // nor does Raft itself hang when it was asked to; it has one place for this
				_ = v.nodes[leader].raft.LeadershipTransferToServer(v.id(gone), v.wires[gone].LocalAddr()).Error()
				took := v.until("it writes", func() bool {
					_, err := v.nodes[leader].Propose(v.t.Context(), 0, "", fsm.InitCluster{})
					return err == nil
				})
				if took > 4*virtualHeartbeat {
					v.t.Errorf("nothing was written for %v more", took)
				}
			}
			check(v.t, v.nodes[leader].YieldTo(string(v.id(other))))
			v.until("the other one leads", func() bool { _, leads := v.nodes[other].Leading(); return leads })
			v.until("the old leader waits no more", func() bool { return waits() <= 1 })
			v.write(other)
			v.back(gone)
			v.until("it has what it missed", func() bool { return v.nodes[gone].raft.AppliedIndex() >= v.nodes[other].raft.LastIndex() })
		},
		"leadership lost": func(v *virtual, leader, gone, other int) {
			v.cut(other)
			if took := v.until("nobody waits", func() bool { return waits() == 0 }); took > 2*virtualHeartbeat {
				v.t.Errorf("requests wait for %v more", took)
			}
			v.back(other)
			v.back(gone)
			l, _ := v.leader()
			v.write(l)
		},
		"the end": func(v *virtual, leader, _, _ int) {
			began := time.Now()
			check(v.t, v.nodes[leader].Close())
			if took := time.Since(began); took > virtualHeartbeat {
				v.t.Errorf("it took %v to close", took)
			}
		},
	} {
		t.Run(strings.ReplaceAll(what, " ", "-"), func(t *testing.T) {
			labtest.Bubble(t, func(t *testing.T) {
				v, leader, gone, other := newAbsent(t)
				defer v.close()
				does(v, leader, gone, other)
			})
		})
	}
}

// The same over TCP and TLS, with a node that restarts: while it is away Raft's pause would grow beyond eight seconds.
func TestAFollowerThatWasAwayForLong(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	back := c.followers()[0]
	back.close()
	for i, end := 0, time.Now().Add(12*time.Second); time.Now().Before(end); i++ {
		c.do(subnet(i))
		time.Sleep(50 * time.Millisecond)
	}
	want := c.leader().node.State().Index
	began := time.Now()
	back.open()
	eventually(t, "it has what it missed", func() bool { return back.node.State().Index >= want })
	took := time.Since(began)
	t.Logf("it had it %v after its start", took)
	if back.reconcile(c.all); took > 7*testHeartbeat { // a busy host takes some of it
		t.Errorf("it had what it missed %v after its start", took)
	}
}
