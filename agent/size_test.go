package agent

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"havip-cluster/edge"
	"havip-cluster/failover/lease"
	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
	"havip-cluster/netdev"
)

// obedient is a kernel in memory that does what it is told.
type obedient struct {
	now       edge.Instant
	addresses map[netip.Addr][]edge.At
	fence     map[netip.Addr]edge.State
}

func (k *obedient) Changed() edge.Parts { return 0 }

func (k *obedient) Read(*edge.Desired, edge.Parts, *edge.Reading) (*edge.Reading, error) {
	r := &edge.Reading{At: k.now, Addresses: map[netip.Addr][]edge.At{}, Fence: map[netip.Addr]edge.State{}, Attached: map[int]error{2: nil}}
	for ip, at := range k.addresses {
		r.Addresses[ip] = at
	}
	for ip, s := range k.fence {
		r.Fence[ip] = s
	}
	return r, nil
}

func (k *obedient) Do(op edge.Op) []error {
	for _, it := range op.Items {
		switch op.Kind {
		case edge.OpGuard, edge.OpShut:
			k.fence[it.IP] = edge.Shut
		case edge.OpOpen:
			k.fence[it.IP] = edge.Open
		case edge.OpAdd, edge.OpExtend:
			k.addresses[it.IP] = []edge.At{{Index: it.Index, Bits: 32, Managed: true, Until: k.now.Add(it.Lifetime)}}
		case edge.OpRemove:
			delete(k.addresses, it.IP)
		}
	}
	return make([]error, op.Len())
}

// sized is a port of a node that owns half of n HAVIPs, and what it is asked.
func sized(tb testing.TB, n int) (*EdgePort, owner.Wanted) {
	k := &obedient{now: edge.Instant(time.Hour), addresses: map[netip.Addr][]edge.At{}, fence: map[netip.Addr]edge.State{}}
	mac, _ := net.ParseMAC("02:00:00:00:00:01")
	prefix := netip.MustParsePrefix("10.1.255.1/16")
	p := NewEdgePort(EdgeConfig{
		Node: "n-1", Log: slog.New(slog.DiscardHandler), Kernel: k, Clock: func() lease.Instant { return lease.Instant(k.now) }, Deadline: func(edge.Instant) {},
		Inventory: func(func(netip.Addr) bool, func(string) bool) ([]netdev.ENI, netdev.Leftout, error) {
			return []netdev.ENI{{Index: 2, Device: "eth0", MAC: mac, Prefixes: []netip.Prefix{prefix}, Primary: true, Up: true}}, nil, nil
		},
	})
	s := fsm.New()
	s.Index = 7
	s.Nodes["n-1"] = fsm.Node{ID: "n-1", Name: "n1"}
	eni := fsm.ENI{ID: "n1/eth0", Node: "n-1", Device: "eth0", MAC: mac.String(), Prefixes: []netip.Prefix{prefix}, Primary: true, Up: true}
	s.ENIs[eni.ID] = eni
	s.Subnets["net"] = fsm.Subnet{Name: "net", CIDR: prefix.Masked()}
	want := owner.Wanted{State: s, CaughtUp: true, Deadline: lease.Instant(2 * time.Hour)}
	for i := range n {
		v := fsm.HAVIP{ID: fmt.Sprintf("havip-%08d", i), IP: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Subnet: "net"}
		s.HAVIPs[v.ID] = v
		if i%2 == 0 {
			want.Activations = append(want.Activations, owner.Activation{HAVIP: v, ENI: eni, Lifetime: time.Hour})
		}
	}
	served := 0
	for range 100 {
		r := p.Turn(want)
		served += len(r.Serving)
		if r.Next > lease.Instant(k.now) {
			break
		}
	}
	if served != len(want.Activations) {
		tb.Fatalf("%d of %d served", served, len(want.Activations))
	}
	return p, want
}

// What a turn costs in which nothing is to be done: the log is as before, or has changed elsewhere.
func BenchmarkTurn(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		p, want := sized(b, n)
		b.Run(fmt.Sprintf("idle-%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Turn(want)
			}
		})
		b.Run(fmt.Sprintf("log-%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				next := *want.State
				next.Index++
				want.State = &next
				p.Turn(want)
			}
		})
	}
}

// A turn in which nothing changes and nothing is due makes nothing anew for each HAVIP.
func TestAnIdleTurnCostsLittle(t *testing.T) {
	const n = 10_000
	p, want := sized(t, n)
	if allocations := testing.AllocsPerRun(5, func() { p.Turn(want) }); allocations > n/20 {
		t.Errorf("%.0f allocations in an idle turn with %d HAVIPs", allocations, n)
	}
}
