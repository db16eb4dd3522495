package fsm

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"havip-cluster/internal/limits"
)

var nodeName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// CheckNodeName refuses a name that is no host-name label list: 1 to 63 lower-case
// letters, digits, dots and dashes, not starting with a dot or dash.
func CheckNodeName(name string) *Refusal {
	if !nodeName.MatchString(name) {
		return Refuse(CodeMalformed, "%q cannot name a node: use 1 to 63 lower-case letters, digits, '-' and '.', starting with a letter or digit", name)
	}
	return nil
}

func (s *State) initCluster(c Command, b InitCluster) *Refusal {
	if s.Cluster.ID != "" {
		return Refuse(CodeInUse, "cluster %s exists already", s.Cluster.ID)
	}
	if b.ID == "" || b.Lease < limits.LeaseShortest || b.Lease > limits.LeaseLongest {
		return Refuse(CodeParameter, "a cluster needs an id and a lease from %s to %s", limits.LeaseShortest, limits.LeaseLongest)
	}
	s.Cluster = Cluster{ID: b.ID, Profile: b.Profile, Lease: b.Lease, LeaseMax: b.Lease}
	return s.admit(c, b.Node)
}

func (s *State) createToken(c Command, b CreateToken) (string, *Refusal) {
	t := b.Token
	if r := CheckNodeName(t.Node); r != nil {
		return "", r
	}
	if n, ok := s.NodeNamed(t.Node); ok {
		return "", Refuse(CodeInUse, "node %s is a member already; remove it first with `node remove %s`, or choose another name", n.Name, n.Name)
	}
	if r := checkRole(t.Role); r != nil {
		return "", r
	}
	if t.ID == "" || t.SecretHash == "" || t.Expires <= c.At {
		return "", Refuse(CodeParameter, "a join token needs an id, a secret and an end in the future")
	}
	for id, old := range s.Tokens {
		if old.Expires <= c.At || old.Node == t.Node {
			delete(s.Tokens, id) // a new token for a name replaces the older one
		}
	}
	if len(s.Tokens) >= MaxTokens {
		return "", Refuse(CodeLimit, "%d join tokens are open, at most %d; wait until some expire", len(s.Tokens), MaxTokens)
	}
	if old, ok := s.Tokens[t.ID]; ok {
		return "", Refuse(CodeDuplicate, "the id of the join token is taken by one for node %s; try again", old.Node)
	}
	t.UsedBy, t.NodeID, t.By = "", "", c.principal()
	s.Tokens[t.ID] = t
	s.note(c, "token-created", "", t.Node, fmt.Sprintf("a join token for node %s (%s) was made", t.Node, t.Role))
	return t.ID, nil
}

// checkRole refuses what is not a role. There may be more nodes of role voter than
// MaxVoters: those beyond replicate, and one of them votes when a voter leaves.
func checkRole(role Role) *Refusal {
	switch role {
	case RoleAgent, RoleVoter, RoleWitness:
		return nil
	}
	return Refuse(CodeParameter, "%q is not a role: voter, witness or agent", role)
}

func (s *State) addNode(c Command, b AddNode) (string, *Refusal) {
	t, ok := s.Tokens[b.Token]
	used := t.NodeID != ""
	_, present := s.Nodes[t.NodeID]
	switch {
	case !ok:
		return "", Refuse(CodeTokenRefused, "the join token is unknown here: it was replaced by a newer one for that node, or made void by `node remove`, or it has expired, or it is of another cluster; make a new one with `node add`")
	case t.SecretHash != b.SecretHash:
		return "", Refuse(CodeTokenRefused, "the secret of the join token is wrong")
	case t.Node != b.Node.Name:
		return "", Refuse(CodeTokenRefused, "the join token is for node %s, not %s", t.Node, b.Node.Name)
	case used && t.UsedBy != b.Node.KeyHash:
		return "", Refuse(CodeTokenRefused, "the join token for node %s was used already; if that was not you, remove the node; make a new token with `node add`", t.Node)
	case used && !present:
		return "", Refuse(CodeTokenRefused, "node %s has been removed since it used the join token; make a new one with `node add %s`", t.Node, t.Node)
	case used:
		return t.NodeID, nil // the answer was lost; the same key asks again, however late
	case t.Expires <= c.At:
		return "", Refuse(CodeTokenRefused, "the join token for node %s has expired; make a new one with `node add %s`", t.Node, t.Node)
	}
	b.Node.Role, b.Node.HoldsCA = t.Role, s.mayHoldCA(b, t)
	if r := s.admit(c, b.Node); r != nil {
		return "", r
	}
	t.UsedBy, t.NodeID = b.Node.KeyHash, b.Node.ID
	s.Tokens[t.ID] = t
	return b.Node.ID, nil
}

// admit puts a new node into the state.
func (s *State) admit(c Command, n Node) *Refusal {
	if r := CheckNodeName(n.Name); r != nil {
		return r
	}
	if n.ID == "" || len(n.ID) > MaxNameRunes {
		return Refuse(CodeMalformed, "node %s needs an id of 1 to %d bytes", n.Name, MaxNameRunes)
	}
	if addr, err := netip.ParseAddr(n.Address); err != nil || addr.IsUnspecified() || addr.IsMulticast() {
		return Refuse(CodeMalformed, "%q is not an address at which node %s can be reached", n.Address, n.Name)
	}
	if r := checkRole(n.Role); r != nil {
		return r
	}
	if len(s.Nodes) >= MaxNodes {
		return Refuse(CodeLimit, "the cluster has %d nodes, at most %d", len(s.Nodes), MaxNodes)
	}
	for _, old := range sorted(s.Nodes) {
		if old.Name == n.Name || old.ID == n.ID {
			return Refuse(CodeInUse, "node %s is a member already", old.Name)
		}
	}
	if r := s.endpointFree(n); r != nil {
		return r
	}
	if r := s.reachable(n); r != nil {
		return r
	}
	if n.CommandLevel() < s.Level() {
		return Refuse(CodeLevel, "node %s runs a version that cannot read this cluster's log (command level %d, it reads %d): upgrade its program, then join", n.Name, s.Level(), n.CommandLevel())
	}
	n.LastSession, n.Removing, n.Joined, n.Version = 0, false, c.At, clip(n.Version, MaxNameRunes)
	n.Capacity, n.Score, n.Health, n.HealthReason, n.Draining, n.Drain, n.Flaps = nil, 0, "", "", false, Drain{}, FailCount{}
	n.Leftout, n.Resting = "", false
	if r := s.checkKeys(n); r != nil {
		return r
	}
	s.Nodes[n.ID] = n
	s.raiseLevel(c)
	s.note(c, "node-added", "", n.Name, fmt.Sprintf("node %s (%s, %s) is a member", n.Name, n.Role, n.Address))
	return nil
}

func (s *State) updateNode(c Command, b UpdateNode) (string, *Refusal) {
	n, ok := s.Nodes[b.ID]
	if !ok {
		return "", Refuse(CodeNotFound, "no node has the id %q", b.ID)
	}
	note := func(on bool, what string) {
		word := "is no longer"
		if on {
			word = "is now"
		}
		s.note(c, "node-changed", "", n.Name, fmt.Sprintf("node %s %s %s", n.Name, word, what))
	}
	if b.Standby != nil && *b.Standby != n.Standby {
		n.Standby = *b.Standby
		note(n.Standby, "in standby")
	}
	if b.Maintenance != nil && *b.Maintenance != n.Maintenance {
		n.Maintenance = *b.Maintenance
		note(n.Maintenance, "in maintenance")
	}
	if b.Removing != nil && *b.Removing != n.Removing {
		n.Removing = *b.Removing
		note(n.Removing, "being removed")
	}
	if b.KeepCA != nil {
		n.KeepCA = *b.KeepCA
	}
	if b.Version != nil {
		n.Version = clip(*b.Version, MaxNameRunes)
	}
	if refusal := n.setWeights(b); refusal != nil {
		return "", refusal
	}
	s.Nodes[n.ID] = n
	s.raiseLevel(c)
	return n.ID, nil
}

// setWeights sets what the placement counts with.
func (n *Node) setWeights(b UpdateNode) *Refusal {
	switch {
	case b.Capacity != nil && b.NoCapacity:
		return Refuse(CodeParameter, "node %s cannot have a capacity of %d and none; say one of the two", n.Name, *b.Capacity)
	case b.Capacity != nil && (*b.Capacity < 0 || *b.Capacity > ScoreLimit):
		return Refuse(CodeRange, "a capacity of %d is not possible: 0 to %d", *b.Capacity, ScoreLimit)
	case b.Score != nil && (*b.Score < -ScoreLimit || *b.Score > ScoreLimit):
		return Refuse(CodeRange, "the score %d for node %s is not between %d and %d", *b.Score, n.Name, -ScoreLimit, ScoreLimit)
	}
	if b.Capacity != nil {
		n.Capacity = b.Capacity
	}
	if b.NoCapacity {
		n.Capacity = nil
	}
	if b.Score != nil {
		n.Score = *b.Score
	}
	return nil
}

func (s *State) removeNode(c Command, b RemoveNode) (string, *Refusal) {
	n, ok := s.Nodes[b.ID]
	if !ok {
		return "", Refuse(CodeNotFound, "no node has the id %q", b.ID)
	}
	if sess, open := s.SessionOf(n.ID); open {
		return "", Refuse(CodeInUse, "session %d of node %s is still open; it ends by itself when the node hands over or its lease runs out", sess.Number, n.Name)
	}
	delete(s.Nodes, n.ID)
	delete(s.Results, n.ID)
	s.raiseLevel(c)
	for id, e := range s.ENIs {
		if e.Node == n.ID {
			delete(s.ENIs, id)
		}
	}
	s.note(c, "node-removed", "", n.Name, fmt.Sprintf("node %s is no longer a member", n.Name))
	s.keysAfterRemoval(c, n)
	return n.ID, nil
}

func (s *State) reportENIs(c Command, b ReportENIs) *Refusal {
	n, ok := s.Nodes[b.Node]
	if !ok {
		return Refuse(CodeNotFound, "node %s is not a member of this cluster", b.Node)
	}
	if b.Session != 0 && b.Session < n.LastSession {
		return Refuse(CodeStale, "the inventory of node %s was reported before its session %d; the present one follows", n.Name, n.LastSession)
	}
	if refusal := s.cutReport(n, &b); refusal != nil {
		return refusal
	}
	if text := clip(b.Leftout, MaxReason); text != n.Leftout {
		n.Leftout = text
		s.Nodes[n.ID] = n
		s.note(c, "fault", "", n.Name, fmt.Sprintf("the inventory of node %s: %s", n.Name, cmp.Or(text, "whole again")))
	}
	ids, reported := s.eniIDs(c, n, b.ENIs), map[string]bool{}
	for _, e := range b.ENIs {
		switch {
		case e.Device == "" || len(e.Device) > MaxNameRunes || len(e.MAC) > MaxNameRunes || len(e.Prefixes) > MaxPrefixesPerENI:
			return Refuse(CodeMalformed, "node %s reports an ENI with device %q and %d addresses; 1 to %d bytes and at most %d addresses", n.Name, e.Device, len(e.Prefixes), MaxNameRunes, MaxPrefixesPerENI)
		case !e.Cloud.short():
			return Refuse(CodeMalformed, "node %s reports for %s an id of its cloud with more than %d bytes", n.Name, e.Device, MaxNameRunes)
		case reported[ids[e.Device]]:
			return Refuse(CodeDuplicate, "node %s reports device %s twice", n.Name, e.Device)
		}
		e.ID, e.Node, e.Detached = ids[e.Device], n.ID, false
		old := s.ENIs[e.ID]
		e.SetSubnet, e.SetPrimary = old.SetSubnet, old.SetPrimary
		s.registerSubnets(c, n, e)
		e.Subnet = subnetOf(e, s.SubnetList())
		reported[e.ID] = true
		if e.Fault = clip(e.Fault, MaxReason); e.Fault != old.Fault {
			s.note(c, "fault", "", n.Name, fmt.Sprintf("ENI %s: %s", e.ID, cmp.Or(e.Fault, "sound again")))
		}
		if old.ID == "" || old.Up != e.Up || old.Detached {
			s.note(c, "eni", "", n.Name, fmt.Sprintf("ENI %s: %s", e.ID, linkWord(e)))
		}
		s.ENIs[e.ID] = e
		s.noteConflicts(c, n, e, old)
	}
	for _, old := range sorted(s.ENIs) {
		if old.Node == n.ID && !reported[old.ID] && !old.Detached {
			old.Detached, old.Up = true, false
			s.ENIs[old.ID] = old
			s.note(c, "eni", "", n.Name, fmt.Sprintf("ENI %s: %s", old.ID, linkWord(old)))
		}
	}
	s.forgetENIs(n)
	return nil
}

// deviceNameMax is IFNAMSIZ without its end, in bytes.
const deviceNameMax = 15

// awaitedENI is an ENI that its node has not reported, because nothing but the operator's word
// tells it from the outer end of a container: a virtual device without an address. It is
// detached until the node finds the device.
func (s *State) awaitedENI(b SetENI) (ENI, bool) {
	name, device, ok := strings.Cut(b.ID, "/")
	n, known := s.NodeNamed(name)
	if s.Level() < 3 || !ok || !known || n.Name != name || b.Subnet == nil || *b.Subnet == "" {
		return ENI{}, false
	}
	if device == "" || len(device) > deviceNameMax || strings.ContainsAny(device, "/: \t\n") {
		return ENI{}, false
	}
	count := 0
	for _, e := range s.ENIs {
		if e.Node == n.ID {
			count++
		}
	}
	return ENI{ID: b.ID, Node: n.ID, Device: device, Detached: true}, count < MaxENIsPerNode
}

// forgetENIs drops detached ENIs of a node that has more than MaxENIsPerNode, in the order
// of their ids: the devices of containers come and go under ever new names. One under a
// claim stays, because its node still has to release it, and so does the operator's word
// as long as there is another to drop.
func (s *State) forgetENIs(n Node) {
	var detached []ENI
	count := 0
	for _, e := range sorted(s.ENIs) {
		if e.Node == n.ID {
			count++
			if e.Detached {
				detached = append(detached, e)
			}
		}
	}
	if count <= MaxENIsPerNode {
		return
	}
	claimed := map[string]bool{}
	for _, v := range s.HAVIPs {
		for _, cl := range v.Claims() {
			claimed[cl.ENI] = true
		}
	}
	slices.SortStableFunc(detached, func(a, b ENI) int {
		return cmp.Compare(a.operatorWords(), b.operatorWords())
	})
	for _, e := range detached {
		if count > MaxENIsPerNode && !claimed[e.ID] {
			delete(s.ENIs, e.ID)
			count--
		}
	}
}

// equal says that two readings of an ENI are the same.
func (e ENI) equal(o ENI) bool {
	same := slices.Equal(e.Prefixes, o.Prefixes) && (e.SetPrimary == nil) == (o.SetPrimary == nil) &&
		(e.SetPrimary == nil || *e.SetPrimary == *o.SetPrimary)
	return same && e.ID == o.ID && e.Node == o.Node && e.Device == o.Device && e.MAC == o.MAC && e.Subnet == o.Subnet && e.Gateway == o.Gateway &&
		e.Primary == o.Primary && e.Up == o.Up && e.Detached == o.Detached && e.Fault == o.Fault && e.SetSubnet == o.SetSubnet && e.Cloud == o.Cloud
}

// operatorWords counts the fields that the operator set.
func (e ENI) operatorWords() int {
	n := 0
	if e.SetSubnet != "" {
		n++
	}
	if e.SetPrimary != nil {
		n++
	}
	return n
}

// EventKinds are the kinds of event that a node may report.
var EventKinds = []string{"repaired", "conflict", "fault", "guard", "keys", "drift", "cloud"}

func (s *State) reportEvent(c Command, b ReportEvent) *Refusal {
	n, ok := s.Nodes[b.Node]
	switch {
	case !ok:
		return Refuse(CodeNotFound, "node %s is not a member of this cluster", b.Node)
	case !slices.Contains(EventKinds, b.Kind):
		return Refuse(CodeParameter, "%q is not a kind of event that a node reports: %s", b.Kind, strings.Join(EventKinds, ", "))
	case len(b.HAVIP) > 4*MaxNameRunes:
		return Refuse(CodeTooLong, "the event names a HAVIP with %d bytes, at most %d", len(b.HAVIP), 4*MaxNameRunes)
	}
	s.note(c, b.Kind, b.HAVIP, n.Name, b.Text)
	return nil
}

func linkWord(e ENI) string {
	switch {
	case e.Detached:
		return "detached"
	case e.Up:
		return "link up"
	}
	return "link down"
}

func (s *State) setENI(c Command, b SetENI) (string, *Refusal) {
	e, ok := s.ENIs[b.ID]
	if !ok {
		if e, ok = s.awaitedENI(b); !ok {
			return "", Refuse(CodeNotFound, "no ENI has the id %q; `eni list` shows those there are, and NODE/DEVICE with a subnet names another device of a node", b.ID)
		}
	}
	if b.Subnet != nil {
		if _, ok := s.Subnets[*b.Subnet]; !ok && *b.Subnet != "" {
			return "", Refuse(CodeSubnetNotExist, "no subnet is called %q; `subnet list` shows those there are", *b.Subnet)
		}
		e.SetSubnet = *b.Subnet
	}
	if b.Primary != nil {
		e.SetPrimary = b.Primary
	}
	e.Subnet = subnetOf(e, s.SubnetList())
	s.ENIs[e.ID] = e
	s.note(c, "eni", "", s.NodeName(e.Node), fmt.Sprintf("ENI %s was set: subnet %s, primary %s", e.ID, named(e.Subnet), strconv.FormatBool(e.IsPrimary())))
	return e.ID, nil
}

// subnetOf finds the subnet that holds the ENI's addresses; the operator's word wins.
func subnetOf(e ENI, subnets []Subnet) string {
	if e.SetSubnet != "" {
		return e.SetSubnet
	}
	for _, p := range e.Prefixes {
		for _, sub := range subnets {
			if sub.CIDR.Contains(p.Addr()) {
				return sub.Name
			}
		}
	}
	return ""
}

// registerSubnets makes a subnet of each network of an ENI that no subnet holds yet.
// Link-local networks and single hosts are none.
func (s *State) registerSubnets(c Command, n Node, e ENI) {
	for _, p := range e.Prefixes {
		cidr := p.Masked()
		if !possibleSubnet(cidr) || cidr.IsSingleIP() || cidr.Addr().IsLinkLocalUnicast() || len(s.Subnets) >= MaxSubnets {
			continue
		}
		_, named := s.Subnets[autoName(cidr)] // the operator may have given the name to another network
		if named || s.overlapped(cidr) {
			continue
		}
		sub := Subnet{Name: autoName(cidr), VPC: DefaultVPC, CIDR: cidr, Auto: true}
		if cidr.Contains(e.Gateway) {
			sub.Gateway = e.Gateway
		}
		s.Subnets[sub.Name] = sub
		s.note(c, "subnet-created", "", n.Name, fmt.Sprintf("subnet %s was registered from ENI %s", sub.Name, e.ID))
	}
}

// untoldMost is how many names Untold gives.
const untoldMost = 5

// Untold are the names of nodes that may own something and have told of no ENI yet, at most untoldMost, sorted. From their ENIs
// subnets are made.
func (s *State) Untold() (names []string) {
	told := map[string]bool{}
	for _, e := range s.ENIs {
		told[e.Node] = true
	}
	for _, n := range s.NodeList() {
		if n.Role != RoleWitness && !told[n.ID] && len(names) < untoldMost {
			names = append(names, n.Name)
		}
	}
	return slices.Sorted(slices.Values(names))
}

// overlapped reports whether any subnet, of any VPC, shares addresses with a network.
func (s *State) overlapped(cidr netip.Prefix) bool {
	for _, sub := range s.Subnets {
		if sub.CIDR.Overlaps(cidr) {
			return true
		}
	}
	return false
}

// autoName names a subnet after its network, in letters that a subnet's name may have.
func autoName(cidr netip.Prefix) string {
	b := []byte(cidr.String())
	for i, ch := range b {
		if ch == '/' || ch == ':' {
			b[i] = '-'
		}
	}
	return "net-" + string(b)
}

// noteConflicts tells of addresses of an ENI that are new there and belong to a HAVIP (R8).
func (s *State) noteConflicts(c Command, n Node, e, old ENI) {
	if s.Level() != 2 { // from level 3 on followOwn tells
		return
	}
	for _, v := range s.HAVIPList() {
		is := func(p netip.Prefix) bool { return p.Addr() == v.IP }
		if slices.ContainsFunc(e.Prefixes, is) && !slices.ContainsFunc(old.Prefixes, is) && s.InSubnet(e, v.Subnet) {
			s.note(c, "conflict", v.Name, n.Name, fmt.Sprintf("ENI %s has the address %s of HAVIP %s as its own; give the ENI another one", e.ID, v.IP, v.Name))
		}
	}
}
