package testbed

import (
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

// A gap is between two answered probes, less an interval; the edges of a series are none.
func TestLongestGap(t *testing.T) {
	l := newLab(t, Options{Nodes: 1})
	ms := func(n int64) int64 { return n * int64(time.Millisecond) }
	answered := func(at int64) Probe { return Probe{Sent: ms(at), Answered: ms(at) + 1, Node: "node-1"} }
	lost := func(at int64) Probe { return Probe{Sent: ms(at)} }
	for _, row := range []struct {
		name   string
		probes []Probe
		want   time.Duration
	}{
		{"none", nil, 0},
		{"all answered, one late", []Probe{answered(1), answered(9), answered(10)}, 0},
		{"two lost", []Probe{answered(1), lost(2), lost(3), answered(4)}, 2 * time.Millisecond},
		{"the longer of two", []Probe{answered(1), lost(2), answered(3), lost(4), lost(5), answered(6)}, 2 * time.Millisecond},
		{"edges", []Probe{lost(1), lost(9), answered(10), lost(11), lost(99)}, 0},
	} {
		p := labtest.Try(t, func() (*Prober, error) {
			return l.Probe(t.Context(), l.Client(), l.Node(1).IP(0), DefaultPort, time.Millisecond)
		})
		p.Stop()
		p.probes = row.probes
		if got := p.LongestGap(); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}
