package manifest

import (
	"slices"
	"strings"

	"havip-cluster/fsm"
)

// groups checks each group and whether the hard ones contradict each other.
func (c *checker) groups() {
	names := map[string]int{}
	members := make([][]int, len(c.m.Groups)) // HAVIPs by index
	for i, g := range c.m.Groups {
		path := at("groups", i)
		c.label(at(path, "name"), g.Name, "group")
		if first, twice := names[g.Name]; twice {
			c.refuse(at(path, "name"), fsm.CodeDuplicate, "group %s is here twice; first as groups[%d]", g.Name, first)
		}
		names[g.Name] = i
		c.oneOf(at(path, "kind"), g.Kind, string(fsm.Together), string(fsm.Apart))
		c.atMost(at(path, "havips"), len(g.HAVIPs), fsm.MaxGroupMembers, "HAVIPs in a group")
		if len(g.HAVIPs) < 2 {
			c.warn(at(path, "havips"), fsm.CodeParameter, "a group of %d says nothing", len(g.HAVIPs))
		}
		for j, name := range g.HAVIPs {
			hpath := at(at(path, "havips"), j)
			index := c.havip(hpath, name)
			if index < 0 {
				continue
			}
			if slices.Contains(members[i], index) {
				c.refuse(hpath, fsm.CodeDuplicate, "%s is in the group twice", clip(name, 60))
				continue
			}
			members[i] = append(members[i], index)
		}
	}
	if c.m.HAVIPs != nil {
		c.contradictions(members)
	}
}

// havip finds a HAVIP by name or id; -1 if it cannot be told.
func (c *checker) havip(path, name string) int {
	if i, ok := c.byID[name]; ok {
		return i
	}
	switch found := c.byName[name]; {
	case c.m.HAVIPs == nil:
		return -1
	case len(found) == 1:
		return found[0]
	case len(found) > 1:
		c.refuse(path, fsm.CodeDuplicate, "%d HAVIPs are called %s; name the id", len(found), clip(name, 60))
	default:
		c.refuse(path, fsm.CodeNotFound, "the file lists no HAVIP %q", clip(name, 60))
	}
	return -1
}

// contradictions finds hard groups that no placement can keep: HAVIPs that must be both
// together and apart, and those that must be together without a node that may own all.
func (c *checker) contradictions(members [][]int) {
	root := make([]int, len(c.m.HAVIPs)) // union of what hard together groups join
	for i := range root {
		root[i] = i
	}
	find := func(i int) int {
		for root[i] != i {
			root[i] = root[root[i]]
			i = root[i]
		}
		return i
	}
	for i, g := range c.m.Groups {
		if g.Kind == string(fsm.Together) && g.Hard {
			for _, m := range members[i] {
				root[find(m)] = find(members[i][0])
			}
			c.commonNode(i, members[i])
		}
	}
	for i, g := range c.m.Groups {
		if g.Kind != string(fsm.Apart) || !g.Hard {
			continue
		}
		first := map[int]int{}
		for _, m := range members[i] {
			if other, both := first[find(m)]; both {
				c.refuse(at("groups", i), CodeConflict, "%s and %s must be apart here, and together by other hard groups",
					c.m.HAVIPs[other].Name, c.m.HAVIPs[m].Name)
				break
			}
			first[find(m)] = m
		}
		c.enoughNodes(i, members[i])
	}
}

// allowed lists the nodes of a limited range; ok is false where any node may own.
func allowed(h HAVIP) (nodes []string, ok bool) {
	if !h.Range.Limit || len(h.Range.Members) == 0 {
		return nil, false
	}
	for _, m := range h.Range.Members {
		node, _, _ := strings.Cut(m, "/")
		if h.Range.Type == string(fsm.RangeENI) && !strings.Contains(m, "/") {
			return nil, false // a provider's id does not tell the node
		}
		if !slices.Contains(h.Forbid, node) && !slices.Contains(nodes, node) {
			nodes = append(nodes, node)
		}
	}
	return nodes, true
}

// commonNode warns of the first HAVIP that shares no node with those before it.
func (c *checker) commonNode(i int, members []int) {
	var common []string
	for n, m := range members {
		nodes, limited := allowed(c.m.HAVIPs[m])
		switch {
		case !limited:
			return
		case n == 0:
			common = nodes
		default:
			common = slices.DeleteFunc(slices.Clone(common), func(s string) bool { return !slices.Contains(nodes, s) })
		}
		if len(common) == 0 {
			c.warn(at("groups", i), CodeConflict, "no node may own all of them: %s has no node in common with those before it", c.m.HAVIPs[m].Name)
			return
		}
	}
}

// enoughNodes warns where a hard apart group has more HAVIPs than nodes.
func (c *checker) enoughNodes(i int, members []int) {
	var nodes []string
	for _, m := range members {
		own, limited := allowed(c.m.HAVIPs[m])
		if !limited {
			return
		}
		for _, n := range own {
			if !slices.Contains(nodes, n) {
				nodes = append(nodes, n)
			}
		}
	}
	if len(nodes) < len(members) {
		c.warn(at("groups", i), CodeConflict, "%d HAVIPs must be on different nodes, and their ranges hold %d: some will have no owner", len(members), len(nodes))
	}
}
