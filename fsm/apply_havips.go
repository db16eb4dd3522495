package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var subnetName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,59}$`)

func (s *State) createSubnet(c Command, b CreateSubnet) (string, *Refusal) {
	sub := b.Subnet
	if sub.VPC == "" {
		sub.VPC = DefaultVPC
	}
	rules := s.Cluster.Provider.Rules()
	switch {
	case !subnetName.MatchString(sub.Name):
		return "", Refuse(CodeMalformed, "%q cannot name a subnet: use 1 to 60 letters, digits, '.', '_' and '-'", sub.Name)
	case !subnetName.MatchString(sub.VPC):
		return "", Refuse(CodeMalformed, "%q cannot name a VPC: use 1 to 60 letters, digits, '.', '_' and '-'", sub.VPC)
	case !sub.CIDR.IsValid() || sub.CIDR != sub.CIDR.Masked():
		return "", Refuse(CodeMalformed, "%q is not a network in CIDR form, such as 10.0.0.0/24 (host bits must be zero)", sub.CIDR)
	case !possibleSubnet(sub.CIDR):
		return "", Refuse(CodeRange, "%s cannot be a subnet", sub.CIDR)
	case sub.CIDR.Addr().Is4() && (sub.CIDR.Bits() < rules.MinBits || sub.CIDR.Bits() > rules.MaxBits):
		return "", Refuse(CodeRange, "%s cannot be a subnet of provider %s: /%d to /%d", sub.CIDR, rules.Name, rules.MinBits, rules.MaxBits)
	case sub.Gateway.IsValid() && !sub.CIDR.Contains(sub.Gateway):
		return "", Refuse(CodeRange, "gateway %s is not in %s", sub.Gateway, sub.CIDR)
	case len(sub.Reserved) > MaxReserved:
		return "", Refuse(CodeLimit, "%d reserved addresses, at most %d", len(sub.Reserved), MaxReserved)
	case len(s.Subnets) >= MaxSubnets:
		return "", Refuse(CodeLimit, "the cluster has %d subnets, at most %d", len(s.Subnets), MaxSubnets)
	}
	for _, r := range sub.Reserved {
		if !sub.CIDR.Contains(r) {
			return "", Refuse(CodeRange, "reserved address %s is not in %s", r, sub.CIDR)
		}
	}
	if _, ok := s.Subnets[sub.Name]; ok {
		return "", Refuse(CodeDuplicate, "subnet %s exists already", sub.Name)
	}
	for _, old := range s.SubnetList() {
		if old.VPC != sub.VPC || !old.CIDR.Overlaps(sub.CIDR) {
			continue
		}
		if !old.Auto || s.subnetInUse(old.Name) != nil {
			return "", Refuse(CodeInUse, "%s overlaps subnet %s (%s) of %s", sub.CIDR, old.Name, old.CIDR, old.VPC)
		}
		delete(s.Subnets, old.Name) // the operator's word replaces what a node registered
	}
	sub.Reserved = slices.SortedFunc(slices.Values(sub.Reserved), netip.Addr.Compare)
	sub.Auto, sub.Cursor = false, netip.Addr{}
	s.Subnets[sub.Name] = sub
	s.refreshSubnets()
	s.note(c, "subnet-created", "", "", fmt.Sprintf("subnet %s (%s) was created", sub.Name, sub.CIDR))
	return sub.Name, nil
}

// possibleSubnet says whether hosts can share a network. A v4-mapped one would hold the
// same addresses as its IPv4 form under another spelling (R6).
func possibleSubnet(p netip.Prefix) bool {
	a := p.Addr()
	return p.IsValid() && p.Bits() > 0 && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6()
}

// refreshSubnets looks up every ENI's subnet again after the subnets changed.
func (s *State) refreshSubnets() {
	subnets := s.SubnetList()
	for id, e := range s.ENIs {
		if _, ok := s.Subnets[e.SetSubnet]; !ok {
			e.SetSubnet = ""
		}
		e.Subnet = subnetOf(e, subnets)
		s.ENIs[id] = e
	}
}

func (s *State) subnetInUse(name string) *Refusal {
	for _, v := range s.HAVIPList() {
		if v.Subnet == name {
			return Refuse(CodeInUse, "subnet %s holds HAVIP %s (%s); delete that first", name, v.Name, v.IP)
		}
	}
	return nil
}

func (s *State) deleteSubnet(c Command, b DeleteSubnet) (string, *Refusal) {
	if _, ok := s.Subnets[b.Name]; !ok {
		return "", Refuse(CodeNotFound, "no subnet is called %q; `subnet list` shows those there are", b.Name)
	}
	if r := s.subnetInUse(b.Name); r != nil {
		return "", r
	}
	delete(s.Subnets, b.Name)
	s.refreshSubnets()
	s.note(c, "subnet-deleted", "", "", fmt.Sprintf("subnet %s was deleted", b.Name))
	return b.Name, nil
}

// checkName is rule R1.
func checkName(name string) (string, *Refusal) {
	name = strings.TrimSpace(name)
	switch {
	case name == "":
		return "", Refuse(CodeMissing, "a HAVIP needs a name")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "", Refuse(CodeMalformed, "%q has control characters or is not UTF-8; use plain text", name)
	case utf8.RuneCountInString(name) > MaxNameRunes:
		return "", Refuse(CodeTooLong, "the name has %d characters, at most %d", utf8.RuneCountInString(name), MaxNameRunes)
	case strings.HasPrefix(name, "havip-"):
		return "", Refuse(CodeMalformed, "%q looks like an id; choose a name that does not start with havip-", name)
	}
	return name, nil
}

func (s *State) createHAVIP(c Command, b CreateHAVIP) (string, *Refusal) {
	name, refusal := checkName(b.Name)
	if refusal != nil {
		return "", refusal
	}
	if len(s.HAVIPs) >= MaxHAVIPs {
		return "", Refuse(CodeLimit, "the cluster has %d HAVIPs, at most %d", len(s.HAVIPs), MaxHAVIPs)
	}
	sub, refusal := s.subnetFor(b)
	if refusal != nil {
		return "", refusal
	}
	v := HAVIP{
		ID: s.newID("havip-"), Name: name, Subnet: sub.Name, VPC: sub.VPC,
		Enabled: true, Created: c.At, Since: c.At, Reason: "new",
	}
	if _, taken := s.HAVIPs[v.ID]; taken {
		return "", Refuse(CodeDuplicate, "the id %s is taken; try again", v.ID)
	}
	if refusal := s.quotaLeft(sub.VPC); refusal != nil {
		return "", refusal
	}
	if b.IP.IsValid() {
		if refusal := s.addressFree(sub, b.IP, c.At, b.ReuseNow); refusal != nil {
			return "", refusal
		}
		v.IP = b.IP
	} else if v.IP, refusal = s.chooseAddress(&sub, c.At, b.ReuseNow); refusal != nil {
		return "", refusal
	}
	s.Subnets[sub.Name] = sub
	if refusal := s.setHAVIP(&v, UpdateHAVIP{
		Range: &b.Range, Prefer: &b.Prefer, Failback: &b.Failback, Priority: &b.Priority, Require: &b.Require, Forbid: &b.Forbid,
		Stickiness: b.Stickiness, Weight: b.Weight, FailLimit: b.FailLimit, Unmanaged: &b.Unmanaged, Maintenance: &b.Maintenance,
	}); refusal != nil {
		return "", refusal
	}
	if b.EIP.IsValid() {
		if refusal := s.setEIP(&v, b.EIP); refusal != nil {
			return "", refusal
		}
	}
	v.Enabled = !b.Disabled
	delete(s.Quarantine, Quarantined{VPC: v.VPC, IP: v.IP}.key())
	s.HAVIPs[v.ID] = v
	s.batch.created(v)
	s.note(c, "havip-created", v.Name, "", fmt.Sprintf("HAVIP %s (%s) was created in subnet %s", v.Name, v.IP, v.Subnet))
	s.noteWarnings(c, v)
	return v.ID, nil
}

// quotaLeft is rule R26.
func (s *State) quotaLeft(vpc string) *Refusal {
	quota := s.Cluster.Provider.Rules().HAVIPsPerVPC
	if quota == 0 {
		return nil
	}
	n := 0
	for id := range s.HAVIPs {
		if s.HAVIPs[id].VPC == vpc {
			n++
		}
	}
	if n >= quota {
		return Refuse(CodeLimit, "%s has %d of %d HAVIPs; delete one, or raise the quota of the provider profile if the cloud has raised it", vpc, n, quota)
	}
	return nil
}

// subnetFor is rules R3, R4 and R6: the subnet that was named, else the one that holds
// the address.
func (s *State) subnetFor(b CreateHAVIP) (Subnet, *Refusal) {
	if b.Subnet != "" {
		sub, ok := s.Subnets[b.Subnet]
		switch {
		case !ok:
			return sub, Refuse(CodeSubnetNotExist, "no subnet is called %q; `subnet list` shows those there are", b.Subnet)
		case b.VPC != "" && b.VPC != sub.VPC:
			return sub, Refuse(CodeParameter, "subnet %s belongs to %s, not %s", sub.Name, sub.VPC, b.VPC)
		case b.IP.IsValid() && !sub.CIDR.Contains(b.IP):
			return sub, Refuse(CodeRange, "%s is not in subnet %s (%s)", b.IP, sub.Name, sub.CIDR)
		}
		return sub, nil
	}
	if !b.IP.IsValid() {
		return Subnet{}, Refuse(CodeMissing, "say which address (--ip) or which subnet (--subnet)")
	}
	for _, sub := range s.SubnetList() {
		if sub.CIDR.Contains(b.IP) && (b.VPC == "" || b.VPC == sub.VPC) {
			return sub, nil
		}
	}
	return Subnet{}, Refuse(CodeRange, "no subnet holds %s; `subnet list` shows those there are, `subnet create` makes one", b.IP)
}

// reserved is rule R7, of the provider profile lan: network, gateway and broadcast,
// counted from the prefix. The first host address is the gateway unless one is named.
func (sub Subnet) reserved(ip netip.Addr) string {
	switch {
	case ip == sub.CIDR.Addr():
		return "network"
	case ip == sub.Gateway, !sub.Gateway.IsValid() && ip == sub.CIDR.Addr().Next():
		return "gateway"
	case ip.Is4() && sub.CIDR.Bits() <= 30 && ip == lastAddr(sub.CIDR):
		return "broadcast"
	case slices.Contains(sub.Reserved, ip):
		return "by its subnet"
	}
	return ""
}

// lastAddr is the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// addressAllowed is rule R7 and what the provider says of addresses.
func (s *State) addressAllowed(sub Subnet, ip netip.Addr) *Refusal {
	if why := s.reserved(sub, ip); why != "" {
		return Refuse(CodeReserved, "%s is reserved (%s) in subnet %s (%s)", ip, why, sub.Name, sub.CIDR)
	}
	if rules := s.Cluster.Provider.Rules(); !ip.Is4() && !rules.IPv6 {
		return Refuse(CodeMalformed, "%s is not an IPv4 address, and provider %s has no others for a HAVIP", ip, rules.Name)
	}
	return nil
}

// addressFree is rules R7 and R8. reuse takes an address out of its quarantine.
func (s *State) addressFree(sub Subnet, ip netip.Addr, at int64, reuse bool) *Refusal {
	if refusal := s.addressAllowed(sub, ip); refusal != nil {
		return refusal
	}
	if user, ok := s.addressUsers(sub.VPC)[ip]; ok {
		return Refuse(CodeInUse, "%s is used by %s", ip, user)
	}
	if q, ok := s.quarantined(sub.VPC, ip, at); ok && !reuse {
		return Refuse(CodeInUse, "%s is in quarantine for %s more, because HAVIP %s that had it was deleted; wait, or use --reuse-now", ip, time.Duration(q.Until-at).Round(time.Second), q.HAVIP)
	}
	return nil
}

// quarantined finds the quarantine that keeps an address from being given out.
func (s *State) quarantined(vpc string, ip netip.Addr, at int64) (Quarantined, bool) {
	q, ok := s.Quarantine[Quarantined{VPC: vpc, IP: ip}.key()]
	return q, ok && q.Until > at
}

// intoQuarantine keeps the address of a deleted HAVIP for a while, and forgets those whose
// time is up. When there are too many, the one that would end first goes early.
func (s *State) intoQuarantine(c Command, v HAVIP) {
	d := s.Cluster.Provider.Rules().Quarantine
	if s.Level() < 2 || d == 0 {
		return
	}
	first := Quarantined{Until: 1<<63 - 1}
	for key, q := range s.Quarantine {
		if q.Until <= c.At {
			delete(s.Quarantine, key)
		} else if q.Until < first.Until || q.Until == first.Until && key < first.key() {
			first = q
		}
	}
	if len(s.Quarantine) >= MaxQuarantine {
		delete(s.Quarantine, first.key())
	}
	q := Quarantined{VPC: v.VPC, IP: v.IP, Until: later(c.At, d), HAVIP: v.Name}
	s.Quarantine[q.key()] = q
}

// addressUsers maps each address that is taken in a VPC to the one who uses it. The
// addresses of nodes and ENIs count in every VPC.
func (s *State) addressUsers(vpc string) map[netip.Addr]string {
	if users, ok := s.batch.usersOf(vpc); ok {
		return users
	}
	users := make(map[netip.Addr]string, len(s.HAVIPs)+len(s.ENIs))
	for _, n := range s.NodeList() {
		if ip, err := netip.ParseAddr(n.Address); err == nil {
			users[ip] = "node " + n.Name
		}
	}
	for _, e := range s.ENIList() {
		for _, p := range e.Prefixes {
			users[p.Addr()] = "ENI " + e.ID + " (node " + s.NodeName(e.Node) + ")"
		}
	}
	for id, v := range s.HAVIPs { // no two share an address
		if v.VPC == vpc {
			users[v.IP] = "HAVIP " + v.Name + " (" + id + ")"
			if v.Deleting {
				users[v.IP] += ", which is being deleted and waits for its owner's release"
			}
		}
	}
	s.batch.remember(vpc, users)
	return users
}

// chooseTries bounds the search for a free address.
const chooseTries = 1 << 16

// chooseAddress is rule R5: the lowest free address above the cursor, then from the
// start of the subnet.
func (s *State) chooseAddress(sub *Subnet, at int64, reuse bool) (netip.Addr, *Refusal) {
	start := sub.Cursor
	if !start.IsValid() {
		start = sub.CIDR.Addr()
	}
	users := s.addressUsers(sub.VPC)
	ip := start
	for range chooseTries {
		if ip = ip.Next(); !sub.CIDR.Contains(ip) {
			ip = sub.CIDR.Addr()
		}
		_, taken := users[ip]
		if _, waits := s.quarantined(sub.VPC, ip, at); !taken && (!waits || reuse) && s.addressAllowed(*sub, ip) == nil {
			sub.Cursor = ip
			return ip, nil
		}
		if ip == start {
			break // once around
		}
	}
	return netip.Addr{}, Refuse(CodeInsufficient, "subnet %s (%s) has no free address", sub.Name, sub.CIDR)
}

func (s *State) updateHAVIP(c Command, b UpdateHAVIP) (string, *Refusal) {
	v, refusal := s.living(b.ID)
	if refusal != nil {
		return "", refusal
	}
	if refusal := s.setHAVIP(&v, b); refusal != nil {
		return "", refusal
	}
	s.HAVIPs[v.ID] = v
	s.note(c, "havip-changed", v.Name, "", fmt.Sprintf("HAVIP %s was changed", v.Name))
	if !v.Enabled && v.Owner != nil {
		return v.ID, s.assign(c, Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Reason: "the HAVIP was disabled"})
	}
	if b.Range != nil {
		return v.ID, s.ownerInRange(c, v, b.Evict)
	}
	return v.ID, nil
}

// setHAVIP checks and sets what is not nil.
func (s *State) setHAVIP(v *HAVIP, b UpdateHAVIP) *Refusal {
	if b.Name != nil {
		name, refusal := checkName(*b.Name)
		if refusal != nil {
			return refusal
		}
		v.Name = name
	}
	if b.Range != nil {
		r, refusal := s.checkRange(*v, *b.Range)
		if refusal != nil {
			return refusal
		}
		v.Range = r
	}
	if b.Prefer != nil {
		if refusal := s.checkScores(v.Prefer, *b.Prefer); refusal != nil {
			return refusal
		}
		v.Prefer = maps.Clone(*b.Prefer)
	}
	if b.Bans != nil {
		if refusal := s.checkBans(v.Bans, *b.Bans); refusal != nil {
			return refusal
		}
		*v = v.withBans(slices.Compact(slices.Sorted(slices.Values(*b.Bans))))
	}
	if b.Failback != nil {
		if refusal := s.checkFailback(*b.Failback); refusal != nil {
			return refusal
		}
		if v.Failback = *b.Failback; v.Failback == "" {
			v.Failback = "never"
		}
	}
	if b.Priority != nil {
		if *b.Priority < -ScoreLimit || *b.Priority > ScoreLimit {
			return Refuse(CodeRange, "priority %d is not between %d and %d", *b.Priority, -ScoreLimit, ScoreLimit)
		}
		v.Priority = *b.Priority
	}
	if b.Enabled != nil {
		v.Enabled = *b.Enabled
	}
	return s.setPolicy(v, b)
}

// setPolicy is setHAVIP for what level 2 added.
func (s *State) setPolicy(v *HAVIP, b UpdateHAVIP) *Refusal {
	for _, words := range []struct {
		what string
		into *[]string
		say  *[]string
	}{{"required", &v.Require, b.Require}, {"forbidden", &v.Forbid, b.Forbid}} {
		if words.say == nil {
			continue
		}
		targets := slices.Compact(slices.Sorted(slices.Values(*words.say)))
		if refusal := s.checkTargets(words.what, *words.into, targets); refusal != nil {
			return refusal
		}
		*words.into = targets
	}
	for _, target := range v.Require {
		if slices.Contains(v.Forbid, target) {
			return Refuse(CodeParameter, "%s is both required and forbidden for HAVIP %s; say one of the two", target, v.Name)
		}
	}
	for _, n := range []struct {
		what string
		into **int
		say  *int
	}{{"stickiness", &v.Stickiness, b.Stickiness}, {"weight", &v.Weight, b.Weight}, {"failure limit", &v.FailLimit, b.FailLimit}} {
		if n.say == nil {
			continue
		}
		if *n.say < 0 || *n.say > ScoreLimit {
			return Refuse(CodeRange, "a %s of %d is not possible: 0 to %d", n.what, *n.say, ScoreLimit)
		}
		*n.into = n.say
	}
	if b.Unmanaged != nil {
		v.Unmanaged = *b.Unmanaged
	}
	if b.Maintenance != nil {
		v.Maintenance = *b.Maintenance
	}
	return nil
}

// checkTargets allows a target that was named before: it may have gone since.
func (s *State) checkTargets(what string, before, targets []string) *Refusal {
	if len(targets) > MaxTargets {
		return Refuse(CodeLimit, "%d %s nodes and ENIs, at most %d", len(targets), what, MaxTargets)
	}
	for _, who := range targets {
		if slices.Contains(before, who) {
			continue
		}
		if refusal := s.checkTarget(who); refusal != nil {
			return refusal
		}
	}
	return nil
}

// checkFailback is about the text alone. At level 1 a window is refused, as a program of
// that level refuses it.
func (s *State) checkFailback(text string) *Refusal {
	f, refusal := ParseFailback(text)
	if refusal == nil && f.Kind == FailbackWindow && s.Level() < 2 {
		return s.belowLevel(2)
	}
	return refusal
}

// checkScores allows a target that had a score before: it may have gone since.
func (s *State) checkScores(before, scores map[string]int) *Refusal {
	if len(scores) > MaxPrefer {
		return Refuse(CodeLimit, "%d preferences, at most %d", len(scores), MaxPrefer)
	}
	for _, who := range slices.Sorted(maps.Keys(scores)) {
		if _, known := before[who]; !known {
			if refusal := s.checkTarget(who); refusal != nil {
				return refusal
			}
		}
		if n := scores[who]; n < -ScoreLimit || n > ScoreLimit {
			return Refuse(CodeRange, "the score %d for %s is not between %d and %d", n, who, -ScoreLimit, ScoreLimit)
		}
	}
	return nil
}

// checkBans allows a target that was banned before: it may have gone since.
func (s *State) checkBans(before, bans []string) *Refusal {
	if len(bans) > MaxBans {
		return Refuse(CodeLimit, "%d bans, at most %d", len(bans), MaxBans)
	}
	return s.checkTargets("banned", before, bans)
}

// checkTarget refuses what is neither a node's name nor an ENI's id.
func (s *State) checkTarget(who string) *Refusal {
	if n, ok := s.NodeNamed(who); ok && n.Name == who {
		return nil
	}
	if _, ok := s.ENIs[who]; ok {
		return nil
	}
	return Refuse(CodeNotFound, "%q is neither a node nor an ENI; `node list` and `eni list` show those there are", who)
}

// checkRange is rules R11 and R13 to R17. A member that was in the range before may have
// gone since; only new ones are checked against the inventory.
func (s *State) checkRange(v HAVIP, r Range) (Range, *Refusal) {
	if most := s.Cluster.Provider.Rules().RangeMembers; len(r.Members) > most && len(r.Members) > len(v.Range.Members) {
		return r, Refuse(CodeLimit, "a range holds %d members, %d asked", most, len(r.Members))
	}
	if len(r.Members) == 0 {
		return Range{Limit: r.Limit}, nil
	}
	if r.Type != RangeCVM && r.Type != RangeENI {
		return r, Refuse(CodeParameter, "%q is not a type of range: cvm or eni", r.Type)
	}
	members := slices.Sorted(slices.Values(r.Members))
	if len(slices.Compact(slices.Clone(members))) != len(members) {
		return r, Refuse(CodeDuplicate, "the range names a member twice: %s", strings.Join(members, ", "))
	}
	for _, m := range members {
		if v.Range.Type == r.Type && slices.Contains(v.Range.Members, m) {
			continue
		}
		if refusal := s.checkMember(v, r.Type, m); refusal != nil {
			return r, refusal
		}
	}
	return Range{Type: r.Type, Members: members, Limit: r.Limit}, nil
}

func (s *State) checkMember(v HAVIP, t RangeType, m string) *Refusal {
	if t == RangeENI {
		e, ok := s.ENIs[m]
		switch {
		case !ok:
			return Refuse(CodeNotFound, "no ENI has the id %q; `eni list` shows those there are", m)
		case e.Detached:
			return Refuse(CodeParameter, "ENI %s is not attached to its node", m)
		case e.IsPrimary():
			return Refuse(CodeParameter, "ENI %s is the primary ENI of node %s; use a range of type cvm", m, s.NodeName(e.Node))
		case !s.InSubnet(e, v.Subnet):
			return Refuse(CodeParameter, "ENI %s is in subnet %s; the HAVIP is in %s", m, named(e.Subnet), v.Subnet)
		}
		return nil
	}
	n, ok := s.NodeNamed(m)
	if !ok || n.Name != m {
		return Refuse(CodeNotFound, "no node is called %q; `node list` shows those there are", m)
	}
	if n.Role == RoleWitness {
		return Refuse(CodeParameter, "node %s is a witness and owns nothing", m)
	}
	for _, e := range s.ENIs { // whichever comes first
		if e.Node == n.ID && s.InSubnet(e, v.Subnet) {
			return nil
		}
	}
	return Refuse(CodeParameter, "node %s has no ENI in subnet %s", m, v.Subnet)
}

func (s *State) deleteHAVIP(c Command, b DeleteHAVIP) (string, *Refusal) {
	v, ok := s.HAVIPs[b.ID]
	if !ok {
		return "", Refuse(CodeNotFound, "no HAVIP has the id %q", b.ID)
	}
	if v.EIP.IsValid() {
		return "", Refuse(CodeUnsupported, "HAVIP %s has EIP %s; unbind that first with `havip unbind-eip %s`", v.Name, v.EIP, v.Name)
	}
	if v.Owner != nil && !b.Force {
		return "", Refuse(CodeUnsupported, "HAVIP %s is owned by %s; disable it first, or delete it with --force, which lets the owner release it first", v.Name, v.Owner.ENI)
	}
	v.Deleting = true
	if v.Owner == nil {
		s.putClaims(c, v)
		return v.ID, nil
	}
	s.HAVIPs[v.ID] = v
	return v.ID, s.assign(c, Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Reason: "the HAVIP is being deleted"})
}
