// Package placement says who should own what, and why. It is a pure function of the state
// and a clock reading: the leader runs it on its applied state and puts the concrete
// result into the log, `explain` prints it, `plan` asks it about states that are not there.
// The same input gives the same answer, in whatever order it is listed, and computing again
// after carrying the answer out changes nothing.
//
// Order of goals: the hard rules; as many HAVIPs placed as possible, by priority (one of
// a higher priority counts more than any number of lower ones); as few as possible on an
// ENI with a fault; fewest moves; then, for one HAVIP after another by priority, name and
// id: a steady node; its soft groups; the best score; the last owner, where there is none
// now; the node that carries least; the emptiest ENI; the ENI's id. A wish alone moves what
// has an owner only as its failback policy and its stickiness allow.
//
// Read problem.go, then solve.go: a round keeps the owners that may stay, inserts the
// others (augment.go makes room), improves what groups and weights make hard (search.go),
// and settles the wishes (wishes.go).
package placement

import (
	"strings"

	"havip-cluster/fsm"
)

// Decision is where one HAVIP should be.
type Decision struct {
	HAVIP string `json:"havip"` // id
	Name  string `json:"name"`
	From  string `json:"from,omitempty"` // the present owner ENI
	// To is the ENI that should own it, "" for nobody.
	To     string `json:"to"`
	Cause  Cause  `json:"cause"`
	Reason string `json:"reason"`
	Moves  bool   `json:"moves"` // To differs from the present owner
	// RunnerUp is the eligible ENI that comes next, "" if there is none.
	RunnerUp string `json:"runner_up,omitempty"`
	// Change says what would have to change for another outcome.
	Change     string      `json:"change,omitempty"`
	Candidates []Candidate `json:"candidates"`

	assignment fsm.Assignment
}

// Assignment is the decision as a command for the log.
func (d Decision) Assignment() fsm.Assignment { return d.assignment }

// Compute decides for every HAVIP and explains each decision in full. at is the reader's
// clock in unix nanoseconds.
func Compute(s *fsm.State, at int64) []Decision {
	p := FromState(s, at)
	out := Explain(p)
	for i := range out {
		out[i] = bind(s, out[i])
	}
	return out
}

// ComputeOne is Compute for one HAVIP, by id; false if there is none.
func ComputeOne(s *fsm.State, at int64, havip string) (Decision, bool) {
	p := FromState(s, at)
	d, found := ExplainOne(p, havip)
	if found {
		d = bind(s, d)
	}
	return d, found
}

// maxDetailed is how many moves of one answer carry their candidates into the journal. A
// failover of a thousand HAVIPs must not wait for a thousand explanations.
const maxDetailed = 16

// Moves is what Compute would change, as commands for the log, without the explanations of
// what stays. The leader asks it again and again, so it is cheap when nothing moves. unheard
// are the ids of nodes of which the leader hears nothing, see Node.Unheard.
func Moves(s *fsm.State, at int64, unheard map[string]bool) []fsm.Assignment {
	p := FromState(s, at)
	for id := range unheard {
		for i := range p.Nodes {
			p.Nodes[i].Unheard = p.Nodes[i].Unheard || p.Nodes[i].Name == s.NodeName(id)
		}
	}
	m := newModel(&p)
	m.traced, m.maxTraced = map[int32]noted{}, 4*maxDetailed
	m.solve()
	var out []fsm.Assignment
	for i := range m.v {
		h := int32(i)
		v := s.HAVIPs[m.v[h].ID]
		if e := m.seat[h]; m.because[h] == Frozen || (v.Owner == nil && e == none) || (e != none && v.Owner != nil && m.v[h].Owner == m.enis[e].ID) {
			continue
		}
		d := m.decision(h)
		if len(out) < maxDetailed {
			d = m.explanation(h, false)
		}
		if d = bind(s, d); d.Moves {
			out = append(out, d.assignment)
		}
	}
	return out
}

// bind ties a decision to the claims and sessions of the state that it was made for.
func bind(s *fsm.State, d Decision) Decision {
	v := s.HAVIPs[d.HAVIP]
	d.assignment = fsm.Assignment{HAVIP: v.ID, FromEpoch: v.Epoch}
	if d.Cause == Frozen {
		if d.Moves = false; v.Owner != nil {
			d.From, d.To = v.Owner.ENI, v.Owner.ENI
		}
		return d
	}
	if v.Owner != nil && d.From == "" { // a claim of a session that is not its node's present one
		d.From, d.Moves = v.Owner.ENI, true
	}
	d.assignment.Reason = clip(d.Reason, fsm.MaxReason)
	if s.Level() >= 2 && d.Candidates != nil { // older members cannot read it
		d.assignment.Detail = d.Detail()
	}
	if d.To != "" {
		e := s.ENIs[d.To]
		sess, _ := s.SessionOf(e.Node)
		d.assignment.Node, d.assignment.Session, d.assignment.ENI = e.Node, sess.Number, d.To
	}
	return d
}

// clip keeps a text within what the log keeps, so that fsm.MaxAssignments fit into one
// command.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}

// Solve decides for every HAVIP of a problem, by priority, name and id, without candidates.
func Solve(p Problem) []Decision {
	m := newModel(&p)
	m.solve()
	out := make([]Decision, len(m.v))
	for h := range out {
		out[h] = m.decision(int32(h))
	}
	return out
}

// decision says where h goes, and why if that is known without looking at all ENIs.
func (m *model) decision(h int32) Decision {
	v := m.v[h]
	d := Decision{HAVIP: v.ID, Name: v.Name, From: v.Owner, Cause: m.because[h], Reason: m.reason[h]}
	if e := m.seat[h]; e != none {
		d.To = m.enis[e].ID
	}
	if d.Moves = d.To != d.From; d.Cause == Frozen {
		d.To, d.Moves = d.From, false
	}
	switch {
	case d.Reason != "":
	case d.To == "":
		d.Reason = m.whyNobody(h)
	default:
		d.Reason = d.To + " owns it and may keep it"
	}
	return d
}
