package scenario

import (
	"context"
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
// one that was. This is what the members' address pairs are in OpenStack, and a range that is narrower there.
func TestOVNFollowsParentsAlone(t *testing.T) {
	b := overOVN(t)
	b.Place(1)
	b.servedEverywhere(1)
	b.must(b.fabric.Virtual("web", b.HAVIP, b.Lab.Node(1), b.Lab.Node(2)))
	b.Place(3)
	b.Eventually("the owner has it", func() bool { return b.has(3) })
	time.Sleep(2 * time.Second) // what was announced has come long ago
	if parent := b.fabric.Parent("web"); parent == b.Lab.Node(3).Name {
		t.Errorf("OVN follows %s, which is none of the parents", parent)
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

func lastAnswer(p *netns.Prober) string {
	probes := p.Probes()
	for i := len(probes) - 1; i >= 0; i-- {
		if probes[i].Answered != 0 {
			return probes[i].Node
		}
	}
	return ""
}

// seen plays a fault under the eyes of two clients, an observer and the southbound database.
func (b *ovnBed) seen(owner int, fault func()) (s ovnSeen) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	far, err := b.Lab.Probe(ctx, b.fabric.Far(), b.HAVIP, port, time.Millisecond)
	b.must(err)
	var began int64
	var next int
	m := b.Watch(func() {
		began = b.Lab.Now()
		fault()
		next = b.NewOwner(b.other(owner), owner)
		name := b.Lab.Node(next).Name
		b.Eventually("both clients are answered by the new owner", func() bool { return b.fabric.Parent("web") == name && lastAnswer(far) == name })
	})
	far.Stop()
	noDual(b.t, m)
	if name := b.Lab.Node(next).Name; m.After != "" && m.After != name {
		b.t.Errorf("the client in the same network is answered by %s, the owner is %s", m.After, name)
	}
	s.near = m.Gap
	for _, g := range far.Gaps(2 * time.Millisecond) {
		s.far = max(s.far, g.Duration)
	}
	for _, c := range b.fabric.Bindings() {
		if c.Port == "web" && c.At > began && c.Parent == b.Lab.Node(next).Name {
			s.bound = time.Duration(c.At - began)
			break
		}
	}
	return s
}
