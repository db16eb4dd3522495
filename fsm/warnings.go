package fsm

import (
	"fmt"
	"slices"
)

// Warnings says in sorted order what is allowed and most likely not meant, about one HAVIP
// as it is now. They are advice: nothing asks them before a change.
func (s *State) Warnings(v HAVIP) []string { return s.Adviser().Warnings(v) }

// Adviser gives the warnings about many HAVIPs of one state, and counts only once. It is not
// for several goroutines.
type Adviser struct {
	s     *State
	owned map[string]int // HAVIPs by ENI; nil until somebody asks
}

// Adviser begins to look at a state.
func (s *State) Adviser() *Adviser { return &Adviser{s: s} }

// Warnings is State.Warnings.
func (a *Adviser) Warnings(v HAVIP) []string {
	s := a.s
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	nodes := s.rangeNodes(v)
	switch {
	case v.Range.Limit && len(v.Range.Members) == 0:
		warn("the range is empty and limited: nobody may own the HAVIP; `havip range add %s ...`", v.Name)
	case v.Range.Limit && len(v.Range.Members) == 1:
		warn("the range has one member: there is no failover target")
	case v.Range.Limit && len(nodes) == 1:
		warn("all members of the range are on node %s: there is no failover target", nodes[0])
	}
	if sub := s.Subnets[v.Subnet]; s.Usable(sub, 3) < 3 {
		warn("subnet %s (%s) has %d usable addresses: not enough for a HAVIP and two ENIs", sub.Name, sub.CIDR, s.Usable(sub, 3))
	}
	if v.EIP.IsValid() && v.Owner == nil {
		warn("EIP %s is idle, and billed, until the HAVIP has an owner", v.EIP)
	}
	if advice := s.Cluster.Provider.Rules().HAVIPsPerENI; advice > 0 && v.Owner != nil {
		if n := a.ownedOn(v.Owner.ENI); n > advice {
			warn("ENI %s owns %d HAVIPs, provider %s advises %d at most", v.Owner.ENI, n, s.Cluster.Provider.Rules().Name, advice)
		}
	}
	slices.Sort(out)
	return out
}

// rangeNodes returns the names of the nodes that the members of a range belong to.
func (s *State) rangeNodes(v HAVIP) []string {
	var out []string
	for _, m := range v.Range.Members {
		if e, ok := s.ENIs[m]; ok && v.Range.Type == RangeENI {
			m = s.NodeName(e.Node)
		}
		out = append(out, m)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (a *Adviser) ownedOn(eni string) int {
	if a.owned == nil {
		a.owned = map[string]int{}
		for _, v := range a.s.HAVIPs {
			if v.Owner != nil {
				a.owned[v.Owner.ENI]++
			}
		}
	}
	return a.owned[eni]
}

// noteWarnings puts the warnings about a new HAVIP into the journal.
func (s *State) noteWarnings(c Command, v HAVIP) {
	if s.Level() < 2 || s.batch != nil {
		return
	}
	for _, text := range s.Warnings(v) {
		s.note(c, "warning", v.Name, "", fmt.Sprintf("HAVIP %s: %s", v.Name, text))
	}
}
