package api

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// Explanation says for every ENI why it may own a HAVIP or not, and who should.
type Explanation struct {
	placement.Decision
	Index uint64    `json:"index" doc:"Raft index of the state, or of the past decision"`
	At    time.Time `json:"at"`
	Epoch uint64    `json:"epoch"`
	Past  bool      `json:"past" doc:"It is a decision of the past, from the journal"`
	// LeftOut counts candidates of a past decision that the journal had no room for.
	LeftOut int `json:"left_out,omitempty"`
	// Checks are those of this HAVIP that do not pass somewhere, with what that means.
	Checks []CheckResult `json:"checks,omitempty"`
}

type explainQuery struct {
	Consistency
	ID    string    `path:"id" doc:"Id or name"`
	Epoch uint64    `query:"epoch" doc:"The past decision with which this epoch began"`
	At    time.Time `query:"at" doc:"The past decision that held at this time (RFC 3339)"`
}

func explain(st *fsm.State, in *explainQuery) (Explanation, error) {
	if in.Epoch != 0 || !in.At.IsZero() {
		return pastDecision(st, in)
	}
	v, refusal := st.HAVIPNamed(in.ID)
	if refusal != nil {
		return Explanation{}, refusal
	}
	now := time.Now()
	d, ok := st.ExplainOne(now.UnixNano(), v.ID)
	if !ok {
		return Explanation{}, fsm.Refuse(fsm.CodeNotFound, "no placement for HAVIP %s", v.Name)
	}
	d.Candidates = list(d.Candidates)
	return Explanation{Decision: d, Index: st.Index, At: now.UTC(), Epoch: uint64(v.Epoch), Checks: ofHAVIP(st, v.ID, now)}, nil
}

// pastDecision finds a decision in the journal; that of a deleted HAVIP by its id, or the
// name that it had.
func pastDecision(st *fsm.State, in *explainQuery) (Explanation, error) {
	if in.Epoch != 0 && !in.At.IsZero() {
		return Explanation{}, fsm.Refuse(fsm.CodeParameter, "epoch and at both name a decision: say one of them")
	}
	id := in.ID
	if v, refusal := st.HAVIPNamed(id); refusal == nil {
		id = v.ID
	} else if refusal.Code != fsm.CodeNotFound {
		return Explanation{}, refusal
	}
	var of []fsm.Decision
	for _, d := range st.Decisions {
		if d.HAVIP == id || d.Name == id {
			of = append(of, d)
		}
	}
	if len(of) == 0 {
		return Explanation{}, fsm.Refuse(fsm.CodeNotFound, "the journal has no decision about HAVIP %q; it holds the last %d of all", in.ID, fsm.MaxDecisions)
	}
	i := slices.IndexFunc(of, func(d fsm.Decision) bool { return uint64(d.Epoch) == in.Epoch })
	if in.Epoch == 0 {
		for i = len(of) - 1; i >= 0 && of[i].At > in.At.UnixNano(); i-- {
		}
	}
	if i < 0 {
		first, last := of[0], of[len(of)-1]
		return Explanation{}, fsm.Refuse(fsm.CodeNotFound, "the journal has no such decision about HAVIP %q; it holds epoch %d (%s) to %d (%s)", in.ID,
			first.Epoch, wall(first.At).Format(time.RFC3339), last.Epoch, wall(last.At).Format(time.RFC3339))
	}
	return pastView(st, of[i]), nil
}

// pastView reads what placement.Decision.Detail has written.
func pastView(st *fsm.State, d fsm.Decision) Explanation {
	out := Explanation{Index: d.Index, At: wall(d.At), Epoch: uint64(d.Epoch), Past: true, Decision: placement.Decision{
		HAVIP: d.HAVIP, Name: d.Name, From: d.From, To: d.To, Reason: d.Reason, Moves: true, Candidates: []placement.Candidate{},
	}}
	var detail struct {
		Cause    placement.Cause `json:"cause"`
		RunnerUp string          `json:"runner_up"`
		ENIs     []struct {
			ENI   string `json:"eni"`
			Score int    `json:"score"`
			Rule  string `json:"rule"`
			Load  int    `json:"load"`
		} `json:"enis"`
		Left int `json:"left_out"`
	}
	if json.Unmarshal([]byte(d.Detail), &detail) != nil {
		return out // a change that no placement decided, such as a move by hand
	}
	out.Cause, out.RunnerUp, out.LeftOut = detail.Cause, detail.RunnerUp, detail.Left
	for _, e := range detail.ENIs {
		node, _, _ := strings.Cut(e.ENI, "/")
		if known, ok := st.ENIs[e.ENI]; ok {
			node = st.NodeName(known.Node)
		}
		out.Candidates = append(out.Candidates, placement.Candidate{
			ENI: e.ENI, Node: node, Eligible: e.Rule == "", Rule: e.Rule, Why: e.Rule, Score: e.Score, OnNode: e.Load, Present: e.ENI == d.From,
		})
	}
	slices.SortFunc(out.Candidates, func(a, b placement.Candidate) int { return cmp.Compare(a.ENI, b.ENI) })
	return out
}

// whereTo says of what a node under drain still has where it goes.
func whereTo(st *fsm.State, node fsm.Node, at int64) []DrainLeft {
	decided := map[string]placement.Decision{}
	for _, d := range placement.Solve(st.Problem(at)) {
		decided[d.HAVIP] = d
	}
	out := []DrainLeft{}
	for _, v := range st.HAVIPList() {
		if !slices.ContainsFunc(v.Claims(), func(c fsm.Claim) bool { return c.Node == node.ID }) {
			continue
		}
		l, d := DrainLeft{HAVIP: v.Name}, decided[v.ID]
		switch {
		case v.Owner == nil || v.Owner.Node != node.ID:
			l.Reason = "the node has yet to release it"
			if l.To = new(string); v.Owner != nil {
				*l.To = v.Owner.ENI
			}
		case d.To == "" || st.ENIs[d.To].Node == node.ID:
			l.Reason = d.Reason
		default:
			l.To, l.Reason = &d.To, d.Reason
		}
		out = append(out, l)
	}
	return out
}
