package console

import (
	"cmp"
	"net/http"
	"slices"

	"havip-cluster/api"
	"havip-cluster/fsm/placement"
)

// movesMax is how many moves of a plan a page shows.
const movesMax = 500

// planData is a question "what if", and its answer.
type planData struct {
	Nodes  []planNode
	Asked  bool
	Plan   api.Plan
	Moves  []placement.Move
	Left   []placement.Unplaced // that have an owner now, or should
	Off    int                  // that are to have none
	More   int
	Losses []placement.Loss
	Says   string
}

// planNode is a node and what is supposed of it.
type planNode struct {
	api.Node
	Suppose string
}

// suppositions are what can be supposed of a node, with the field of the question.
var suppositions = []struct {
	name string
	to   func(*api.PlanSpec) *[]string
}{
	{"down", func(s *api.PlanSpec) *[]string { return &s.Down }},
	{"standby", func(s *api.PlanSpec) *[]string { return &s.Standby }},
	{"drain", func(s *api.PlanSpec) *[]string { return &s.Drain }},
	{"activate", func(s *api.PlanSpec) *[]string { return &s.Activate }},
	{"up", func(s *api.PlanSpec) *[]string { return &s.Up }},
}

// planPage answers what would go where, before anything is done. It changes nothing, so its form is a GET
// and its answer has an address.
func planPage(v *visit) (*page, error) {
	q := v.r.URL.Query()
	d := planData{}
	var nodes []api.Node
	if err := v.get(v.ctx, "/v1/nodes", nil, &nodes); err != nil {
		return nil, err
	}
	spec := api.PlanSpec{NMinusOne: q.Get("each") == "yes"}
	d.Asked = spec.NMinusOne
	for _, n := range nodes {
		one := planNode{Node: n, Suppose: q.Get("n-" + n.Name)}
		for _, s := range suppositions {
			if one.Suppose == s.name {
				*s.to(&spec) = append(*s.to(&spec), n.Name)
				d.Asked = true
			}
		}
		d.Nodes = append(d.Nodes, one)
	}
	p := &page{Title: "Plan: what if", Tab: "plan", Name: "plan", Data: &d, Form: true}
	if !d.Asked {
		return p, nil
	}
	if err := v.suppose(spec, &d); err != nil {
		p.Problem = asProblem(err)
		p.Status, d.Asked = p.Problem.Status, false
	}
	return p, nil
}

// suppose asks the placement what it would do, and reads the answer for a person. Nothing is changed by it.
func (v *visit) suppose(spec api.PlanSpec, d *planData) error {
	if _, err := v.do(v.ctx, question{method: http.MethodPost, path: "/v1/plan", body: spec, into: &d.Plan, wait: planWait}); err != nil {
		return err
	}
	d.Asked = true
	d.More = max(0, len(d.Plan.Moves)-movesMax)
	d.Moves, d.Losses = d.Plan.Moves[:len(d.Plan.Moves)-d.More], d.Plan.NMinusOne
	var off []string
	if err := v.disabled(&off); err != nil {
		return err
	}
	for _, u := range d.Plan.Unplaced {
		if slices.Contains(off, u.HAVIP) {
			d.Off++
			continue
		}
		d.Left = append(d.Left, u)
	}
	d.More += max(0, len(d.Left)-movesMax)
	d.Left = d.Left[:min(len(d.Left), movesMax)]
	return nil
}

// disabled are the names and ids of HAVIPs that are to have no owner.
func (v *visit) disabled(into *[]string) error {
	var list []api.HAVIP
	err := v.get(v.ctx, "/v1/havips", map[string][]string{"state": {"DISABLED"}, "limit": {"1000"}}, &list)
	for _, h := range list {
		*into = append(*into, h.Name, h.ID)
	}
	return err
}

// Whole is the cost of the loss of a node in a word.
func (d *planData) Whole(l placement.Loss) string {
	return cmp.Or(map[bool]string{true: "nothing is left without an owner"}[len(l.Unplaced) == 0], "HAVIPs are left without an owner")
}
