package placement_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// grid is a healthy cluster with two ENIs per node and HAVIPs that nobody owns yet; every
// other one has a preference.
func grid(nodes, havips int) placement.Problem {
	p := placement.Problem{Now: start}
	for i := range nodes {
		name := fmt.Sprintf("n%03d", i)
		p.Nodes = append(p.Nodes, placement.Node{Name: name, Alive: true})
		for _, device := range []string{"eth0", "eth1"} {
			p.ENIs = append(p.ENIs, placement.ENI{ID: name + "/" + device, Node: name, Subnets: []string{"net"}, Up: true, Primary: device == "eth0"})
		}
	}
	for i := range havips {
		v := placement.HAVIP{ID: fmt.Sprintf("havip-%05d", i), Name: fmt.Sprintf("h%05d", i), Subnet: "net"}
		if i%2 == 0 {
			v.Prefer = map[string]int{fmt.Sprintf("n%03d", i%nodes): 10}
		}
		p.HAVIPs = append(p.HAVIPs, v)
	}
	return p
}

// down is the problem after the death of its first node, whose claims are closed.
func down(p placement.Problem) placement.Problem {
	out, err := p.With(placement.Changes{Down: []string{p.Nodes[0].Name}})
	if err != nil {
		panic(err)
	}
	return out
}

// cpu is the processor time that the process has used, which a busy machine disturbs less
// than it does the time on the wall.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, began time.Duration) {
	b.ReportMetric(float64((cpu()-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

func BenchmarkSolve(b *testing.B) {
	for _, size := range []struct{ nodes, havips int }{{16, 1000}, {100, 10000}} {
		fresh := grid(size.nodes, size.havips)
		settled := placement.Settled(fresh)
		tight := fresh
		tight.Limits.PerNode = (size.havips + size.nodes - 1) / size.nodes
		tight.Groups = []placement.Group{
			{Name: "apart", Kind: fsm.Apart, Hard: true, HAVIPs: []string{"havip-00001", "havip-00002", "havip-00003"}},
			{Name: "together", Kind: fsm.Together, Hard: true, HAVIPs: []string{"havip-00011", "havip-00012", "havip-00013"}},
		}
		for _, c := range []struct {
			name string
			p    placement.Problem
		}{
			{"scratch", fresh}, {"one node lost", down(settled)}, {"nothing to do", settled}, {"scratch, no room to spare, groups", tight},
		} {
			b.Run(fmt.Sprintf("%dx%d/%s", size.nodes, size.havips, c.name), func(b *testing.B) {
				b.ReportAllocs()
				began := cpu()
				for b.Loop() {
					placement.Solve(c.p)
				}
				reportCPU(b, began)
			})
		}
	}
}

// BenchmarkMoves is what the leader does: from the state to commands.
func BenchmarkMoves(b *testing.B) {
	w := cluster(b, 16)
	for i := range 1000 {
		w.havip(fsm.CreateHAVIP{Name: fmt.Sprint("h", i), Spec: fsm.Spec{Prefer: map[string]int{fmt.Sprint("n", i%16+1): 10}}})
	}
	moves := func(b *testing.B, want int) {
		b.ReportAllocs()
		began := cpu()
		for b.Loop() {
			if got := len(w.state.Moves(w.at, nil)); got != want {
				b.Fatalf("%d moves, want %d", got, want)
			}
		}
		reportCPU(b, began)
	}
	b.Run("16x1000/scratch", func(b *testing.B) { moves(b, 1000) })
	w.carryOut()
	b.Run("16x1000/nothing to do", func(b *testing.B) { moves(b, 0) })
	w.down("n1")
	lost := 0
	for _, v := range w.state.HAVIPs {
		if v.Owner == nil {
			lost++
		}
	}
	b.Run("16x1000/one node lost", func(b *testing.B) { moves(b, lost) })
}
