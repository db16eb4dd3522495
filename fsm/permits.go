package fsm

import (
	"encoding/json"
	"reflect"
	"slices"
)

// Permits refuses a command that its caller may not ask for. The leader calls it before it
// proposes. Rights are the caller's word: who made the Caller has verified it.
func (s *State) Permits(w Caller, body Body) *Refusal {
	c := Command{Kind: body.kind(), body: pointed(body)}
	if need, may := needs(c.body); !may || !w.Right.Covers(need) && !s.ownLife(w, c.body) {
		return Refuse(CodeDenied, "%s may not do this (%s): it takes %s, and it has %s", w.Principal, c.Kind, rightName(need, may), rightName(w.Right, true))
	}
	return s.inScope(w, c.body)
}

func rightName(r Right, may bool) string {
	switch {
	case !may:
		return "a node's own certificate"
	case r == "":
		return "no role"
	}
	return "role " + string(r)
}

// pointed is a body as open gives it: by its pointer.
func pointed(b Body) Body {
	if p, ok := b.(*Prepared); ok {
		return p.command.body
	}
	v := reflect.ValueOf(b)
	if v.Kind() == reflect.Pointer {
		return b
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p.Interface().(Body)
}

// needs is the right that a command takes; may is false for those that no caller asks for,
// because they belong to a node's own life or to the leader.
func needs(b Body) (right Right, may bool) {
	switch b := b.(type) {
	case *Place, *DrainNode, *ActivateNode:
		return RightOperator, true
	case *UpdateNode:
		if *b == (UpdateNode{ID: b.ID, Standby: b.Standby, Maintenance: b.Maintenance}) {
			return RightOperator, true
		}
	case *UpdateHAVIP:
		few := UpdateHAVIP{ID: b.ID, Change: Change{Enabled: b.Enabled, Maintenance: b.Maintenance}}
		if levelFree(*b) == levelFree(few) && (b.Enabled != nil || b.Maintenance != nil) {
			return RightOperator, true
		}
	case *SetCluster:
		if b.Maintenance != nil && *b == (SetCluster{Maintenance: b.Maintenance}) {
			return RightOperator, true
		}
	case *AddNode:
		return "", true // the join token is the right
	case *OpenSession, *DrainSession, *CloseSession, *CloseSessions, *Release, *ReportENIs, *ReportEvent, *ReportGuarded, *Confirm,
		*RecordFailover, *RecordFailovers, *RecordFailure, *EndDrain, *SettleLease, *InitCluster, *RemoveNode,
		*ReportKeys, *OfferKey, *RegisterKey, *ReportBehind, *RestVote, *AdvanceWebhook, *ReportChecks:
		return "", false
	}
	return RightAdmin, true
}

// levelFree makes two changes of a HAVIP comparable: by what they write into the log.
func levelFree(b UpdateHAVIP) string {
	raw, err := json.Marshal(plainBody(b))
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// ownLife reports whether a command is one that a node's own root or certificate may ask for:
// to set that node aside, and to bring it back.
func (s *State) ownLife(w Caller, b Body) bool {
	if w.Node == "" {
		return false
	}
	switch b := b.(type) {
	case *UpdateNode:
		return b.ID == w.Node && *b == (UpdateNode{ID: b.ID, Standby: b.Standby, Maintenance: b.Maintenance})
	case *DrainNode:
		return b.ID == w.Node
	case *ActivateNode:
		return b.ID == w.Node
	}
	return false
}

// inScope refuses a caller that is bound to a group whatever is not about its HAVIPs alone.
func (s *State) inScope(w Caller, b Body) *Refusal {
	if w.Group == "" {
		return nil
	}
	g, ok := s.Groups[w.Group]
	if !ok {
		return Refuse(CodeDenied, "%s is bound to group %s, which is no more", w.Principal, w.Group)
	}
	about := s.scopeOf(b)
	if len(about) == 0 {
		return Refuse(CodeDenied, "%s is bound to the HAVIPs of group %s, and this is about more", w.Principal, w.Group)
	}
	for _, id := range about {
		if !slices.Contains(g.HAVIPs, id) {
			return Refuse(CodeDenied, "%s is bound to the HAVIPs of group %s; %s is none of them", w.Principal, w.Group, named(s.HAVIPs[id].Name))
		}
	}
	return nil
}

// scopeOf is havipsOf with what the state says of the object.
func (s *State) scopeOf(b Body) []string {
	switch b := b.(type) {
	case *CreateCheck:
		return s.idsOf(b.Check.HAVIPs)
	case *UpdateCheck:
		before, after := s.Checks[b.Check.Name].HAVIPs, s.idsOf(b.Check.HAVIPs)
		if len(before) == 0 || len(after) == 0 {
			return nil // about all
		}
		return slices.Concat(before, after)
	case *DeleteCheck:
		return s.Checks[b.Name].HAVIPs
	}
	return havipsOf(b)
}

// idsOf are the ids of HAVIPs that are named by name or id; a name that nobody has stays.
func (s *State) idsOf(names []string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		if v, refusal := s.HAVIPNamed(name); refusal == nil {
			name = v.ID
		}
		out = append(out, name)
	}
	return out
}

// havipsOf are the ids of the HAVIPs that a command is about, when it is about nothing else.
// A kind that is not here is about more.
func havipsOf(b Body) []string {
	switch b := b.(type) {
	case *Place:
		var ids []string
		for _, a := range b.Assignments {
			ids = append(ids, a.HAVIP)
		}
		return ids
	case *UpdateHAVIP:
		return []string{b.ID}
	case *DeleteHAVIP:
		return []string{b.ID}
	case *ChangeRange:
		return []string{b.ID}
	case *BanHAVIP:
		return []string{b.ID}
	case *UnbanHAVIP:
		return []string{b.ID}
	case *BindEIP:
		return []string{b.ID}
	case *UnbindEIP:
		return []string{b.ID}
	case *ResetFailures:
		if b.HAVIP != "" {
			return []string{b.HAVIP}
		}
	}
	return nil
}

// holds asks Apply's part again: what may have changed since the leader asked.
func (s *State) holds(c Command) *Refusal {
	w := c.Caller
	if w == nil {
		return nil
	}
	if r := w.check(); r != nil {
		return r
	}
	if w.Credential != "" {
		cred, ok := s.CredentialOf(w.Credential)
		switch {
		case !ok:
			return Refuse(CodeDenied, "%s was revoked", w.Principal)
		case cred.Expired(c.At):
			return Refuse(CodeDenied, "%s has expired", w.Principal)
		case cred.Right != w.Right || cred.Group != w.Group:
			return Refuse(CodeDenied, "%s has other rights by now", w.Principal)
		}
	}
	return s.inScope(*w, c.body)
}
