package fsm

import (
	"fmt"
	"net/netip"
	"strings"
)

// creating makes a CreateHAVIP that would be done, with one thing changed.
func creating(change func(b *CreateHAVIP)) func(*world) Body {
	b := CreateHAVIP{Name: "new", IP: addr("10.0.0.101")}
	change(&b)
	return does(b)
}

func called(name string) func(*world) Body { return creating(func(b *CreateHAVIP) { b.Name = name }) }

func preferring(scores map[string]int) func(*world) Body {
	return creating(func(b *CreateHAVIP) { b.Prefer = scores })
}

func failback(f string) func(*world) Body { return creating(func(b *CreateHAVIP) { b.Failback = f }) }

// numbered gives n targets n1, x2, x3, ...
func numbered(n int) map[string]int {
	m := map[string]int{}
	for i := range n {
		m[fmt.Sprint("x", i)] = 1
	}
	return m
}

var createRefusals = []refusal{
	{"no name", nil, called(""), CodeMissing, "needs a name"},
	{"blank name", nil, called(" \t "), CodeMissing, "needs a name"},
	{"control character", nil, called("a\x00b"), CodeMalformed, "control characters"},
	{"61 characters", nil, called(strings.Repeat("é", 61)), CodeTooLong, "61 characters, at most 60"},
	{"name like an id", nil, called("havip-web"), CodeMalformed, "looks like an id"},
	{"too many", filled(func(s *State) {
		ip := addr("10.200.0.0")
		s.Subnets["big"] = Subnet{Name: "big", VPC: "other", CIDR: prefix("10.192.0.0/10")}
		for i := range MaxHAVIPs {
			ip = ip.Next()
			id := fmt.Sprintf("havip-%08d", i)
			s.HAVIPs[id] = HAVIP{ID: id, Name: "x", Subnet: "big", VPC: "other", IP: ip}
		}
	}), creating(func(*CreateHAVIP) {}), CodeLimit, "10000 HAVIPs"},
	{"id taken", filled(func(s *State) {
		next := atIndex(s, s.Index+1)
		id := next.newID("havip-")
		s.HAVIPs[id] = HAVIP{ID: id, Name: "x", Subnet: "net", VPC: DefaultVPC, IP: addr("10.0.0.200")}
	}), creating(func(*CreateHAVIP) {}), CodeDuplicate, "try again"},
	{"neither address nor subnet", nil, does(CreateHAVIP{Name: "new"}), CodeMissing, "--subnet"},
	{"unknown subnet", nil, creating(func(b *CreateHAVIP) { b.Subnet = "none" }), CodeSubnetNotExist, `"none"`},
	{"subnet of another vpc", nil, creating(func(b *CreateHAVIP) { b.Subnet, b.VPC = "net", "vpc-2" }), CodeParameter, "belongs to vpc-default, not vpc-2"},
	{"too many preferences", nil, preferring(numbered(MaxPrefer + 1)), CodeLimit, "65 preferences"},
	{"preferring nobody", nil, preferring(map[string]int{"n7": 1}), CodeNotFound, `"n7" is neither a node nor an ENI`},
	{"preferring a node id", nil, preferring(map[string]int{"n-n1": 1}), CodeNotFound, `"n-n1"`},
	{"score too high", nil, preferring(map[string]int{"n1": ScoreLimit + 1}), CodeRange, "the score 1000001 for n1"},
	{"score too low", nil, preferring(map[string]int{"n1/eth0": -ScoreLimit - 1}), CodeRange, "-1000001"},
	{"failback word", nil, failback("soon"), CodeParameter, `"soon" is not a failback`},
	{"failback of nothing", nil, failback("0s"), CodeParameter, "a delay such as 5m"},
	{"failback into the past", nil, failback("-5m"), CodeParameter, "a delay such as 5m"},
	{"failback too late", nil, failback("24h1s"), CodeParameter, "up to 24h"},
	{"priority too high", nil, creating(func(b *CreateHAVIP) { b.Priority = ScoreLimit + 1 }), CodeRange, "a priority of 1000001"},
	{"priority too low", nil, creating(func(b *CreateHAVIP) { b.Priority = -ScoreLimit - 1 }), CodeRange, "a priority of -1000001"},
}

// at asks for one address.
func at(ip string) func(*world) Body { return creating(func(b *CreateHAVIP) { b.IP = addr(ip) }) }

var addressRefusals = []refusal{
	{"in no subnet", nil, at("10.9.0.5"), CodeRange, "no subnet holds 10.9.0.5"},
	{"in no subnet of the vpc", nil, creating(func(b *CreateHAVIP) { b.VPC = "vpc-2" }), CodeRange, "no subnet of vpc-2 holds"},
	{"outside the subnet", nil, creating(func(b *CreateHAVIP) { b.Subnet, b.IP = "net", addr("10.0.1.5") }), CodeRange, "10.0.1.5 is not in subnet net (10.0.0.0/24)"},
	{"v4-mapped", nil, at("::ffff:10.0.0.101"), CodeRange, "no subnet holds"},
	{"with a zone", after(CreateSubnet{subnet("six", "2001:db8::/64")}), at("2001:db8::5%eth0"), CodeRange, "no subnet holds"},
	{"network", nil, at("10.0.0.0"), CodeReserved, "10.0.0.0 is reserved (network)"},
	{"gateway", nil, at("10.0.0.1"), CodeReserved, "reserved (gateway)"},
	{"broadcast", nil, at("10.0.0.255"), CodeReserved, "reserved (broadcast)"},
	{"network of a small subnet", after(CreateSubnet{subnet("a", "10.1.0.64/26")}), at("10.1.0.64"), CodeReserved, "(network)"},
	{"gateway of a small subnet", after(CreateSubnet{subnet("a", "10.1.0.64/26")}), at("10.1.0.65"), CodeReserved, "(gateway)"},
	{"broadcast of a small subnet", after(CreateSubnet{subnet("a", "10.1.0.64/26")}), at("10.1.0.127"), CodeReserved, "(broadcast)"},
	{"reserved by the subnet", after(CreateSubnet{Subnet{Name: "a", CIDR: prefix("10.1.0.0/24"), Reserved: []netip.Addr{addr("10.1.0.9")}}}), at("10.1.0.9"), CodeReserved, "by its subnet"},
	{"of another HAVIP", web, at("10.0.0.100"), CodeInUse, "used by HAVIP web (havip-"},
	{"of a HAVIP being deleted", all(owned, func(w *world) { w.must(DeleteHAVIP{ID: w.get("web").ID, Force: true}) }), at("10.0.0.100"), CodeInUse, "used by HAVIP web"},
	{"of an ENI", nil, at("10.0.0.21"), CodeInUse, "used by ENI n1/eth1 (node n1)"},
	{"of a node", after(CreateSubnet{subnet("mgmt", "192.0.2.0/24")}), at("192.0.2.3"), CodeInUse, "used by node n3"},
	{"of a node, spelt otherwise", func(w *world) {
		w.must(CreateSubnet{subnet("six", "2001:db8::/64")})
		w.must(CreateToken{w.token("n9", RoleAgent)})
		n := newNode("n9", 9)
		n.Address = "2001:DB8:0::9"
		w.must(AddNode{Token: "t-n9", SecretHash: "secret-n9", Node: n})
	}, at("2001:db8::9"), CodeInUse, "used by node n9"},
	{"none left in a /30", func(w *world) {
		w.must(CreateSubnet{subnet("tiny", "10.1.0.0/30")})
		w.must(CreateHAVIP{Name: "only", Subnet: "tiny"})
	}, does(CreateHAVIP{Name: "more", Subnet: "tiny"}), CodeInsufficient, "subnet tiny (10.1.0.0/30) has no free address"},
	{"none in a /31", after(CreateSubnet{subnet("pair", "10.1.0.0/31")}), does(CreateHAVIP{Name: "a", Subnet: "pair"}), CodeInsufficient, "no free address"},
	{"none in a /32", after(CreateSubnet{subnet("host", "10.1.0.0/32")}), does(CreateHAVIP{Name: "a", Subnet: "host"}), CodeInsufficient, "no free address"},
}

func ranged(t RangeType, members ...string) func(*world) Body {
	return creating(func(b *CreateHAVIP) { b.Range = inRange(t, members...) })
}

var rangeRefusals = []refusal{
	{"eleven members", nil, ranged(RangeCVM, strings.Fields("a b c d e f g h i j k")...), CodeLimit, "holds 10 members, 11 asked"},
	{"no type", nil, ranged("", "n1"), CodeParameter, "not a type of range"},
	{"unknown type", nil, ranged("host", "n1"), CodeParameter, `"host" is not a type of range`},
	{"member twice", nil, ranged(RangeCVM, "n1", "n2", "n1"), CodeDuplicate, "a member twice"},
	{"unknown node", nil, ranged(RangeCVM, "n1", "n7"), CodeNotFound, `"n7"`},
	{"node by its id", nil, ranged(RangeCVM, "n-n1"), CodeNotFound, `"n-n1"`},
	{"ENI among nodes", nil, ranged(RangeCVM, "n1", "n2/eth1"), CodeMismatch, `"n2/eth1" is an ENI`},
	{"witness", nil, ranged(RangeCVM, "w"), CodeParameter, "witness and owns nothing"},
	{"node without an ENI in the subnet", func(w *world) { w.join("n9", RoleAgent, 9) }, ranged(RangeCVM, "n9"), CodeParameter, "n9 has no ENI in subnet net"},
	{"unknown ENI", nil, ranged(RangeENI, "n1/eth9"), CodeNotFound, `"n1/eth9"`},
	{"node among ENIs", nil, ranged(RangeENI, "n1/eth1", "n2"), CodeMismatch, `"n2" is a node`},
	{"detached ENI", func(w *world) { w.report("n1", eniAt("eth0", "10.0.0.11/24", true)) }, ranged(RangeENI, "n1/eth1"), CodeParameter, "not attached"},
	{"primary ENI", nil, ranged(RangeENI, "n1/eth0"), CodeParameter, "primary ENI of node n1; use a range of type cvm"},
	{"ENI made primary", after(SetENI{ID: "n1/eth1", Primary: ptr(true)}), ranged(RangeENI, "n1/eth1"), CodeParameter, "primary ENI of node n1"},
	{"ENI of another subnet", func(w *world) {
		w.report("n1", eniAt("eth0", "10.0.0.11/24", true), eniAt("eth1", "10.3.0.2/24", false))
	}, ranged(RangeENI, "n1/eth1"), CodeParameter, "in subnet net-10.3.0.0-24; the HAVIP is in net"},
}

var updateRefusals = []refusal{
	{"unknown", nil, does(UpdateHAVIP{ID: "havip-none"}), CodeNotFound, `"havip-none"`},
	{"by name", web, does(UpdateHAVIP{ID: "web"}), CodeNotFound, `"web"`},
	{"being deleted", all(owned, func(w *world) { w.must(DeleteHAVIP{ID: w.get("web").ID, Force: true}) }), update(UpdateHAVIP{Name: ptr("x")}), CodeUnsupported, "is being deleted"},
	{"name", web, update(UpdateHAVIP{Name: ptr("")}), CodeMissing, "needs a name"},
	{"range", web, update(UpdateHAVIP{Range: ptr(inRange(RangeCVM, "n7"))}), CodeNotFound, `"n7"`},
	{"preference", web, update(UpdateHAVIP{Change: Change{Prefer: ptr(map[string]int{"n7": 1})}}), CodeNotFound, `"n7"`},
	{"failback", web, update(UpdateHAVIP{Change: Change{Failback: ptr("x")}}), CodeParameter, "not a failback"},
	{"priority", web, update(UpdateHAVIP{Change: Change{Priority: ptr(ScoreLimit + 1)}}), CodeRange, "priority"},
	{"too many bans", web, update(UpdateHAVIP{Bans: ptr(make([]string, MaxBans+1))}), CodeLimit, "65 bans"},
	{"ban of nobody", web, update(UpdateHAVIP{Bans: ptr([]string{"n7"})}), CodeNotFound, `"n7" is neither`},
	{"range without the owner", owned, update(UpdateHAVIP{Range: ptr(inRange(RangeCVM, "n2"))}), CodeInUse, "n1/eth0 owns HAVIP web and would leave its range; move it first"},
	{"empty range under an owner", owned, update(UpdateHAVIP{Range: &Range{Limit: true}}), CodeInUse, "would leave its range"},
	{"ENI range over a primary owner", owned, update(UpdateHAVIP{Range: ptr(inRange(RangeENI, "n1/eth1"))}), CodeInUse, "would leave its range"},
	{"disabled with too many draining", crowded, update(UpdateHAVIP{Change: Change{Enabled: ptr(false)}}), CodeLimit, "32 earlier owners"},
	{"delete unknown", nil, does(DeleteHAVIP{ID: "havip-none"}), CodeNotFound, `"havip-none"`},
	{"delete owned", owned, func(w *world) Body { return DeleteHAVIP{ID: w.get("web").ID} }, CodeUnsupported, "owned by n1/eth0; disable it first"},
	{"delete with too many draining", crowded, func(w *world) Body { return DeleteHAVIP{ID: w.get("web").ID, Force: true} }, CodeLimit, "32 earlier owners"},
}
