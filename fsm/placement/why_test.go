package placement_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// final is an answer, to judge reasons by.
type final struct {
	*dumb
	at []string
}

// beside counts the HAVIPs on a node and on an ENI, and the weight on the node, without one.
func (f final) beside(i int, node, eni string) (onNode, onENI, weight int) {
	for k, e := range f.at {
		if k == i || e == "" {
			continue
		}
		if f.eni[e].Node == node {
			onNode++
			w := (fsm.Spec{}).Takes()
			if p := f.p.HAVIPs[k].Weight; p != nil {
				w = *p
			}
			weight += w
		}
		onENI += bit(e == eni)
	}
	return onNode, onENI, weight
}

// roomy are the places that i could have instead, as all others are.
func (f final) roomy(i int) (out []string) {
	at := slices.Clone(f.at)
	for _, e := range f.can[i] {
		if at[i] = e; f.breaks(at) == "" {
			out = append(out, e)
		}
	}
	return out
}

var said = []struct {
	form  *regexp.Regexp
	check func(f final, i int, to string, say []string) bool
}{
	{regexp.MustCompile(`^node (\S+) owns fewer HAVIPs \((\d+), next is (\S+) with (\d+)\)$`), func(f final, i int, to string, say []string) bool {
		a, _, _ := f.beside(i, say[1], "")
		b, _, _ := f.beside(i, say[3], "")
		return f.eni[to].Node == say[1] && say[2] == strconv.Itoa(a) && say[4] == strconv.Itoa(b) && a < b
	}},
	{regexp.MustCompile(`^(\S+) owns fewer HAVIPs \((\d+), next is (\S+) with (\d+)\)$`), func(f final, i int, to string, say []string) bool {
		_, a, _ := f.beside(i, "", say[1])
		_, b, _ := f.beside(i, "", say[3])
		return to == say[1] && say[2] == strconv.Itoa(a) && say[4] == strconv.Itoa(b) && a < b
	}},
	{regexp.MustCompile(`^node (\S+) carries less \(weight (\d+), next is (\S+) with (\d+)\)$`), func(f final, i int, to string, say []string) bool {
		_, _, a := f.beside(i, say[1], "")
		_, _, b := f.beside(i, say[3], "")
		return f.eni[to].Node == say[1] && say[2] == strconv.Itoa(a) && say[4] == strconv.Itoa(b) && a < b
	}},
	{regexp.MustCompile(`^an even spread: node (\S+) carries (\d+), node (\S+) (\d+)$`), func(f final, _ int, to string, say []string) bool {
		_, _, a := f.beside(-1, say[1], "")
		_, _, b := f.beside(-1, say[3], "")
		return f.eni[to].Node == say[3] && say[2] == strconv.Itoa(a) && say[4] == strconv.Itoa(b)
	}},
	{regexp.MustCompile(`^(\S+) is preferred \(score (-?\d+), next is (\S+) with (-?\d+)\)$`), func(f final, i int, to string, say []string) bool {
		a, b := f.score(i, say[1]), f.score(i, say[3])
		return to == say[1] && say[2] == strconv.Itoa(a) && say[4] == strconv.Itoa(b) && a > b
	}},
	{regexp.MustCompile(`^(\S+) goes against its groups less \((\d+), next is (\S+) with (\d+)\)$`), func(f final, i int, to string, say []string) bool {
		against := func(e string) int {
			at := slices.Clone(f.at)
			at[i] = e
			all := f.againstGroups(at)
			at[i] = ""
			return all - f.againstGroups(at)
		}
		a, b := against(say[1]), against(say[3])
		return to == say[1] && say[2] == strconv.Itoa(a) && say[4] == strconv.Itoa(b) && a < b
	}},
	{regexp.MustCompile(`^node (\S+) is steadier than node (\S+), which is (\S+)$`), func(f final, i int, to string, say []string) bool {
		n := f.node[say[2]]
		return f.eni[to].Node == say[1] && !f.unsteady(i, to) && (say[3] == "flapping" && n.Flapping || say[3] == "yellow" && n.Health == fsm.HealthYellow || say[3] == "unchecked" && f.unchecked(i, n.Name))
	}},
	{regexp.MustCompile(`^(\S+) comes first among (\d+) that are equal$`), func(f final, i int, to string, say []string) bool {
		equal := 0
		for _, e := range f.roomy(i) {
			a, b := make([]int, 3), make([]int, 3)
			a[0], a[1], a[2] = f.beside(i, f.eni[e].Node, e)
			b[0], b[1], b[2] = f.beside(i, f.eni[to].Node, to)
			if w := f.p.HAVIPs[i].Weight; w != nil && *w == 0 { // what others weigh does not matter
				a[2], b[2] = 0, 0
			}
			if slices.Equal(a, b) && f.score(i, e) == f.score(i, to) && f.unsteady(i, e) == f.unsteady(i, to) && f.faulty(i, e) == f.faulty(i, to) {
				equal += bit(e >= to)
				if e < to {
					return false
				}
			}
		}
		return to == say[1] && say[2] == strconv.Itoa(equal)
	}},
	{regexp.MustCompile(`^(\S+) is the only one eligible$`), func(f final, i int, to string, say []string) bool {
		return to == say[1] && len(f.can[i]) == 1
	}},
	{regexp.MustCompile(`^(\S+) is the only one eligible with room$`), func(f final, i int, to string, say []string) bool {
		return to == say[1] && len(f.roomy(i)) == 1
	}},
	{regexp.MustCompile(`^(\S+) is the only one eligible without a fault$`), func(f final, i int, to string, say []string) bool {
		return to == say[1] && !f.faulty(i, to) && !slices.ContainsFunc(f.roomy(i), func(e string) bool { return e != to && !f.faulty(i, e) })
	}},
	{regexp.MustCompile(`^(\S+) owned it last$`), func(f final, i int, to string, say []string) bool {
		return to == say[1] && f.p.HAVIPs[i].Last == to && f.p.HAVIPs[i].Owner == ""
	}},
	{regexp.MustCompile(`^(\S+) has room for it$`), func(f final, i int, to string, say []string) bool {
		return to == say[1] && slices.Contains(f.roomy(i), to)
	}},
	{regexp.MustCompile(`^node (\S+) is preferred by the group that it is placed together with \((\d+) more than node (\S+)\)$`), func(f final, i int, to string, say []string) bool {
		return f.held(i) && f.eni[to].Node == say[1] && f.eni[f.p.HAVIPs[i].Owner].Node == say[3]
	}},
	{regexp.MustCompile(`^node (\S+) has room for the group that it is placed together with$`), func(f final, i int, to string, say []string) bool {
		return f.held(i) && f.eni[to].Node == say[1]
	}},
}

// Both are said before the reason for the new place: the owner's has no room any more.
var (
	makesRoom = regexp.MustCompile(`^it makes room for another HAVIP; `)
	mayNot    = regexp.MustCompile(`^it may not stay on (\S+): (.*); ([^;]*)$`)
)

// checkReason holds one reason against the final answer, and returns which form it has.
func checkReason(t fatal, f final, i int, d placement.Decision) int {
	t.Helper()
	text, owner := d.Reason, f.p.HAVIPs[i].Owner
	if head := makesRoom.FindString(text); head != "" || mayNot.MatchString(text) {
		if slices.Contains(f.roomy(i), owner) {
			t.Fatalf("%s: %q, but %s has room\n%v\n%s", d.HAVIP, d.Reason, owner, f.at, show(f.p))
		}
		if text = strings.TrimPrefix(text, head); head == "" {
			say := mayNot.FindStringSubmatch(text)
			counts := regexp.MustCompile(`owns (\d+) HAVIPs`).FindStringSubmatch(say[2])
			onNode, onENI, _ := f.beside(i, f.eni[owner].Node, owner)
			if counts != nil && counts[1] != strconv.Itoa(onNode) && counts[1] != strconv.Itoa(onENI) {
				t.Fatalf("%s: %q, but there are %d on the node and %d on the ENI\n%s", d.HAVIP, d.Reason, onNode, onENI, show(f.p))
			}
			text = say[3]
		}
	}
	for k, s := range said {
		say := s.form.FindStringSubmatch(text)
		if say == nil {
			continue
		}
		if !s.check(f, i, d.To, say) {
			t.Fatalf("%s goes to %s: %q, which is not true of %v\n%s", d.HAVIP, d.To, d.Reason, f.at, show(f.p))
		}
		return k
	}
	t.Fatalf("%s: nobody checks the reason %q\n%s", d.HAVIP, d.Reason, show(f.p))
	return -1
}

// Each reason of a change is true of the final answer: what it counts is what there is then.
func TestReasonsAreTrue(t *testing.T) {
	first := firstSeed(t)
	r, seen := rand.New(rand.NewPCG(first, 8)), make([]int, len(said))
	for n := range *problems / 4 {
		p := drawOpen(r, 1+r.IntN(5), 1+r.IntN(12))
		if n%4 == 0 {
			p = drawProblem(r, 4, 7)
		}
		f := final{newDumb(p), make([]string, len(p.HAVIPs))}
		decisions := placement.Explain(p)
		index := func(id string) int {
			return slices.IndexFunc(p.HAVIPs, func(v placement.HAVIP) bool { return v.ID == id })
		}
		for _, d := range decisions {
			f.at[index(d.HAVIP)] = d.To
		}
		for k, d := range placement.Solve(p) {
			if x := decisions[k]; x.To != d.To || d.Moves && x.Reason != d.Reason {
				t.Fatalf("explained %s %q, decided %s %q", x.To, x.Reason, d.To, d.Reason)
			}
			if d.Moves && d.To != "" {
				seen[checkReason(t, f, index(d.HAVIP), d)]++
			}
		}
		for _, d := range decisions {
			for _, c := range d.Candidates {
				if onNode, onENI, weight := f.beside(index(d.HAVIP), c.Node, c.ENI); c.OnNode != onNode || c.OnENI != onENI || c.Carries != weight {
					t.Fatalf("%s on %s: %+v, but %d, %d, %d\n%s", d.HAVIP, c.ENI, c, onNode, onENI, weight, show(p))
				}
			}
		}
	}
	for k, n := range seen[:12] {
		if n == 0 {
			t.Errorf("no reason was %s", fmt.Sprint(said[k].form))
		}
	}
}
