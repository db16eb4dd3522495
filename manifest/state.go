package manifest

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// moment is a clock reading as files say it, in UTC and to the nanosecond; "" for 0.
func moment(ns int64) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
}

// nanoseconds reads a moment; 0 for what is none.
func nanoseconds(text string) int64 {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0
	}
	return t.UnixNano()
}

// FromState exports everything that the placement and apply look at, as it is at a clock
// reading in unix nanoseconds.
func FromState(s *fsm.State, at int64) Manifest {
	p := s.Problem(at)
	m := New()
	m.Revision = int(s.Cluster.Revision)
	if name := s.Cluster.Provider.Name; name != "" && name != "lan" {
		m.Provider = name
	}
	maintenance := s.Cluster.Maintenance
	m.Maintenance = &maintenance
	m.Limits = &Limits{PerENI: s.Cluster.Limits.PerENI, PerNode: s.Cluster.Limits.PerNode}
	if m.Rebalance = s.Cluster.Rebalance; m.Rebalance == "" {
		m.Rebalance = fsm.RebalanceNever
	}
	m.Nodes, m.ENIs, m.Subnets, m.HAVIPs, m.Groups = []Node{}, []ENI{}, []Subnet{}, []HAVIP{}, []Group{}
	for _, n := range p.Nodes {
		m.Nodes = append(m.Nodes, fromNode(n))
	}
	for _, e := range s.ENIList() {
		m.ENIs = append(m.ENIs, fromENI(s, e))
	}
	for _, sub := range s.SubnetList() {
		m.Subnets = append(m.Subnets, fromSubnet(sub))
	}
	m.HAVIPs = make([]HAVIP, 0, len(p.HAVIPs))
	for _, v := range p.HAVIPs {
		m.HAVIPs = append(m.HAVIPs, fromHAVIP(s.HAVIPs[v.ID], v))
	}
	shared := map[string]int{}
	for _, h := range m.HAVIPs {
		shared[h.Name]++
	}
	for _, g := range s.GroupList() {
		out := Group{Name: g.Name, Kind: string(g.Kind), Hard: g.Hard, HAVIPs: []string{}}
		for _, id := range g.HAVIPs {
			if v, there := s.HAVIPs[id]; there && shared[v.Name] == 1 {
				id = v.Name
			}
			out.HAVIPs = append(out.HAVIPs, id)
		}
		m.Groups = append(m.Groups, out)
	}
	if s.Level() >= 4 || len(s.Checks) > 0 {
		m.Checks = fromChecks(s, shared)
	}
	if s.Level() >= 4 {
		m.Webhooks = fromWebhooks(s)
	}
	return m.Canonical()
}

func fromNode(n placement.Node) Node {
	out := Node{
		Name: n.Name, Status: "lost", Standby: n.Standby, Maintenance: n.Maintenance, Draining: n.Draining, Score: n.Score,
		Health: string(n.Health), HealthWhy: n.HealthReason, Capacity: n.Capacity, Stopping: n.Leaving, Removing: n.Removing, Flapping: n.Flapping,
	}
	if n.Alive {
		out.Status, out.Since = "alive", moment(n.Since)
	}
	if n.Role != fsm.RoleVoter {
		out.Role = string(n.Role)
	}
	return out
}

func fromENI(s *fsm.State, e fsm.ENI) ENI {
	out := ENI{
		ID: e.ID, Node: s.NodeName(e.Node), Device: e.Device, MAC: e.MAC, Subnet: e.Subnet, SetSubnet: e.SetSubnet,
		Primary: e.IsPrimary(), Up: e.Up, Detached: e.Detached, Fault: e.Fault,
	}
	for _, p := range e.Prefixes {
		out.Addresses = append(out.Addresses, p.String())
	}
	if e.Gateway.IsValid() {
		out.Gateway = e.Gateway.String()
	}
	return out
}

func fromSubnet(sub fsm.Subnet) Subnet {
	out := Subnet{Name: sub.Name, VPC: sub.VPC, CIDR: sub.CIDR.String(), Auto: sub.Auto}
	if sub.Gateway.IsValid() {
		out.Gateway = sub.Gateway.String()
	}
	for _, a := range sub.Reserved {
		out.Reserved = append(out.Reserved, a.String())
	}
	return out
}

// fromHAVIP joins what the operator said of a HAVIP with what the placement sees of it.
func fromHAVIP(v fsm.HAVIP, seen placement.HAVIP) HAVIP {
	out := HAVIP{
		Name: v.Name, ID: v.ID, IP: v.IP.String(), Subnet: v.Subnet, VPC: v.VPC,
		Range: Range{Type: string(v.Range.Type), Members: append([]string{}, v.Range.Members...), Limit: v.Range.Limit},
		View:  v.Spec.Clean().View(), Draining: seen.Draining, Deleting: v.Deleting, Last: seen.Last, Owner: seen.Owner,
	}
	if v.EIP.IsValid() {
		out.EIP = v.EIP.String()
	}
	put := func(table *map[string]string, key, value string) {
		if *table == nil {
			*table = map[string]string{}
		}
		(*table)[key] = value
	}
	for _, b := range seen.Bans {
		out.Bans = append(out.Bans, b.Target)
		if b.Until != 0 {
			put(&out.BanEnds, b.Target, moment(b.Until))
		}
	}
	for node, f := range seen.Fails {
		if out.Fails == nil {
			out.Fails = map[string]int{}
		}
		if out.Fails[node] = f.Count; f.Ends != 0 {
			put(&out.FailEnds, node, moment(f.Ends))
		}
	}
	for eni, g := range v.GaveUp {
		put(&out.GaveUp, eni, strings.TrimSpace(moment(g.Until)+" "+g.Reason))
	}
	return out
}

// Problem is what the placement has to solve, at a clock reading in unix nanoseconds: that
// of the state which was exported, or of the file as it was written by hand.
func (m Manifest) Problem(at int64) placement.Problem {
	p := placement.Problem{Now: at, Even: m.Rebalance == fsm.RebalanceEven, Maintenance: m.Maintenance != nil && *m.Maintenance}
	if m.Limits != nil {
		p.Limits = fsm.Limits{PerENI: m.Limits.PerENI, PerNode: m.Limits.PerNode}
	}
	for _, n := range m.Nodes {
		p.Nodes = append(p.Nodes, n.problem())
	}
	subnets := m.subnets()
	for _, e := range m.ENIs {
		p.ENIs = append(p.ENIs, placement.ENI{
			ID: e.ID, Node: e.Node, Subnets: e.in(subnets), Primary: e.Primary, Up: e.Up, Detached: e.Detached, Fault: e.Fault,
		})
	}
	ids := map[string]string{}
	for i, h := range m.HAVIPs {
		if h.ID == "" { // not made yet: any name that is no id of another
			h.ID = "#" + strconv.Itoa(i)
		}
		ids[h.Name], ids[h.ID] = h.ID, h.ID
		p.HAVIPs = append(p.HAVIPs, h.problem(subnets))
	}
	if len(m.Checks) > 0 {
		checked := m.checked(ids)
		for i := range p.HAVIPs {
			p.HAVIPs[i].Checked = checked.Of(p.HAVIPs[i].ID)
		}
	}
	for _, g := range m.Groups {
		out := placement.Group{Name: g.Name, Kind: fsm.GroupKind(g.Kind), Hard: g.Hard}
		for _, name := range g.HAVIPs {
			out.HAVIPs = append(out.HAVIPs, ids[name])
		}
		p.Groups = append(p.Groups, out)
	}
	return p
}

func (n Node) problem() placement.Node {
	role := fsm.Role(n.Role)
	if role == "" {
		role = fsm.RoleVoter
	}
	return placement.Node{
		Name: n.Name, Role: role, Alive: n.Status == "" || n.Status == "alive" || n.Status == "suspect", Since: nanoseconds(n.Since),
		Leaving: n.Stopping, Draining: n.Draining, Removing: n.Removing, Standby: n.Standby, Maintenance: n.Maintenance,
		Score: n.Score, Health: fsm.Health(n.Health), HealthReason: n.HealthWhy, Flapping: n.Flapping, Capacity: n.Capacity,
	}
}

// subnets are those that can be read, in the order of their names.
func (m Manifest) subnets() []fsm.Subnet {
	var out []fsm.Subnet
	for _, s := range m.Subnets {
		if sub, ok := s.state(); ok {
			out = append(out, sub)
		}
	}
	slices.SortFunc(out, func(a, b fsm.Subnet) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (s Subnet) state() (fsm.Subnet, bool) {
	cidr, err := netip.ParsePrefix(s.CIDR)
	out := fsm.Subnet{Name: s.Name, VPC: s.VPC, CIDR: cidr, Auto: s.Auto}
	out.Gateway, _ = netip.ParseAddr(s.Gateway)
	for _, text := range s.Reserved {
		if a, err := netip.ParseAddr(text); err == nil {
			out.Reserved = append(out.Reserved, a)
		}
	}
	return out, err == nil
}

// in lists the subnets that an ENI is in, the main one first: unless an operator said
// which, every one that holds one of its addresses.
func (e ENI) in(subnets []fsm.Subnet) []string {
	out := []string{e.Subnet}
	if e.SetSubnet != "" {
		return out
	}
	for _, s := range subnets {
		for _, text := range e.Addresses {
			if p, err := netip.ParsePrefix(text); err == nil && s.CIDR.Contains(p.Addr()) && !slices.Contains(out, s.Name) {
				out = append(out, s.Name)
			}
		}
	}
	return out
}

func (h HAVIP) problem(subnets []fsm.Subnet) placement.HAVIP {
	out := placement.HAVIP{
		ID: h.ID, Name: h.Name, Subnet: h.Subnet, Spec: h.Spec(),
		Range:    fsm.Range{Type: fsm.RangeType(h.Range.Type), Members: h.Range.Members, Limit: h.Range.Limit},
		Deleting: h.Deleting, Owner: h.Owner, Last: h.Last, Draining: h.Draining,
	}
	if ip, err := netip.ParseAddr(h.IP); err == nil && h.Subnet == "" {
		for _, s := range subnets {
			if out.Subnet == "" && s.CIDR.Contains(ip) && (h.VPC == "" || h.VPC == s.VPC) {
				out.Subnet = s.Name
			}
		}
	}
	for _, target := range h.Bans {
		out.Bans = append(out.Bans, fsm.Ban{Target: target, Until: nanoseconds(h.BanEnds[target])})
	}
	for node, count := range h.Fails {
		if out.Fails == nil {
			out.Fails = map[string]placement.Fails{}
		}
		out.Fails[node] = placement.Fails{Count: count, Ends: nanoseconds(h.FailEnds[node])}
	}
	for eni, text := range h.GaveUp {
		if out.GaveUp == nil {
			out.GaveUp = map[string]fsm.GaveUp{}
		}
		until, why, _ := strings.Cut(text, " ")
		out.GaveUp[eni] = fsm.GaveUp{Until: nanoseconds(until), Reason: why}
	}
	return out
}
