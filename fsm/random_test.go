package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// A chooser draws commands that make sense about two times in three: names that exist,
// present epochs and open sessions, mixed with ones that do not.
type chooser struct {
	t  *rapid.T
	s  *State
	at int64
}

func pick[T any](c chooser, what string, from []T) T {
	return rapid.SampledFrom(from).Draw(c.t, what)
}

func (c chooser) number(what string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(c.t, what) }

// chance is true once in n.
func (c chooser) chance(what string, n int) bool { return c.number(what, 1, n) == n }

// maybe gives a pointer to a drawn value, or nil.
func maybe[T any](c chooser, what string, draw func() T) *T {
	if c.chance("set "+what, 3) {
		return ptr(draw())
	}
	return nil
}

func (c chooser) flag() bool { return rapid.Bool().Draw(c.t, "flag") }

var randomNames = []string{"n1", "n2", "n3", "n4", "n5", "n6", "n7"}

func (c chooser) node() string {
	return pick(c, "node", append(slices.Sorted(maps.Keys(c.s.Nodes)), "n-none"))
}

func (c chooser) eni() string {
	return pick(c, "eni", append(slices.Sorted(maps.Keys(c.s.ENIs)), "n1/eth9"))
}

func (c chooser) havip() string {
	return pick(c, "havip", append(slices.Sorted(maps.Keys(c.s.HAVIPs)), "havip-none"))
}

func (c chooser) session() uint64 {
	return pick(c, "session", append(slices.Sorted(maps.Keys(c.s.Sessions)), 999))
}

func (c chooser) target() string { // of a preference or a ban
	if c.flag() {
		return c.eni()
	}
	return pick(c, "name", randomNames)
}

func (c chooser) addr() netip.Addr {
	return pick(c, "address", []netip.Addr{
		addr("10.0.0.103"), addr("10.0.0.102"), addr("10.0.0.101"), addr("10.0.0.104"), {}, addr("10.0.0.1"), addr("10.0.0.11"),
		addr("10.1.0.5"), addr("10.0.1.9"), addr("2001:db8::5"), addr("::ffff:10.0.0.100"), addr("fe80::1%eth0"),
	})
}

func (c chooser) memberRange() Range {
	r := Range{Type: pick(c, "type", []RangeType{RangeCVM, RangeENI}), Limit: c.flag()}
	for range c.number("members", 0, 4) {
		if r.Type == RangeENI {
			r.Members = append(r.Members, c.eni())
		} else {
			r.Members = append(r.Members, pick(c, "member", randomNames))
		}
	}
	return r
}

func (c chooser) prefer() map[string]int {
	m := map[string]int{}
	for range c.number("preferences", 0, 3) {
		m[c.target()] = c.number("score", -100, 100)
	}
	return m
}

func (c chooser) failback() string {
	return pick(c, "failback", []string{"", "never", "immediate", "3s", "5m", "soon", "22:00-04:00", "04:00-04:00"})
}

func (c chooser) name() string {
	return pick(c, "name", []string{"web", "api", "db", "wéb", "", "havip-x"})
}

// assignment is what a leader could have computed, now or a while ago.
func (c chooser) assignment() Assignment {
	v := c.s.HAVIPs[c.havip()]
	e := c.s.ENIs[c.eni()]
	a := Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Node: e.Node, Session: c.s.Nodes[e.Node].LastSession, ENI: e.ID, Reason: "drawn"}
	switch c.number("doubt", 1, 12) {
	case 1:
		a.FromEpoch += Epoch(c.number("ahead", 0, 2)) - 1
	case 2:
		a.Session = c.session()
	case 3:
		a.Node, a.Session, a.ENI = "", 0, ""
	case 4:
		a.Node = c.node()
	}
	return a
}

func (c chooser) assignments() []Assignment {
	var out []Assignment
	for range c.number("assignments", 0, 3) {
		out = append(out, c.assignment())
	}
	return out
}

func (c chooser) release() Release {
	var b Release
	for range c.number("claims", 0, 3) {
		v := c.s.HAVIPs[c.havip()]
		r := ReleasedClaim{HAVIP: v.ID, Epoch: v.Epoch, Session: c.session()}
		if claims := v.Claims(); len(claims) > 0 && !c.chance("wrong claim", 8) {
			cl := pick(c, "claim", claims)
			r.Epoch, r.Session = cl.Epoch, cl.Session
		}
		if c.chance("failure", 3) {
			r.Failure = "drawn"
		}
		b.Claims = append(b.Claims, r)
	}
	return b
}

func (c chooser) report() ReportENIs {
	b := ReportENIs{Node: c.node()}
	n := c.number("host", 2, 250)
	for i, device := range []string{"eth0", "eth1", fmt.Sprint("veth", c.number("veth", 0, 3))} {
		if c.chance("gone", 8) {
			continue
		}
		e := eniAt(device, fmt.Sprintf("10.0.%d.%d/24", i%2*c.number("third", 0, 1), n), i == 0)
		e.Up = !c.chance("down", 6)
		if c.chance("no addresses", 10) {
			e.Prefixes = []netip.Prefix{{}, prefix("0.0.0.0/0"), prefix("fe80::1/64"), prefix("127.0.0.1/8")}
		}
		b.ENIs = append(b.ENIs, e)
	}
	return b
}

func (c chooser) subnet() Subnet {
	return Subnet{
		Name: pick(c, "subnet", []string{"net", "a", "b", "net-10.0.1.0-24", ""}),
		VPC:  pick(c, "vpc", []string{"", DefaultVPC, "vpc-2"}),
		CIDR: pick(c, "cidr", []netip.Prefix{prefix("10.0.0.0/24"), prefix("10.0.0.0/16"), prefix("10.1.0.0/29"), prefix("2001:db8::/64"), {}, prefix("0.0.0.0/0")}),
	}
}

func (c chooser) token() Token {
	name := pick(c, "name", randomNames)
	return Token{
		ID: "t-" + name, SecretHash: "secret-" + name, Node: name, Role: pick(c, "role", []Role{RoleVoter, RoleWitness, RoleAgent, "x"}),
		Expires: c.at + int64(c.number("ttl", 0, 99))*int64(time.Second),
	}
}

func (c chooser) join() AddNode {
	names := slices.Clone(randomNames)
	for _, tok := range c.s.TokenList() {
		if tok.NodeID == "" && tok.Expires > c.at {
			names = append([]string{tok.Node}, names...)
		}
	}
	name := pick(c, "name", names)
	n := newNode(name, int(name[1]-'0'))
	n.ID = fmt.Sprintf("n-%s%d", name, c.number("life", 0, 1))
	n.KeyHash = pick(c, "key", []string{"k1", "k2"})
	n.Version = pick(c, "program", []string{VersionWithLevel("v3"), VersionWithLevel("v3"), "v2+level.2", "v1"})
	return AddNode{Token: "t-" + name, SecretHash: "secret-" + name, Node: n}
}

func (c chooser) updateHAVIP() UpdateHAVIP {
	return UpdateHAVIP{
		ID: c.havip(), Name: maybe(c, "name", c.name), Range: maybe(c, "range", c.memberRange), Change: Change{
			Prefer: maybe(c, "prefer", c.prefer), Failback: maybe(c, "failback", c.failback),
			Priority: maybe(c, "priority", func() int { return c.number("priority", -2, 2) }),
			Enabled:  maybe(c, "enabled", func() bool { return !c.chance("disable", 3) }),
			Require:  maybe(c, "require", c.targets), Forbid: maybe(c, "forbid", c.targets),
			Stickiness: maybe(c, "stickiness", c.small), Weight: maybe(c, "weight", c.small), FailLimit: maybe(c, "fail limit", c.small),
			Managed: maybe(c, "managed", c.flag), Maintenance: maybe(c, "frozen", c.flag), Description: maybe(c, "description", func() string { return "for " + c.name() }),
			Probe: maybe(c, "probe", c.probe), FailPeriod: maybe(c, "fail period", func() int { return c.number("seconds", -1, 3) }),
		},
		Bans: maybe(c, "bans", func() []string { return []string{c.target(), c.target()} }), Evict: c.flag(),
	}
}

func (c chooser) probe() string {
	return pick(c, "probe", []string{"", "tcp:61000", "tcp:61001", "http:61000/", "http:61001/up", "61000"})
}

func (c chooser) failover() Failover {
	return Failover{HAVIP: c.havip(), Epoch: Epoch(c.number("epoch", 0, 5)), Steps: make([]FailoverStep, c.number("steps", 0, MaxFailoverSteps+1))}
}

// body draws any command. Those that make claims come up most.
func (c chooser) body() Body {
	node := c.node()
	session := c.s.Nodes[node].LastSession
	if c.chance("other session", 6) {
		session = c.session()
	}
	draws := map[string]func() Body{
		"init-cluster": func() Body { return InitCluster{ID: "c-2", Lease: time.Second, Node: newNode("n9", 9)} },
		"create-token": func() Body { return CreateToken{c.token()} },
		"add-node":     func() Body { return c.join() },
		"update-node": func() Body {
			return c.updateNode(node)
		},
		"remove-node": func() Body { return RemoveNode{node} },
		"report-enis": func() Body { return c.report() },
		"set-eni": func() Body {
			return SetENI{c.eni(), maybe(c, "subnet", func() string { return c.subnet().Name }), maybe(c, "primary", c.flag)}
		},
		"create-subnet": func() Body { return CreateSubnet{c.subnet()} },
		"delete-subnet": func() Body {
			return DeleteSubnet{pick(c, "delete", append(slices.Sorted(maps.Keys(c.s.Subnets)), "none"))}
		},
		"create-havip":    func() Body { return c.createHAVIP() },
		"update-havip":    func() Body { return c.updateHAVIP() },
		"delete-havip":    func() Body { return DeleteHAVIP{ID: c.havip(), Force: c.flag()} },
		"open-session":    func() Body { return c.openSession(node, session) },
		"drain-session":   func() Body { return DrainSession{node, session} },
		"close-session":   func() Body { return CloseSession{session, c.flag(), c.assignments()} },
		"place":           func() Body { return Place{c.assignments()} },
		"release":         func() Body { return c.release() },
		"report-event":    func() Body { return ReportEvent{node, pick(c, "event", append(EventKinds, "rumour")), "web", "seen"} },
		"set-lease":       func() Body { return SetLease{time.Duration(c.number("lease", 45, 60)) * time.Millisecond} },
		"settle-lease":    func() Body { return SettleLease{c.s.Cluster.LeaseIndex + uint64(c.number("off", 0, 1))} },
		"record-failover": func() Body { return RecordFailover{c.failover()} },
	}
	maps.Copy(draws, c.policyDraws(node))
	maps.Copy(draws, c.edgeDraws(node, session))
	maps.Copy(draws, c.keyDraws(node))
	maps.Copy(draws, c.webhookDraws())
	maps.Copy(draws, c.addressDraws(node))
	draws["register-key"] = func() Body {
		return RegisterKey{Node: node, Key: nodeKey(byte(c.number("key", 1, 9))), LeasePort: c.number("lease port", 0, 3), Alone: c.flag()}
	}
	draws["rest-vote"] = func() Body { return RestVote{node, c.flag()} }
	draws["report-behind"] = func() Body { return ReportBehind{session, uint64(c.number("behind", 0, 2))} }
	maps.Copy(draws, c.rightsDraws())
	maps.Copy(draws, c.checkDraws(node, session))
	// The drawing prefers what stands first.
	kinds := append([]string{"place", "release", "open-session", "place", "create-havip", "update-havip", "close-session", "place", "release", "add-node", "apply-config", "change-range", "create-group", "end-drain", "report-guarded", "confirm"}, everyKind...)
	return draws[pick(c, "kind", kinds)]()
}

func (c chooser) createHAVIP() CreateHAVIP {
	b := CreateHAVIP{Name: c.name(), IP: c.addr(), Spec: Spec{Failback: c.failback(), Priority: c.number("priority", -1, 1)}}
	if c.chance("in subnet", 3) {
		b.Subnet = c.subnet().Name
	}
	if c.chance("with range", 4) {
		b.Range = c.memberRange()
	}
	if c.chance("with preferences", 4) {
		b.Prefer = c.prefer()
	}
	if c.chance("with policy", 4) {
		b.Require, b.Forbid, b.Weight, b.EIP, b.ReuseNow, b.Disabled = c.targets(), c.targets(), ptr(c.small()), c.eip(), c.flag(), c.flag()
	}
	return b
}
