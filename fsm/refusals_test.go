package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// refusal is one thing that nobody may do, and the sentence that says so. What it is
// refused for must be the only thing wrong with it.
type refusal struct {
	name  string
	given func(w *world) // what comes before; nil for the plain trio
	body  func(w *world) Body
	code  Code
	says  string
}

// does is for a body that needs nothing of the world.
func does(b Body) func(*world) Body { return func(*world) Body { return b } }

// filled plants what would take thousands of commands to make.
func filled(f func(s *State)) func(w *world) {
	return func(w *world) {
		w.state = w.state.clone()
		f(w.state)
	}
}

// web is a HAVIP without an owner, owned one that n1/eth0 owns.
func web(w *world) { w.havip("web", "10.0.0.100") }

func owned(w *world) {
	web(w)
	w.place("web", "n1/eth0")
}

// crowded is a HAVIP with an owner and as many draining claims as there may be.
func crowded(w *world) {
	owned(w)
	for i := range MaxDraining {
		w.place("web", []string{"n2/eth0", "n1/eth0"}[i%2])
	}
}

// all runs one preparation after another.
func all(fs ...func(*world)) func(*world) {
	return func(w *world) {
		for _, f := range fs {
			f(w)
		}
	}
}

func after(b Body) func(*world) { return func(w *world) { w.must(b) } }

// update changes the HAVIP web.
func update(b UpdateHAVIP) func(*world) Body {
	return func(w *world) Body {
		b.ID = w.get("web").ID
		return b
	}
}

func updated(b UpdateHAVIP) func(*world) { return func(w *world) { w.must(update(b)(w)) } }

// moveTo places the HAVIP web.
func moveTo(eni string) func(*world) Body {
	return func(w *world) Body { return Place{[]Assignment{w.to("web", eni)}} }
}

// tweaked is moveTo with one thing changed.
func tweaked(eni string, f func(w *world, a *Assignment)) func(*world) Body {
	return func(w *world) Body {
		a := w.to("web", eni)
		f(w, &a)
		return Place{[]Assignment{a}}
	}
}

func subnet(name, cidr string) Subnet { return Subnet{Name: name, CIDR: prefix(cidr)} }

func inRange(t RangeType, members ...string) Range {
	return Range{Type: t, Members: members, Limit: true}
}

func TestRefusals(t *testing.T) {
	groups := map[string][]refusal{
		"init-cluster": initRefusals, "create-token": tokenRefusals, "add-node": joinRefusals, "node": nodeRefusals,
		"eni": eniRefusals, "subnet": subnetRefusals, "create-havip": createRefusals, "address": addressRefusals,
		"range": rangeRefusals, "update-havip": updateRefusals, "session": sessionRefusals, "place": placeRefusals,
		"ineligible": ineligibleRefusals, "lease": leaseRefusals,
	}
	rows := 0
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		for _, tc := range groups[group] {
			rows++
			t.Run(group+"/"+tc.name, func(t *testing.T) {
				w := trio(t)
				if tc.given != nil {
					tc.given(w)
				}
				w.refuses(tc.body(w), tc.code, tc.says)
			})
		}
	}
	if rows < 80 {
		t.Errorf("only %d ways to be refused", rows)
	}
}

// Before the first command there is no cluster, and nothing else can be done.
func TestRefusedBeforeTheClusterExists(t *testing.T) {
	for _, body := range everyBody() {
		if _, ok := body.(*InitCluster); !ok {
			empty(t).refuses(body, CodeNotReady, "not been initialised")
		}
	}
}

func TestRefusedInitOfAnEmptyCluster(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(b *InitCluster)
		code   Code
		says   string
	}{
		{"no id", func(b *InitCluster) { b.ID = "" }, CodeParameter, "needs an id"},
		{"lease too short", func(b *InitCluster) { b.Lease = LeaseMin - 1 }, CodeParameter, "lease from 50ms"},
		{"lease too long", func(b *InitCluster) { b.Lease = LeaseMax + 1 }, CodeParameter, "to 1m0s"},
		{"name", func(b *InitCluster) { b.Node.Name = "N1" }, CodeMalformed, `"N1" cannot name a node`},
		{"address", func(b *InitCluster) { b.Node.Address = "host" }, CodeMalformed, `"host" is not an address`},
		{"role", func(b *InitCluster) { b.Node.Role = "king" }, CodeParameter, `"king" is not a role`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := InitCluster{ID: "c-1", Lease: time.Second, Node: newNode("n1", 1)}
			tc.change(&b)
			empty(t).refuses(b, tc.code, tc.says)
		})
	}
}

var initRefusals = []refusal{
	{"again", nil, does(InitCluster{ID: "c-2", Lease: time.Second, Node: newNode("n9", 9)}), CodeInUse, "exists already"},
}

// token makes a CreateToken for n9 with one thing changed.
func token(change func(t *Token)) func(*world) Body {
	return func(w *world) Body {
		t := w.token("n9", RoleAgent)
		change(&t)
		return CreateToken{t}
	}
}

var tokenRefusals = []refusal{
	{"no name", nil, token(func(t *Token) { t.Node = "" }), CodeMalformed, "cannot name a node"},
	{"capitals", nil, token(func(t *Token) { t.Node = "Node" }), CodeMalformed, `"Node" cannot name a node`},
	{"leading dash", nil, token(func(t *Token) { t.Node = "-a" }), CodeMalformed, "starting with a letter or digit"},
	{"slash", nil, token(func(t *Token) { t.Node = "a/b" }), CodeMalformed, "cannot name a node"},
	{"64 characters", nil, token(func(t *Token) { t.Node = strings.Repeat("a", 64) }), CodeMalformed, "1 to 63"},
	{"member", nil, token(func(t *Token) { t.Node = "n2" }), CodeInUse, "`node remove n2`"},
	{"id of a member", nil, token(func(t *Token) { t.Node = "n-n2" }), CodeInUse, "node n2 is a member"},
	{"role", nil, token(func(t *Token) { t.Role = "owner" }), CodeParameter, `"owner" is not a role`},
	{"no id", nil, token(func(t *Token) { t.ID = "" }), CodeParameter, "needs an id"},
	{"no secret", nil, token(func(t *Token) { t.SecretHash = "" }), CodeParameter, "a secret"},
	{"ends now", nil, func(w *world) Body {
		tok := w.token("n9", RoleAgent)
		tok.Expires = w.at
		return CreateToken{tok}
	}, CodeParameter, "an end in the future"},
	{"id of another token", func(w *world) { w.must(CreateToken{w.token("n8", RoleAgent)}) },
		token(func(t *Token) { t.ID = "t-n8" }), CodeDuplicate, "one for node n8"},
	{"too many", filled(func(s *State) {
		for i := len(s.Tokens); i < MaxTokens; i++ {
			id := fmt.Sprint("t", i)
			s.Tokens[id] = Token{ID: id, SecretHash: "x", Node: id, Role: RoleAgent, Expires: epoch0 + int64(time.Hour)}
		}
	}), token(func(*Token) {}), CodeLimit, "256 join tokens are open"},
	{"sixth voter", func(w *world) { w.join("v4", RoleVoter, 14); w.join("v5", RoleVoter, 15) },
		token(func(t *Token) { t.Role = RoleWitness }), CodeLimit, "5 nodes that vote"},
}

// joining makes an AddNode for n9 with one thing changed.
func joining(change func(b *AddNode)) func(*world) Body {
	return func(*world) Body {
		b := AddNode{Token: "t-n9", SecretHash: "secret-n9", Node: newNode("n9", 9)}
		change(&b)
		return b
	}
}

func invited(w *world) { w.must(CreateToken{w.token("n9", RoleAgent)}) }
func joined(w *world)  { w.join("n9", RoleAgent, 9) }

var joinRefusals = []refusal{
	{"unknown token", nil, joining(func(*AddNode) {}), CodeTokenRefused, "unknown here"},
	{"replaced token", func(w *world) {
		invited(w)
		tok := w.token("n9", RoleAgent)
		tok.ID = "t-newer"
		w.must(CreateToken{tok})
	}, joining(func(*AddNode) {}), CodeTokenRefused, "replaced by a newer one"},
	{"secret", invited, joining(func(b *AddNode) { b.SecretHash = "guess" }), CodeTokenRefused, "secret of the join token is wrong"},
	{"name", invited, joining(func(b *AddNode) { b.Node.Name = "n8" }), CodeTokenRefused, "for node n9, not n8"},
	{"used by another key", joined, joining(func(b *AddNode) { b.Node.KeyHash = "thief" }), CodeTokenRefused, "was used already"},
	{"removed since", all(joined, after(RemoveNode{"n-n9"})), joining(func(*AddNode) {}), CodeTokenRefused, "has been removed since"},
	{"expired", func(w *world) { invited(w); w.at += int64(time.Hour) }, joining(func(*AddNode) {}), CodeTokenRefused, "has expired"},
	{"no id", invited, joining(func(b *AddNode) { b.Node.ID = "" }), CodeMalformed, "needs an id"},
	{"long id", invited, joining(func(b *AddNode) { b.Node.ID = strings.Repeat("n", 61) }), CodeMalformed, "1 to 60 bytes"},
	{"id of another", invited, joining(func(b *AddNode) { b.Node.ID = "n-n2" }), CodeInUse, "node n2 is a member already"},
	{"host name", invited, joining(func(b *AddNode) { b.Node.Address = "n9.example" }), CodeMalformed, `"n9.example" is not an address`},
	{"any address", invited, joining(func(b *AddNode) { b.Node.Address = "0.0.0.0" }), CodeMalformed, "can be reached"},
	{"group address", invited, joining(func(b *AddNode) { b.Node.Address = "224.0.0.1" }), CodeMalformed, "can be reached"},
	{"address and port of another", invited, joining(func(b *AddNode) { b.Node.Address = "192.0.2.2" }), CodeInUse, "belongs to node n2"},
	{"too many", all(invited, filled(func(s *State) {
		for i := len(s.Nodes); i < MaxNodes; i++ {
			n := newNode(fmt.Sprint("x", i), 9)
			n.Address, n.Role = fmt.Sprintf("198.51.100.%d", i), RoleAgent
			s.Nodes[n.ID] = n
		}
	})), joining(func(*AddNode) {}), CodeLimit, "128 nodes"},
	{"sixth voter", func(w *world) {
		w.join("v4", RoleVoter, 14)
		w.must(CreateToken{w.token("n9", RoleVoter)}) // the fifth is still free
		w.join("v5", RoleVoter, 15)
	}, joining(func(*AddNode) {}), CodeLimit, "with the role agent"},
}

var nodeRefusals = []refusal{
	{"update unknown", nil, does(UpdateNode{ID: "n-none"}), CodeNotFound, `"n-none"`},
	{"update by name", nil, does(UpdateNode{ID: "n1"}), CodeNotFound, `"n1"`},
	{"remove unknown", nil, does(RemoveNode{"n-none"}), CodeNotFound, `"n-none"`},
	{"remove with open session", nil, does(RemoveNode{"n-n1"}), CodeInUse, "of node n1 is still open"},
}

func reporting(e ENI) Body { return ReportENIs{Node: "n-n1", ENIs: []ENI{e}} }

var eniRefusals = []refusal{
	{"unknown node", nil, does(ReportENIs{Node: "n-none"}), CodeNotFound, "n-none is not a member"},
	{"too many", nil, does(ReportENIs{Node: "n-n1", ENIs: make([]ENI, MaxENIsPerNode+1)}), CodeLimit, "65 ENIs, at most 64"},
	{"no device", nil, does(reporting(ENI{})), CodeMalformed, `device ""`},
	{"long device", nil, does(reporting(ENI{Device: strings.Repeat("e", 61)})), CodeMalformed, "1 to 60 bytes"},
	{"long mac", nil, does(reporting(ENI{Device: "eth0", MAC: strings.Repeat("0", 61)})), CodeMalformed, "1 to 60 bytes"},
	{"too many addresses", nil, does(reporting(ENI{Device: "eth0", Prefixes: make([]netip.Prefix, 33)})), CodeMalformed, "33 addresses"},
	{"device twice", nil, does(ReportENIs{Node: "n-n1", ENIs: []ENI{eniAt("eth0", "", true), eniAt("eth0", "", true)}}), CodeDuplicate, "eth0 twice"},
	{"set unknown", nil, does(SetENI{ID: "n1/eth9"}), CodeNotFound, `"n1/eth9"`},
	{"set unknown subnet", nil, does(SetENI{ID: "n1/eth0", Subnet: ptr("none")}), CodeSubnetNotExist, `"none"`},
}

var subnetRefusals = []refusal{
	{"no name", nil, does(CreateSubnet{subnet("", "10.1.0.0/24")}), CodeMalformed, "cannot name a subnet"},
	{"space", nil, does(CreateSubnet{subnet("a b", "10.1.0.0/24")}), CodeMalformed, `"a b" cannot name a subnet`},
	{"long name", nil, does(CreateSubnet{subnet(strings.Repeat("a", 61), "10.1.0.0/24")}), CodeMalformed, "1 to 60 letters"},
	{"vpc", nil, does(CreateSubnet{Subnet{Name: "a", VPC: "/", CIDR: prefix("10.1.0.0/24")}}), CodeMalformed, `"/" cannot name a VPC`},
	{"no network", nil, does(CreateSubnet{Subnet{Name: "a"}}), CodeMalformed, "CIDR form"},
	{"host bits", nil, does(CreateSubnet{subnet("a", "10.1.0.5/24")}), CodeMalformed, `"10.1.0.5/24"`},
	{"everything", nil, does(CreateSubnet{subnet("a", "0.0.0.0/0")}), CodeRange, "cannot be a subnet"},
	{"multicast", nil, does(CreateSubnet{subnet("a", "224.0.0.0/24")}), CodeRange, "cannot be a subnet"},
	{"loopback", nil, does(CreateSubnet{subnet("a", "127.0.0.0/24")}), CodeRange, "cannot be a subnet"},
	{"v4-mapped", nil, does(CreateSubnet{subnet("a", "::ffff:10.1.0.0/120")}), CodeRange, "cannot be a subnet"},
	{"gateway outside", nil, does(CreateSubnet{Subnet{Name: "a", CIDR: prefix("10.1.0.0/24"), Gateway: addr("10.1.1.1")}}), CodeRange, "gateway 10.1.1.1 is not in"},
	{"reserved outside", nil, does(CreateSubnet{Subnet{Name: "a", CIDR: prefix("10.1.0.0/24"), Reserved: []netip.Addr{addr("10.2.0.1")}}}), CodeRange, "reserved address 10.2.0.1"},
	{"too many reserved", nil, does(CreateSubnet{Subnet{Name: "a", CIDR: prefix("10.1.0.0/24"), Reserved: make([]netip.Addr, MaxReserved+1)}}), CodeLimit, "257 reserved"},
	{"name taken", nil, does(CreateSubnet{subnet("net", "10.1.0.0/24")}), CodeDuplicate, "net exists already"},
	{"overlap", nil, does(CreateSubnet{subnet("a", "10.0.0.128/25")}), CodeInUse, "overlaps subnet net"},
	{"wider than a registered one in use", func(w *world) {
		w.report("n2", eniAt("eth2", "10.5.0.9/24", false))
		w.havip("five", "10.5.0.100")
	}, does(CreateSubnet{subnet("a", "10.5.0.0/20")}), CodeInUse, "overlaps subnet net-10.5.0.0-24"},
	{"too many", filled(func(s *State) {
		for i := len(s.Subnets); i < MaxSubnets; i++ {
			name := fmt.Sprint("s", i)
			s.Subnets[name] = Subnet{Name: name, VPC: name, CIDR: prefix("10.9.0.0/24")}
		}
	}), does(CreateSubnet{subnet("a", "10.1.0.0/24")}), CodeLimit, "1024 subnets"},
	{"delete unknown", nil, does(DeleteSubnet{"none"}), CodeNotFound, `"none"`},
	{"delete in use", web, does(DeleteSubnet{"net"}), CodeInUse, "holds HAVIP web (10.0.0.100)"},
}

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
			s.HAVIPs[id] = HAVIP{ID: id, Name: "x", Subnet: "big", VPC: "other", IP: ip, Enabled: true}
		}
	}), creating(func(*CreateHAVIP) {}), CodeLimit, "10000 HAVIPs"},
	{"id taken", filled(func(s *State) {
		next := atIndex(s, s.Index+1)
		id := next.newID("havip-")
		s.HAVIPs[id] = HAVIP{ID: id, Name: "x", Subnet: "net", VPC: DefaultVPC, IP: addr("10.0.0.200"), Enabled: true}
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
	{"priority too high", nil, creating(func(b *CreateHAVIP) { b.Priority = ScoreLimit + 1 }), CodeRange, "priority 1000001"},
	{"priority too low", nil, creating(func(b *CreateHAVIP) { b.Priority = -ScoreLimit - 1 }), CodeRange, "priority -1000001"},
}

// at asks for one address.
func at(ip string) func(*world) Body { return creating(func(b *CreateHAVIP) { b.IP = addr(ip) }) }

var addressRefusals = []refusal{
	{"in no subnet", nil, at("10.9.0.5"), CodeRange, "no subnet holds 10.9.0.5"},
	{"in no subnet of the vpc", nil, creating(func(b *CreateHAVIP) { b.VPC = "vpc-2" }), CodeRange, "no subnet holds"},
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
	{"ENI among nodes", nil, ranged(RangeCVM, "n1", "n2/eth1"), CodeNotFound, `no node is called "n2/eth1"`},
	{"witness", nil, ranged(RangeCVM, "w"), CodeParameter, "witness and owns nothing"},
	{"node without an ENI in the subnet", func(w *world) { w.join("n9", RoleAgent, 9) }, ranged(RangeCVM, "n9"), CodeParameter, "n9 has no ENI in subnet net"},
	{"unknown ENI", nil, ranged(RangeENI, "n1/eth9"), CodeNotFound, `"n1/eth9"`},
	{"node among ENIs", nil, ranged(RangeENI, "n1/eth1", "n2"), CodeNotFound, `no ENI has the id "n2"`},
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
	{"preference", web, update(UpdateHAVIP{Prefer: ptr(map[string]int{"n7": 1})}), CodeNotFound, `"n7"`},
	{"failback", web, update(UpdateHAVIP{Failback: ptr("x")}), CodeParameter, "not a failback"},
	{"priority", web, update(UpdateHAVIP{Priority: ptr(ScoreLimit + 1)}), CodeRange, "priority"},
	{"too many bans", web, update(UpdateHAVIP{Bans: ptr(make([]string, MaxBans+1))}), CodeLimit, "65 bans"},
	{"ban of nobody", web, update(UpdateHAVIP{Bans: ptr([]string{"n7"})}), CodeNotFound, `"n7" is neither`},
	{"range without the owner", owned, update(UpdateHAVIP{Range: ptr(inRange(RangeCVM, "n2"))}), CodeInUse, "n1/eth0 owns HAVIP web and would leave its range; move it first"},
	{"empty range under an owner", owned, update(UpdateHAVIP{Range: &Range{Limit: true}}), CodeInUse, "would leave its range"},
	{"ENI range over a primary owner", owned, update(UpdateHAVIP{Range: ptr(inRange(RangeENI, "n1/eth1"))}), CodeInUse, "would leave its range"},
	{"disabled with too many draining", crowded, update(UpdateHAVIP{Enabled: ptr(false)}), CodeLimit, "32 earlier owners"},
	{"delete unknown", nil, does(DeleteHAVIP{ID: "havip-none"}), CodeNotFound, `"havip-none"`},
	{"delete owned", owned, func(w *world) Body { return DeleteHAVIP{ID: w.get("web").ID} }, CodeUnsupported, "owned by n1/eth0; disable it first"},
	{"delete with too many draining", crowded, func(w *world) Body { return DeleteHAVIP{ID: w.get("web").ID, Force: true} }, CodeLimit, "32 earlier owners"},
}

func opening(change func(b *OpenSession)) func(*world) Body {
	return func(w *world) Body {
		b := OpenSession{Node: "n-n1", Last: w.session("n1"), Attempt: "a"}
		change(&b)
		return b
	}
}

var sessionRefusals = []refusal{
	{"open for nobody", nil, opening(func(b *OpenSession) { b.Node = "n-none" }), CodeNotFound, "wipe its data directory"},
	{"open while being removed", after(UpdateNode{ID: "n-n1", Removing: ptr(true)}), opening(func(*OpenSession) {}), CodeUnsupported, "node n1 is being removed"},
	{"open with an older last session", nil, opening(func(b *OpenSession) { b.Last-- }), CodeStale, "the last session of node n1 is"},
	{"open as if it were the first", nil, opening(func(b *OpenSession) { b.Last = 0 }), CodeStale, "not 0"},
	{"open without an attempt", nil, opening(func(b *OpenSession) { b.Attempt = "" }), CodeMalformed, "attempt id"},
	{"open with a long attempt", nil, opening(func(b *OpenSession) { b.Attempt = strings.Repeat("a", MaxKey+1) }), CodeMalformed, "1 to 128 bytes"},
	{"drain a closed one", nil, does(DrainSession{Node: "n-n1", Session: 999}), CodeStale, "session 999 of node n1 is not open"},
	{"drain another's", nil, func(w *world) Body { return DrainSession{Node: "n-n1", Session: w.session("n2")} }, CodeStale, "of node n1 is not open"},
	{"close a closed one", nil, does(CloseSession{Session: 999}), CodeStale, "session 999 is not open"},
	{"close with too many assignments", nil, func(w *world) Body {
		return CloseSession{Session: w.session("n1"), Place: make([]Assignment, MaxAssignments+1)}
	}, CodeLimit, "1001 assignments"},
	{"release nothing", nil, does(Release{}), CodeLimit, "0 claims"},
	{"release too much", nil, does(Release{make([]ReleasedClaim, MaxAssignments+1)}), CodeLimit, "1001 claims"},
}

var placeRefusals = []refusal{
	{"nothing", nil, does(Place{}), CodeLimit, "0 assignments"},
	{"too many", nil, does(Place{make([]Assignment, MaxAssignments+1)}), CodeLimit, "1001 assignments"},
	{"unknown HAVIP", nil, does(Place{[]Assignment{{HAVIP: "havip-none"}}}), CodeNotFound, `"havip-none"`},
	{"an older epoch", owned, tweaked("n2/eth0", func(_ *world, a *Assignment) { a.FromEpoch-- }), CodeStale, "at epoch 1, the placement was computed from 0"},
	{"a newer epoch", owned, tweaked("n2/eth0", func(_ *world, a *Assignment) { a.FromEpoch++ }), CodeStale, "computed from 2"},
	{"the same one twice", web, func(w *world) Body {
		a := w.to("web", "n1/eth0")
		a.FromEpoch = 7
		return Place{[]Assignment{a, a}}
	}, CodeStale, "computed from 7"},
	{"too many draining", crowded, moveTo("n3/eth0"), CodeLimit, "wait until one has"},
	{"unknown ENI", web, tweaked("n1/eth0", func(_ *world, a *Assignment) { a.ENI = "n1/eth9" }), CodeNotFound, `node n1 has no ENI "n1/eth9"`},
	{"ENI of another node", web, tweaked("n1/eth0", func(_ *world, a *Assignment) { a.ENI = "n2/eth0" }), CodeNotFound, "node n1 has no ENI"},
	{"session of another node", web, tweaked("n1/eth0", func(w *world, a *Assignment) { a.Session = w.session("n2") }), CodeStale, "of node n1 is not open"},
	{"closed session", all(web, func(w *world) { w.must(CloseSession{Session: w.session("n1")}) }), moveTo("n1/eth0"), CodeStale, "is not open"},
	{"earlier session", web, func(w *world) Body {
		a := w.to("web", "n1/eth0")
		w.open("n1")
		return Place{[]Assignment{a}}
	}, CodeStale, "is not open"},
}

var ineligibleRefusals = []refusal{
	{"disabled", all(web, updated(UpdateHAVIP{Enabled: ptr(false)})), moveTo("n1/eth0"), CodeUnsupported, "the HAVIP is disabled; `havip enable web`"},
	{"being deleted", all(owned, func(w *world) { w.must(DeleteHAVIP{ID: w.get("web").ID, Force: true}) }), moveTo("n2/eth0"), CodeUnsupported, "being deleted"},
	{"detached", all(web, func(w *world) { w.report("n1") }), moveTo("n1/eth0"), CodeUnsupported, "no longer reports this ENI"},
	{"other subnet", all(web, after(CreateSubnet{subnet("b", "10.1.0.0/24")}), after(SetENI{ID: "n1/eth1", Subnet: ptr("b")})), moveTo("n1/eth1"), CodeUnsupported, "in subnet b, the HAVIP is in net"},
	{"no subnet", all(web, func(w *world) { w.report("n1", eniAt("eth0", "", true)) }), moveTo("n1/eth0"), CodeUnsupported, "in subnet none"},
	{"witness", all(web, func(w *world) { w.report("w", eniAt("eth0", "10.0.0.19/24", true)); w.open("w") }), moveTo("w/eth0"), CodeUnsupported, "it votes and owns nothing"},
	{"empty limited range", all(web, updated(UpdateHAVIP{Range: &Range{Limit: true}})), moveTo("n1/eth0"), CodeRangeDenied, "`havip range add web ...`"},
	{"node outside the range", all(web, updated(UpdateHAVIP{Range: ptr(inRange(RangeCVM, "n2"))})), moveTo("n1/eth0"), CodeRangeDenied, "node n1 is not in the range"},
	{"ENI outside the range", all(web, updated(UpdateHAVIP{Range: ptr(inRange(RangeENI, "n2/eth1"))})), moveTo("n1/eth1"), CodeRangeDenied, "ENI n1/eth1 is not in the range"},
	{"primary", all(web, updated(UpdateHAVIP{Range: ptr(inRange(RangeENI, "n1/eth1"))}), after(SetENI{ID: "n1/eth1", Primary: ptr(true)})), moveTo("n1/eth1"), CodeUnsupported, "primary ENI of node n1"},
	{"banned node", all(web, updated(UpdateHAVIP{Bans: ptr([]string{"n1"})})), moveTo("n1/eth1"), CodeUnsupported, "it is banned; `havip unban web"},
	{"banned ENI", all(web, updated(UpdateHAVIP{Bans: ptr([]string{"n1/eth1"})})), moveTo("n1/eth1"), CodeUnsupported, "it is banned"},
	{"removing", all(web, after(UpdateNode{ID: "n-n1", Removing: ptr(true)})), moveTo("n1/eth0"), CodeUnsupported, "being removed"},
	{"standby", all(web, after(UpdateNode{ID: "n-n1", Standby: ptr(true)})), moveTo("n1/eth0"), CodeUnsupported, "`node activate n1`"},
	{"handing over", all(web, func(w *world) { w.must(DrainSession{Node: "n-n1", Session: w.session("n1")}) }), moveTo("n1/eth0"), CodeUnsupported, "handing over"},
	{"link down", all(web, func(w *world) {
		e := eniAt("eth0", "10.0.0.11/24", true)
		e.Up = false
		w.report("n1", e)
	}), moveTo("n1/eth0"), CodeUnsupported, "the link is down"},
	{"paused after a failure", all(owned, func(w *world) {
		w.must(Release{[]ReleasedClaim{{HAVIP: w.get("web").ID, Epoch: 1, Session: w.session("n1"), Failure: "no carrier"}}})
		w.at += int64(3 * time.Second)
	}), moveTo("n1/eth0"), CodeUnsupported, "it failed there 3s ago and pauses for 10s: no carrier"},
}

var leaseRefusals = []refusal{
	{"too short", nil, does(SetLease{LeaseMin - time.Millisecond}), CodeRange, "a lease of 49ms"},
	{"too long", nil, does(SetLease{LeaseMax + time.Millisecond}), CodeRange, "to 1m0s"},
	{"half a millisecond", nil, does(SetLease{100*time.Millisecond + 500*time.Microsecond}), CodeRange, "whole milliseconds"},
	{"settle an earlier change", func(w *world) { w.must(SetLease{time.Second}); w.must(SetLease{2 * time.Second}) },
		func(w *world) Body { return SettleLease{w.state.Cluster.LeaseIndex - 1} }, CodeStale, "changed again at index"},
	{"failover of too many steps", nil, does(RecordFailover{Failover{Steps: make([]FailoverStep, MaxFailoverSteps+1)}}), CodeLimit, "17 steps"},
}

func TestRefusedKeys(t *testing.T) {
	w := trio(t)
	wantRefusal(t, w.tryKey(strings.Repeat("k", MaxKey+1), SetLease{time.Second}), CodeTooLong, "129 bytes, at most 128")
	w.tryKey("k", SetLease{time.Second})
	res := w.tryKey("k", SetLease{2 * time.Second})
	wantRefusal(t, res, CodeKeyMismatch, `"k" was used for another request`)
	if res.Index != w.state.Index {
		t.Errorf("the refusal has index %d, want its own, %d", res.Index, w.state.Index)
	}
}

// A leader's decision is worth something only in the term it was made in.
func TestRefusedInAnotherTerm(t *testing.T) {
	w := trio(t)
	c := w.command("", SetLease{time.Second})
	c.Term = 4
	image := snapshot(t, w.state)
	next, res, err := ApplyEntry(w.state, w.state.Index+1, 5, c)
	if err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, res, CodeStale, "decided in term 4, appended in term 5")
	if string(snapshot(t, atIndex(next, w.state.Index))) != string(image) {
		t.Error("the refusal changed the state")
	}
	for _, term := range []uint64{0, 5} {
		c.Term = term
		if _, res, _ := ApplyEntry(w.state, w.state.Index+1, 5, c); res.Refusal != nil {
			t.Errorf("bound to term %d and appended in term 5: %s", term, res.Refusal)
		}
	}
}
