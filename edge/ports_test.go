package edge

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"havip-cluster/netdev"
)

func port(n int) uint16 { return uint16(61000 + n) }

// probed gives a HAVIP that is to be here a probe.
func (b *bed) probed(n int, path string) {
	w := b.want.HAVIPs[ip(n)]
	w.Probe = Probe{Port: port(n), Path: path}
	b.want.HAVIPs[ip(n)] = w
}

// speaks reports whether a port of the host speaks for an address.
func (m *model) speaks(ip netip.Addr) bool {
	for _, p := range m.ports {
		if p.HAVIP == ip {
			return true
		}
	}
	return false
}

// A probe is answered from the moment in which its HAVIP is, and ends with it.
func TestProbeComesAndGoesWithItsHAVIP(t *testing.T) {
	b := newBed(t, 2)
	b.here(0, 1)
	b.probed(0, "")
	var listening State
	b.m.between = func() {
		if b.m.ports[port(0)].Listening && listening == Unknown {
			listening = b.m.fence[ip(0)]
		}
	}
	f := b.turn()
	if !slices.Contains(f.Serving, ip(0)) || !b.m.ports[port(0)].answersFor(ip(0), b.want.HAVIPs[ip(0)], false) {
		t.Fatalf("up: %+v, ports %+v", f, b.m.ports)
	}
	if listening != Shut {
		t.Errorf("the fence was %v for it when its port was opened", listening)
	}
	asked := b.m.did[OpListen]
	b.later(3 * time.Second)
	if b.m.did[OpListen] != asked {
		t.Error("what listens is asked to listen again")
	}
	b.probed(0, "/up")
	if b.turn(); b.m.ports[port(0)].Probe.Path != "/up" {
		t.Errorf("another path: %+v", b.m.ports)
	}
	b.nowhere(0)
	silent := true
	b.m.between = func() { silent = silent && (b.m.speaks(ip(0)) || b.m.fence[ip(0)] == Shut) }
	f = b.turn()
	if !slices.Contains(f.Gone, ip(0)) || b.m.speaks(ip(0)) || !silent {
		t.Errorf("down: %+v, ports %+v, the fence first: %v", f, b.m.ports, silent)
	}
}

// A HAVIP whose port cannot be opened is not opened either: whoever can shall serve it.
func TestAProbeThatCannotBeAnswered(t *testing.T) {
	b := newBed(t, 1)
	b.here(0, 1)
	b.probed(0, "")
	b.m.fails["listen"] = true
	f := b.turn()
	if len(f.Faults) == 0 || len(f.Serving) > 0 || b.m.fence[ip(0)] == Open {
		t.Errorf("%+v, fence %v", f, b.m.fence[ip(0)])
	}
	b.m.fails["unlisten"] = true
	b.m.fails["listen"] = false
	b.later(time.Second)
	b.nowhere(0)
	if f := b.turn(); len(f.Gone) > 0 || f.Clean || b.m.fence[ip(0)] != Shut {
		t.Errorf("its port is not closed: %+v, fence %v", f, b.m.fence[ip(0)])
	}
	b.m.fails["unlisten"] = false
	if f := b.later(time.Second); !slices.Contains(f.Gone, ip(0)) || !f.Clean {
		t.Errorf("closed: %+v", f)
	}
}

// What a dead process has tied is untied, whoever had it; one that is wanted is tied anew.
func TestLeftoverPorts(t *testing.T) {
	b := newBed(t, 2)
	b.m.ports[port(0)] = Port{HAVIP: ip(0), Tied: true, Probe: Probe{Port: port(0)}}
	b.m.ports[port(7)] = Port{HAVIP: ip(7), Tied: true, Probe: Probe{Port: port(7)}}
	b.here(0, 1)
	b.probed(0, "/")
	b.turn()
	if len(b.m.ports) != 1 || !b.m.ports[port(0)].answersFor(ip(0), b.want.HAVIPs[ip(0)], false) {
		t.Errorf("ports %+v", b.m.ports)
	}
	p := b.m.ports[port(0)]
	p.Tied = false // another program has flushed the fence
	b.m.ports[port(0)] = p
	b.m.changed |= Fence
	f := b.later(time.Second)
	if !b.m.ports[port(0)].Tied || len(f.Repairs) != 1 || f.Repairs[0].What != "nothing answered its probe" {
		t.Errorf("untied by others: %+v, %+v", b.m.ports, f.Repairs)
	}
}

func TestReadPorts(t *testing.T) {
	tied := map[uint16]netip.Addr{1: ip(1), 2: ip(2), 3: ip(3)}
	got := readPorts(tied, []netdev.Responder{{Port: 1, Index: 5, HAVIP: ip(1), Path: "/"}, {Port: 2, HAVIP: ip(9)}, {Port: 4, HAVIP: ip(4)}})
	want := map[uint16]Port{
		1: {HAVIP: ip(1), Tied: true, Listening: true, Index: 5, Probe: Probe{1, "/"}},
		2: {HAVIP: ip(9), Listening: true, Probe: Probe{Port: 2}},
		3: {HAVIP: ip(3), Tied: true, Probe: Probe{Port: 3}},
		4: {HAVIP: ip(4), Listening: true, Probe: Probe{Port: 4}},
	}
	for n, p := range want {
		if got[n] != p {
			t.Errorf("port %d: %+v, want %+v", n, got[n], p)
		}
	}
}
