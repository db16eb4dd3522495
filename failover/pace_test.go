package failover

import (
	"fmt"
	"testing"
)

// A node that gets many HAVIPs asks for no more than it can put up together; an owner that does
// not answer holds up no other's.
func TestPaceOfReady(t *testing.T) {
	asked := func(p pace, n int, to ...string) (asked int) {
		p.withheld = false
		for i := range n {
			if p.mayAsk(Step{Kind: StepReady, HAVIP: fmt.Sprint(i), To: to}) {
				asked++
			}
		}
		if p.withheld != (asked < n) {
			t.Errorf("%d of %d asked, withheld %t", asked, n, p.withheld)
		}
		return asked
	}
	rising := map[string]*holding{}
	for i := range 10 {
		rising[fmt.Sprint("r", i)] = &holding{serving: i >= 6, leaving: i == 0}
	}
	for _, row := range []struct {
		havips, steps int
		holdings      map[string]*holding
		to            []string
		want          int
	}{
		{1000, 500, nil, []string{"a"}, askMax},
		{10_000, 5000, nil, []string{"a"}, 10_000 / askPart},
		{1000, 5, nil, []string{"a"}, 5},
		{1000, 500, rising, []string{"a"}, askMax - 5},
		{1000, 500, nil, []string{"a", "b"}, askMax},
	} {
		if got := asked(newPace(row.havips, row.holdings), row.steps, row.to...); got != row.want {
			t.Errorf("%+v: asked for %d", row, got)
		}
	}
	p := newPace(1000, nil)
	asked(p, 500, "frozen")
	if got := asked(p, 500, "well"); got != askMax {
		t.Errorf("beside a frozen owner %d of another one are asked for", got)
	}
}
