package manifest

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/havip"
)

func (c *checker) havips() {
	addresses := map[string]int{}
	perVPC := map[string]int{}
	for i, h := range c.m.HAVIPs {
		path := at("havips", i)
		c.refusal(at(path, "name"), displayName(h.Name))
		c.identity(path, i, h)
		vpc := c.placeOf(path, h)
		if ip, err := netip.ParseAddr(h.IP); err == nil {
			key := vpc + "/" + ip.String()
			if first, twice := addresses[key]; twice {
				c.refuse(at(path, "ip"), fsm.CodeDuplicate, "%s is also the address of havips[%d] %s", ip, first, c.m.HAVIPs[first].Name)
			}
			addresses[key] = i
		}
		if perVPC[vpc]++; c.rules.HAVIPsPerVPC > 0 && perVPC[vpc] == c.rules.HAVIPsPerVPC+1 {
			c.refuse(path, fsm.CodeLimit, "%s may have %d HAVIPs (profile %s)", vpc, c.rules.HAVIPsPerVPC, c.rules.Name)
		}
		c.members(path, h)
		c.wishes(path, h)
		c.numbers(path, h)
		c.history(path, h)
	}
}

// identity enters a HAVIP under its name and id. A name may be there twice only where the
// ids tell them apart.
func (c *checker) identity(path string, i int, h HAVIP) {
	if h.ID != "" {
		if first, twice := c.byID[h.ID]; twice {
			c.refuse(at(path, "id"), fsm.CodeDuplicate, "the id %s is also that of havips[%d]", h.ID, first)
		}
		if !strings.HasPrefix(h.ID, "havip-") {
			c.refuse(at(path, "id"), fsm.CodeMalformed, "%q is not an id such as havip-0a1b2c3d", clip(h.ID, 60))
		}
		c.byID[h.ID] = i
	}
	for _, other := range c.byName[h.Name] {
		if h.ID == "" || c.m.HAVIPs[other].ID == "" {
			c.refuse(at(path, "name"), fsm.CodeDuplicate, "havips[%d] is called %s as well; give both their id", other, h.Name)
			break
		}
	}
	c.byName[h.Name] = append(c.byName[h.Name], i)
}

// placeOf checks address and subnet (R4 to R7) and says which VPC the HAVIP is in.
func (c *checker) placeOf(path string, h HAVIP) string {
	var ip netip.Addr
	switch {
	case h.IP != "":
		ip = c.address(at(path, "ip"), h.IP)
	case h.Subnet == "" && h.ID == "":
		c.warn(path, fsm.CodeMissing, "neither an address (ip) nor a subnet: only a HAVIP that is there already can be left so")
	}
	if ip.IsValid() && (ip.IsMulticast() || ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast()) {
		c.refuse(at(path, "ip"), fsm.CodeRange, "%s can be no HAVIP", ip)
	}
	if ip.Is6() && !c.rules.IPv6 {
		c.refuse(at(path, "ip"), fsm.CodeMalformed, "%s is IPv6, which profile %s has not", ip, c.rules.Name)
	}
	sub, found := c.subnet[h.Subnet]
	switch {
	case h.Subnet != "" && !found && c.m.Subnets != nil:
		c.refuse(at(path, "subnet"), fsm.CodeSubnetNotExist, "the file lists no subnet %q", clip(h.Subnet, 60))
	case h.Subnet == "" && ip.IsValid():
		for _, name := range slices.Sorted(maps.Keys(c.subnet)) {
			if s := c.subnet[name]; !found && s.CIDR.IsValid() && s.CIDR.Contains(ip) && (h.VPC == "" || h.VPC == s.VPC) {
				sub, found = s, true
			}
		}
	}
	vpc := h.VPC
	if found {
		if vpc != "" && vpc != sub.VPC {
			c.refuse(at(path, "vpc"), fsm.CodeParameter, "subnet %s belongs to %s, not %s", sub.Name, sub.VPC, vpc)
		}
		vpc = sub.VPC
	}
	if found && ip.IsValid() && sub.CIDR.IsValid() {
		if why := reserved(sub, c.rules, ip); !sub.CIDR.Contains(ip) {
			c.refuse(at(path, "ip"), fsm.CodeRange, "%s is not in subnet %s (%s)", ip, sub.Name, sub.CIDR)
		} else if why != "" {
			c.refuse(at(path, "ip"), fsm.CodeReserved, "%s is %s in subnet %s (%s)", ip, why, sub.Name, sub.CIDR)
		}
	}
	if vpc == "" {
		vpc = fsm.DefaultVPC
	}
	return vpc
}

// members checks the range (R11 to R15, as far as the file tells).
func (c *checker) members(path string, h HAVIP) {
	r := h.Range
	path = at(path, "range")
	if r.Type != "" || len(r.Members) > 0 {
		if !c.oneOf(at(path, "type"), r.Type, string(fsm.RangeCVM), string(fsm.RangeENI)) {
			return
		}
	}
	c.atMost(at(path, "members"), len(r.Members), c.rules.RangeMembers, "members")
	if len(r.Members) == 0 && r.Limit && h.Enabled {
		c.warn(path, fsm.CodeRangeDenied, "the range is empty and limited: nobody may own the HAVIP")
	}
	if len(r.Members) == 1 && r.Limit {
		c.warn(path, fsm.CodeRangeDenied, "the range has one member: nobody can take over from it")
	}
	seen := map[string]bool{}
	for j, member := range r.Members {
		mpath := at(at(path, "members"), j)
		if seen[member] {
			c.refuse(mpath, fsm.CodeDuplicate, "%s is in the range twice", clip(member, 60))
		}
		seen[member] = true
		if r.Type == string(fsm.RangeENI) {
			c.eniMember(mpath, member, h)
			continue
		}
		if strings.Contains(member, "/") {
			c.refuse(mpath, fsm.CodeParameter, "the range is of type cvm; %s is an ENI: a range has one type", clip(member, 60))
			continue
		}
		c.target(mpath, member)
	}
}

func (c *checker) eniMember(path, member string, h HAVIP) {
	if _, node := c.nodeSet[member]; node {
		c.refuse(path, fsm.CodeParameter, "the range is of type eni; %s is a node: a range has one type", member)
		return
	}
	i, known := c.eniSet[member]
	switch {
	case c.eniSet == nil:
		return
	case !known:
		c.warn(path, fsm.CodeNotFound, "the file lists no ENI %s", clip(member, 60))
	case c.m.ENIs[i].Primary:
		c.refuse(path, fsm.CodeParameter, "%s is the primary ENI of %s; use a range of type cvm", member, c.m.ENIs[i].Node)
	case h.Subnet != "" && c.m.ENIs[i].Subnet != "" && c.m.ENIs[i].Subnet != h.Subnet && len(c.m.ENIs[i].Addresses) == 0:
		c.refuse(path, fsm.CodeParameter, "%s is in %s; the HAVIP is in %s", member, c.m.ENIs[i].Subnet, h.Subnet)
	}
}

// target checks the name of a node or an ENI. Who has gone may still be named, so a name
// that is not listed is a warning.
func (c *checker) target(path, name string) {
	_, node := c.nodeSet[name]
	_, eni := c.eniSet[name]
	switch {
	case name == "":
		c.refuse(path, fsm.CodeMissing, "the name of a node or an ENI is empty")
	case !strings.Contains(name, "/") && !eni && fsm.CheckNodeName(name) != nil:
		c.refusal(path, fsm.CheckNodeName(name))
	case c.m.Nodes != nil && !node && !eni && (c.m.ENIs != nil || !strings.Contains(name, "/")):
		c.warn(path, fsm.CodeNotFound, "the file lists no node or ENI %s", clip(name, 60))
	}
}

// wishes checks the scores and the words for and against targets.
func (c *checker) wishes(path string, h HAVIP) {
	c.atMost(at(path, "prefer"), len(h.Prefer), fsm.MaxPrefer, "preferences")
	for _, target := range slices.Sorted(maps.Keys(h.Prefer)) {
		tpath := at(at(path, "prefer"), target)
		c.target(tpath, target)
		c.within(tpath, h.Prefer[target], -fsm.ScoreLimit, fsm.ScoreLimit)
	}
	lists := []struct {
		key     string
		targets []string
	}{{"require", h.Require}, {"forbid", h.Forbid}, {"bans", h.Bans}}
	for _, l := range lists {
		c.atMost(at(path, l.key), len(l.targets), fsm.MaxBans, "targets")
		for j, target := range l.targets {
			tpath := at(at(path, l.key), j)
			c.target(tpath, target)
			if slices.Index(l.targets, target) != j {
				c.refuse(tpath, fsm.CodeDuplicate, "%s is here twice", clip(target, 60))
			}
			switch required := slices.Contains(h.Require, target); {
			case required && l.key == "forbid":
				c.refuse(tpath, CodeConflict, "%s is required as well; take one of them out", clip(target, 60))
			case required && l.key == "bans": // a ban is for a while, and the cluster allows it
				c.warn(tpath, CodeConflict, "%s is required as well; while the ban holds it may not own the HAVIP", clip(target, 60))
			}
		}
	}
	for _, target := range slices.Sorted(maps.Keys(h.BanEnds)) {
		tpath := at(at(path, "ban_ends"), target)
		if !slices.Contains(h.Bans, target) {
			c.refuse(tpath, fsm.CodeNotFound, "%s is not in bans", clip(target, 60))
		}
		c.moment(tpath, h.BanEnds[target])
	}
	if h.Range.Limit && h.Range.Type == string(fsm.RangeCVM) {
		for j, target := range h.Require {
			if !strings.Contains(target, "/") && !slices.Contains(h.Range.Members, target) {
				c.warn(at(at(path, "require"), j), fsm.CodeRangeDenied, "%s is required and not in the range", target)
			}
		}
	}
}

func (c *checker) numbers(path string, h HAVIP) {
	spec := h.Spec()
	for i := range havip.Settings {
		if s := &havip.Settings[i]; s.Kind == havip.Number || s.Kind == havip.Text {
			c.refusal(at(path, s.Key), fsm.FaultRefusal(s.Check(&spec)))
		}
	}
	if h.EIP != "" {
		c.address(at(path, "eip"), h.EIP)
	}
}

// history checks what only an export holds.
func (c *checker) history(path string, h HAVIP) {
	for _, node := range slices.Sorted(maps.Keys(h.Fails)) {
		c.target(at(at(path, "fails"), node), node)
		c.within(at(at(path, "fails"), node), h.Fails[node], 0, 1<<31)
	}
	for _, eni := range slices.Sorted(maps.Keys(h.GaveUp)) {
		until, _, _ := strings.Cut(h.GaveUp[eni], " ")
		c.moment(at(at(path, "gave_up"), eni), until)
	}
	for _, node := range slices.Sorted(maps.Keys(h.FailEnds)) {
		c.moment(at(at(path, "fail_ends"), node), h.FailEnds[node])
	}
	c.within(at(path, "draining"), h.Draining, 0, fsm.MaxDraining)
	if _, known := c.eniSet[h.Owner]; h.Owner != "" && !known {
		c.refuse(at(path, "owner"), fsm.CodeNotFound, "the file lists no ENI %s", clip(h.Owner, 60))
	}
}
