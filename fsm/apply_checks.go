package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"havip-cluster/fsm/placement"
)

func (s *State) createCheck(c Command, b CreateCheck) (string, *Refusal) {
	k, refusal := s.checkCheck(b.Check, nil)
	if refusal != nil {
		return "", refusal
	}
	if _, taken := s.Checks[k.Name]; taken {
		return "", Refuse(CodeDuplicate, "check %s exists already; `check update %s` changes it", k.Name, k.Name)
	}
	s.Checks[k.Name] = k
	s.note(c, "check-created", "", "", fmt.Sprintf("check %s (%s %s) was made", k.Name, k.Type, k.Target))
	return k.Name, nil
}

func (s *State) updateCheck(c Command, b UpdateCheck) (string, *Refusal) {
	old, ok := s.Checks[b.Check.Name]
	if !ok {
		return "", Refuse(CodeNotFound, "no check is called %q; `check list` shows those there are", clip(b.Check.Name, MaxReason))
	}
	if b.Expected != 0 && b.Expected != old.Revision {
		return "", Refuse(CodeConflict, "check %s was changed since you read it; try again", old.Name)
	}
	k, refusal := s.checkCheck(b.Check, &old)
	if refusal != nil {
		return "", refusal
	}
	if k.same(old) {
		return k.Name, nil
	}
	s.Checks[k.Name] = k
	s.note(c, "check-changed", "", "", fmt.Sprintf("check %s (%s %s) was changed", k.Name, k.Type, k.Target))
	return k.Name, nil
}

func (s *State) deleteCheck(c Command, b DeleteCheck) (string, *Refusal) {
	if _, ok := s.Checks[b.Name]; !ok {
		return "", Refuse(CodeNotFound, "no check is called %q; `check list` shows those there are", clip(b.Name, MaxReason))
	}
	s.dropCheck(b.Name)
	s.note(c, "check-deleted", "", "", fmt.Sprintf("check %s was deleted", b.Name))
	return b.Name, nil
}

// dropCheck forgets a check and what nodes said of it.
func (s *State) dropCheck(name string) {
	delete(s.Checks, name)
	for node, list := range s.Results {
		if i, found := findResult(list, name); found {
			s.putResults(node, slices.Delete(slices.Clone(list), i, i+1))
		}
	}
}

func (s *State) putResults(node string, list []CheckResult) {
	if len(list) == 0 {
		delete(s.Results, node)
		return
	}
	s.Results[node] = list
}

func findResult(list []CheckResult, check string) (int, bool) {
	return slices.BinarySearchFunc(list, check, func(r CheckResult, name string) int { return strings.Compare(r.Check, name) })
}

// checkCheck completes and checks a definition, and names its HAVIPs by their ids. old is the
// one that it replaces: names in it may be of nodes that have gone.
func (s *State) checkCheck(k Check, old *Check) (Check, *Refusal) {
	k = k.Complete()
	if k.Revision != 0 {
		return k, Refuse(CodeParameter, "check %s: the revision is not for the caller to say", clip(k.Name, MaxReason))
	}
	if refusal := k.Valid(); refusal != nil {
		return k, refusal
	}
	if old == nil && len(s.Checks) >= MaxChecks {
		return k, Refuse(CodeLimit, "the cluster has %d checks, at most %d", len(s.Checks), MaxChecks)
	}
	for _, name := range k.Nodes {
		if n, ok := s.NodeNamed(name); (!ok || n.Name != name) && (old == nil || !slices.Contains(old.Nodes, name)) {
			return k, Refuse(CodeNotFound, "check %s: no node is called %q; `node list` shows those there are", k.Name, clip(name, MaxReason))
		}
	}
	ids := make([]string, 0, len(k.HAVIPs))
	for _, name := range k.HAVIPs {
		v, refusal := s.findHAVIP(name)
		switch {
		case refusal != nil:
			return k, refusal
		case v.Deleting:
			return k, Refuse(CodeUnsupported, "HAVIP %s is being deleted", v.Name)
		case slices.Contains(ids, v.ID):
			return k, Refuse(CodeDuplicate, "check %s names HAVIP %s twice", k.Name, v.Name)
		}
		ids = append(ids, v.ID)
	}
	k.HAVIPs, k.Revision = ordered(ids), s.Index
	return k, nil
}

// same reports whether two definitions say the same, whenever they were written.
func (k Check) same(o Check) bool {
	lists := slices.Equal(k.Nodes, o.Nodes) && slices.Equal(k.HAVIPs, o.HAVIPs) && slices.Equal(k.Headers, o.Headers)
	return lists && k.plain() == o.plain()
}

// plainCheck is a check without its lists and revision.
type plainCheck struct {
	name, kind, target, status, body, sni, content string
	times                                          [4]int64
	rise, fall, score                              int
	drop, verify                                   bool
}

func (k Check) plain() plainCheck {
	return plainCheck{
		k.Name, string(k.Type), k.Target, k.Status, k.Body, k.SNI, k.Content,
		[4]int64{int64(k.Interval), int64(k.Timeout), int64(k.Grace), int64(k.MaxAge)}, k.Rise, k.Fall, k.Score, k.Drop, k.Verify,
	}
}

// leaveChecks takes a HAVIP that has gone out of the checks that name it. A check that named no
// other one goes, too: without names it would be about all.
func (s *State) leaveChecks(c Command, id string) {
	for _, k := range s.CheckList() {
		if !slices.Contains(k.HAVIPs, id) {
			continue
		}
		s.checked = nil
		if len(k.HAVIPs) == 1 {
			s.dropCheck(k.Name)
			s.note(c, "check-deleted", "", "", fmt.Sprintf("check %s was deleted with its last HAVIP", k.Name))
			continue
		}
		k.HAVIPs = slices.DeleteFunc(slices.Clone(k.HAVIPs), func(m string) bool { return m == id })
		s.Checks[k.Name] = k
	}
}

func (s *State) reportChecks(c Command, b ReportChecks) *Refusal {
	n, ok := s.Nodes[b.Node]
	switch {
	case !ok:
		return Refuse(CodeNotFound, "node %s is not a member of this cluster", clip(b.Node, MaxReason))
	case n.LastSession != b.Session || b.Session == 0:
		return Refuse(CodeStale, "the checks of node %s were reported in session %d, which is not its present one", n.Name, b.Session)
	case len(b.Results) == 0 || len(b.Results) > MaxChecks:
		return Refuse(CodeLimit, "node %s reports %d results of checks, 1 to %d", n.Name, len(b.Results), MaxChecks)
	}
	everywhere := map[string]bool{}
	for _, r := range b.Results {
		if k, known := s.Checks[r.Check]; known {
			everywhere[k.Name] = s.failsEverywhere(k)
		}
	}
	list, told := slices.Clone(s.Results[n.ID]), 0
	for _, r := range b.Results {
		k, known := s.Checks[r.Check]
		if !known || k.Revision != r.Revision || !k.RunsOn(n) {
			continue
		}
		if r.State != CheckPassing && r.State != CheckFailing && r.State != CheckUnknown {
			return Refuse(CodeParameter, "%q is not a state of a check: passing, failing or unknown", clip(string(r.State), MaxNameRunes))
		}
		now := CheckResult{Check: k.Name, Revision: r.Revision, Session: b.Session, State: r.State, Output: oneLine(r.Output), Since: c.At}
		i, found := findResult(list, k.Name)
		was := CheckUnknown
		if found {
			was = s.resultState(k, n, list[i])
			if was == now.State {
				now.Since = list[i].Since
			}
			list[i] = now
		} else {
			list = slices.Insert(list, i, now)
		}
		if was == now.State {
			continue
		}
		if told++; told <= maxCheckEvents {
			s.note(c, "check", "", n.Name, fmt.Sprintf("check %s is %s on node %s: %s", k.Name, now.State, n.Name, cmp.Or(now.Output, "no output")))
		}
	}
	if told > maxCheckEvents {
		s.note(c, "check", "", n.Name, fmt.Sprintf("%d more checks changed on node %s; `check results --node %s` shows them", told-maxCheckEvents, n.Name, n.Name))
	}
	s.putResults(n.ID, list)
	s.tellEverywhere(c, b, everywhere)
	return nil
}

// tellEverywhere says which checks have come to fail on every node that runs them, or do so no longer.
func (s *State) tellEverywhere(c Command, b ReportChecks, before map[string]bool) {
	told := map[string]bool{}
	for _, r := range b.Results {
		k, known := s.Checks[r.Check]
		if !known || !k.Bars() || told[k.Name] {
			continue
		}
		told[k.Name] = true
		switch now := s.failsEverywhere(k); {
		case now && !before[k.Name] && k.Drop:
			s.note(c, "check-everywhere", "", "", fmt.Sprintf("check %s fails on every node that runs it: its HAVIPs have no owner until it passes somewhere (when-all-fail is drop)", k.Name))
		case now && !before[k.Name]:
			s.note(c, "check-everywhere", "", "", fmt.Sprintf("check %s fails on every node that runs it: its HAVIPs stay where they are, or go to the best of the bad places", k.Name))
		case !now && before[k.Name]:
			s.note(c, "check-everywhere", "", "", fmt.Sprintf("check %s no longer fails everywhere", k.Name))
		}
	}
}

// failsEverywhere says that a check fails on each node with a session that runs it, and that
// there is one.
func (s *State) failsEverywhere(k Check) bool {
	some := false
	for _, n := range s.Nodes {
		if _, open := s.SessionOf(n.ID); !open || !k.RunsOn(n) {
			continue
		}
		if state, _ := s.ResultOf(k, n); state != CheckFailing {
			return false
		}
		some = true
	}
	return some
}

// ResultOf is what a check says of a node now, with the result that says so; a zero result
// where the node has reported none.
func (s *State) ResultOf(k Check, n Node) (CheckState, CheckResult) {
	list := s.Results[n.ID]
	i, found := findResult(list, k.Name)
	if !found {
		return CheckUnknown, CheckResult{}
	}
	return s.resultState(k, n, list[i]), list[i]
}

// resultState is what a reported result says now. One of another definition says nothing. What
// passed in an earlier session of the node may have died with the host; what failed in it fails
// until it is said to pass.
func (s *State) resultState(k Check, n Node, r CheckResult) CheckState {
	if r.Revision != k.Revision || r.State == CheckPassing && r.Session != n.LastSession {
		return CheckUnknown
	}
	return r.State
}

// oneLine is what of an output goes into the log.
func oneLine(text string) string {
	text = strings.ToValidUTF8(text, "")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	return clip(strings.TrimSpace(text), MaxCheckOutput)
}

// verdicts is what the checks say of a HAVIP, by node name. In the middle of a command that
// changes that, it is summed up anew each time.
func (s *State) verdicts(havip string) map[string]placement.Verdict {
	switch {
	case len(s.Checks) == 0:
		return nil
	case s.checked != nil:
		return s.checked.Of(havip)
	}
	return placement.Verdicts(s.PlacementChecks()).Of(havip)
}

// indexChecks sums up what the checks say.
func (s *State) indexChecks() {
	if s.checked = nil; len(s.Checks) > 0 {
		checked := placement.Verdicts(s.PlacementChecks())
		s.checked = &checked
	}
}

// PlacementChecks are the checks as the placement sees them, in the order of their names.
func (s *State) PlacementChecks() []placement.Check {
	nodes := s.NodeList()
	out := make([]placement.Check, 0, len(s.Checks))
	for _, k := range s.CheckList() {
		p := placement.Check{Name: k.Name, Score: k.Score, Drop: k.Drop, HAVIPs: k.HAVIPs}
		for _, n := range nodes {
			if k.RunsOn(n) {
				state, r := s.ResultOf(k, n)
				p.Results = append(p.Results, placement.CheckResult{Node: n.Name, State: state, Output: r.Output})
			}
		}
		out = append(out, p)
	}
	return out
}

// movesChecks says that a command may change what the checks say of a HAVIP.
func movesChecks(b Body) bool {
	switch b.(type) {
	case *CreateCheck, *UpdateCheck, *DeleteCheck, *ReportChecks, *OpenSession, *AddNode, *RemoveNode, *ApplyConfig, *Rollback:
		return true
	}
	return false
}
