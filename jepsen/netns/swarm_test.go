package netns

import (
	"net/netip"
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

// A swarm sees the gap of the one address that moves, and that an address without a host is dark.
func TestSwarm(t *testing.T) { tries(t, swarmSeesAGap) }

func swarmSeesAGap(t *try) {
	l := newLab(t.T, Options{Nodes: 2, Subnet: netip.MustParsePrefix("10.80.0.0/16")})
	list := l.Sequence(512, 20)
	for _, a := range list[:19] {
		setAddress(t.T, l.Node(1), 0, a, true)
	}
	const every = 5 * time.Millisecond
	s := labtest.Try(t.T, func() (*Swarm, error) { return l.Swarm(t.Context(), l.Client(), list, DefaultPort, every) })
	defer s.Stop()
	time.Sleep(time.Second)
	s.Reset()
	at := l.Now()
	setAddress(t.T, l.Node(1), 0, list[3], false)
	time.Sleep(300 * time.Millisecond)
	setAddress(t.T, l.Node(2), 0, list[3], true)
	time.Sleep(300 * time.Millisecond)
	r := s.Report(at)
	t.Log(r)
	if longest := r.Quantile(1); longest < 290*time.Millisecond || longest > 500*time.Millisecond || r.Last < 290*time.Millisecond || r.Last > 550*time.Millisecond {
		t.Errorf("the gap of 300 ms was measured as %s, its end %s after its begin", longest, r.Last)
	}
	if r.Dark != 1 || r.By["node-1"] != 18 || r.By["node-2"] != 1 {
		t.Errorf("dark %d, answered by %v", r.Dark, r.By)
	}
}
