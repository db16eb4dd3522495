package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/internal/limits"
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
		w.state.indexOwn()
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
		{"lease too short", func(b *InitCluster) { b.Lease = limits.LeaseShortest - 1 }, CodeParameter, "lease from 10ms"},
		{"lease too long", func(b *InitCluster) { b.Lease = limits.LeaseLongest + 1 }, CodeParameter, "to 1m0s"},
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
}

var nodeRefusals = []refusal{
	{"update unknown", nil, does(UpdateNode{ID: "n-none"}), CodeNotFound, `"n-none"`},
	{"update by name", nil, does(UpdateNode{ID: "n1"}), CodeNotFound, `"n1"`},
	{"remove unknown", nil, does(RemoveNode{"n-none"}), CodeNotFound, `"n-none"`},
	{"event of nobody", nil, does(ReportEvent{Node: "n-none", Kind: "fault"}), CodeNotFound, "n-none is not a member"},
	{"event of an unknown kind", nil, does(ReportEvent{Node: "n-n1", Kind: "rumour"}), CodeParameter, `"rumour"`},
	{"event about a long name", nil, does(ReportEvent{Node: "n-n1", Kind: "fault", HAVIP: strings.Repeat("x", 241)}), CodeTooLong, "241 bytes"},
	{"key below level 4", (*world).upgrade3, does(RegisterKey{Node: "n-n1", Key: nodeKey(1), LeasePort: 7403}), CodeLevel, "upgrade it first"},
	{"key of nobody", (*world).upgrade4, does(RegisterKey{Node: "n-none", Key: nodeKey(1), LeasePort: 7403}), CodeNotFound, "n-none is not a member"},
	{"key without a port", (*world).upgrade4, does(RegisterKey{Node: "n-n1", Key: nodeKey(1)}), CodeRange, "names no port"},
	{"key at no port", (*world).upgrade4, does(RegisterKey{Node: "n-n1", Key: nodeKey(1), LeasePort: 65536}), CodeRange, "port 65536"},
	{"key of no certificate", (*world).upgrade4, does(RegisterKey{Node: "n-n1", Key: NodeKey{"ab", nodeKey(1).Public}, LeasePort: 7403}), CodeMalformed, "64 lower-case hex digits"},
	{"key that is no point", (*world).upgrade4, does(RegisterKey{Node: "n-n1", Key: NodeKey{nodeKey(1).Certificate, "AAAA"}, LeasePort: 7403}), CodeMalformed, "cannot be used"},
	{"behind below level 4", (*world).upgrade3, does(ReportBehind{Session: 1}), CodeLevel, "upgrade it first"},
	{"behind in no session", (*world).upgrade4, does(ReportBehind{Session: 9999}), CodeStale, "session 9999 is not open"},
	{"behind beyond the log", (*world).upgrade4, func(w *world) Body { return ReportBehind{w.session("n1"), 1 << 40} }, CodeRange, "cannot have applied entry 1099511627776"},
	{"vote below level 4", (*world).upgrade3, does(RestVote{Node: "n-n1"}), CodeLevel, "upgrade it first"},
	{"vote of nobody", (*world).upgrade4, does(RestVote{Node: "n-none"}), CodeNotFound, "n-none is not a member"},
	{"vote of an agent", func(w *world) {
		w.upgrade4()
		n := w.state.Nodes["n-n1"]
		n.Role = RoleAgent
		w.state.Nodes["n-n1"] = n
	}, does(RestVote{Node: "n-n1"}), CodeUnsupported, "node n1 is an agent and has no vote"},
	{"key of another node", func(w *world) {
		w.upgrade4()
		w.must(RegisterKey{Node: "n-n2", Key: nodeKey(1), LeasePort: 7403})
	}, does(RegisterKey{Node: "n-n1", Key: nodeKey(1), LeasePort: 7403}), CodeDuplicate, "node n2 speaks with this key already"},
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
	{"set unknown node", (*world).upgrade3, does(SetENI{ID: "n9/eth9", Subnet: ptr("net")}), CodeNotFound, `"n9/eth9"`},
	{"set a name that no device has", (*world).upgrade3, does(SetENI{ID: "n1/eth9/x", Subnet: ptr("net")}), CodeNotFound, `"n1/eth9/x"`},
	{"set unknown in an unknown subnet", (*world).upgrade3, does(SetENI{ID: "n1/eth9", Subnet: ptr("none")}), CodeSubnetNotExist, `"none"`},
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
		w.upgrade3()
		return CloseSession{Session: w.session("n1"), Place: make([]Assignment, MaxAssignments+1)}
	}, CodeLimit, "10001 assignments"},
	{"close with too many for older members", nil, func(w *world) Body {
		return CloseSession{Session: w.session("n1"), Place: make([]Assignment, 1001)}
	}, CodeLevel, "command level 3"},
	{"release nothing", nil, does(Release{}), CodeLimit, "0 claims"},
	{"release too much", (*world).upgrade3, does(Release{make([]ReleasedClaim, MaxAssignments+1)}), CodeLimit, "10001 claims"},
	{"release too much for older members", nil, does(Release{make([]ReleasedClaim, 1001)}), CodeLevel, "command level 3"},
}

var placeRefusals = []refusal{
	{"nothing", nil, does(Place{}), CodeLimit, "0 assignments"},
	{"too many", (*world).upgrade3, does(Place{make([]Assignment, MaxAssignments+1)}), CodeLimit, "10001 assignments"},
	{"too many for older members", nil, does(Place{make([]Assignment, 1001)}), CodeLevel, "command level 3"},
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
	{"disabled", all(web, updated(UpdateHAVIP{Change: Change{Enabled: ptr(false)}})), moveTo("n1/eth0"), CodeUnsupported, "the HAVIP is disabled; `havip enable web`"},
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
	{"too short", nil, does(SetLease{limits.LeaseShortest - time.Millisecond}), CodeRange, "a lease of 9ms"},
	{"too long", nil, does(SetLease{limits.LeaseLongest + time.Millisecond}), CodeRange, "to 1m0s"},
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
