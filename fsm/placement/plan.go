package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Changes are what a plan supposes. Names that nobody bears are an error, so that a slip
// of the pen does not look like a harmless plan.
type Changes struct {
	Down, Up, Standby, Activate, Drain []string // nodes
	ENIsGone                           []string
	Put                                []HAVIP  // new ones, and changed ones in the place of those with the same id
	Remove                             []string // ids of HAVIPs
}

// With is the problem with the changes in it; p itself stays as it is.
func (p Problem) With(c Changes) (Problem, error) {
	p.Nodes, p.ENIs, p.HAVIPs = slices.Clone(p.Nodes), slices.Clone(p.ENIs), slices.Clone(p.HAVIPs)
	for _, word := range []struct {
		names []string
		set   func(n *Node)
	}{
		{c.Up, func(n *Node) { n.Alive, n.Leaving = true, false }},
		{c.Activate, func(n *Node) { n.Standby, n.Draining = false, false }},
		{c.Standby, func(n *Node) { n.Standby = true }},
		{c.Drain, func(n *Node) { n.Draining = true }},
		{c.Down, func(n *Node) { n.Alive = false; p.closed(n.Name) }},
	} {
		for _, name := range word.names {
			i := slices.IndexFunc(p.Nodes, func(n Node) bool { return n.Name == name })
			if i < 0 {
				return Problem{}, fmt.Errorf("placement: no node is called %q", name)
			}
			word.set(&p.Nodes[i])
		}
	}
	for _, id := range c.ENIsGone {
		i := slices.IndexFunc(p.ENIs, func(e ENI) bool { return e.ID == id })
		if i < 0 {
			return Problem{}, fmt.Errorf("placement: no ENI has the id %q", id)
		}
		p.ENIs[i].Detached = true
	}
	for _, id := range c.Remove {
		i := slices.IndexFunc(p.HAVIPs, func(v HAVIP) bool { return v.ID == id })
		if i < 0 {
			return Problem{}, fmt.Errorf("placement: no HAVIP has the id %q", id)
		}
		p.HAVIPs = slices.Delete(p.HAVIPs, i, i+1)
	}
	for _, v := range c.Put {
		if i := slices.IndexFunc(p.HAVIPs, func(o HAVIP) bool { return o.ID == v.ID }); i >= 0 {
			p.HAVIPs[i] = v
		} else {
			p.HAVIPs = append(p.HAVIPs, v)
		}
	}
	return p, nil
}

// closed takes away what a node owns, as the close of its session does.
func (p *Problem) closed(node string) {
	of := map[string]bool{}
	for _, e := range p.ENIs {
		if e.Node == node {
			of[e.ID] = true
		}
	}
	for i := range p.HAVIPs {
		if v := &p.HAVIPs[i]; of[v.Owner] {
			v.Owner, v.Last = "", v.Owner
		}
	}
}

// Result is what a plan comes to, in the form of `plan -o json`.
type Result struct {
	// Moves are the HAVIPs that get another owner, those that had none among them, by name.
	Moves []Move `json:"moves"`
	// Unplaced have no owner afterwards, those that are disabled among them.
	Unplaced []Unplaced `json:"unplaced"`
	// Owners is by the HAVIP's name, or its id where several share the name; null = nobody.
	Owners map[string]*string `json:"owners"`
}

// Move is one HAVIP that changes its owner.
type Move struct {
	HAVIP  string  `json:"havip"` // as in Owners
	From   *string `json:"from"`  // ENI, null = nobody
	To     *string `json:"to"`    // ENI
	Reason string  `json:"reason"`
}

// Unplaced is one HAVIP that is left without an owner.
type Unplaced struct {
	HAVIP  string `json:"havip"`
	Reason string `json:"reason"`
}

// Plan says what the placement would do after some changes.
func Plan(p Problem, c Changes) (Result, error) {
	changed, err := p.With(c)
	if err != nil {
		return Result{}, err
	}
	return PlanBetween(p, changed), nil
}

// PlanBetween says what the placement would do if the problem were another one; owners
// are compared with those before.
func PlanBetween(before, after Problem) Result {
	out := Result{Moves: []Move{}, Unplaced: []Unplaced{}, Owners: map[string]*string{}}
	owned, shared := map[string]string{}, map[string]int{}
	for i := range before.HAVIPs {
		owned[before.HAVIPs[i].ID] = before.HAVIPs[i].Owner
	}
	for i := range after.HAVIPs {
		shared[after.HAVIPs[i].Name]++
	}
	named := func(e string) *string {
		if e == "" {
			return nil
		}
		return &e
	}
	for _, d := range Solve(after) {
		name := d.Name
		if shared[name] > 1 || name == "" {
			name = d.HAVIP
		}
		out.Owners[name] = named(d.To)
		switch from := owned[d.HAVIP]; {
		case d.To == "":
			out.Unplaced = append(out.Unplaced, Unplaced{name, d.Reason})
		case d.To != from:
			out.Moves = append(out.Moves, Move{name, named(from), named(d.To), d.Reason})
		}
	}
	slices.SortFunc(out.Moves, func(a, b Move) int { return strings.Compare(a.HAVIP, b.HAVIP) })
	slices.SortFunc(out.Unplaced, func(a, b Unplaced) int { return strings.Compare(a.HAVIP, b.HAVIP) })
	return out
}

// Loss is what the failure of one node would cost.
type Loss struct {
	Node string `json:"node"`
	// Owns counts the HAVIPs that it owns once all that is to be moved now has been moved.
	Owns int `json:"owns"`
	// Moves counts those that would get another owner, Unplaced lists those that would have
	// none and have one as things are.
	Moves    int        `json:"moves"`
	Unplaced []Unplaced `json:"unplaced"`
}

// NMinusOne asks for every node that owns anything what would be left without an owner if
// it failed: HAVIPs with nowhere to go, and those that give way to more important ones.
func NMinusOne(p Problem) []Loss {
	settled := Settled(p)
	served := map[string]bool{}
	for i := range settled.HAVIPs {
		served[settled.HAVIPs[i].ID] = settled.HAVIPs[i].Owner != ""
	}
	node := map[string]string{}
	for i := range settled.ENIs {
		node[settled.ENIs[i].ID] = settled.ENIs[i].Node
	}
	owns := map[string]int{}
	for i := range settled.HAVIPs {
		owns[node[settled.HAVIPs[i].Owner]]++
	}
	out := []Loss{}
	for _, n := range settled.Nodes {
		if owns[n.Name] == 0 {
			continue
		}
		loss := Loss{Node: n.Name, Owns: owns[n.Name], Unplaced: []Unplaced{}}
		after, err := settled.With(Changes{Down: []string{n.Name}})
		if err != nil {
			continue // it is in the list
		}
		for _, d := range Solve(after) {
			if d.To != "" && d.Moves {
				loss.Moves++
			}
			if d.To == "" && served[d.HAVIP] {
				loss.Unplaced = append(loss.Unplaced, Unplaced{cmp.Or(d.Name, d.HAVIP), d.Reason})
			}
		}
		out = append(out, loss)
	}
	slices.SortFunc(out, func(a, b Loss) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// Settled is the problem after what Solve decides has been carried out.
func Settled(p Problem) Problem {
	p.HAVIPs = slices.Clone(p.HAVIPs)
	to := make(map[string]string, len(p.HAVIPs))
	for _, d := range Solve(p) {
		to[d.HAVIP] = d.To
	}
	for i := range p.HAVIPs {
		v := &p.HAVIPs[i]
		v.carryOut(to[v.ID])
	}
	return p
}

// carryOut makes eni the owner, "" for nobody.
func (v *HAVIP) carryOut(eni string) {
	switch {
	case eni != "":
		v.Last = ""
	case v.Owner != "":
		v.Last = v.Owner
	}
	v.Owner, v.Lapsed = eni, ""
}
