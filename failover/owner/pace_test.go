package owner

import (
	"fmt"
	"strconv"
	"testing"
)

// A node that gets many HAVIPs asks for no more than it can put up together; an owner that does
// not answer holds up no other's.
func TestPaceOfReady(t *testing.T) {
	rising := func(n int) map[string]*activation {
		out := map[string]*activation{"stands": {serving: true}, "leaves": {leaving: true}}
		for i := range n {
			out[fmt.Sprint("r", i)] = &activation{}
		}
		return out
	}
	for _, row := range []struct {
		name          string
		havips, steps int
		rising, said  int // said: of the steps, the first ones
		want          int // asked for the first time
	}{
		{"a lot", 1000, 500, 0, 0, askMax},
		{"a lot of very many", 10_000, 5000, 0, 0, 10_000 / askPart},
		{"less than a lot", 1000, 5, 0, 0, 5},
		{"the next lot while one rises", 1000, 500, askMax, 0, askMax},
		{"no third one", 1000, 500, askMax + 1, 0, 0},
		{"none while more than half of a lot is awaited", 1000, 500, 0, askMax/2 + 1, 0},
		{"what is missing of a lot when half of it has come", 1000, 500, 0, askMax / 2, askMax / 2},
	} {
		var steps []Step
		for i := range row.steps {
			steps = append(steps, Step{Kind: StepReady, HAVIP: fmt.Sprint(i), To: []string{"a"}})
		}
		said := func(s Step) bool { n, _ := strconv.Atoi(s.HAVIP); return n < row.said }
		p := newPace(row.havips, rising(row.rising), steps, said)
		first, again := 0, 0
		for _, step := range steps {
			switch may := p.mayAsk(step); {
			case may && said(step):
				again++
			case may:
				first++
			}
		}
		if first != row.want || again != row.said || p.withheld != (first+again < row.steps) {
			t.Errorf("%s: %d asked for, %d again, withheld %t", row.name, first, again, p.withheld)
		}
	}
}

// One owner that does not answer holds up none but its own.
func TestPaceBesideAFrozenOwner(t *testing.T) {
	var steps []Step
	for i := range 400 {
		steps = append(steps, Step{Kind: StepReady, HAVIP: fmt.Sprint(i), To: []string{[]string{"frozen", "well"}[i%2]}})
	}
	p := newPace(1000, nil, steps, func(s Step) bool { n, _ := strconv.Atoi(s.HAVIP); return s.To[0] == "frozen" && n < 2*askMax })
	asked := map[string]int{}
	for _, step := range steps {
		if p.mayAsk(step) && !p.said(step) {
			asked[step.To[0]]++
		}
	}
	if asked["frozen"] != 0 || asked["well"] != askMax {
		t.Errorf("asked for %v", asked)
	}
}
