package scenario

import (
	"context"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
	"havip-cluster/jepsen/ovn"
)

// ovnBed is a Bed over Open Virtual Network: each node on a hypervisor of its own, the HAVIP a port of type virtual.
type ovnBed struct {
	*Bed
	fabric *ovn.Fabric
}

// ovnObserve is how often an observer asks each node. Each answer by ARP is a claim to OVN, which its ovn-controller looks
// at, and each question has a hardware address of its own, which is a new flow: every 2 ms, as elsewhere, keeps it from its work.
const ovnObserve = 20 * time.Millisecond

// ovnSeen is what was seen during one fault. Gaps are the longest of each client.
type ovnSeen struct {
	near, far time.Duration // of the client in the same network, and of the one behind the router
	bound     time.Duration // from the fault to the southbound database naming the new owner's port
}

// ovnSeries are the runs of one fault.
type ovnSeries struct{ near, far, bound Series }

func (s *ovnSeries) add(seen ovnSeen) {
	s.near.Gaps, s.far.Gaps, s.bound.Gaps = append(s.near.Gaps, seen.near), append(s.far.Gaps, seen.far), append(s.bound.Gaps, seen.bound)
}

// TestOVN is a failover through a fabric that nobody here wrote. After each fault both clients are served by the new
// owner, OVN names its port as the virtual parent, and two nodes never answered. `make ovn` has what it needs.
func TestOVN(t *testing.T) {
	b := overOVN(t)
	for _, fault := range []struct {
		name       string
		play, heal func(owner int)
	}{
		{"planned move", func(owner int) {
			b.CLI(owner, "havip", "move", "web", "--to", b.Cluster.NodeName(b.other(owner)))
		}, func(int) {}},
		{"the owner's hypervisor is lost", func(owner int) { b.must(b.fabric.Lose(owner)) }, func(owner int) { b.must(b.fabric.Return(owner)) }},
		{"the owner's processes are killed", func(owner int) { b.must(b.Cluster.Kill(owner, syscall.SIGKILL)) }, func(owner int) { b.must(b.Cluster.Start(owner)) }},
	} {
		var s ovnSeries
		for range Runs(5) {
			b.WaitSessions(3)
			owner := b.Owner()
			b.servedEverywhere(owner)
			s.add(b.seen(owner, func() { fault.play(owner) }))
			fault.heal(owner)
		}
		for _, row := range []struct {
			what string
			of   *Series
		}{{"gap, same network", &s.near}, {"gap, behind the router", &s.far}, {"until OVN names it", &s.bound}} {
			row.of.Name = fault.name + ": " + row.what
			t.Log(row.of)
		}
	}
}

// A node that is none of the virtual port's parents is not followed: the southbound database goes on naming the last
// one that was, so who is behind the router reaches nobody, while who is in the same network has followed the announcement.
// This is what the members' address pairs are in OpenStack, and a range that is narrower there.
func TestOVNFollowsParentsAlone(t *testing.T) {
	b := overOVN(t)
	b.Place(1)
	b.servedEverywhere(1)
	b.must(b.fabric.Virtual("web", b.HAVIP, b.Lab.Node(1), b.Lab.Node(2)))
	b.Place(3)
	b.Eventually("the owner has it", func() bool { return b.has(3) })
	name := b.Lab.Node(3).Name
	near, err := b.Lab.Probe(t.Context(), b.Lab.Client(), b.HAVIP, port, 5*time.Millisecond)
	b.must(err)
	b.Eventually("the client in the same network is answered by "+name, func() bool { return lastAnswer(near) == name })
	near.Stop()
	far, err := b.Lab.Probe(t.Context(), b.fabric.Far(), b.HAVIP, port, 5*time.Millisecond)
	b.must(err)
	time.Sleep(2 * time.Second) // what was announced has come long ago
	far.Stop()
	if owner := b.Owner(); owner != 3 {
		t.Fatalf("node %d owns it by now: nothing was shown", owner)
	}
	if parent, by := b.fabric.Parent("web"), lastAnswer(far); parent == name || by != "" {
		t.Errorf("OVN names %q, and the client behind the router is answered by %q, while %s is none of the parents", parent, by, name)
	}
	b.must(b.fabric.Virtual("web", b.HAVIP, b.Lab.Nodes()...))
	b.Place(2)
	b.servedEverywhere(2)
}

// overOVN forms a cluster of three nodes on it.
func overOVN(t *testing.T) *ovnBed {
	t.Helper()
	tools := os.Getenv("HAVIP_OVN")
	if tools == "" {
		t.Skip("HAVIP_OVN names no directory with the packages of OVN: `make ovn` does")
	}
	b := &ovnBed{Bed: unformed(t, 3)}
	fabric, err := ovn.Start(b.Lab, tools)
	b.fabric = fabric
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(fabric.Tails())
		}
		if err := fabric.Close(); err != nil {
			t.Error(err)
		}
	})
	b.must(err)
	b.must(fabric.Virtual("web", b.HAVIP, b.Lab.Nodes()...))
	b.form(3)
	return b
}

// servedEverywhere waits until a node answers both clients and OVN names it.
func (b *ovnBed) servedEverywhere(node int) {
	b.t.Helper()
	name := b.Lab.Node(node).Name
	b.Eventually("OVN names "+name, func() bool { return b.fabric.Parent("web") == name })
	for _, from := range []*netns.Host{b.Lab.Client(), b.fabric.Far()} {
		p, err := b.Lab.Probe(context.Background(), from, b.HAVIP, port, 5*time.Millisecond)
		b.must(err)
		b.Eventually(from.Name+" is answered by "+name, func() bool { return lastAnswer(p) == name })
		p.Stop()
	}
}

func longest(p *netns.Prober) (gap time.Duration) {
	for _, g := range p.Gaps(2 * time.Millisecond) {
		gap = max(gap, g.Duration)
	}
	return gap
}

// seen plays a fault under the eyes of two clients, an observer and the southbound database.
func (b *ovnBed) seen(owner int, fault func()) (s ovnSeen) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	near, err := b.Lab.Probe(ctx, b.Lab.Client(), b.HAVIP, port, time.Millisecond)
	b.must(err)
	far, err := b.Lab.Probe(ctx, b.fabric.Far(), b.HAVIP, port, time.Millisecond)
	b.must(err)
	observer, err := b.Lab.Observe(ctx, []netip.Addr{b.HAVIP}, port, ovnObserve)
	b.must(err)
	time.Sleep(settleTime)
	was, next := b.Lab.Node(owner).Name, ""
	began := b.Lab.Now()
	fault()
	b.Eventually("OVN names another node, and both clients are answered by it", func() bool {
		next = b.fabric.Parent("web")
		return next != was && lastAnswer(near) == next && lastAnswer(far) == next
	})
	time.Sleep(settleTime)
	near.Stop()
	far.Stop()
	observer.Stop()
	noDual(b.t, Measured{Dual: observer.Report().Dual})
	s.near, s.far = longest(near), longest(far)
	for _, c := range b.fabric.Bindings() {
		if c.Port == "web" && c.At > began && c.Parent == next {
			s.bound = time.Duration(c.At - began)
			break
		}
	}
	return s
}
