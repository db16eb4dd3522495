package manifest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"havip-cluster/fsm"
)

// Check says what is wrong with the sense of a file, each with its place.
func (f *File) Check() Faults {
	found := f.Manifest.Check()
	for i := range found {
		found[i].Place = f.At(found[i].Path)
	}
	return found.sorted()
}

// Check says what is wrong with the manifest by itself, without a cluster: what it names
// may still be missing there, and the state machine has the last word.
func (m Manifest) Check() Faults {
	c := newChecker(m)
	c.top()
	c.nodes()
	c.enis()
	c.subnets()
	c.havips()
	c.groups()
	c.checks()
	c.webhooks()
	return c.found
}

// checker walks one manifest.
type checker struct {
	m       Manifest
	rules   fsm.ProviderRules
	found   Faults
	nodeSet map[string]int // by name; nil where the file does not list nodes
	eniSet  map[string]int
	subnet  map[string]fsm.Subnet
	byName  map[string][]int // HAVIPs by name
	byID    map[string]int
}

func newChecker(m Manifest) *checker {
	c := &checker{m: m, subnet: map[string]fsm.Subnet{}, byName: map[string][]int{}, byID: map[string]int{}}
	c.rules = fsm.Provider{Name: m.Provider}.Rules()
	if m.Nodes != nil {
		c.nodeSet = map[string]int{}
	}
	if m.ENIs != nil {
		c.eniSet = map[string]int{}
	}
	return c
}

func (c *checker) refuse(path string, code fsm.Code, format string, args ...any) {
	if len(c.found) < MaxFaults {
		c.found = append(c.found, fault(Place{}, path, code, format, args...))
	}
}

func (c *checker) warn(path string, code fsm.Code, format string, args ...any) {
	if len(c.found) < MaxFaults {
		f := fault(Place{}, path, code, format, args...)
		f.Warning = true
		c.found = append(c.found, f)
	}
}

func (c *checker) refusal(path string, r *fsm.Refusal) bool {
	if r != nil {
		c.refuse(path, r.Code, "%s", r.Message)
	}
	return r != nil
}

func (c *checker) atMost(path string, n, limit int, what string) {
	if n > limit {
		c.refuse(path, fsm.CodeLimit, "%d %s, at most %d", n, what, limit)
	}
}

func (c *checker) within(path string, n, low, high int) {
	if n < low || n > high {
		c.refuse(path, fsm.CodeRange, "%d is not from %d to %d", n, low, high)
	}
}

func (c *checker) oneOf(path, got string, words ...string) bool {
	if slices.Contains(words, got) {
		return true
	}
	c.refuse(path, fsm.CodeParameter, "%q is not known here; say %s", clip(got, 60), strings.Join(words, ", "))
	return false
}

func (c *checker) moment(path, text string) {
	if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
		c.refuse(path, fsm.CodeMalformed, "%q is not a time such as 2026-11-22T15:04:05Z", clip(text, 60))
	}
}

func (c *checker) top() {
	if c.m.Version != Version {
		c.refuse("version", fsm.CodeUnsupported, "version %d of the form; this program knows %d", c.m.Version, Version)
	}
	if c.m.Rebalance != "" {
		c.oneOf("rebalance", c.m.Rebalance, fsm.RebalanceNever, fsm.RebalanceEven)
	}
	if c.m.Provider != "" {
		c.oneOf("provider", c.m.Provider, "lan", "tencent")
	}
	if l := c.m.Limits; l != nil {
		c.within("limits.per_eni", l.PerENI, 0, fsm.MaxHAVIPs)
		c.within("limits.per_node", l.PerNode, 0, fsm.MaxHAVIPs)
	}
	c.within("revision", c.m.Revision, 0, 1<<62)
	c.atMost("nodes", len(c.m.Nodes), fsm.MaxNodes, "nodes")
	c.atMost("enis", len(c.m.ENIs), MaxENIs, "ENIs")
	c.atMost("subnets", len(c.m.Subnets), fsm.MaxSubnets, "subnets")
	c.atMost("havips", len(c.m.HAVIPs), fsm.MaxHAVIPs, "HAVIPs")
	c.atMost("groups", len(c.m.Groups), fsm.MaxGroups, "groups")
}

func (c *checker) nodes() {
	for i, n := range c.m.Nodes {
		path := at("nodes", i)
		if c.refusal(at(path, "name"), fsm.CheckNodeName(n.Name)) {
			continue
		}
		if first, twice := c.nodeSet[n.Name]; twice {
			c.refuse(at(path, "name"), fsm.CodeDuplicate, "node %s is here twice; first as nodes[%d]", n.Name, first)
		}
		c.nodeSet[n.Name] = i
		c.oneOf(at(path, "health"), n.Health, string(fsm.HealthGreen), string(fsm.HealthYellow), string(fsm.HealthRed))
		c.oneOf(at(path, "status"), n.Status, "", "alive", "suspect", "lost", "left")
		c.oneOf(at(path, "role"), n.Role, "", string(fsm.RoleVoter), string(fsm.RoleWitness), string(fsm.RoleAgent))
		c.within(at(path, "score"), n.Score, -fsm.ScoreLimit, fsm.ScoreLimit)
		if n.Capacity != nil {
			c.within(at(path, "capacity"), *n.Capacity, 0, fsm.ScoreLimit*fsm.MaxHAVIPs)
		}
		if n.Since != "" {
			c.moment(at(path, "since"), n.Since)
		}
	}
}

func (c *checker) enis() {
	for i, e := range c.m.ENIs {
		path := at("enis", i)
		switch _, twice := c.eniSet[e.ID]; {
		case e.ID == "":
			c.refuse(at(path, "id"), fsm.CodeMissing, "an ENI needs an id, such as node-1/eth0")
		case twice:
			c.refuse(at(path, "id"), fsm.CodeDuplicate, "ENI %s is here twice", e.ID)
		}
		c.eniSet[e.ID] = i
		if _, known := c.nodeSet[e.Node]; !known {
			c.refuse(at(path, "node"), fsm.CodeNotFound, "the file lists no node %q", clip(e.Node, 60))
		}
		for j, text := range e.Addresses {
			if _, err := netip.ParsePrefix(text); err != nil {
				c.refuse(at(at(path, "addresses"), j), fsm.CodeMalformed, "%q is not an address with a prefix length, such as 10.0.0.5/24", clip(text, 60))
			}
		}
		if e.Gateway != "" {
			c.address(at(path, "gateway"), e.Gateway)
		}
	}
}

// address parses an address as people write them in a configuration: no zone, no IPv4 in
// IPv6 (R6).
func (c *checker) address(path, text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	switch {
	case strings.Contains(text, "/"):
		c.refuse(path, fsm.CodeMalformed, "%q has a prefix length; write the address alone", clip(text, 60))
	case err != nil:
		c.refuse(path, fsm.CodeMalformed, "%q is not an IP address", clip(text, 60))
	case a.Zone() != "" || a.Is4In6():
		c.refuse(path, fsm.CodeMalformed, "%q has a zone or is IPv4 within IPv6; write the plain address", clip(text, 60))
	default:
		return a
	}
	return netip.Addr{}
}

func (c *checker) subnets() {
	for i, s := range c.m.Subnets {
		path := at("subnets", i)
		c.label(at(path, "name"), s.Name, "subnet")
		c.label(at(path, "vpc"), s.VPC, "VPC")
		if _, twice := c.subnet[s.Name]; twice {
			c.refuse(at(path, "name"), fsm.CodeDuplicate, "subnet %s is here twice", s.Name)
		}
		p, err := netip.ParsePrefix(s.CIDR)
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			c.refuse(at(path, "cidr"), fsm.CodeMalformed, "%q is not a network in CIDR form, such as 10.0.0.0/24 (host bits must be zero)", clip(s.CIDR, 60))
			c.subnet[s.Name] = fsm.Subnet{Name: s.Name, VPC: s.VPC}
			continue
		}
		if p.Bits() == 0 || p.Addr().IsMulticast() || p.Addr().IsLoopback() ||
			p.Addr().Is4() && (p.Bits() < c.rules.MinBits || p.Bits() > c.rules.MaxBits) {
			c.refuse(at(path, "cidr"), fsm.CodeRange, "%s cannot be a subnet (profile %s)", p, c.rules.Name)
		}
		c.subnet[s.Name] = c.inSubnet(path, s, p)
		for j, other := range c.m.Subnets[:i] {
			if q, err := netip.ParsePrefix(other.CIDR); err == nil && other.VPC == s.VPC && q.Overlaps(p) {
				c.refuse(at(path, "cidr"), fsm.CodeInUse, "%s overlaps subnets[%d] %s (%s) of %s", p, j, other.Name, other.CIDR, s.VPC)
			}
		}
	}
}

// inSubnet checks the addresses of a subnet and gives it in the state's form.
func (c *checker) inSubnet(path string, s Subnet, p netip.Prefix) fsm.Subnet {
	out := fsm.Subnet{Name: s.Name, VPC: s.VPC, CIDR: p, Auto: s.Auto}
	inside := func(path, text string) netip.Addr {
		a := c.address(path, text)
		if a.IsValid() && !p.Contains(a) {
			c.refuse(path, fsm.CodeRange, "%s is not in %s", a, p)
		}
		return a
	}
	if s.Gateway != "" {
		out.Gateway = inside(at(path, "gateway"), s.Gateway)
	}
	c.atMost(at(path, "reserved"), len(s.Reserved), fsm.MaxReserved, "reserved addresses")
	for j, text := range s.Reserved {
		out.Reserved = append(out.Reserved, inside(at(at(path, "reserved"), j), text))
	}
	return out
}

// label checks the name of a subnet, a VPC or a group.
func (c *checker) label(path, name, what string) {
	if !labelled(name) {
		c.refuse(path, fsm.CodeMalformed, "%q cannot name a %s: use 1 to 60 letters, digits, '.', '_' and '-', a letter or digit first", clip(name, 70), what)
	}
}

func labelled(name string) bool {
	if name == "" || len(name) > fsm.MaxNameRunes || strings.IndexByte("._-", name[0]) >= 0 {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// displayName is rule R1; it returns what is wrong with a HAVIP's name, nil if nothing.
func displayName(name string) *fsm.Refusal {
	switch {
	case strings.TrimSpace(name) == "":
		return fsm.Refuse(fsm.CodeMissing, "a HAVIP needs a name")
	case name != strings.TrimSpace(name):
		return fsm.Refuse(fsm.CodeMalformed, "%q begins or ends with a blank", clip(name, 70))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fsm.Refuse(fsm.CodeMalformed, "%q has control characters", clip(name, 70))
	case utf8.RuneCountInString(name) > fsm.MaxNameRunes:
		return fsm.Refuse(fsm.CodeTooLong, "the name has %d characters, at most %d", utf8.RuneCountInString(name), fsm.MaxNameRunes)
	case strings.HasPrefix(name, "havip-"):
		return fsm.Refuse(fsm.CodeMalformed, "%q looks like an id; choose a name that does not start with havip-", clip(name, 70))
	}
	return nil
}

// reserved is rule R7: what keeps an address of a subnet from a HAVIP, "" if nothing.
func reserved(sub fsm.Subnet, rules fsm.ProviderRules, ip netip.Addr) string {
	first := sub.CIDR.Addr().Next()
	switch {
	case ip == sub.CIDR.Addr():
		return "the network"
	case ip == sub.Gateway, ip == first && (rules.FirstReserved || !sub.Gateway.IsValid()):
		return "the gateway"
	case ip.Is4() && sub.CIDR.Bits() <= 30 && !sub.CIDR.Contains(ip.Next()):
		return "the broadcast address"
	case slices.Contains(sub.Reserved, ip):
		return "reserved by its subnet"
	}
	return ""
}

// Summary is one line about a manifest that was found good.
func (m Manifest) Summary() string {
	return fmt.Sprintf("%d HAVIPs, %d groups, %d subnets, %d nodes, %d ENIs",
		len(m.HAVIPs), len(m.Groups), len(m.Subnets), len(m.Nodes), len(m.ENIs))
}
