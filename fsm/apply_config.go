package fsm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// A configuration is applied in one entry, whole or not at all: what it does not say with
// Prune is deleted first, then everything is made or changed, and groups come last. The
// functions are those of the single commands, so the rules are the same.

func (s *State) applyConfig(c Command, b ApplyConfig) (string, *Refusal) {
	return s.configure(c, b, nil)
}

func (s *State) rollback(c Command, b Rollback) (string, *Refusal) {
	for _, r := range s.Revisions {
		if r.Number != b.To {
			continue
		}
		var cfg Config
		if err := decodeJSON(r.Config, &cfg); err != nil {
			return "", Refuse(CodeMalformed, "revision %d cannot be read: %v", r.Number, err)
		}
		for i, spec := range cfg.HAVIPs {
			if _, there := s.HAVIPs[spec.ID]; !there {
				cfg.HAVIPs[i].ID = "" // deleted since: the one of its name, or a new one
			}
		}
		return s.configure(c, ApplyConfig{
			Expected: b.Expected, Config: cfg, Prune: true, Note: fmt.Sprintf("rollback to revision %d", b.To),
		}, &r)
	}
	kept := make([]string, len(s.Revisions))
	for i, r := range s.Revisions {
		kept[i] = strconv.FormatUint(r.Number, 10)
	}
	return "", Refuse(CodeNotFound, "there is no revision %d to roll back to; kept are %s", b.To, listed(kept))
}

// configure carries out a configuration; back is the revision that it comes from, nil for
// a new one. The object is the revision's number, that before if nothing was to be changed.
func (s *State) configure(c Command, b ApplyConfig, back *Revision) (string, *Refusal) {
	if b.Expected != nil && *b.Expected != s.Cluster.Revision {
		return "", Refuse(CodeConflict, "the configuration is at revision %d, not %d: it was changed since you read it; export it again and apply your change to that", s.Cluster.Revision, *b.Expected)
	}
	before, refusal := s.configJSON()
	if refusal != nil {
		return "", refusal
	}
	s.beginBatch()
	for _, step := range []func(Command, ApplyConfig, *Revision) *Refusal{
		s.configCluster, s.configPrune, s.configSubnets, s.configHAVIPs, s.configGroups, s.configNodes, s.configChecks,
	} {
		if refusal := step(c, b, back); refusal != nil {
			return "", refusal
		}
	}
	s.batch = nil
	if refusal := s.configWebhooks(c, b, back); refusal != nil { // few, and each has its event
		return "", refusal
	}
	after, refusal := s.configJSON()
	if refusal != nil {
		return "", refusal
	}
	if bytes.Equal(before, after) {
		return strconv.FormatUint(s.Cluster.Revision, 10), nil
	}
	s.keepRevision(Revision{
		Number: s.Cluster.Revision, Index: s.Index - 1, At: c.At, Note: "as it was before revision " + strconv.FormatUint(s.Cluster.Revision+1, 10), Config: before,
	})
	s.Cluster.Revision++
	s.keepRevision(Revision{Number: s.Cluster.Revision, Index: s.Index, At: c.At, By: clip(c.By, MaxNameRunes), Note: clip(b.Note, MaxReason), Config: after})
	s.note(c, "config", "", "", fmt.Sprintf("revision %d of the configuration was applied: %s", s.Cluster.Revision, named(b.Note)))
	return strconv.FormatUint(s.Cluster.Revision, 10), nil
}

// keepRevision adds a revision unless it is there, and drops the oldest to stay within
// MaxRevisions and MaxRevisionBytes.
func (s *State) keepRevision(r Revision) {
	if n := len(s.Revisions); n > 0 && s.Revisions[n-1].Number == r.Number {
		return
	}
	s.Revisions = appendRing(s.Revisions, r, MaxRevisions)
	size := 0
	for i := len(s.Revisions) - 1; i >= 0; i-- {
		if size += len(s.Revisions[i].Config); size > MaxRevisionBytes {
			s.Revisions = slices.Clone(s.Revisions[i+1:])
			return
		}
	}
}

func (s *State) configJSON() ([]byte, *Refusal) {
	raw, err := json.Marshal(s.DesiredConfig())
	if err != nil {
		return nil, Refuse(CodeMalformed, "the configuration cannot be written down: %v", err)
	}
	return raw, nil
}

func (s *State) configCluster(c Command, b ApplyConfig, _ *Revision) *Refusal {
	cfg := b.Config
	if cfg.Limits == nil && cfg.Rebalance == nil && cfg.Maintenance == nil {
		return nil
	}
	return s.setCluster(c, SetCluster{Maintenance: cfg.Maintenance, Limits: cfg.Limits, Rebalance: cfg.Rebalance})
}

// configPrune deletes what the configuration does not name, and every group that it names
// in another form: groups are made again at the end.
func (s *State) configPrune(c Command, b ApplyConfig, back *Revision) *Refusal {
	if b.Config.Groups != nil {
		for _, g := range s.GroupList() {
			if b.Prune || slices.ContainsFunc(b.Config.Groups, func(want Group) bool { return want.Name == g.Name }) {
				delete(s.Groups, g.Name)
			}
		}
	}
	if b.Config.HAVIPs != nil && b.Prune {
		if refusal := s.pruneHAVIPs(c, b.Config.HAVIPs); refusal != nil {
			return refusal
		}
	}
	if b.Config.Subnets == nil || !b.Prune {
		return nil
	}
	for _, sub := range s.SubnetList() {
		if sub.Auto || slices.ContainsFunc(b.Config.Subnets, func(want Subnet) bool { return want.Name == sub.Name }) {
			continue
		}
		if _, refusal := s.deleteSubnet(c, DeleteSubnet{sub.Name}); refusal != nil {
			return refusal
		}
	}
	return nil
}

func (s *State) pruneHAVIPs(c Command, specs []HAVIPSpec) *Refusal {
	keep := map[string]bool{}
	for _, spec := range specs {
		if v, refusal := s.specified(spec); refusal == nil {
			keep[v.ID] = true
		}
	}
	for _, v := range sorted(s.HAVIPs) {
		if keep[v.ID] || v.Deleting {
			continue
		}
		if _, refusal := s.deleteHAVIP(c, DeleteHAVIP{ID: v.ID, Force: true}); refusal != nil {
			return refusal
		}
	}
	return nil
}

// specified finds the HAVIP that a spec means.
func (s *State) specified(spec HAVIPSpec) (HAVIP, *Refusal) {
	if spec.ID != "" {
		v, ok := s.HAVIPs[spec.ID]
		if !ok {
			return v, Refuse(CodeNotFound, "no HAVIP has the id %q (named %q)", clip(spec.ID, MaxReason), clip(spec.Name, MaxReason))
		}
		return v, nil
	}
	name, refusal := checkName(spec.Name)
	if refusal != nil {
		return HAVIP{}, refusal
	}
	return s.findHAVIP(name)
}

func (s *State) configSubnets(c Command, b ApplyConfig, _ *Revision) *Refusal {
	seen := map[string]bool{}
	for _, want := range b.Config.Subnets {
		if seen[want.Name] {
			return Refuse(CodeDuplicate, "the configuration names subnet %s twice", clip(want.Name, MaxReason))
		}
		seen[want.Name] = true
		have, ok := s.Subnets[want.Name]
		if !ok {
			if _, refusal := s.createSubnet(c, CreateSubnet{want}); refusal != nil {
				return refusal
			}
			s.batch.users = map[string]map[netip.Addr]string{}
			continue
		}
		if refusal := s.changeSubnet(have, want); refusal != nil {
			return refusal
		}
	}
	return nil
}

// changeSubnet gives a subnet another gateway and other reserved addresses, where the
// HAVIPs in it allow it.
func (s *State) changeSubnet(have, want Subnet) *Refusal {
	if want.VPC == "" {
		want.VPC = DefaultVPC
	}
	switch {
	case have.CIDR != want.CIDR || have.VPC != want.VPC:
		return Refuse(CodeUnsupported, "subnet %s is %s of %s, and cannot become %s of %s; create another one", have.Name, have.CIDR, have.VPC, want.CIDR, want.VPC)
	case want.Gateway.IsValid() && !have.CIDR.Contains(want.Gateway):
		return Refuse(CodeRange, "gateway %s is not in %s", want.Gateway, have.CIDR)
	case len(want.Reserved) > MaxReserved:
		return Refuse(CodeLimit, "%d reserved addresses, at most %d", len(want.Reserved), MaxReserved)
	}
	for _, r := range want.Reserved {
		if !have.CIDR.Contains(r) {
			return Refuse(CodeRange, "reserved address %s is not in %s", r, have.CIDR)
		}
	}
	sorted := slices.SortedFunc(slices.Values(want.Reserved), netip.Addr.Compare)
	if have.Gateway == want.Gateway && slices.Equal(have.Reserved, sorted) {
		return nil
	}
	have.Gateway, have.Reserved, have.Auto = want.Gateway, sorted, false
	for _, v := range s.HAVIPList() {
		if v.Subnet != have.Name {
			continue
		}
		if refusal := s.addressAllowed(have, v.IP); refusal != nil {
			return Refuse(CodeInUse, "subnet %s cannot be changed: HAVIP %s: %s", have.Name, v.Name, refusal.Message)
		}
	}
	s.Subnets[have.Name] = have
	return nil
}

func (s *State) configHAVIPs(c Command, b ApplyConfig, back *Revision) *Refusal {
	s.freeEIPs(b.Config.HAVIPs)
	seen := map[string]bool{}
	for i, spec := range b.Config.HAVIPs {
		v, refusal := s.specified(spec)
		if refusal != nil && refusal.Code == CodeNotFound && spec.ID == "" {
			id, refusal := s.createHAVIP(c, spec.create(back != nil))
			if refusal != nil {
				return inConfig("havips", i, refusal)
			}
			v = s.HAVIPs[id]
		} else if refusal != nil {
			return inConfig("havips", i, refusal)
		}
		if seen[v.ID] {
			return inConfig("havips", i, Refuse(CodeDuplicate, "the configuration names HAVIP %s twice", v.Name))
		}
		seen[v.ID] = true
		if refusal := s.conform(c, v, spec); refusal != nil {
			return inConfig("havips", i, refusal)
		}
	}
	return nil
}

// freeEIPs unbinds what is to be bound elsewhere, so that the order does not matter.
func (s *State) freeEIPs(specs []HAVIPSpec) {
	for _, spec := range specs {
		if v, refusal := s.specified(spec); refusal == nil && v.EIP.IsValid() && v.EIP != spec.EIP && !v.Deleting {
			v.EIP = netip.Addr{}
			s.HAVIPs[v.ID] = v
		}
	}
}

// inConfig says where in the configuration the fault is.
func inConfig(list string, i int, r *Refusal) *Refusal {
	return &Refusal{Code: r.Code, Message: fmt.Sprintf("%s[%d]: %s", list, i, r.Message)}
}

// create makes the command that would create what a spec says.
func (h HAVIPSpec) create(reuse bool) CreateHAVIP {
	return CreateHAVIP{Name: h.Name, IP: h.IP, Subnet: h.Subnet, VPC: h.VPC, Range: h.Range, Spec: h.Spec, ReuseNow: reuse}
}

// conform makes a HAVIP what its spec says.
func (s *State) conform(c Command, v HAVIP, h HAVIPSpec) *Refusal {
	switch {
	case v.Deleting:
		return Refuse(CodeUnsupported, "HAVIP %s is being deleted; try again when it is gone", v.Name)
	case h.IP.IsValid() && h.IP != v.IP, h.Subnet != "" && h.Subnet != v.Subnet, h.VPC != "" && h.VPC != v.VPC:
		return Refuse(CodeUnsupported, "HAVIP %s is %s in subnet %s of %s for life; create a new one, and delete this", v.Name, v.IP, v.Subnet, v.VPC)
	}
	before := v
	if refusal := s.setHAVIP(&v, UpdateHAVIP{Name: &h.Name, Range: &h.Range, Bans: &h.Bans}); refusal != nil {
		return refusal
	}
	if refusal := s.setSpec(&v, h.Spec); refusal != nil {
		return refusal
	}
	v.BanEnds = nil
	for target, end := range h.BanEnds {
		if !slices.Contains(v.Bans, target) {
			return Refuse(CodeParameter, "the ban of HAVIP %s from %q has an end and is not in the list of bans", v.Name, clip(target, MaxReason))
		}
		if v.BanEnds == nil {
			v.BanEnds = map[string]int64{}
		}
		v.BanEnds[target] = end
	}
	if v.EIP = (netip.Addr{}); h.EIP.IsValid() {
		if refusal := s.setEIP(&v, h.EIP); refusal != nil {
			return refusal
		}
	}
	s.HAVIPs[v.ID] = v
	s.batch.eips[v.EIP] = v.ID
	s.batch.renamed(before, v)
	if v.Disabled && v.Owner != nil {
		return s.assign(c, Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Reason: "the HAVIP was disabled"})
	}
	return s.ownerInRange(c, v, true) // the configuration is the operator's word: the owner releases first
}

func (s *State) configGroups(_ Command, b ApplyConfig, _ *Revision) *Refusal {
	for i, want := range b.Config.Groups {
		g, refusal := s.checkGroup(want)
		if refusal != nil {
			return inConfig("groups", i, refusal)
		}
		if _, taken := s.Groups[g.Name]; taken {
			return inConfig("groups", i, Refuse(CodeDuplicate, "the configuration names group %s twice", g.Name))
		}
		s.Groups[g.Name] = g
	}
	return s.checkContradictions()
}

func (s *State) configNodes(c Command, b ApplyConfig, back *Revision) *Refusal {
	seen := map[string]bool{}
	for i, want := range b.Config.Nodes {
		n, ok := s.NodeNamed(want.Name)
		switch {
		case !ok || n.Name != want.Name:
			if back != nil {
				continue // it has left since, and its wishes with it
			}
			return inConfig("nodes", i, Refuse(CodeNotFound, "no node is called %q; `node list` shows those there are", clip(want.Name, MaxReason)))
		case seen[n.ID]:
			return inConfig("nodes", i, Refuse(CodeDuplicate, "the configuration names node %s twice", n.Name))
		}
		seen[n.ID] = true
		if _, refusal := s.updateNode(c, UpdateNode{
			ID: n.ID, Standby: &want.Standby, Maintenance: &want.Maintenance, Capacity: want.Capacity, NoCapacity: want.Capacity == nil, Score: &want.Score,
		}); refusal != nil {
			return inConfig("nodes", i, refusal)
		}
		if health := cmp.Or(want.Health, HealthGreen); health != n.HealthNow() {
			if _, refusal := s.reportHealth(c, ReportHealth{Node: n.ID, Health: health, Reason: "set by an operator"}); refusal != nil {
				return inConfig("nodes", i, refusal)
			}
		}
	}
	return nil
}

// DesiredConfig is the whole desired configuration, as ApplyConfig takes it. Lists are
// sorted by name and never nil, so that it says everything; subnets that nodes registered
// by themselves are left out unless a HAVIP is in them.
func (s *State) DesiredConfig() Config {
	cfg := Config{
		Subnets: []Subnet{}, HAVIPs: []HAVIPSpec{}, Groups: []Group{}, Nodes: []NodeSpec{},
		Limits: &s.Cluster.Limits, Maintenance: &s.Cluster.Maintenance,
	}
	rebalance := s.Cluster.Rebalance
	if rebalance == "" {
		rebalance = RebalanceNever
	}
	cfg.Rebalance = &rebalance
	used, names := map[string]bool{}, map[string]int{}
	for _, v := range s.HAVIPs {
		if !v.Deleting {
			used[v.Subnet] = true
			names[v.Name]++
		}
	}
	for _, sub := range s.SubnetList() {
		if sub.Auto && !used[sub.Name] {
			continue
		}
		sub.Auto, sub.Cursor = false, netip.Addr{}
		cfg.Subnets = append(cfg.Subnets, sub)
	}
	cfg.HAVIPs = make([]HAVIPSpec, 0, len(s.HAVIPs))
	for _, v := range s.HAVIPList() {
		if !v.Deleting {
			cfg.HAVIPs = append(cfg.HAVIPs, v.desired())
		}
	}
	for _, g := range s.GroupList() {
		if g = s.groupByName(g, names); len(g.HAVIPs) > 1 {
			cfg.Groups = append(cfg.Groups, g)
		}
	}
	if s.Level() >= 4 {
		cfg.Checks, cfg.Webhooks = s.configuredChecks(names), s.configuredWebhooks()
	}
	for _, n := range s.NodeList() {
		cfg.Nodes = append(cfg.Nodes, NodeSpec{Name: n.Name, Standby: n.Standby, Maintenance: n.Maintenance, Capacity: n.Capacity, Score: n.Score, Health: n.Health})
	}
	return cfg
}

// groupByName names the HAVIPs of a group by their names, or by id where several share one.
func (s *State) groupByName(g Group, names map[string]int) Group {
	out := make([]string, 0, len(g.HAVIPs))
	for _, id := range g.HAVIPs {
		if v := s.HAVIPs[id]; v.Deleting {
			continue
		} else if names[v.Name] > 1 {
			out = append(out, id)
		} else {
			out = append(out, v.Name)
		}
	}
	slices.Sort(out)
	g.HAVIPs = out
	return g
}
