package placement

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Candidate is one ENI as seen by one HAVIP.
type Candidate struct {
	ENI      string `json:"eni"`
	Node     string `json:"node"` // name
	Eligible bool   `json:"eligible"`
	// Rule and Why are the first reason against it, "" when it is eligible.
	Rule    string `json:"rule,omitempty"`
	Why     string `json:"why,omitempty"`
	Present bool   `json:"present"`         // owns the HAVIP now
	Was     bool   `json:"was,omitempty"`   // owned it last, and nobody does now
	Fault   string `json:"fault,omitempty"` // why its node does not trust it, or which check fails there
	// Unsteady is yellow, flapping, not heard by the leader or, where a check has no result yet,
	// unchecked: others come first.
	Unsteady string `json:"unsteady,omitempty"`
	// Against counts the members of soft groups that a place here would go against.
	Against int    `json:"against,omitempty"`
	Score   int    `json:"score"`           // the sum of the terms
	Terms   []Term `json:"terms,omitempty"` // those that are not 0
	OnNode  int    `json:"on_node"`         // HAVIPs that its node owns beside this one
	OnENI   int    `json:"on_eni"`
	Carries int    `json:"carries"` // the weight of what its node owns beside this one
	// Needs says what would make it eligible, or the winner; "" for the winner, and where
	// nothing would.
	Needs string `json:"needs,omitempty"`
	// NeedsScore is the score with which it would win, where only that keeps it from it.
	NeedsScore *int `json:"needs_score,omitempty"`
	// Until is when the rule against it ends by itself, unix nanoseconds; 0 = it does not.
	Until int64 `json:"until,omitempty"`
}

// Term is a part of a score.
type Term struct {
	Of    string `json:"of"` // "prefer NODE", "prefer ENI", "score of node NODE" or "check NAME"
	Value int    `json:"value"`
}

// Explain is Solve with every candidate of every HAVIP.
func Explain(p Problem) []Decision {
	return explain(&p, func(*HAVIP) bool { return true })
}

// ExplainOne is Explain for one HAVIP, by id; false if there is none.
func ExplainOne(p Problem, havip string) (Decision, bool) {
	list := explain(&p, func(v *HAVIP) bool { return v.ID == havip })
	if len(list) == 0 {
		return Decision{}, false
	}
	return list[0], true
}

func explain(p *Problem, which func(v *HAVIP) bool) []Decision {
	m := newModel(p)
	m.watched = make([]bool, len(m.v))
	for h, v := range m.v {
		m.watched[h] = which(v)
	}
	m.solve()
	out := make([]Decision, 0, len(m.v))
	for h := range m.v {
		if m.watched[h] {
			out = append(out, m.explanation(int32(h), true).claimed(m.v[h]))
		}
	}
	return out
}

// explanation is the decision for h with all its candidates, and with needs what each of
// them would need.
func (m *model) explanation(h int32, needs bool) Decision {
	d := m.decision(h)
	winner := m.seat[h]
	seat := m.lift(h)
	d.Candidates = make([]Candidate, 0, len(m.enis))
	var eligible []option
	for i := range m.enis {
		e := int32(i)
		o := m.optionOf(h, e)
		c := m.candidate(h, e, &o)
		if c.Eligible {
			eligible = append(eligible, o)
		}
		d.Candidates = append(d.Candidates, c)
	}
	slices.SortFunc(eligible, func(a, b option) int { return m.better(&a, &b) })
	for i := range eligible {
		if eligible[i].e != winner {
			d.RunnerUp = m.enis[eligible[i].e].ID
			break
		}
	}
	if needs {
		m.needs(h, winner, eligible, &d)
	}
	if d.Cause == Stays && d.To != "" {
		d.Reason = m.keepsBecause(h, winner, eligible)
	}
	if seat != none {
		m.put(h, seat)
	}
	if needs {
		d.Change = d.change()
	}
	return d
}

// optionOf is look for an ENI whose node may be unknown.
func (m *model) optionOf(h, e int32) option {
	if m.nodeOf[e] == none {
		return option{e: e, n: none, onENI: m.onENI[e], fault: m.faulty(h, e)}
	}
	return m.option(h, e)
}

func (m *model) candidate(h, e int32, o *option) Candidate {
	v, en := m.v[h], m.enis[e]
	c := Candidate{
		ENI: en.ID, Node: en.Node, Present: v.Owner == en.ID, Was: o.was, Fault: m.faultOf(h, e), Against: int(o.broken),
		OnNode: o.onNode, OnENI: o.onENI,
	}
	var n *Node
	if o.n != none {
		n, c.Carries = m.nodes[o.n], m.carries[o.n]
		c.Score, c.Terms = o.score, m.terms(h, en, n, o.n)
		if o.suspect {
			c.Unsteady = m.unsteady(h, o.n)
		}
	}
	why := Ineligible(m.p.Now, v, en, n)
	if why == nil {
		why = m.full(h, e)
	}
	if why == nil {
		c.Eligible = true
		return c
	}
	c.Rule, c.Why, c.Until = why.Rule, why.Text, why.Until
	if why.Until != 0 {
		c.Needs = fmt.Sprintf("eligible again in %s", time.Duration(why.Until-m.p.Now).Round(time.Second))
		if strings.HasPrefix(why.Again, "`") {
			c.Needs += ", or by " + why.Again
		}
	} else if strings.HasPrefix(why.Again, "`") {
		c.Needs = "eligible again after " + why.Again
	} else if why.Again != "" {
		c.Needs = "eligible when " + why.Again
	}
	return c
}

func (m *model) terms(h int32, e *ENI, n *Node, at int32) []Term {
	var out []Term
	v := m.v[h]
	for _, t := range []Term{{"prefer " + n.Name, v.Prefer[n.Name]}, {"prefer " + e.ID, v.Prefer[e.ID]}, {"score of node " + n.Name, n.Score}} {
		if t.Value != 0 {
			out = append(out, t)
		}
	}
	return append(out, m.verdict(h, at).Marks...)
}

// full puts a rule of fits into words.
func (m *model) full(h, e int32) *Obstacle {
	n := m.nodeOf[e]
	name, id := m.nodes[n].Name, m.enis[e].ID
	switch rule := m.fits(h, e); rule {
	case ruleENIFull:
		return &Obstacle{rule, fmt.Sprintf("it owns %d HAVIPs, the limit per ENI is %d", m.onENI[e], m.p.Limits.PerENI), "another HAVIP leaves " + id + " or the limit is higher", 0}
	case ruleNodeFull:
		return &Obstacle{rule, fmt.Sprintf("node %s owns %d HAVIPs, the limit per node is %d", name, m.on[n], m.p.Limits.PerNode), "another HAVIP leaves node " + name + " or the limit is higher", 0}
	case ruleCapacity:
		return &Obstacle{rule, fmt.Sprintf("node %s carries %d of %d, the HAVIP weighs %d", name, m.carries[n], m.capacity[n], m.weight[h]), "less is on node " + name + " or its capacity is higher", 0}
	case ruleApart, ruleTogether:
		g, mate := m.against(h, n)
		return &Obstacle{rule, fmt.Sprintf("group %s holds it %s %s", g.Name, map[string]string{ruleApart: "apart from", ruleTogether: "together with"}[rule], mate), "group " + g.Name + " is soft, or " + mate + " moves", 0}
	}
	return nil
}

// against names the hard group that keeps h off a node, and one of those that do it.
func (m *model) against(h, n int32) (*group, string) {
	for _, k := range m.inHard[h] {
		g := &m.groups[k]
		for _, o := range g.members {
			if e := m.seat[o]; o != h && e != none && (m.nodeOf[e] == n) == (g.Kind == Apart) {
				return g, fmt.Sprintf("%s on %s", m.v[o].Name, m.enis[e].ID)
			}
		}
	}
	return &group{Group: &Group{}}, "others"
}

// needs says for each eligible candidate that lost what would make it win.
func (m *model) needs(h, winner int32, eligible []option, d *Decision) {
	if winner == none || d.Cause == Frozen {
		return
	}
	k := slices.IndexFunc(eligible, func(o option) bool { return o.e == winner })
	if k < 0 {
		return
	}
	best := &eligible[k]
	for i := range eligible {
		o := &eligible[i]
		if o.e == winner {
			continue
		}
		c, _ := slices.BinarySearchFunc(d.Candidates, m.enis[o.e].ID, func(c Candidate, id string) int { return cmp.Compare(c.ENI, id) })
		d.Candidates[c].Needs = m.wouldWin(h, best, o, d.Cause)
		d.Candidates[c].NeedsScore = m.winningScore(h, best, o, d.Cause)
	}
}

func (m *model) wouldWin(h int32, best, o *option, cause Cause) string {
	v, id := m.v[h], m.enis[best.e].ID
	byHand := fmt.Sprintf("`havip move %s --to %s`", v.Name, m.enis[o.e].ID)
	switch {
	case o.fault && !best.fault:
		return "would win only without its fault: " + m.faultOf(h, o.e)
	case o.suspect && !best.suspect:
		return fmt.Sprintf("would win only if node %s were not %s, or by %s", m.nodes[o.n].Name, m.unsteady(h, o.n), byHand)
	case o.broken > best.broken:
		return "would go against its groups, or by " + byHand
	case cause == Stays:
		return m.wouldMove(h, best, o, byHand)
	case o.score < best.score:
		if need := m.winningScore(h, best, o, cause); need != nil {
			return fmt.Sprintf("would win with a score of %d or more (has %d): `havip update %s --prefer %s=SCORE`", *need, o.score, v.Name, m.enis[o.e].ID)
		}
		return fmt.Sprintf("has a score of %d against %d; a score alone would not do, but %s would", o.score, best.score, byHand)
	case best.was && !o.was:
		return "would win if " + id + " had not owned it last, or with a higher score"
	case o.carries > best.carries || o.onNode > best.onNode:
		return fmt.Sprintf("would win if node %s carried less than node %s (%d against %d), or with a higher score", m.nodes[o.n].Name, m.nodes[best.n].Name, o.carries, best.carries)
	case o.onENI > best.onENI:
		return fmt.Sprintf("would win if it owned fewer HAVIPs than %s (%d against %d), or with a higher score", id, o.onENI, best.onENI)
	}
	return "equal but for its id; would win with a higher score"
}

// winningScore is the least score with which o would win by its score alone; nil if no
// score would do.
func (m *model) winningScore(h int32, best, o *option, cause Cause) *int {
	stays := cause == Stays
	switch {
	case bit(o.fault) > bit(best.fault), o.broken > best.broken, len(m.inHard[h]) > 0:
		return nil
	case stays && (o.suspect || !m.mayMove(h) || !m.settled(h, o.n)):
		return nil
	case stays:
		need := best.score + max(1, m.v[h].stickiness())
		return &need
	case cause == Wish && o.e == m.start[h]:
		need := best.score - max(1, m.v[h].stickiness()) + 1 // then the gain would not be worth the move
		return &need
	case o.suspect && !best.suspect, cause == Wish && !m.settled(h, o.n):
		return nil
	}
	level := *o
	if level.score = best.score; m.better(&level, best) < 0 {
		return &level.score // it would be the first of equals
	}
	level.score++
	return &level.score
}

// wouldMove is about a HAVIP that stays with its owner.
func (m *model) wouldMove(h int32, best, o *option, byHand string) string {
	v, f, gain := m.v[h], m.failback[h], max(1, m.v[h].stickiness())
	lost := fmt.Sprintf("comes in when %s may no longer own it, or by %s", m.enis[best.e].ID, byHand)
	switch {
	case f.Kind == FailbackNever && !m.marked(h):
		return lost + " (failback is never)"
	case o.score-best.score < gain:
		return fmt.Sprintf("would win with a score of %d or more (has %d, the owner %d, stickiness %d); else %s", best.score+gain, o.score, best.score, v.stickiness(), lost)
	case !m.mayMove(h):
		return fmt.Sprintf("wins in %s, when its window %s opens", f.Opens(m.p.Now).Round(time.Second), f)
	case !m.settled(h, o.n):
		left := time.Duration(int64(f.Delay) - (m.p.Now - m.nodes[o.n].Since))
		return fmt.Sprintf("wins in %s, when its session is %s old", left.Round(time.Second), v.Failback)
	}
	return lost
}

// keepsBecause says that the owner stays, and until when if a better place has to wait.
func (m *model) keepsBecause(h, winner int32, eligible []option) string {
	id, v := m.enis[winner].ID, m.v[h]
	if len(eligible) == 1 {
		return id + " is the only one eligible"
	}
	here := m.score(h, winner)
	f := m.failback[h]
	for _, o := range eligible {
		if f.Kind == FailbackNever || o.score-here < max(1, v.stickiness()) || o.suspect || o.fault && !m.faulty(h, winner) {
			continue
		}
		text := fmt.Sprintf("%s owns it; %s is preferred (score %d against %d)", id, m.enis[o.e].ID, o.score, here)
		switch {
		case f.Kind == FailbackWindow && !f.InWindow(m.p.Now):
			return text + " once the window " + f.String() + " opens"
		case !settled(f, m.p.Now, m.nodes[o.n]):
			return text + " once its session is " + v.Failback + " old"
		}
	}
	if fault := m.faultOf(h, winner); fault != "" {
		return fmt.Sprintf("%s owns it and keeps it, as no other place is sound: %s", id, fault)
	}
	return id + " owns it and may keep it"
}

// whyNobody says why no ENI is eligible; ENIs of other subnets are left out.
func (m *model) whyNobody(h int32) string {
	var why []string
	switch v := m.v[h]; {
	case v.Disabled || v.Deleting:
	case v.OwnAddress != "":
		return v.OwnAddress
	case len(v.Waits) > 0:
		return WaitsForFence(v.Waits)
	}
	for i, e := range m.enis {
		var n *Node
		if at := m.nodeOf[i]; at != none {
			n = m.nodes[at]
		}
		o := Ineligible(m.p.Now, m.v[h], e, n)
		if o == nil {
			o = m.full(h, int32(i))
		}
		if o != nil && o.Rule != "other-subnet" {
			why = append(why, e.ID+": "+o.Text)
		}
	}
	untold := ""
	if names := m.untold(m.v[h]); len(names) > 0 {
		untold = "; not known yet are the ENIs of " + strings.Join(names, ", ") + ", which may own it once its agent has told of them"
	}
	if len(why) == 0 {
		return "no ENI is in the HAVIP's subnet" + untold
	}
	return "no ENI is eligible: " + strings.Join(why, "; ") + untold
}

// untold are the nodes of an enforced range that have not told of their ENIs, at most a few of them.
func (m *model) untold(v *HAVIP) []string {
	if !v.Range.Limit || v.Range.Type != RangeCVM {
		return nil
	}
	told := map[string]bool{}
	for _, e := range m.enis {
		told[e.Node] = true
	}
	var out []string
	for _, n := range m.nodes {
		if !told[n.Name] && slices.Contains(v.Range.Members, n.Name) && len(out) < untoldShown {
			out = append(out, n.Name)
		}
	}
	return out
}

// untoldShown bounds how many nodes a reason names.
const untoldShown = 5

// change sums up what would have to change for another outcome.
func (d *Decision) change() string {
	if d.Cause == Frozen {
		return "it moves again when that ends"
	}
	for _, c := range d.Candidates {
		if c.ENI == d.RunnerUp && c.Needs != "" {
			return c.ENI + " " + c.Needs
		}
	}
	var out []string
	for _, c := range d.Candidates {
		if !c.Eligible && c.Needs != "" && c.Rule != "other-subnet" {
			out = append(out, c.ENI+" is "+c.Needs)
		}
	}
	return strings.Join(out, "; ")
}

// Detail is what the journal of decisions keeps of it, as JSON of at most MaxDetail
// bytes: the candidates that fit, the winner and the runner-up first.
func (d *Decision) Detail() string {
	type line struct {
		ENI   string `json:"eni"`
		Score int    `json:"score,omitempty"`
		Rule  string `json:"rule,omitempty"`
		Load  int    `json:"load,omitempty"`
	}
	detail := struct {
		Cause    Cause  `json:"cause"`
		RunnerUp string `json:"runner_up,omitempty"`
		ENIs     []line `json:"enis,omitempty"`
		Left     int    `json:"left_out,omitempty"` // candidates that did not fit in
	}{Cause: d.Cause, RunnerUp: d.RunnerUp}
	rank := func(c Candidate) int { return -2*bit(c.ENI == d.To) - bit(c.ENI == d.RunnerUp) }
	list := slices.Clone(d.Candidates)
	slices.SortStableFunc(list, func(a, b Candidate) int { return rank(a) - rank(b) })
	size := 120 + len(d.RunnerUp)
	for _, c := range list {
		l := line{c.ENI, c.Score, c.Rule, c.OnNode}
		raw, err := json.Marshal(l)
		if size += len(raw) + 1; err != nil || size > MaxDetail {
			break
		}
		detail.ENIs = append(detail.ENIs, l)
	}
	detail.Left = len(list) - len(detail.ENIs)
	raw, err := json.Marshal(detail)
	if err != nil || len(raw) > MaxDetail {
		return ""
	}
	return string(raw)
}
