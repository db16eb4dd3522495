// Package placement says who should own what, and why. Compute is a pure function of the
// state and a clock reading: the leader runs it on its applied state and puts the
// concrete result into the log, `explain` prints it. The same input gives the same
// answer, and computing again after carrying the answer out changes nothing.
//
// Order of goals, for each HAVIP by priority and then name: the hard rules
// (fsm.Ineligible); an ENI without a fault; the present owner; the best preference; the
// last owner, where there is none now; the emptiest node, then the
// emptiest ENI; the ENI's id. With failback the best preference comes before the present
// owner, once the preferred node has been back for the delay.
package placement

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"havip-cluster/fsm"
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
	Fault   string `json:"fault,omitempty"` // why its node does not trust it
	Score   int    `json:"score"`           // preference for the ENI plus that for its node
	OnNode  int    `json:"on_node"`         // HAVIPs that its node owns beside this one
	OnENI   int    `json:"on_eni"`

	nodeID  string
	session uint64
	settled bool // its session is old enough for this HAVIP's failback
}

// Decision is where one HAVIP should be.
type Decision struct {
	HAVIP string `json:"havip"` // id
	Name  string `json:"name"`
	// To is the ENI that should own it, "" for nobody.
	To         string      `json:"to"`
	Reason     string      `json:"reason"`
	Moves      bool        `json:"moves"` // To differs from the present owner
	Candidates []Candidate `json:"candidates"`

	assignment fsm.Assignment
}

// Assignment is the decision as a command for the log.
func (d Decision) Assignment() fsm.Assignment { return d.assignment }

// site is an ENI with what every HAVIP asks about it.
type site struct {
	eni     fsm.ENI
	node    string // name
	session fsm.Session
}

// load counts the HAVIPs that each node and each ENI owns or is about to own.
type load struct{ node, eni map[string]int }

func (l load) add(c *Candidate, n int) {
	l.node[c.nodeID] += n
	l.eni[c.ENI] += n
}

// Compute decides for every HAVIP. at is the reader's clock in unix nanoseconds; it
// matters only for pauses after a failure and for delayed failback.
func Compute(s *fsm.State, at int64) []Decision {
	var sites []site
	for _, e := range s.ENIList() {
		sess, _ := s.SessionOf(e.Node)
		sites = append(sites, site{eni: e, node: s.NodeName(e.Node), session: sess})
	}
	havips := s.HAVIPList()
	slices.SortStableFunc(havips, func(a, b fsm.HAVIP) int { return cmp.Compare(b.Priority, a.Priority) })
	l := load{node: map[string]int{}, eni: map[string]int{}}
	candidates := make([][]Candidate, len(havips))
	for i, v := range havips {
		candidates[i] = weigh(s, v, sites, at)
		if c := counted(s, v, candidates[i]); c != nil {
			l.add(c, 1)
		}
	}
	out := make([]Decision, len(havips))
	for i, v := range havips {
		out[i] = decide(s, v, candidates[i], l)
	}
	return out
}

// weigh looks at every ENI for one HAVIP.
func weigh(s *fsm.State, v fsm.HAVIP, sites []site, at int64) []Candidate {
	delay, err := time.ParseDuration(v.Failback)
	if err != nil {
		delay = math.MinInt64 // never or immediate: nobody waits
	}
	out := make([]Candidate, len(sites))
	for i := range sites {
		e, sess := &sites[i].eni, &sites[i].session
		c := Candidate{ENI: e.ID, Node: sites[i].node, nodeID: e.Node, session: sess.Number}
		c.Score = v.Prefer[e.ID] + v.Prefer[c.Node]
		c.settled = at-sess.Opened >= int64(delay)
		c.Present = v.Owner != nil && v.Owner.ENI == e.ID && v.Owner.Session == sess.Number
		c.Was, c.Fault = v.Owner == nil && v.Last == e.ID, e.Fault
		if why := s.Ineligible(v, *e, at); why != nil {
			c.Rule, c.Why = why.Rule, why.Text
		} else {
			c.Eligible = true
		}
		out[i] = c
	}
	return out
}

// frozen says why a HAVIP stays where it is, whatever else holds; "" if it does not.
func frozen(s *fsm.State, v fsm.HAVIP) string {
	switch {
	case v.Owner != nil && s.Nodes[v.Owner.Node].Maintenance:
		return "its node is in maintenance: it stays where it is"
	case len(v.Draining) >= fsm.MaxDraining:
		return fmt.Sprintf("%d earlier owners have not released it yet: it stays where it is", len(v.Draining))
	}
	return ""
}

// counted returns the present owner if it is part of the load: it may keep the HAVIP, or
// must.
func counted(s *fsm.State, v fsm.HAVIP, candidates []Candidate) *Candidate {
	for i := range candidates {
		if c := &candidates[i]; c.Present && (c.Eligible || frozen(s, v) != "") {
			return c
		}
	}
	return nil
}

// decide picks among the candidates of one HAVIP and books the choice into the load.
func decide(s *fsm.State, v fsm.HAVIP, candidates []Candidate, l load) Decision {
	d := Decision{HAVIP: v.ID, Name: v.Name, Candidates: candidates}
	d.assignment = fsm.Assignment{HAVIP: v.ID, FromEpoch: v.Epoch}
	present := counted(s, v, candidates)
	if present != nil {
		l.add(present, -1) // each candidate is compared by what it owns beside this HAVIP
	}
	var eligible []*Candidate
	for i := range candidates {
		c := &candidates[i]
		c.OnNode, c.OnENI = l.node[c.nodeID], l.eni[c.ENI]
		if present == nil {
			c.settled = true // nobody serves it, so nobody is worth waiting for
		}
		if c.Eligible {
			eligible = append(eligible, c)
		}
	}
	if why := frozen(s, v); why != "" {
		if present != nil {
			l.add(present, 1)
		}
		if d.Reason = why; v.Owner != nil {
			d.To = v.Owner.ENI
		}
		return d
	}
	if len(eligible) == 0 {
		d.Reason = nobody(candidates)
		d.Moves = v.Owner != nil
		d.assignment.Reason = clip(d.Reason)
		return d
	}
	eligible = sound(eligible)
	best := slices.MinFunc(eligible, func(a, b *Candidate) int { return order(v, a, b) })
	l.add(best, 1)
	d.To, d.Moves, d.Reason = best.ENI, !best.Present, reason(v, best, eligible)
	d.assignment.Node, d.assignment.Session, d.assignment.ENI = best.nodeID, best.session, best.ENI
	d.assignment.Reason = clip(d.Reason)
	return d
}

// sound leaves out the ENIs with a fault, unless all have one: then it is no reason to
// prefer any, and none to move.
func sound(eligible []*Candidate) []*Candidate {
	out := slices.DeleteFunc(slices.Clone(eligible), func(c *Candidate) bool { return c.Fault != "" })
	if len(out) == 0 {
		return eligible
	}
	return out
}

// clip keeps a reason within what the log keeps, so that fsm.MaxAssignments fit into one
// command.
func clip(text string) string {
	if len(text) <= fsm.MaxReason {
		return text
	}
	return strings.ToValidUTF8(text[:fsm.MaxReason], "")
}

// order sorts better candidates first. With failback the score comes before the present
// owner, but the score of a node that has not been back for the delay does not count yet.
func order(v fsm.HAVIP, a, b *Candidate) int {
	byPresent, byScore := cmp.Compare(bit(b.Present), bit(a.Present)), cmp.Compare(b.Score, a.Score)
	rest := cmp.Or(cmp.Compare(bit(b.Was), bit(a.Was)), cmp.Compare(a.OnNode, b.OnNode), cmp.Compare(a.OnENI, b.OnENI), cmp.Compare(a.ENI, b.ENI))
	if v.Failback == "" || v.Failback == "never" {
		return cmp.Or(byPresent, byScore, rest)
	}
	return cmp.Or(cmp.Compare(b.failbackScore(), a.failbackScore()), byPresent, byScore, rest)
}

// failbackScore is the score as failback sees it.
func (c *Candidate) failbackScore() int {
	if c.Present || c.settled {
		return c.Score
	}
	return math.MinInt
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// reason says which goal decided: the first one that tells the best from any other, and
// the best of those that lost by it.
func reason(v fsm.HAVIP, best *Candidate, eligible []*Candidate) string {
	if len(eligible) == 1 {
		return best.ENI + " is the only one eligible"
	}
	if best.Present {
		return keeps(v, best, eligible)
	}
	next := func(value func(c *Candidate) int) *Candidate {
		losers := slices.DeleteFunc(slices.Clone(eligible), func(c *Candidate) bool { return value(c) == value(best) })
		if len(losers) == 0 {
			return nil
		}
		return slices.MinFunc(losers, func(a, b *Candidate) int { return order(v, a, b) })
	}
	if c := next(func(c *Candidate) int { return c.Score }); c != nil {
		return fmt.Sprintf("%s is preferred (score %d, next is %s with %d)", best.ENI, best.Score, c.ENI, c.Score)
	}
	if best.Was {
		return best.ENI + " owned it last"
	}
	if c := next(func(c *Candidate) int { return c.OnNode }); c != nil {
		return fmt.Sprintf("node %s owns fewer HAVIPs (%d, next is %s with %d)", best.Node, best.OnNode, c.Node, c.OnNode)
	}
	if c := next(func(c *Candidate) int { return c.OnENI }); c != nil {
		return fmt.Sprintf("%s owns fewer HAVIPs (%d, next is %s with %d)", best.ENI, best.OnENI, c.ENI, c.OnENI)
	}
	return fmt.Sprintf("%s comes first among %d that are equal", best.ENI, len(eligible))
}

// keeps says that the owner stays, and until when if a preferred node has to wait.
func keeps(v fsm.HAVIP, best *Candidate, eligible []*Candidate) string {
	for _, c := range eligible {
		if !c.settled && c.Score > best.Score {
			return fmt.Sprintf("%s owns it; %s is preferred (score %d against %d) once its session is %s old", best.ENI, c.ENI, c.Score, best.Score, v.Failback)
		}
	}
	return best.ENI + " owns it and may keep it"
}

// nobody says why no ENI is eligible; ENIs of other subnets are left out.
func nobody(candidates []Candidate) string {
	var why []string
	for _, c := range candidates {
		if c.Rule != "other-subnet" {
			why = append(why, c.ENI+": "+c.Why)
		}
	}
	if len(why) == 0 {
		return "no ENI is in the HAVIP's subnet"
	}
	return "no ENI is eligible: " + strings.Join(why, "; ")
}
