package fsm

import "slices"

// configChecks makes the checks what a configuration says of them. One that it says the same of
// keeps its results.
func (s *State) configChecks(_ Command, b ApplyConfig, back *Revision) *Refusal {
	if b.Config.Checks == nil {
		return nil
	}
	seen := map[string]bool{}
	for i, want := range b.Config.Checks {
		if back != nil { // nodes that have left since
			want.Nodes = slices.DeleteFunc(slices.Clone(want.Nodes), func(name string) bool {
				_, there := s.NodeNamed(name)
				return !there
			})
			if len(want.Nodes) == 0 && len(b.Config.Checks[i].Nodes) > 0 {
				continue
			}
		}
		var old *Check
		if k, there := s.Checks[want.Name]; there {
			old = &k
		}
		k, refusal := s.checkCheck(want, old)
		if refusal != nil {
			return inConfig("checks", i, refusal)
		}
		if seen[k.Name] {
			return inConfig("checks", i, Refuse(CodeDuplicate, "the configuration names check %s twice", k.Name))
		}
		seen[k.Name] = true
		if old == nil || !k.same(*old) {
			s.Checks[k.Name] = k
		}
	}
	if !b.Prune {
		return nil
	}
	for _, k := range s.CheckList() {
		if !seen[k.Name] {
			s.dropCheck(k.Name)
		}
	}
	return nil
}

// configuredChecks are the checks as a configuration names them. names counts the HAVIPs of each name.
func (s *State) configuredChecks(names map[string]int) []Check {
	out := []Check{}
	for _, k := range s.CheckList() {
		about := s.groupByName(Group{HAVIPs: k.HAVIPs}, names).HAVIPs
		if len(about) == 0 && len(k.HAVIPs) > 0 {
			continue // those that it is about are being deleted
		}
		k.HAVIPs, k.Revision = ordered(about), 0
		out = append(out, k)
	}
	return out
}
