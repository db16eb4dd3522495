package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// subnet is a command with a visible effect.
func subnet(i int) fsm.CreateSubnet {
	return fsm.CreateSubnet{Subnet: fsm.Subnet{Name: fmt.Sprintf("net-%d", i), CIDR: must24(i)}}
}

func has(s *fsm.State, i int) bool {
	_, ok := s.Subnets[fmt.Sprintf("net-%d", i)]
	return ok
}

func TestBootstrapOnlyOnce(t *testing.T) {
	p := newFounder(t)
	path := filepath.Join(p.cfg.Dir, logFile)
	before := must[[]byte](t)(os.ReadFile(path))
	if err := Bootstrap(p.cfg.Dir, p.cfg.Node, "127.0.0.1:1"); err == nil {
		t.Fatal("a second time")
	}
	if !bytes.Equal(before, must[[]byte](t)(os.ReadFile(path))) {
		t.Error("the refusal changed the log")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		spoil func(path string) error
		want  error
	}{
		{"a missing log", os.Remove, ErrNoLog},
		{"a log without content", func(p string) error { return os.Truncate(p, 0) }, ErrNoLog},
		{"a damaged log", func(p string) error {
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, 3*os.Getpagesize()), 0)
			return errors.Join(err, f.Close())
		}, nil},
		{"a log that was cut off", func(p string) error { return os.Truncate(p, 100) }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newFounder(t)
			path := filepath.Join(p.cfg.Dir, logFile)
			check(t, tc.spoil(path))
			before, _ := os.ReadFile(path)
			_, err := Open(p.cfg)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			after, _ := os.ReadFile(path)
			if !bytes.Equal(before, after) {
				t.Error("the refusal changed the file")
			}
		})
	}
	t.Run("a log in use", func(t *testing.T) {
		p := newFounder(t).open()
		again := p.cfg
		again.Listen = settingsAddr(t)
		if _, err := Open(again); err == nil || !bytes.Contains([]byte(err.Error()), []byte("in use by another process")) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a port in use", func(t *testing.T) {
		p, q := newFounder(t).open(), newFounder(t)
		q.cfg.Listen = p.cfg.Listen
		if _, err := Open(q.cfg); err == nil {
			t.Fatal("both listen")
		}
		q.cfg.Listen = settingsAddr(t)
		q.open() // the refusal let go of the log
	})
}

func TestOneNodeLeadsAndLeavesNothingBehind(t *testing.T) {
	defer leavesNothing(t)()
	c := startCluster(t, 1)
	p := c.leader()
	c.do(subnet(1))
	if p.node.LeaderID() != p.node.Self() || p.node.Suffrages()[p.node.Self()] != "voter" {
		t.Errorf("leader %q, suffrages %v", p.node.LeaderID(), p.node.Suffrages())
	}
	if d := p.node.Disk(); d.Bytes == 0 || d.Worst == 0 || d.Stalled || d.Free <= 0 {
		t.Errorf("disk %+v", d)
	}
	node := p.node
	p.close()
	check(t, node.Close()) // twice is once
	if !node.Stopped() {
		t.Error("not stopped")
	}
	if _, err := node.Propose(soon(t), 0, "", subnet(2)); err == nil {
		t.Error("a closed node commits")
	}
}

func TestThreeNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	t.Run("a follower is no leader", func(t *testing.T) {
		for _, f := range c.followers() {
			if _, err := f.node.Propose(soon(t), 0, "", subnet(1)); !errors.Is(err, ErrNotLeader) {
				t.Errorf("propose: %v", err)
			}
			if _, err := f.node.ReadIndex(soon(t)); !errors.Is(err, ErrNotLeader) {
				t.Errorf("read: %v", err)
			}
		}
	})
	t.Run("what was acknowledged is seen by a linearizable read everywhere", func(t *testing.T) {
		for i := range 10 {
			c.do(subnet(i))
			var index uint64
			eventually(t, "a leader that reads", func() bool {
				var err error
				index, err = c.leader().node.ReadIndex(soon(t))
				return err == nil
			})
			for _, p := range c.all() {
				if s := must[*fsm.State](t)(p.node.WaitIndex(soon(t), index)); !has(s, i) {
					t.Fatalf("%s has index %d and not what was acknowledged before", p.id.Name, s.Index)
				}
			}
		}
		short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if _, err := c.leader().node.WaitIndex(short, 1<<40); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an index far away: %v", err)
		}
	})
	t.Run("reads write nothing, and hold what was written before", func(t *testing.T) {
		eventually(t, "a leader that leads throughout", func() bool {
			node := c.leader().node
			before, err := node.ReadIndex(soon(t))
			if err != nil {
				return false
			}
			newest := node.book.newest()
			for range 1000 {
				at, err := node.ReadIndex(soon(t))
				if err != nil {
					return false
				}
				if at < before {
					t.Fatalf("a later read is of index %d, an earlier one of %d", at, before)
				}
			}
			if now := node.book.newest(); now > newest+2 { // what the cluster itself had to say
				t.Errorf("the log grew from %d to %d", newest, now)
			}
			return true
		})
	})
	t.Run("all know the same voters by the same entry", func(t *testing.T) {
		ids, index := c.leader().node.Voters()
		if len(ids) != 3 || index == 0 || index == unknownIndex {
			t.Fatalf("voters %v by entry %d", ids, index)
		}
		for _, p := range c.all() {
			eventually(t, p.id.Name+" agrees", func() bool {
				theirs, at := p.node.Voters()
				return slices.Equal(theirs, ids) && at == index && p.node.Applied() >= index && p.node.CaughtUp()
			})
		}
	})
	t.Run("a command of a term that has passed does nothing", func(t *testing.T) {
		var p *peer
		var res fsm.Result
		eventually(t, "a leader that commits", func() bool {
			p = c.leader()
			term, _ := p.node.Leading()
			var err error
			res, err = p.node.ProposeFor(soon(t), p.node.Self(), term-1, "", subnet(50))
			return term > 0 && err == nil
		})
		if res.Refusal == nil || res.Refusal.Code != fsm.CodeStale || has(p.node.State(), 50) {
			t.Errorf("got %+v", res)
		}
	})
	t.Run("leadership is handed over", func(t *testing.T) {
		old := c.leader()
		term, _ := old.node.Leading()
		eventually(t, "it is handed over", func() bool {
			_, leads := old.node.Leading()
			return !leads || old.node.TransferLeadership() == nil
		})
		eventually(t, "another leader", func() bool {
			p := c.leader()
			now, ok := p.node.Leading()
			return p != old && ok && now > term
		})
		if _, ok := old.node.Leading(); ok {
			t.Error("the old one still leads")
		}
		c.do(subnet(51))
	})
	t.Run("the leader dies, and comes back with what it missed", func(t *testing.T) {
		old := c.leader()
		_, before := old.node.Voters()
		old.close()
		c.do(subnet(60))
		if c.leader() == old {
			t.Fatal("the dead one leads")
		}
		old.open()
		old.reconcile(c.all)
		eventually(t, "it catches up", func() bool { return has(old.node.State(), 60) && old.node.CaughtUp() })
		ids, index := old.node.Voters()
		if len(ids) != 3 || index != before {
			t.Errorf("it knows voters %v by entry %d, want entry %d", ids, index, before)
		}
	})
	t.Run("all stop, and everything is there again", func(t *testing.T) {
		for _, p := range c.all() {
			p.close()
		}
		for _, p := range c.all() {
			p.open()
			p.reconcile(c.all)
		}
		eventually(t, "the state", func() bool { return has(c.leader().node.State(), 60) })
	})
}

// Without a majority nothing is acknowledged, and nobody goes on calling himself leader.
func TestALeaderAloneStepsDown(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	leader := c.leader()
	for _, p := range c.all() {
		if p != leader {
			p.close()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := leader.node.Propose(ctx, 0, "", subnet(1)); err == nil {
		t.Fatal("acknowledged by one of three")
	}
	eventually(t, "it steps down", func() bool { _, ok := leader.node.Leading(); return !ok })
	if _, err := leader.node.ReadIndex(ctx); !errors.Is(err, ErrNotLeader) {
		t.Errorf("it reads: %v", err)
	}
}

// A node that was away for longer than the leader keeps entries gets a snapshot.
func TestALaggingNodeGetsASnapshot(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	late := c.followers()[0]
	late.close()
	for i := range 30 {
		c.do(subnet(i))
	}
	c.do(fsm.CreateSubnet{Subnet: fsm.Subnet{Name: "last", CIDR: must24(200)}})
	for _, p := range c.all() {
		if p.node == nil {
			continue
		}
		conf := p.node.raft.ReloadableConfig()
		conf.TrailingLogs = 2
		check(t, p.node.raft.ReloadConfig(conf))
		eventually(t, "a snapshot on disk", func() bool { return p.node.raft.Snapshot().Error() == nil })
	}
	late.open()
	late.reconcile(c.all)
	eventually(t, "it catches up", func() bool {
		_, ok := late.node.State().Subnets["last"]
		return ok && late.node.CaughtUp()
	})
	if !late.log.says("copied to local snapshot") {
		t.Fatal("not by a snapshot: the test proves nothing")
	}
	ids, index := c.leader().node.Voters()
	eventually(t, "it knows the voters' entry", func() bool {
		theirs, at := late.node.Voters()
		return slices.Equal(ids, theirs) && at == index
	})
	// And the snapshot is what it starts from.
	late.close()
	late.open()
	late.reconcile(c.all)
	if !has(late.node.State(), 29) {
		t.Error("after a restart the snapshot's state is not there at once")
	}
	if _, at := late.node.Voters(); at != index {
		t.Errorf("after a restart the voters' entry is %d, want %d", at, index)
	}
	c.do(subnet(100))
	eventually(t, "it follows", func() bool { return has(late.node.State(), 100) })
}

// A late barrier must not bring back a leadership that Raft has ended since.
func TestLeadershipThatEndedDoesNotBegin(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.leader().node
	term, _ := n.Leading()
	leadership := n.changeLeadership() // Raft told that it began
	n.changeLeadership()               // and that it ended
	if n.begin(leadership, term) {
		t.Error("it began")
	}
	if _, ok := n.Leading(); ok {
		t.Error("it leads")
	}
}

// Raft counts an entry as applied when it is queued for the machine. Applied does not.
func TestAppliedWaitsForTheMachine(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	p := c.leader()
	var slow atomic.Bool
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	watch, stop := p.node.Watch()
	defer stop()
	go func() {
		for range watch {
			if slow.Load() {
				return
			}
		}
	}()
	p.node.Machine.mu.Lock() // the machine cannot tell its watchers, so Apply does not end
	go func() { <-gate; p.node.Machine.mu.Unlock() }()
	before := p.node.reached.Load()
	done := make(chan error, 1)
	go func() {
		_, err := p.node.Propose(soon(t), 0, "", subnet(1))
		done <- err
	}()
	eventually(t, "Raft calls it applied", func() bool { return p.node.raft.AppliedIndex() > before })
	ahead := p.node.raft.AppliedIndex()
	if got := p.node.Applied(); got >= ahead {
		t.Errorf("applied %d, but the machine has seen only %d", got, p.node.reached.Load())
	}
	open()
	check(t, <-done)
	slow.Store(true)
	eventually(t, "it is applied", func() bool { return p.node.Applied() >= ahead })
}

// A halted machine neither commits nor vouches for what it has read.
func TestAHaltedLeaderSaysSo(t *testing.T) {
	c := startCluster(t, 1)
	p := c.leader()
	check(t, p.node.raft.Apply([]byte("\x63{}"), patience).Error())
	eventually(t, "it halts", func() bool { return errors.Is(p.node.Halted(), fsm.ErrCommandVersion) })
	if _, err := p.node.Propose(soon(t), 0, "", subnet(1)); !errors.Is(err, fsm.ErrCommandVersion) {
		t.Errorf("propose: %v", err)
	}
	if _, err := p.node.ReadIndex(soon(t)); !errors.Is(err, fsm.ErrCommandVersion) {
		t.Errorf("read: %v", err)
	}
	if _, err := p.node.WaitIndex(soon(t), 1<<40); !errors.Is(err, fsm.ErrCommandVersion) {
		t.Errorf("wait: %v", err)
	}
}

// A node of another cluster, at the address of a member, is refused on both sides, and
// nothing changes in either.
func TestNodesOfTwoClustersDoNotMix(t *testing.T) {
	t.Parallel()
	a, b := startCluster(t, 1), startCluster(t, 1)
	pa, pb := a.leader(), b.leader()
	check(t, pa.node.Change(soon(t), Change{Kind: AddReplica, Node: pb.id.NodeID, Address: RaftAddress(pb.asNode())}))
	eventually(t, "the reason is logged", func() bool {
		return pb.log.says("connection refused") || pa.log.says("certificate of cluster")
	})
	throughout(t, 2*testHeartbeat, "each has its own cluster", func() bool {
		return pb.node.State().Cluster.ID == pb.id.ClusterID && len(pb.node.Servers()) == 1
	})
	if s := pb.node.State(); len(s.Nodes) != 1 {
		t.Errorf("nodes %v", s.Nodes)
	}
}
