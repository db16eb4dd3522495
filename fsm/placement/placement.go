// Package placement says who should own what, and why. It is a pure function of a
// Problem: the leader makes one of its applied state and puts the concrete result into the
// log, `explain` prints it, `plan` asks it about states that are not there. The hard rules
// about one HAVIP and one ENI are here, too (rules.go), for whoever has to check them again.
// The same input gives the same answer, in whatever order it is listed, and computing again
// after carrying the answer out changes nothing.
//
// Order of goals: the hard rules; as many HAVIPs placed as possible, by priority (one of
// a higher priority counts more than any number of lower ones); as few as possible on an
// ENI with a fault; fewest moves that no wish pays for; as few as possible on an unsteady
// node, then against a soft group; the wishes of one HAVIP after another by priority, name
// and id (a steady node, the best score, the last owner, where there is none now); the
// spread over nodes and ENIs; fewest moves of all. The ENI's id breaks ties. No move of one
// HAVIP and no exchange of two makes an answer better.
//
// Read problem.go and rules.go, then solve.go: a round keeps the owners that may stay,
// inserts the others (augment.go makes room), improves what groups and weights make hard
// (search.go), settles the wishes (wishes.go) and tries moves and exchanges (polish.go).
// Then why.go says why.
package placement

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
}

// maxDetailed is how many moves of one answer come with their candidates, for the journal. A
// failover of a thousand HAVIPs must not wait for a thousand explanations.
const maxDetailed = 16

// Moves is what Explain would change, without the explanations of what stays. The leader
// asks it again and again, so it is cheap when nothing moves.
func Moves(p Problem) []Decision {
	m := newModel(&p)
	m.solve()
	var out []Decision
	for i := range m.v {
		h := int32(i)
		if v, e := m.v[h], m.seat[h]; m.because[h] == Frozen || (v.Lapsed == "" && (v.Owner == "" && e == none || e != none && v.Owner == m.enis[e].ID)) {
			continue
		}
		d := m.decision(h)
		if len(out) < maxDetailed {
			d = m.explanation(h, false)
		}
		if d = d.claimed(m.v[h]); d.Moves {
			out = append(out, d)
		}
	}
	return out
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

// claimed is the decision where a claim has to be taken away that is as good as none.
func (d Decision) claimed(v *HAVIP) Decision {
	switch {
	case v.Lapsed == "":
	case d.Cause == Frozen:
		d.From, d.To, d.Moves = v.Lapsed, v.Lapsed, false
	default:
		d.From, d.Moves = v.Lapsed, true
	}
	return d
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
