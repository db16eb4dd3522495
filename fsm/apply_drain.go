package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

func (s *State) reportHealth(c Command, b ReportHealth) (string, *Refusal) {
	n, ok := s.Nodes[b.Node]
	if !ok {
		return "", Refuse(CodeNotFound, "node %s is not a member of this cluster", b.Node)
	}
	if !slices.Contains([]Health{HealthGreen, HealthYellow, HealthRed}, b.Health) {
		return "", Refuse(CodeParameter, "%q is not a node's health: green, yellow or red", b.Health)
	}
	if b.Health == HealthGreen {
		b.Health = ""
	}
	reason := clip(b.Reason, MaxReason)
	if b.Health != n.Health {
		n.Health = b.Health
		s.note(c, "health", "", n.Name, fmt.Sprintf("node %s is %s: %s", n.Name, n.HealthNow(), cmp.Or(reason, "no reason given")))
	}
	if n.HealthReason = reason; n.Health == "" {
		n.HealthReason = ""
	}
	s.Nodes[n.ID] = n
	return n.ID, nil
}

// ownedBy counts the HAVIPs that a node owns or has not released yet.
func (s *State) ownedBy(node string) int {
	owned := 0
	for _, v := range s.HAVIPs {
		if slices.ContainsFunc(v.Claims(), func(cl Claim) bool { return cl.Node == node }) {
			owned++
		}
	}
	return owned
}

func (s *State) drainNode(c Command, b DrainNode) (string, *Refusal) {
	n, ok := s.Nodes[b.ID]
	switch {
	case !ok:
		return "", Refuse(CodeNotFound, "no node has the id %q", b.ID)
	case b.For < 0 || b.For > DrainMax:
		return "", Refuse(CodeRange, "a deadline of %s is not possible: up to %s, or none", b.For, DrainMax)
	case n.Removing:
		return "", Refuse(CodeUnsupported, "node %s is being removed, which drains it", n.Name)
	case n.Draining && n.Drain.Result == "":
		return "", Refuse(CodeUnsupported, "node %s is being drained already; `node activate %s` ends that", n.Name, n.Name)
	}
	n.Draining, n.Drain = true, Drain{Started: c.At, Total: s.ownedBy(n.ID)}
	if b.For > 0 {
		n.Drain.Deadline = later(c.At, b.For)
	}
	s.Nodes[n.ID] = n
	s.note(c, "drain", "", n.Name, fmt.Sprintf("node %s is being drained of %d HAVIPs", n.Name, n.Drain.Total))
	return n.ID, nil
}

func (s *State) endDrain(c Command, b EndDrain) (string, *Refusal) {
	n, ok := s.Nodes[b.ID]
	switch {
	case !ok:
		return "", Refuse(CodeNotFound, "no node has the id %q", b.ID)
	case b.Result != DrainDone && b.Result != DrainDeadline:
		return "", Refuse(CodeParameter, "%q is not a result of a drain: done or deadline", b.Result)
	case !n.Draining || n.Drain.Result != "":
		return "", Refuse(CodeStale, "node %s is not being drained", n.Name)
	case b.Result == DrainDone && s.ownedBy(n.ID) > 0:
		return "", Refuse(CodeInUse, "node %s still has %d HAVIPs", n.Name, s.ownedBy(n.ID))
	case b.Result == DrainDeadline && (n.Drain.Deadline == 0 || c.At < n.Drain.Deadline):
		return "", Refuse(CodeStale, "the deadline of node %s has not passed", n.Name)
	}
	n.Drain.Result, n.Drain.Ended = b.Result, c.At
	s.Nodes[n.ID] = n
	s.note(c, "drain", "", n.Name, fmt.Sprintf("the drain of node %s ended: %s, %d of %d HAVIPs left", n.Name, b.Result, s.ownedBy(n.ID), n.Drain.Total))
	return n.ID, nil
}

func (s *State) activateNode(c Command, b ActivateNode) (string, *Refusal) {
	n, ok := s.Nodes[b.ID]
	if !ok {
		return "", Refuse(CodeNotFound, "no node has the id %q", b.ID)
	}
	if !n.Standby && !n.Draining {
		return n.ID, nil
	}
	if n.Draining && n.Drain.Result == "" {
		n.Drain.Result, n.Drain.Ended = DrainCancelled, c.At
	}
	n.Standby, n.Draining = false, false
	s.Nodes[n.ID] = n
	s.note(c, "node-changed", "", n.Name, fmt.Sprintf("node %s may own HAVIPs again", n.Name))
	return n.ID, nil
}
