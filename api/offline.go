package api

import (
	"net/netip"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
	"havip-cluster/manifest"
)

// PlanOffline is the plan for a state in a file, as a cluster with that state makes it:
// the same placement is asked, and a change goes through the same Apply. at is the time
// that it is supposed to be.
func PlanOffline(m manifest.Manifest, change *manifest.Manifest, spec PlanSpec, at time.Time) (Plan, error) {
	now := at.UnixNano()
	before := m.Problem(now)
	if change == nil {
		return PlanFor(before, before, spec)
	}
	st, err := offlineState(m, now)
	if err != nil {
		return Plan{}, problemOf(err)
	}
	config := change.ToConfig()
	config.Webhooks = nil // they place nothing, and a file tells of no secret
	next, err := after(st, nil, "", fsm.ApplyConfig{Config: config, Prune: spec.Prune}, now)
	if err != nil {
		return Plan{}, problemOf(err)
	}
	return PlanFor(before, next.Problem(now), spec)
}

// offlineState makes the state that a file tells of, as far as a configuration can be
// applied to it. Nodes are known by their names.
func offlineState(m manifest.Manifest, at int64) (*fsm.State, error) {
	st := fsm.New()
	st.Cluster = fsm.Cluster{ID: "offline", Level: fsm.CommandLevel, Rebalance: m.Rebalance, Provider: fsm.Provider{Name: m.Provider}}
	if m.Maintenance != nil {
		st.Cluster.Maintenance = *m.Maintenance
	}
	if m.Limits != nil {
		st.Cluster.Limits = fsm.Limits{PerENI: m.Limits.PerENI, PerNode: m.Limits.PerNode}
	}
	p := m.Problem(at)
	for i, n := range p.Nodes {
		session := uint64(i + 1)
		flaps := fsm.FailCount{}
		if n.Flapping {
			flaps = fsm.FailCount{Count: fsm.FlapLimit, LastAt: at}
		}
		st.Nodes[n.Name] = fsm.Node{
			Version: fsm.VersionWithLevel("offline"), Flaps: flaps,
			ID: n.Name, Name: n.Name, Role: n.Role, Standby: n.Standby, Maintenance: n.Maintenance, Draining: n.Draining, Removing: n.Removing,
			Score: n.Score, Capacity: n.Capacity, Health: n.Health, HealthReason: n.HealthReason, LastSession: session,
		}
		if n.Alive {
			st.Sessions[session] = fsm.Session{Number: session, Node: n.Name, Opened: n.Since, Draining: n.Leaving}
		}
	}
	for _, s := range m.Subnets {
		cidr, err := netip.ParsePrefix(s.CIDR)
		if err != nil {
			return nil, fsm.Refuse(fsm.CodeMalformed, "subnet %s: %q is not a network", s.Name, s.CIDR)
		}
		gateway, _ := netip.ParseAddr(s.Gateway) // checked when the file was read; absent is none
		sub := fsm.Subnet{Name: s.Name, VPC: s.VPC, CIDR: cidr, Gateway: gateway, Auto: s.Auto}
		for _, r := range s.Reserved {
			a, _ := netip.ParseAddr(r)
			sub.Reserved = append(sub.Reserved, a)
		}
		st.Subnets[s.Name] = sub
	}
	for i, e := range m.ENIs {
		eni := fsm.ENI{
			ID: e.ID, Node: e.Node, Device: e.Device, MAC: e.MAC, Subnet: e.Subnet, SetSubnet: e.SetSubnet,
			Primary: p.ENIs[i].Primary, Up: e.Up, Detached: e.Detached, Fault: e.Fault,
		}
		for _, a := range e.Addresses {
			if prefix, err := netip.ParsePrefix(a); err == nil {
				eni.Prefixes = append(eni.Prefixes, prefix)
			}
		}
		st.ENIs[e.ID] = eni
	}
	for i, h := range m.HAVIPs {
		v := offlineHAVIP(st, h, p.HAVIPs[i], at)
		st.HAVIPs[v.ID] = v
	}
	for _, g := range p.Groups {
		st.Groups[g.Name] = fsm.Group{Name: g.Name, Kind: g.Kind, Hard: g.Hard, HAVIPs: g.HAVIPs}
	}
	return st, nil
}

// offlineHAVIP joins what a file says of a HAVIP with what the placement reads from it.
func offlineHAVIP(st *fsm.State, h manifest.HAVIP, p placement.HAVIP, at int64) fsm.HAVIP {
	ip, _ := netip.ParseAddr(h.IP) // checked when the file was read; absent is none
	eip, _ := netip.ParseAddr(h.EIP)
	v := fsm.HAVIP{
		ID: p.ID, Name: h.Name, IP: ip, Subnet: p.Subnet, VPC: st.Subnets[p.Subnet].VPC, Range: p.Range, Spec: p.Spec,
		Deleting: p.Deleting, GaveUp: p.GaveUp, Last: p.Last, EIP: eip, Epoch: fsm.Epoch(p.Draining) + 1,
	}
	for _, b := range p.Bans {
		v.Bans = append(v.Bans, b.Target)
		if b.Until != 0 {
			if v.BanEnds == nil {
				v.BanEnds = map[string]int64{}
			}
			v.BanEnds[b.Target] = b.Until
		}
	}
	for node, f := range p.Fails {
		if v.Fails == nil {
			v.Fails = map[string]fsm.FailCount{}
		}
		last := at
		if f.Ends != 0 {
			last = f.Ends - int64(p.FailsAfter())
		}
		v.Fails[node] = fsm.FailCount{Count: f.Count, LastAt: last}
	}
	for i := range p.Draining {
		v.Draining = append(v.Draining, fsm.Claim{Epoch: fsm.Epoch(i + 1)})
	}
	if p.Owner != "" {
		node := st.ENIs[p.Owner].Node
		v.Owner = &fsm.Claim{Epoch: v.Epoch, Node: node, Session: st.Nodes[node].LastSession, ENI: p.Owner}
	}
	return v
}
