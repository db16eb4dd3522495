package scenario

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

func TestLeaderKilledWhileAnotherNodeOwns(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	s := &Series{Name: "leader killed, another node owns, 3 nodes"}
	for range Runs(3) {
		leader := b.Leader()
		b.Place(b.other(leader))
		owner := b.Owner()
		m := b.Watch(func() {
			b.must(b.Cluster.Kill(leader, syscall.SIGKILL))
			b.Leader()
			time.Sleep(2 * Lease)
		})
		noDual(t, m)
		if now := b.Owner(); now != owner {
			timely(t, "the HAVIP went from node-%d to node-%d, though its owner lived", owner, now)
		}
		s.Add(m)
		b.must(b.Cluster.Start(leader))
		b.WaitSessions(3)
	}
	report(t, s, 20*time.Millisecond)
}

func TestPlannedMove(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	s := &Series{Name: "havip move, 3 nodes"}
	for range Runs(5) {
		owner := b.Owner()
		target := owner%3 + 1
		m := b.Watch(func() {
			b.CLI(target, "havip", "move", "web", "--to", b.Cluster.NodeName(target))
			b.NewOwner(target, owner)
			time.Sleep(settleTime)
		})
		noDual(t, m)
		if want := b.Cluster.NodeName(target); m.After != want {
			t.Errorf("%q answers after the move, not %s", m.After, want)
		}
		s.Add(m)
	}
	report(t, s, 20*time.Millisecond)
	median(t, s, 5*time.Millisecond)
}

func TestCleanStopHandsOver(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	s := &Series{Name: "SIGTERM of the owner's agent, 3 nodes"}
	for range Runs(3) {
		owner := b.Owner()
		m := b.Watch(func() {
			b.must(b.Cluster.Stop(owner))
			b.NewOwner(b.other(owner), owner)
		})
		noDual(t, m)
		s.Add(m)
		b.must(b.Cluster.Start(owner))
		b.WaitSessions(3)
	}
	report(t, s, 20*time.Millisecond)
}

// The client reaches both sides of the partition: the owner that was cut off must be
// silent before the other side answers, and nobody may stay dark after the heal.
func TestPartitionOfTheOwner(t *testing.T) {
	beside(t)
	b := NewBed(t, 5)
	s := &Series{Name: "partition of the owner, client on both sides, 5"}
	healed := &Series{Name: "  after the heal"}
	for range Runs(2) {
		owner := b.Owner()
		lonely := b.Lab.Node(owner)
		var rest = b.Lab.Clients()
		side := append(b.Lab.Clients(), lonely)
		for i, h := range b.Lab.Nodes() {
			if i+1 != owner {
				rest = append(rest, h)
			}
		}
		at := b.other(owner)
		m := b.Watch(func() {
			b.must(b.Lab.Partition(side, rest))
			b.NewOwner(at, owner)
			time.Sleep(2 * Lease)
		})
		noDual(t, m)
		s.Add(m)
		now := b.NewOwner(at, owner)
		m = b.Watch(func() {
			b.must(b.Lab.Heal())
			b.WaitSessions(5)
			time.Sleep(2 * time.Second)
		})
		noDual(t, m)
		if want := b.Cluster.NodeName(now); b.Cluster.NodeName(b.Owner()) != want {
			timely(t, "the heal moved the HAVIP away from %s", want)
		}
		healed.Add(m)
	}
	report(t, s, 2*Lease)
	report(t, healed, time.Second)
}

// Everything comes back as it was, and nothing is owned before it may be.
func TestStopOfAllAndColdStart(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	b.CLI(1, "havip", "create", "api", "--ip", b.Lab.Address(101).String(), "--no-range-limit")
	b.Eventually("both owned", func() bool { return len(b.owners(1)) == 2 })
	before, sessions := b.owners(1), b.sessions()
	for i := 1; i <= 3; i++ {
		b.must(b.Cluster.Kill(i, syscall.SIGKILL))
	}
	m := b.Watch(func() {
		for i := 1; i <= 3; i++ {
			b.must(b.Cluster.Start(i))
		}
		b.Eventually("new sessions", func() bool {
			now := b.sessions()
			for node, old := range sessions {
				if now[node] <= old {
					return false
				}
			}
			return true
		})
		b.Eventually("both owned", func() bool { return len(b.owners(1)) == 2 })
	})
	noDual(t, m)
	t.Logf("cold start: %s until all is served again", m.Gap)
	if after := b.owners(1); fmt.Sprint(after) != fmt.Sprint(before) {
		timely(t, "before the stop %v, after the cold start %v", before, after)
	}
}

// sessions maps each node to its session.
func (b *Bed) sessions() map[string]uint64 {
	nodes, _ := b.Cluster.Nodes()
	out := map[string]uint64{}
	for _, n := range nodes {
		out[n.Name] = n.Session
	}
	return out
}

// owners maps each owned HAVIP to its node.
func (b *Bed) owners(at int) map[string]string {
	list, err := b.Cluster.PlacementAt(at, false)
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for _, p := range list {
		if o := p.Owner(); o != "" {
			out[p.Name] = o
		}
	}
	return out
}

func TestMembershipChangesWhileServing(t *testing.T) {
	beside(t)
	b := newBed(t, 5, 3)
	m := b.Watch(func() {
		for i := 4; i <= 5; i++ {
			b.must(b.Cluster.Join(i, "voter"))
			b.WaitVoters(i)
			_, err := b.Lab.Node(i).Respond(port)
			b.must(err)
		}
	})
	noDual(t, m)
	grow := &Series{Name: "a fourth and a fifth node join"}
	grow.Add(m)
	report(t, grow, 20*time.Millisecond)

	shrink := &Series{Name: "a node, then the leader, is removed"}
	leader := b.Leader()
	m = b.Watch(func() {
		first := b.other(leader)
		b.CLI(leader, "node", "remove", b.Cluster.NodeName(first), "--timeout", "20s")
		b.removed(b.other(first), first)
		leader = b.Leader()
		at := b.other(first, leader)
		b.CLI(at, "node", "remove", b.Cluster.NodeName(leader), "--timeout", "20s")
		b.removed(at, leader)
	})
	noDual(t, m)
	shrink.Add(m)
	report(t, shrink, 20*time.Millisecond)
}

// removed waits until the cluster, as node at sees it, no longer has a node, and its agent
// has ended by itself.
func (b *Bed) removed(at, node int) {
	b.t.Helper()
	b.Eventually("removal of "+b.Cluster.NodeName(node), func() bool {
		out, err := b.Cluster.CLI(at, "node", "list", "-o", "json")
		return err == nil && !contains(out, b.Cluster.NodeName(node)+`"`)
	})
	b.Eventually("end of the removed agent", func() bool { return !b.Cluster.Running(node) })
}
