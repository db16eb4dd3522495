package manifest

import (
	"errors"
	"net/netip"
	"slices"

	"havip-cluster/fsm"
)

// ToConfig is the desired part of a manifest that Check finds good, for the command
// ApplyConfig. What was only observed is left out, and so are subnets that registered
// themselves, HAVIPs that are being deleted, and fields that have their default.
func (m Manifest) ToConfig() fsm.Config {
	out := fsm.Config{Maintenance: m.Maintenance}
	if m.Limits != nil {
		out.Limits = &fsm.Limits{PerENI: m.Limits.PerENI, PerNode: m.Limits.PerNode}
	}
	if m.Rebalance != "" {
		rebalance := m.Rebalance
		out.Rebalance = &rebalance
	}
	for _, s := range m.Subnets {
		if sub, ok := s.state(); ok && !s.Auto {
			out.Subnets = append(out.Subnets, sub)
		}
	}
	if len(m.HAVIPs) > 0 {
		out.HAVIPs = make([]fsm.HAVIPSpec, 0, len(m.HAVIPs))
	}
	for _, h := range m.HAVIPs {
		if !h.Deleting {
			out.HAVIPs = append(out.HAVIPs, h.spec())
		}
	}
	for _, g := range m.Groups {
		out.Groups = append(out.Groups, fsm.Group{Name: g.Name, Kind: fsm.GroupKind(g.Kind), Hard: g.Hard, HAVIPs: slices.Sorted(slices.Values(g.HAVIPs))})
	}
	for _, n := range m.Nodes {
		out.Nodes = append(out.Nodes, fsm.NodeSpec{
			Name: n.Name, Standby: n.Standby, Maintenance: n.Maintenance, Capacity: n.Capacity, Score: n.Score, Health: healthSpec(n.Health),
		})
	}
	out.Checks, out.Webhooks = checksConfig(m.Checks), webhooksConfig(m.Webhooks)
	// nil says nothing of a kind, so a list that is there and empty must not become nil.
	if m.Subnets != nil && out.Subnets == nil {
		out.Subnets = []fsm.Subnet{}
	}
	if m.HAVIPs != nil && out.HAVIPs == nil {
		out.HAVIPs = []fsm.HAVIPSpec{}
	}
	if m.Groups != nil && out.Groups == nil {
		out.Groups = []fsm.Group{}
	}
	return out
}

func (h HAVIP) spec() fsm.HAVIPSpec {
	out := fsm.HAVIPSpec{
		Name: h.Name, ID: h.ID, Subnet: h.Subnet, VPC: h.VPC,
		Range: fsm.Range{Type: fsm.RangeType(h.Range.Type), Members: slices.Clone(h.Range.Members), Limit: h.Range.Limit},
		Spec:  h.Spec().Clean(), Bans: sorted(h.Bans),
	}
	if len(h.Range.Members) == 0 {
		out.Range.Type, out.Range.Members = "", nil
	}
	out.IP, _ = netip.ParseAddr(h.IP)
	out.EIP, _ = netip.ParseAddr(h.EIP)
	for target, text := range h.BanEnds {
		if out.BanEnds == nil {
			out.BanEnds = map[string]int64{}
		}
		out.BanEnds[target] = nanoseconds(text)
	}
	return out
}

func sorted(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(list))
}

// Verify reads and checks a file by itself, without a cluster. The faults are sorted by
// place; the file is good if none of them is an error.
func Verify(data []byte) (Manifest, Faults) {
	file, err := Read(data)
	if err != nil {
		var faults Faults
		if errors.As(err, &faults) {
			return Manifest{}, faults
		}
		return Manifest{}, Faults{fault(Place{}, "", CodeSyntax, "%v", err)}
	}
	return file.Manifest, file.Check()
}

// healthSpec leaves the default out, as the state does.
func healthSpec(health string) fsm.Health {
	if h := fsm.Health(health); h != fsm.HealthGreen {
		return h
	}
	return ""
}
