package fsm

import (
	"fmt"
	"slices"
)

func (s *State) createGroup(c Command, b CreateGroup) (string, *Refusal) {
	g, refusal := s.checkGroup(b.Group)
	if refusal != nil {
		return "", refusal
	}
	if _, taken := s.Groups[g.Name]; taken {
		return "", Refuse(CodeDuplicate, "group %s exists already; delete it first", g.Name)
	}
	s.Groups[g.Name] = g
	if refusal := s.checkContradictions(); refusal != nil {
		return "", refusal
	}
	s.note(c, "group-created", "", "", fmt.Sprintf("group %s holds %d HAVIPs %s", g.Name, len(g.HAVIPs), g.Kind))
	return g.Name, nil
}

// checkGroup checks a group by itself and names its HAVIPs by their ids.
func (s *State) checkGroup(g Group) (Group, *Refusal) {
	switch {
	case !subnetName.MatchString(g.Name):
		return g, Refuse(CodeMalformed, "%q cannot name a group: use 1 to 60 letters, digits, '.', '_' and '-'", clip(g.Name, MaxReason))
	case g.Kind != Together && g.Kind != Apart:
		return g, Refuse(CodeParameter, "%q is not a kind of group: together or apart", clip(string(g.Kind), MaxReason))
	case len(g.HAVIPs) < 2:
		return g, Refuse(CodeParameter, "group %s names %d HAVIPs; it takes two or more", g.Name, len(g.HAVIPs))
	case len(g.HAVIPs) > MaxGroupMembers:
		return g, Refuse(CodeLimit, "group %s names %d HAVIPs, at most %d", g.Name, len(g.HAVIPs), MaxGroupMembers)
	case len(s.Groups) >= MaxGroups:
		return g, Refuse(CodeLimit, "the cluster has %d groups, at most %d", len(s.Groups), MaxGroups)
	}
	ids := make([]string, 0, len(g.HAVIPs))
	for _, name := range g.HAVIPs {
		v, refusal := s.findHAVIP(name)
		switch {
		case refusal != nil:
			return g, refusal
		case v.Deleting:
			return g, Refuse(CodeUnsupported, "HAVIP %s is being deleted", v.Name)
		}
		ids = append(ids, v.ID)
	}
	slices.Sort(ids)
	for i, id := range ids[1:] {
		if ids[i] == id {
			return g, Refuse(CodeDuplicate, "group %s names HAVIP %s twice", g.Name, s.HAVIPs[id].Name)
		}
	}
	g.HAVIPs = ids
	return g, nil
}

func (s *State) deleteGroup(c Command, b DeleteGroup) (string, *Refusal) {
	if _, ok := s.Groups[b.Name]; !ok {
		return "", Refuse(CodeNotFound, "no group is called %q; `group list` shows those there are", clip(b.Name, MaxReason))
	}
	delete(s.Groups, b.Name)
	s.note(c, "group-deleted", "", "", fmt.Sprintf("group %s was deleted", b.Name))
	return b.Name, nil
}

// checkContradictions refuses hard groups that no placement can keep: two HAVIPs that
// must be together, through however many groups, and apart.
func (s *State) checkContradictions() *Refusal {
	leader := map[string]string{} // union-find over ids
	var find func(id string) string
	find = func(id string) string {
		up, ok := leader[id]
		if !ok || up == id {
			return id
		}
		leader[id] = find(up)
		return leader[id]
	}
	groups := s.GroupList()
	for _, g := range groups {
		for _, id := range g.HAVIPs {
			if g.Hard && g.Kind == Together {
				leader[find(id)] = find(g.HAVIPs[0])
			}
		}
	}
	for _, g := range groups {
		if !g.Hard || g.Kind != Apart {
			continue
		}
		first := map[string]string{}
		for _, id := range g.HAVIPs {
			root := find(id)
			if other, both := first[root]; both {
				return Refuse(CodeParameter, "group %s keeps HAVIPs %s and %s apart, and hard groups of kind together (%s) join them: no node could own both; make one of the groups soft, or delete it",
					g.Name, s.HAVIPs[other].Name, s.HAVIPs[id].Name, s.joining(find, root))
			}
			first[root] = id
		}
	}
	return nil
}

// joining names the hard together groups of a component.
func (s *State) joining(find func(string) string, root string) string {
	var names []string
	for _, g := range s.GroupList() {
		if g.Hard && g.Kind == Together && find(g.HAVIPs[0]) == root {
			names = append(names, g.Name)
		}
	}
	const shown = 5
	if len(names) > shown {
		names = append(names[:shown], "...")
	}
	return listed(names)
}

// leaveGroups takes a HAVIP that has gone out of its groups; a group without any goes, too.
func (s *State) leaveGroups(c Command, id string) {
	for _, g := range s.GroupList() {
		if !slices.Contains(g.HAVIPs, id) {
			continue
		}
		g.HAVIPs = slices.DeleteFunc(slices.Clone(g.HAVIPs), func(m string) bool { return m == id })
		if s.Groups[g.Name] = g; len(g.HAVIPs) == 0 {
			delete(s.Groups, g.Name)
			s.note(c, "group-deleted", "", "", fmt.Sprintf("group %s was deleted with its last HAVIP", g.Name))
		}
	}
}
