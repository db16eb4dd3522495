package fsm

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// created makes a HAVIP in a subnet without naming an address, and returns the one that
// was chosen, "" if there was none.
func created(w *world, subnet string) string {
	res := w.try(CreateHAVIP{Name: "x", Subnet: subnet})
	if res.Refusal != nil {
		wantRefusal(w.t, res, CodeInsufficient, "no free address")
		return ""
	}
	return w.state.HAVIPs[res.Object].IP.String()
}

// R5: the lowest free address above the cursor, so a freed one rests until the others
// have had their turn.
func TestChosenAddressesRotate(t *testing.T) {
	w := cluster(t)
	w.must(CreateSubnet{Subnet{Name: "s", CIDR: prefix("10.0.0.0/29"), Gateway: addr("10.0.0.3"), Reserved: []netip.Addr{addr("10.0.0.4")}}})
	w.report("n1", eniAt("eth0", "10.0.0.5/29", true))
	for i, want := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.6"} {
		if got := created(w, "s"); got != want {
			t.Fatalf("address %d is %s, want %s", i, got, want)
		}
	}
	free := func(ip string) {
		for _, v := range w.state.HAVIPList() {
			if v.IP == addr(ip) {
				w.must(DeleteHAVIP{ID: v.ID})
			}
		}
	}
	free("10.0.0.6")
	free("10.0.0.1")
	for _, want := range []string{"10.0.0.1", "10.0.0.6", ""} {
		if got := created(w, "s"); got != want {
			t.Fatalf("got %q, want %q: the cursor was at 10.0.0.6", got, want)
		}
	}
}

// DOMAIN of R7: how many addresses a subnet of each size has to give.
func TestUsableAddresses(t *testing.T) {
	for _, tc := range []struct {
		cidr, gateway string
		want          int
	}{
		{"10.0.0.0/28", "", 13},
		{"10.0.0.0/28", "10.0.0.14", 13},
		{"10.0.0.16/29", "", 5},
		{"10.0.0.64/26", "", 61},
		{"10.0.0.0/30", "", 1},
		{"10.0.0.0/31", "", 0},
		{"10.0.0.0/32", "", 0},
		{"255.255.255.240/28", "", 13},
		{"2001:db8::/125", "", 6},
	} {
		w := cluster(t)
		sub := subnet("s", tc.cidr)
		if tc.gateway != "" {
			sub.Gateway = addr(tc.gateway)
		}
		w.must(CreateSubnet{sub})
		n := 0
		for created(w, "s") != "" {
			n++
		}
		if n != tc.want {
			t.Errorf("%s gives %d addresses, want %d", tc.cidr, n, tc.want)
		}
	}
}

// Two VPCs may use the same addresses; within one, an address is used once.
func TestAddressesAreUniqueWithinAVPC(t *testing.T) {
	w := cluster(t)
	w.must(CreateSubnet{Subnet{Name: "a", VPC: "vpc-a", CIDR: prefix("10.0.0.0/24")}})
	w.must(CreateSubnet{Subnet{Name: "b", VPC: "vpc-b", CIDR: prefix("10.0.0.0/24")}})
	w.must(CreateHAVIP{Name: "one", VPC: "vpc-a", IP: addr("10.0.0.9")})
	w.must(CreateHAVIP{Name: "two", Subnet: "b", IP: addr("10.0.0.9")})
	w.refuses(CreateHAVIP{Name: "three", VPC: "vpc-b", IP: addr("10.0.0.9")}, CodeInUse, "used by HAVIP two")
}

// R1: names are trimmed, may be any text of 60 characters, and need not be unique.
func TestNames(t *testing.T) {
	w := trio(t)
	long := strings.Repeat("é", MaxNameRunes)
	for i, tc := range []struct{ given, kept string }{{"  web ", "web"}, {"web", "web"}, {long, long}, {"Web 1 (öffentlich)", "Web 1 (öffentlich)"}, {"Havip-1", "Havip-1"}} {
		res := w.must(CreateHAVIP{Name: tc.given, IP: addr(fmt.Sprintf("10.0.0.%d", 100+i))})
		if got := w.state.HAVIPs[res.Object].Name; got != tc.kept {
			t.Errorf("%q is kept as %q, want %q", tc.given, got, tc.kept)
		}
	}
	_, refusal := w.state.HAVIPNamed("web")
	if refusal == nil || refusal.Code != CodeDuplicate || !strings.Contains(refusal.Message, "(10.0.0.100)") || !strings.Contains(refusal.Message, "(10.0.0.101)") {
		t.Errorf("a name that two share gives %v, want both candidates", refusal)
	}
	if _, refusal := w.state.HAVIPNamed("nothing"); refusal == nil || refusal.Code != CodeNotFound {
		t.Errorf("an unknown name gives %v", refusal)
	}
	v, refusal := w.state.HAVIPNamed(long)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if byID, refusal := w.state.HAVIPNamed(v.ID); refusal != nil || byID.Name != long {
		t.Errorf("by id: %v, %v", byID.Name, refusal)
	}
}

func TestNewHAVIP(t *testing.T) {
	w := trio(t)
	v := w.havip("web", "10.0.0.100")
	if v.Failback != "never" || v.Disabled || v.Owner != nil || v.Epoch != 0 || v.Subnet != "net" || v.VPC != DefaultVPC || v.Created != w.at {
		t.Errorf("a new HAVIP is %+v", v)
	}
	if len(v.ID) != len("havip-")+8 {
		t.Errorf("its id is %s", v.ID)
	}
}

func TestNetworksThatBecomeSubnets(t *testing.T) {
	for _, tc := range []struct {
		name, cidr, want string
	}{
		{"ordinary", "10.2.0.7/24", "net-10.2.0.0-24"},
		{"IPv6", "2001:db8:1::7/64", "net-2001-db8-1---64"},
		{"within a known one", "10.0.0.77/24", "net"},
		{"link-local", "169.254.3.4/16", ""},
		{"IPv6 link-local", "fe80::1/64", ""},
		{"loopback", "127.0.0.2/8", ""},
		{"single host", "10.2.0.7/32", ""},
		{"everything", "10.2.0.7/0", ""},
		{"v4-mapped", "::ffff:10.2.0.7/120", ""},
		{"not within, but overlapping", "10.0.1.7/16", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := trio(t)
			before := len(w.state.Subnets)
			w.report("w", eniAt("eth0", tc.cidr, true))
			if got := w.state.ENIs["w/eth0"].Subnet; got != tc.want {
				t.Errorf("its subnet is %q, want %q", got, tc.want)
			}
			if made := len(w.state.Subnets) - before; (made == 1) != strings.HasPrefix(tc.want, "net-") {
				t.Errorf("%d subnets were registered", made)
			}
		})
	}
	w := trio(t)
	w.report("w", ENI{Device: "eth0", Prefixes: []netip.Prefix{{}}})
	if len(w.state.Subnets) != 1 {
		t.Errorf("an address that is none registered a subnet: %v", w.state.SubnetList())
	}
}

// The gateway of a registered subnet is the one that the ENI uses, if it lies in it.
func TestRegisteredGateway(t *testing.T) {
	w := trio(t)
	e := eniAt("eth0", "10.2.0.7/24", true)
	e.Prefixes = append(e.Prefixes, prefix("10.3.0.7/24"))
	e.Gateway = addr("10.3.0.254")
	w.report("w", e)
	if g := w.state.Subnets["net-10.3.0.0-24"].Gateway; g != e.Gateway {
		t.Errorf("gateway %v, want %v", g, e.Gateway)
	}
	if g := w.state.Subnets["net-10.2.0.0-24"].Gateway; g.IsValid() {
		t.Errorf("gateway %v of another network", g)
	}
}

// The operator's word replaces a subnet that a node registered, and its name is not taken
// over by a network that would be called the same.
func TestOperatorsSubnetsWin(t *testing.T) {
	w := trio(t)
	w.report("w", eniAt("eth0", "10.2.0.7/24", true))
	w.must(CreateSubnet{subnet("wide", "10.2.0.0/20")})
	if e := w.state.ENIs["w/eth0"]; e.Subnet != "wide" || len(w.state.Subnets) != 2 {
		t.Errorf("the ENI is in %q of %v", e.Subnet, w.state.SubnetList())
	}
	w.must(CreateSubnet{subnet("net-10.7.0.0-24", "10.8.0.0/24")})
	w.must(CreateHAVIP{Name: "x", IP: addr("10.8.0.9")})
	w.report("w", eniAt("eth0", "10.7.0.7/24", true))
	if sub := w.state.Subnets["net-10.7.0.0-24"]; sub.CIDR != prefix("10.8.0.0/24") {
		t.Errorf("the operator's subnet is now %s", sub.CIDR)
	}
}

func TestOperatorsWordAboutAnENI(t *testing.T) {
	w := trio(t)
	w.must(CreateSubnet{subnet("b", "10.1.0.0/24")})
	w.must(SetENI{ID: "n1/eth1", Subnet: ptr("b"), Primary: ptr(true)})
	w.report("n1", eniAt("eth1", "10.0.0.21/24", false)) // the node's own word changes nothing
	if e := w.state.ENIs["n1/eth1"]; e.Subnet != "b" || !e.IsPrimary() {
		t.Errorf("%+v", e)
	}
	w.must(DeleteSubnet{"b"})
	if e := w.state.ENIs["n1/eth1"]; e.Subnet != "net" || e.SetSubnet != "" {
		t.Errorf("its subnet is gone: %+v", e)
	}
	w.must(SetENI{ID: "n1/eth1", Primary: ptr(false)})
	if w.state.ENIs["n1/eth1"].IsPrimary() {
		t.Error("still primary")
	}
}

// 5.1 of the domain, case 12: a detached ENI stays known, and is what it was when it comes back.
func TestDetachedENIComesBack(t *testing.T) {
	w := trio(t)
	w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeENI, "n1/eth1")})
	w.report("n1", eniAt("eth0", "10.0.0.11/24", true))
	if e := w.state.ENIs["n1/eth1"]; !e.Detached || e.Up {
		t.Errorf("%+v", e)
	}
	w.must(UpdateHAVIP{ID: w.get("web").ID, Range: ptr(inRange(RangeENI, "n1/eth1", "n2/eth1"))}) // an old member need not be there
	w.report("n1", eniAt("eth0", "10.0.0.11/24", true), eniAt("eth1", "10.0.0.21/24", false))
	w.place("web", "n1/eth1")
}

// Devices of containers come and go under ever new names; the state does not grow with them.
func TestDetachedENIsAreForgotten(t *testing.T) {
	w := trio(t)
	w.havip("web", "10.0.0.100")
	w.report("n1", eniAt("eth0", "10.0.0.11/24", true), eniAt("a0", "10.0.0.31/24", false), eniAt("a1", "10.0.0.32/24", false))
	w.place("web", "n1/a0")
	w.must(SetENI{ID: "n1/a1", Primary: ptr(true)})
	for i := range 3 * MaxENIsPerNode {
		w.report("n1", eniAt("eth0", "10.0.0.11/24", true), eniAt(fmt.Sprintf("veth%04d", i), "", false))
	}
	count := 0
	for _, e := range w.state.ENIList() {
		if e.Node == "n-n1" {
			count++
		}
	}
	if count != MaxENIsPerNode {
		t.Errorf("%d ENIs of node n1 are kept, want %d", count, MaxENIsPerNode)
	}
	for _, id := range []string{"n1/eth0", "n1/a0", "n1/a1", "n1/veth0191"} {
		if _, ok := w.state.ENIs[id]; !ok {
			t.Errorf("%s is forgotten: reported, under a claim, set by the operator, or among the last", id)
		}
	}
}

// What a HAVIP says of nodes and ENIs may outlive them; only new words are checked.
func TestWordsAboutThoseWhoHaveGone(t *testing.T) {
	w := trio(t)
	id := w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeCVM, "n2", "n3"), Spec: Spec{Prefer: map[string]int{"n3": 5}}}).Object
	w.must(UpdateHAVIP{ID: id, Bans: ptr([]string{"n3", "n1", "n3"})})
	w.must(CloseSession{Session: w.session("n3")})
	w.must(RemoveNode{"n-n3"})
	w.must(UpdateHAVIP{
		ID: id, Range: ptr(inRange(RangeCVM, "n3", "n1")),
		Change: Change{Prefer: ptr(map[string]int{"n3": 6, "n1": 1})}, Bans: ptr([]string{"n3", "n2/eth0"}),
	})
	v := w.get("web")
	if !slices.Equal(v.Range.Members, []string{"n1", "n3"}) || v.Prefer["n3"] != 6 || !slices.Equal(v.Bans, []string{"n2/eth0", "n3"}) {
		t.Errorf("%+v", v)
	}
	w.must(UpdateHAVIP{ID: id, Bans: ptr([]string{})})
	w.refuses(UpdateHAVIP{ID: id, Bans: ptr([]string{"n3"})}, CodeNotFound, `"n3"`)
}

// An owner whose ENI has become the primary one is for the placement to move; meanwhile
// the HAVIP can still be changed.
func TestOwnerThatLeftTheRangeByItself(t *testing.T) {
	w := trio(t)
	id := w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeENI, "n1/eth1", "n2/eth1")}).Object
	w.place("web", "n1/eth1")
	w.must(SetENI{ID: "n1/eth1", Primary: ptr(true)})
	w.must(UpdateHAVIP{ID: id, Name: ptr("www")})
	w.must(UpdateHAVIP{ID: id, Change: Change{Enabled: ptr(false)}, Range: &Range{Limit: true}}) // disabled in the same breath
}

func TestNodeIsNotedAndClipped(t *testing.T) {
	w := trio(t)
	w.must(UpdateNode{ID: "n-n1", Standby: ptr(true), Version: ptr(strings.Repeat("v", 99))})
	if n := w.node("n1"); !n.Standby || len(n.Version) != MaxNameRunes {
		t.Errorf("%+v", n)
	}
	events := len(w.state.Events)
	w.must(UpdateNode{ID: "n-n1", Standby: ptr(true)})
	if len(w.state.Events) != events {
		t.Error("what was so already is noted again")
	}
}

func TestFailoversAreKeptOnceAndForAWhile(t *testing.T) {
	w := trio(t)
	long := strings.Repeat("é", MaxReason)
	for range 2 {
		w.must(RecordFailover{Failover{HAVIP: "havip-1", Epoch: 1, From: long, Steps: []FailoverStep{{What: long}}}})
	}
	if len(w.state.Failovers) != 1 || len(w.state.Failovers[0].Steps[0].What) != MaxReason || len(w.state.Failovers[0].From) != MaxReason {
		t.Fatalf("%+v", w.state.Failovers)
	}
	for i := range MaxFailovers {
		w.must(RecordFailover{Failover{HAVIP: "havip-1", Epoch: Epoch(i + 2)}})
	}
	if f := w.state.Failovers; len(f) != MaxFailovers || f[0].Epoch != 2 {
		t.Errorf("%d failovers, the oldest of epoch %d", len(f), f[0].Epoch)
	}
}

func TestEventsAreBounded(t *testing.T) {
	w := trio(t)
	s := w.state
	for i := range MaxEvents + 10 {
		s, _, _ = Apply(s, s.Index+1, w.command("", UpdateNode{ID: "n-n1", Standby: ptr(i%2 == 0)}))
	}
	if len(s.Events) != MaxEvents || s.Events[MaxEvents-1].Index != s.Index {
		t.Errorf("%d events, the last of index %d in a state of %d", len(s.Events), s.Events[len(s.Events)-1].Index, s.Index)
	}
}

func TestPartlyRefusedPlacement(t *testing.T) {
	w := trio(t)
	w.havip("web", "10.0.0.100")
	w.havip("api", "10.0.0.101")
	stale := w.to("web", "n1/eth0")
	stale.FromEpoch = 9
	res := w.must(Place{[]Assignment{stale, w.to("api", "n1/eth0")}})
	if len(res.Refused) != 1 || !strings.Contains(res.Refused[0], "computed from 9") {
		t.Errorf("refused: %q", res.Refused)
	}
	if w.get("api").Owner == nil || w.get("web").Owner != nil {
		t.Error("one is done, the other is not")
	}
}

// A claim on a session's HAVIPs, in the order of ids.
func TestClaimed(t *testing.T) {
	w := trio(t)
	for i := range 9 {
		w.havip(fmt.Sprint("h", i), fmt.Sprintf("10.0.0.%d", 100+i))
		w.place(fmt.Sprint("h", i), []string{"n1/eth0", "n2/eth0", "n3/eth0"}[i%3])
	}
	w.place("h0", "n2/eth1") // n1 is draining it
	got := w.state.Claimed(w.session("n1"))
	if len(got) != 3 || !slices.IsSortedFunc(got, func(a, b HAVIP) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("claimed by n1: %v", got)
	}
	if len(w.state.Claimed(w.session("n2"))) != 4 || w.state.Claimed(999) != nil {
		t.Error("claimed by n2, or by nobody")
	}
}

func TestLists(t *testing.T) {
	w := trio(t)
	w.havip("b", "10.0.0.100")
	w.havip("a", "10.0.0.101")
	if l := w.state.HAVIPList(); l[0].Name != "a" || l[1].Name != "b" {
		t.Errorf("%v", l)
	}
	if l := w.state.NodeList(); l[0].Name != "n1" || l[3].Name != "w" {
		t.Errorf("%v", l)
	}
	if l := w.state.SessionList(); len(l) != 3 || l[0].Number >= l[1].Number {
		t.Errorf("%v", l)
	}
	if n, ok := w.state.NodeNamed("n2"); !ok || n.ID != "n-n2" {
		t.Errorf("%v", n)
	}
	if n, ok := w.state.NodeNamed("n-n2"); !ok || n.Name != "n2" {
		t.Errorf("%v", n)
	}
	if _, ok := w.state.NodeNamed("n9"); ok || w.state.NodeName("n-n9") != "n-n9" {
		t.Error("a node that is not there has a name")
	}
	if _, ok := w.state.SessionOf("n-w"); ok {
		t.Error("the witness has no session")
	}
}

func TestIdempotentRequests(t *testing.T) {
	w := trio(t)
	body := CreateHAVIP{Name: "web", IP: addr("10.0.0.100")}
	first := w.tryKey("k", body)
	w.at += int64(time.Minute) // proposed again, later and by another leader
	again := w.tryKey("k", body)
	if !again.Repeated || again.Index != first.Index || again.Object != first.Object || len(w.state.HAVIPs) != 1 {
		t.Errorf("first %+v, again %+v, %d HAVIPs", first, again, len(w.state.HAVIPs))
	}
	// Another kind with the same body is another request.
	wantRefusal(t, w.tryKey("k", SetLease{time.Second}), CodeKeyMismatch, "used for another request")
	// A refused request is not remembered: it may be tried again under its key.
	id := w.get("web").ID
	w.place("web", "n1/eth0")
	wantRefusal(t, w.tryKey("d", DeleteHAVIP{ID: id}), CodeUnsupported, "owned by")
	w.must(UpdateHAVIP{ID: id, Change: Change{Enabled: ptr(false)}})
	if res := w.tryKey("d", DeleteHAVIP{ID: id}); res.Refusal != nil || res.Repeated {
		t.Errorf("%+v", res)
	}
	// Without a key, a request is done as often as it comes.
	w.must(UpdateNode{ID: "n-n1", Standby: ptr(true)})
	w.must(UpdateNode{ID: "n-n1", Standby: ptr(true)})
}

func TestAnsweredRequestsAreBounded(t *testing.T) {
	w := trio(t)
	s := w.state
	send := func(i int) Result {
		next, res, err := Apply(s, s.Index+1, w.command(fmt.Sprint("key-", i), UpdateNode{ID: "n-n1", Standby: ptr(true)}))
		if err != nil {
			t.Fatal(err)
		}
		s = next
		return res
	}
	for i := range MaxAnswered + 1 {
		send(i)
	}
	if len(s.answered) != MaxAnswered {
		t.Errorf("%d requests are remembered", len(s.answered))
	}
	if !send(1).Repeated || !send(MaxAnswered).Repeated {
		t.Error("a request among the last 4096 was done again")
	}
	if send(0).Repeated {
		t.Error("the oldest request is still remembered")
	}
}

// Two placements computed on one state give two lists of draining claims that share no
// memory, however much room the first list had left.
func TestForkedClaims(t *testing.T) {
	w := trio(t)
	w.havip("web", "10.0.0.100")
	for i := range 12 {
		w.place("web", []string{"n1/eth0", "n2/eth0", "n3/eth0"}[i%3])
		if i == 6 {
			w.must(Release{[]ReleasedClaim{{HAVIP: w.get("web").ID, Epoch: 3, Session: w.session("n3")}}})
		}
		left, right := *w, *w
		left.place("web", "n1/eth1")
		left.place("web", "n2/eth1")
		image := snapshot(t, left.state)
		right.place("web", "n3/eth1")
		right.place("web", "n1/eth1")
		if string(snapshot(t, left.state)) != string(image) {
			t.Fatalf("with %d draining claims, one placement changed the other", len(w.get("web").Draining))
		}
	}
}

// A pause is not longer because the clock that made it was ahead and has been set back
// since: the seed that found it is in jepsen/sim.
func TestGaveUpByAClockThatWasAhead(t *testing.T) {
	w := trio(t)
	w.upgrade()
	w.havip("web", "10.0.0.100")
	w.place("web", "n1/eth0")
	w.at += int64(20 * time.Minute)
	w.must(Release{[]ReleasedClaim{{HAVIP: w.get("web").ID, Epoch: 1, Session: w.session("n1"), Failure: "no carrier"}}})
	v, eni := w.get("web"), w.state.ENIs["n1/eth0"]
	if why := w.state.Ineligible(v, eni, w.at+1); why == nil || why.Rule != "gave-up" {
		t.Fatalf("right after the failure: %+v", why)
	}
	w.at -= int64(20 * time.Minute)
	if why := w.state.Ineligible(v, eni, w.at); why != nil {
		t.Fatalf("the clock was set back: %+v", why)
	}
}

// A node was cut off while it reported that its link is down; the report arrives when it is back
// and owns something again. Found by the measurement of host losses: the HAVIP left for nothing.
func TestAReportFromBeforeTheSessionIsLate(t *testing.T) {
	w := trio(t)
	w.upgrade()
	stale := ReportENIs{Node: "n-n1", ENIs: []ENI{eniAt("eth0", "10.0.0.11/24", true)}, Session: w.session("n1")}
	fresh := stale
	w.open("n1")
	w.refuses(stale, CodeStale, "before its session")
	fresh.Session = w.session("n1")
	w.must(fresh)
	fresh.Session = 0 // an older program says nothing
	w.must(fresh)
}

// Rule 8: a shorter lease leaves the longer one in force until that has run out.
func TestTheLongerLeaseStays(t *testing.T) {
	w := cluster(t)
	w.must(SetLease{Lease: time.Second})
	w.must(SetLease{Lease: 200 * time.Millisecond})
	if c := w.state.Cluster; c.Lease != 200*time.Millisecond || c.LeaseMax != time.Second {
		t.Fatalf("lease %v, longest %v", c.Lease, c.LeaseMax)
	}
	w.must(SettleLease{Index: w.state.Cluster.LeaseIndex})
	if c := w.state.Cluster; c.LeaseMax != 200*time.Millisecond {
		t.Fatalf("settled, and the longest is %v", c.LeaseMax)
	}
}
