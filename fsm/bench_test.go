package fsm

import (
	"fmt"
	"testing"
)

// crowd is a cluster of 16 nodes with two ENIs each and a number of HAVIPs, none owned.
func crowd(b *testing.B, havips int) *world {
	w := cluster(b)
	w.must(CreateSubnet{Subnet{Name: "net", CIDR: prefix("10.0.0.0/16"), Gateway: addr("10.0.0.1")}})
	for i := 1; i <= 16; i++ {
		name := fmt.Sprint("n", i)
		if i > 1 {
			w.join(name, RoleAgent, i)
		}
		w.report(name, eniAt("eth0", fmt.Sprintf("10.0.1.%d/16", i), true), eniAt("eth1", fmt.Sprintf("10.0.2.%d/16", i), false))
		w.open(name)
	}
	for i := range havips {
		c := w.command("", CreateHAVIP{Name: fmt.Sprint("h", i), Subnet: "net"})
		w.state, _, _ = Apply(w.state, w.state.Index+1, c)
	}
	if len(w.state.HAVIPs) != havips {
		b.Fatalf("%d HAVIPs", len(w.state.HAVIPs))
	}
	return w
}

func placeAll(w *world) Place {
	var b Place
	for i, v := range w.state.HAVIPList() {
		node := fmt.Sprint("n", i%16+1)
		b.Assignments = append(b.Assignments, Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Node: nodeID(node), Session: w.session(node), ENI: node + "/eth0", Reason: "bench"})
	}
	return b
}

// one measures a command, applied to the same state again and again.
func one(b *testing.B, w *world, body Body) {
	c := w.command("key", body)
	for b.Loop() {
		if _, res, err := Apply(w.state, w.state.Index+1, c); err != nil || res.Refusal != nil {
			b.Fatal(res.Refusal, err)
		}
	}
}

func BenchmarkPlace1000(b *testing.B) {
	w := crowd(b, 1000)
	one(b, w, placeAll(w))
}

// BenchmarkIneligible is Apply's check of one HAVIP and one ENI, which must not grow with the
// number of HAVIPs.
func BenchmarkIneligible(b *testing.B) {
	for _, havips := range []int{100, 10_000} {
		b.Run(fmt.Sprint(havips), func(b *testing.B) {
			w := crowd(b, havips)
			v, e := w.get("h7"), w.state.ENIs["n3/eth0"]
			b.ReportAllocs()
			for b.Loop() {
				if why := w.state.Ineligible(v, e, w.at); why != nil {
					b.Fatal(why)
				}
			}
		})
	}
}

func BenchmarkCloseSessionOf63With1000(b *testing.B) {
	w := crowd(b, 1000)
	w.must(placeAll(w))
	body := CloseSession{Session: w.session("n1")}
	for _, v := range w.state.Claimed(w.session("n1")) {
		a := w.to(v.Name, "n2/eth0")
		body.Place = append(body.Place, a)
	}
	one(b, w, body)
}

func BenchmarkCreateHAVIPWith1000(b *testing.B) {
	one(b, crowd(b, 1000), CreateHAVIP{Name: "new", Subnet: "net"})
}

func BenchmarkCreateHAVIPWith3000(b *testing.B) {
	one(b, crowd(b, 3000), CreateHAVIP{Name: "new", Subnet: "net"})
}

func BenchmarkCreateSubnetWith1000(b *testing.B) {
	one(b, crowd(b, 1000), CreateSubnet{subnet("other", "10.9.0.0/24")})
}

func BenchmarkSnapshotOf1000(b *testing.B) {
	w := crowd(b, 1000)
	w.must(placeAll(w))
	for b.Loop() {
		snapshot(b, w.state)
	}
}
