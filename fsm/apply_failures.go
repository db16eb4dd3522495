package fsm

import (
	"cmp"
	"fmt"
	"maps"
	"time"
)

// maxCount bounds a counter of failures, so that it can decay within a foreseeable time.
const maxCount = 1000

// counted is a counter with one more failure, and what has decayed taken off.
func (f FailCount) counted(at int64, period time.Duration) FailCount {
	return FailCount{Count: min(f.Effective(at, period)+1, maxCount), LastAt: max(at, f.LastAt)}
}

// failed counts a failure on a node and returns the new count.
func (s *State) failed(c Command, v HAVIP, node string) (HAVIP, int) {
	fails := map[string]FailCount{}
	for who, f := range v.Fails {
		if f.Effective(c.At, v.FailsAfter()) > 0 && (who == node || len(v.Fails) < MaxFails) {
			fails[who] = f
		}
	}
	fails[node] = fails[node].counted(c.At, v.FailsAfter())
	v.Fails = fails
	return v, fails[node].Count
}

// pause is how long an ENI is not eligible after the nth failure: it doubles each time.
func pause(n int) time.Duration {
	p := GiveUpPause
	for ; n > 1 && p < GiveUpMax; n-- {
		p *= 2
	}
	return min(p, GiveUpMax)
}

func (s *State) recordFailure(c Command, b RecordFailure) (string, *Refusal) {
	v, refusal := s.living(b.HAVIP)
	if refusal != nil {
		return "", refusal
	}
	n, ok := s.Nodes[b.Node]
	if !ok {
		return "", Refuse(CodeNotFound, "node %s is not a member of this cluster", b.Node)
	}
	v, count := s.failed(c, v, n.Name)
	s.HAVIPs[v.ID] = v
	s.note(c, "failure", v.Name, n.Name, fmt.Sprintf("HAVIP %s failed on node %s (%d of %d): %s", v.Name, n.Name, count, v.FailureLimit(), b.Reason))
	return v.ID, nil
}

func (s *State) resetFailures(c Command, b ResetFailures) (string, *Refusal) {
	if b.HAVIP != "" {
		if _, refusal := s.living(b.HAVIP); refusal != nil {
			return "", refusal
		}
	}
	if _, ok := s.Nodes[b.Node]; !ok && b.Node != "" {
		return "", Refuse(CodeNotFound, "no node has the id %q", b.Node)
	}
	name := s.Nodes[b.Node].Name
	for id, v := range s.HAVIPs {
		if b.HAVIP == "" || b.HAVIP == id {
			s.HAVIPs[id] = v.withoutFailures(func(node string) bool { return name == "" || name == node }, s)
		}
	}
	for id, n := range s.Nodes {
		if b.HAVIP == "" && (b.Node == "" || b.Node == id) {
			n.Flaps = FailCount{}
			s.Nodes[id] = n
		}
	}
	s.note(c, "failures-cleared", s.HAVIPs[b.HAVIP].Name, name, fmt.Sprintf("failures cleared: %s on %s",
		cmp.Or(s.HAVIPs[b.HAVIP].Name, "every HAVIP"), cmp.Or(name, "every node")))
	return b.HAVIP, nil
}

// withoutFailures forgets the failures and pauses on some nodes.
func (v HAVIP) withoutFailures(on func(node string) bool, s *State) HAVIP {
	fails, gaveUp := maps.Clone(v.Fails), maps.Clone(v.GaveUp)
	maps.DeleteFunc(fails, func(node string, _ FailCount) bool { return on(node) })
	maps.DeleteFunc(gaveUp, func(eni string, _ GaveUp) bool { return on(s.NodeName(s.ENIs[eni].Node)) })
	if v.Fails = fails; len(fails) == 0 {
		v.Fails = nil
	}
	if v.GaveUp = gaveUp; len(gaveUp) == 0 {
		v.GaveUp = nil
	}
	return v
}
