package fsm

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// A HAVIP is placed when the last fence knows it, or the last session that does not is closed.
func TestGuardBeforePlacement(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	v := w.havip("web", "10.0.0.100")
	if v.Guard != w.state.Index || w.state.GuardIndex() != v.Guard {
		t.Fatalf("guarded from %d on, all from %d on, made at %d", v.Guard, w.state.GuardIndex(), w.state.Index)
	}
	w.refuses(Place{[]Assignment{w.to("web", "n1/eth0")}}, CodeNotReady, "it waits for the fence of n1, n2, n3")
	say := func(name string, index uint64) {
		w.must(ReportGuarded{Node: nodeID(name), Session: w.session(name), Index: index})
	}
	say("n1", v.Guard)
	say("n3", v.Guard-1) // not far enough
	w.refuses(Place{[]Assignment{w.to("web", "n1/eth0")}}, CodeNotReady, "it waits for the fence of n2, n3")
	if why := w.state.Ineligible(w.get("web"), w.state.ENIs["n1/eth0"], w.at); why == nil || why.Rule != "unguarded" {
		t.Errorf("eligible: %+v", why)
	}
	say("n3", w.state.Index)
	inputs := w.state.PlacementInputs()
	w.must(CloseSession{Session: w.session("n2")}) // it will not answer for anything
	if w.state.PlacementInputs() == inputs {
		t.Error("the close of the last that a HAVIP waited for goes unnoticed")
	}
	w.place("web", "n1/eth0")
	// A newer HAVIP is no reason to wait with this one, and the owner stays in any case.
	w.havip("api", "10.0.0.101")
	w.place("web", "n3/eth0")
	w.refuses(Place{[]Assignment{w.to("api", "n1/eth0")}}, CodeNotReady, "n1, n3")
	say("n1", w.state.Index)
	inputs = w.state.PlacementInputs()
	say("n3", w.state.Index)
	if w.state.PlacementInputs() == inputs {
		t.Error("the report of the last that a HAVIP waited for goes unnoticed")
	}
	inputs = w.state.PlacementInputs()
	say("n3", w.state.Index)
	if w.state.PlacementInputs() != inputs {
		t.Error("a report that nobody waited for counts as a change")
	}
	w.place("api", "n1/eth0")
	// Several in one entry are refused each by itself.
	w.havip("new", "10.0.0.102")
	res := w.must(Place{[]Assignment{w.to("new", "n1/eth0"), w.to("web", "n1/eth0")}})
	if len(res.Refused) != 1 || !strings.Contains(res.Refused[0], "HAVIP new") {
		t.Errorf("refused: %q", res.Refused)
	}
}

// At the rise to level 3 nobody has said anything: what was there before waits, too, and its
// owner keeps it meanwhile.
func TestGuardFromTheRiseOn(t *testing.T) {
	w := trio(t)
	owned(w)
	w.upgrade()
	for _, n := range w.state.NodeList() {
		w.must(UpdateNode{ID: n.ID, Version: ptr(VersionWithLevel("v3"))})
	}
	v := w.get("web")
	if v.Guard != w.state.Index || v.Owner == nil || w.state.Serving(v) != Pending {
		t.Fatalf("%+v, %s", v, w.state.Serving(v))
	}
	if why := w.state.Ineligible(v, w.state.ENIs[v.Owner.ENI], w.at); why != nil {
		t.Errorf("the owner may not stay: %s", why.Text)
	}
	w.refuses(Place{[]Assignment{w.to("web", "n3/eth1")}}, CodeNotReady, "n1, n2, n3")
	w.guarded()
	w.place("web", "n3/eth1")
}

// A session begins only with a fence that knows every HAVIP.
func TestGuardBeforeASession(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	w.must(CloseSession{Session: w.session("n2")})
	w.havip("web", "10.0.0.100")
	ask := OpenSession{Node: nodeID("n2"), Last: w.session("n2"), Attempt: "again", Guarded: w.state.GuardIndex() - 1}
	w.refuses(ask, CodeNotReady, "guards them and tries again")
	ask.Guarded = w.state.Index + 2
	w.refuses(ask, CodeRange, "the log is at")
	ask.Guarded = w.state.GuardIndex()
	w.must(ask)
	if sess, _ := w.state.SessionOf(nodeID("n2")); sess.Guarded != ask.Guarded {
		t.Errorf("the session guards up to %d", sess.Guarded)
	}
}

func TestReportGuarded(t *testing.T) {
	w := trio(t)
	w.refuses(ReportGuarded{Node: nodeID("n1"), Session: w.session("n1"), Index: 1}, CodeLevel, "command level 3")
	w.upgrade3()
	for _, tc := range []struct {
		b    ReportGuarded
		code Code
		says string
	}{
		{ReportGuarded{nodeID("n1"), w.session("n2"), 1}, CodeStale, "is not open"},
		{ReportGuarded{nodeID("n1"), 9999, 1}, CodeStale, "session 9999 of node n1 is not open"},
		{ReportGuarded{"n-none", w.session("n1"), 1}, CodeStale, "n-none"},
		{ReportGuarded{nodeID("n1"), w.session("n1"), w.state.Index + 9}, CodeRange, "the log is at"},
	} {
		w.refuses(tc.b, tc.code, tc.says)
	}
	at := w.state.Sessions[w.session("n1")].Guarded
	w.must(ReportGuarded{nodeID("n1"), w.session("n1"), at - 1})
	if got := w.state.Sessions[w.session("n1")].Guarded; got != at {
		t.Errorf("it goes back from %d to %d", at, got)
	}
}

// A HAVIP is served when its owner has said so, of this epoch.
func TestServed(t *testing.T) {
	w := trio(t)
	owned(w)
	if s := w.state.Serving(w.get("web")); s != Available {
		t.Errorf("%s at level 1", s)
	}
	w.upgrade3()
	is := func(want Serving) {
		t.Helper()
		if got := w.state.Serving(w.get("web")); got != want {
			t.Fatalf("it is %s, want %s", got, want)
		}
	}
	confirm := func(epoch Epoch, session uint64) {
		w.must(Confirm{[]ConfirmedClaim{{HAVIP: "havip-none", Epoch: 1, Session: 1}, {w.get("web").ID, epoch, session}}})
	}
	is(Pending)
	v := w.get("web")
	confirm(v.Epoch-1, v.Owner.Session)
	confirm(v.Epoch+1, v.Owner.Session)
	confirm(v.Epoch, v.Owner.Session+1)
	is(Pending)
	confirm(v.Epoch, v.Owner.Session)
	is(Available)
	inputs := w.state.PlacementInputs()
	confirm(v.Epoch, v.Owner.Session) // again
	if w.state.PlacementInputs() != inputs {
		t.Error("a confirmation counts as a change of what is placed")
	}
	w.place("web", v.Owner.ENI) // a relabel: a new epoch on the same ENI
	is(Pending)
	confirm(v.Epoch, v.Owner.Session)
	is(Pending)
	confirm(w.get("web").Epoch, w.get("web").Owner.Session)
	is(Available)
	w.must(Release{[]ReleasedClaim{{HAVIP: v.ID, Epoch: w.get("web").Epoch, Session: w.get("web").Owner.Session}}})
	is(Unbound)
	w.refuses(Confirm{}, CodeLimit, "0 claims")
	w.refuses(Confirm{make([]ConfirmedClaim, MaxAssignments+1)}, CodeLimit, "10001 claims")
}

// Sessions that ended together are closed in one entry, and none of them gets anything.
func TestCloseSessions(t *testing.T) {
	w := trio(t)
	w.havip("web", "10.0.0.100")
	w.havip("api", "10.0.0.101")
	w.upgrade3()
	w.place("web", "n1/eth0")
	w.place("api", "n2/eth0")
	one, two := w.session("n1"), w.session("n2")
	place := []Assignment{w.to("web", "n3/eth0"), w.to("api", "n2/eth1")}
	for _, tc := range []struct {
		b    CloseSessions
		code Code
		says string
	}{
		{CloseSessions{}, CodeLimit, "0 sessions"},
		{CloseSessions{Sessions: make([]uint64, MaxSessionsPerEntry+1)}, CodeLimit, "129 sessions"},
		{CloseSessions{Sessions: []uint64{one}, Place: make([]Assignment, MaxAssignments+1)}, CodeLimit, "10001 assignments"},
		{CloseSessions{Sessions: []uint64{one, 9999}}, CodeStale, "session 9999"},
		{CloseSessions{Sessions: []uint64{two, one}}, CodeMalformed, "must ascend"},
		{CloseSessions{Sessions: []uint64{one, one}}, CodeMalformed, "must ascend"},
	} {
		w.refuses(tc.b, tc.code, tc.says)
	}
	res := w.must(CloseSessions{Sessions: []uint64{one, two}, Place: place})
	if len(res.Refused) != 1 || !strings.Contains(res.Refused[0], "is not open") {
		t.Errorf("refused: %q", res.Refused)
	}
	if w.get("web").Owner.ENI != "n3/eth0" || w.get("api").Owner != nil || len(w.state.Sessions) != 1 {
		t.Errorf("web %+v, api %+v, %d sessions", w.get("web").Owner, w.get("api").Owner, len(w.state.Sessions))
	}
	if n := w.node("n1").Flaps.Count; n != 1 {
		t.Errorf("%d lost sessions of n1", n)
	}
}

// One entry of thousands leaves the journals to others, too.
func TestJournalsOfALargeEntry(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	const many = 150
	var b Place
	for i := range many {
		w.havip(fmt.Sprint("h", i), fmt.Sprintf("10.0.0.%d", 90+i))
	}
	w.guarded()
	for i := range many {
		b.Assignments = append(b.Assignments, w.to(fmt.Sprint("h", i), "n1/eth0"))
	}
	events, decisions := len(w.state.Events), len(w.state.Decisions)
	w.must(b)
	if got := len(w.state.Events) - events; got != MaxPlacedEvents+1 {
		t.Errorf("%d events", got)
	}
	if last := w.state.Events[len(w.state.Events)-1].Text; last != "130 more HAVIPs were placed by the same entry" {
		t.Errorf("the last says %q", last)
	}
	if got := len(w.state.Decisions) - decisions; got != MaxDecided {
		t.Errorf("%d decisions", got)
	}
}

// Own addresses are never a HAVIP's, from both sides.
func TestOwnAddresses(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	w.refuses(CreateHAVIP{Name: "own", IP: addr("10.0.0.22"), Spec: Spec{Disabled: true}}, CodeInUse, "node n2")
	w.must(CreateSubnet{subnet("nodes", "192.0.2.0/24")})
	w.refuses(CreateHAVIP{Name: "own", IP: addr("192.0.2.3"), Spec: Spec{Disabled: true}}, CodeInUse, "node n3")
	w.must(CreateHAVIP{Name: "web", IP: addr("192.0.2.9"), Spec: Spec{Disabled: true}})
	w.must(CreateToken{w.token("n9", RoleVoter)})
	join := func(address string) AddNode {
		n := newNode("n9", 9)
		n.Address, n.Version = address, VersionWithLevel("v3")
		return AddNode{Token: "t-n9", SecretHash: "secret-n9", Node: n}
	}
	w.refuses(join("192.0.2.9"), CodeInUse, "192.0.2.9 is the address of HAVIP web")
	w.refuses(join("127.0.0.1"), CodeMalformed, "cannot be reached at 127.0.0.1")
	w.must(join("192.0.2.10"))
	for ip, want := range map[string]string{"192.0.2.10": "n9", "10.0.0.12": "n2", "10.0.0.99": ""} {
		if node, ok := w.state.OwnAddress(addr(ip)); node != want || ok != (want != "") {
			t.Errorf("%s is an own address of %q", ip, node)
		}
	}
}

// An ENI gets the address of a HAVIP: the owner keeps it, nobody gets it after him, and when
// the ENI has lost it again every fence has to know it anew.
func TestAnENIGetsTheAddressOfAHAVIP(t *testing.T) {
	w := trio(t)
	w.havip("web", "10.0.0.100")
	w.upgrade3()
	w.place("web", "n1/eth0")
	enis := []ENI{eniAt("eth0", "10.0.0.13/24", true), eniAt("eth1", "10.0.0.23/24", false)}
	clash := slices.Clone(enis)
	clash[1].Prefixes = append(slices.Clone(clash[1].Prefixes), prefix("10.0.0.100/24"))
	w.report("n3", clash...)
	if _, own := w.state.OwnAddress(addr("10.0.0.100")); own {
		t.Error("it is n3's while n1 has a claim on it")
	}
	if got := w.state.Clashes(); got[w.get("web").ID] != "n3" || len(got) != 1 {
		t.Errorf("clashes %v", got)
	}
	if last := w.state.Events[len(w.state.Events)-1]; last.Kind != "conflict" || !strings.Contains(last.Text, "10.0.0.100 is an own address of n3") {
		t.Errorf("the event says %+v", last)
	}
	w.must(CloseSession{Session: w.session("n1"), Place: []Assignment{w.to("web", "n2/eth0")}})
	if node, own := w.state.OwnAddress(addr("10.0.0.100")); !own || node != "n3" || w.get("web").Owner != nil {
		t.Errorf("own %t, owner %+v", own, w.get("web").Owner)
	}
	w.refuses(Place{[]Assignment{w.to("web", "n2/eth0")}}, CodeUnsupported, "own address of n3")
	restored, err := ReadSnapshot(bytes.NewReader(snapshot(t, w.state)))
	if err != nil {
		t.Fatal(err)
	}
	if node, own := restored.OwnAddress(addr("10.0.0.100")); !own || node != "n3" {
		t.Error("a restored state does not know it")
	}
	guard := w.get("web").Guard
	w.report("n3", enis...)
	if w.get("web").Guard <= guard {
		t.Error("n3's fence let the address be, and need not guard it again")
	}
	w.refuses(Place{[]Assignment{w.to("web", "n2/eth0")}}, CodeNotReady, "n2, n3")
	w.guarded()
	w.place("web", "n2/eth0")
}

// An ENI is known by its MAC, where that is unique.
func TestARenamedDevice(t *testing.T) {
	w := trio(t)
	at := func(device, cidr, mac string) ENI {
		e := eniAt(device, cidr, false)
		e.MAC = mac
		return e
	}
	a, b := "02:00:00:00:00:0a", "02:00:00:00:00:0b"
	report := func(enis ...ENI) {
		t.Helper()
		w.must(ReportENIs{Node: nodeID("n2"), ENIs: enis})
	}
	report(at("eth0", "10.0.0.12/24", a), at("eth1", "10.0.0.22/24", b))
	report(at("eth0", "10.0.0.12/24", a), at("wan0", "10.0.0.22/24", b))
	if e, ok := w.state.ENIOf(nodeID("n2"), "wan0"); !ok || e.ID != "n2/wan0" {
		t.Errorf("at level 1 it is %+v", e)
	}
	report(at("eth0", "10.0.0.12/24", a), at("eth1", "10.0.0.22/24", b))
	w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeENI, "n2/eth1")})
	w.upgrade3()
	w.must(ReportENIs{Node: nodeID("n2"), ENIs: []ENI{at("eth0", "10.0.0.12/24", a), at("lan1", "10.0.0.22/24", b)}})
	e, ok := w.state.ENIOf(nodeID("n2"), "lan1")
	if !ok || e.ID != "n2/eth1" || e.Detached {
		t.Fatalf("%+v", e)
	}
}

// The range of a HAVIP goes on when its only ENI is renamed, also when its old name is given
// to another card.
func TestARenamedDeviceInARange(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	at := func(device, cidr, mac string) ENI {
		e := eniAt(device, cidr, false)
		e.MAC = mac
		return e
	}
	a, b, c := "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
	w.report("n2", at("eth0", "10.0.0.12/24", a), at("eth1", "10.0.0.22/24", b))
	w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeENI, "n2/eth1")})
	w.guarded()
	w.report("n2", at("eth0", "10.0.0.12/24", a), at("lan1", "10.0.0.22/24", b))
	if e := w.state.ENIs["n2/eth1"]; e.Device != "lan1" || e.Detached || !e.Up {
		t.Fatalf("%+v", e)
	}
	w.place("web", "n2/eth1")
	w.report("n2", at("eth0", "10.0.0.12/24", a), at("lan1", "10.0.0.22/24", b), at("eth1", "10.0.0.32/24", c))
	if e, _ := w.state.ENIOf(nodeID("n2"), "eth1"); e.ID != "n2/eth1~2" || e.MAC != c {
		t.Errorf("the new eth1 is %+v", e)
	}
	// Two of one MAC: nobody can tell which was renamed.
	w.report("n2", at("eth0", "10.0.0.12/24", a), at("x0", "10.0.0.22/24", b), at("x1", "10.0.0.42/24", b))
	if e := w.state.ENIs["n2/eth1"]; !e.Detached {
		t.Errorf("%+v", e)
	}
	if last := w.state.Events; !slices.ContainsFunc(last, func(e Event) bool {
		return strings.Contains(e.Text, "is not unique on node n2; if it was n2/eth1, `havip range add HAVIP n2/x0`")
	}) {
		t.Error("no event names the command")
	}
}

// A report of too many devices is kept as far as it goes, with a word.
func TestTooManyENIsAreCut(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	var enis []ENI
	for i := range MaxENIsPerNode + 3 {
		enis = append(enis, ENI{Device: fmt.Sprintf("veth%03d", i), Up: true, Prefixes: []netip.Prefix{prefix(fmt.Sprintf("10.7.%d.1/24", i))}})
	}
	w.report("n2", enis...)
	if got := w.node("n2").Leftout; got != "3 devices beyond the limit of 64: veth064, veth065, veth066" {
		t.Errorf("left out: %q", got)
	}
	if e, ok := w.state.ENIOf(nodeID("n2"), "veth063"); !ok || e.Detached {
		t.Errorf("the last that fits: %+v", e)
	}
	w.must(ReportENIs{Node: nodeID("n2"), ENIs: enis[:5], Leftout: "containers"})
	if got := w.node("n2").Leftout; got != "containers" {
		t.Errorf("left out: %q", got)
	}
	w.report("n2", enis[:5]...)
	if got := w.node("n2").Leftout; got != "" {
		t.Errorf("left out: %q", got)
	}
}

// A device that its node does not report, a virtual one without an address, becomes an ENI by the
// operator's word, as soon as the node has found it.
func TestAwaitedENI(t *testing.T) {
	w := trio(t)
	w.refuses(SetENI{ID: "n1/veth7", Subnet: ptr("net")}, CodeNotFound, "n1/veth7") // some node could not read it
	w.upgrade3()
	w.must(SetENI{ID: "n1/veth7", Subnet: ptr("net")})
	e := w.state.ENIs["n1/veth7"]
	if !e.Detached || e.Node != nodeID("n1") || e.Device != "veth7" || e.Subnet != "net" {
		t.Fatalf("%+v", e)
	}
	v := w.havip("web", "10.0.0.100")
	for _, name := range []string{"n1", "n2", "n3"} {
		w.must(ReportGuarded{Node: nodeID(name), Session: w.session(name), Index: w.state.Index})
	}
	if o := w.state.Ineligible(v, e, w.at); o == nil {
		t.Error("it may own a HAVIP before its node has found it")
	}
	w.report("n1", eniAt("eth0", "10.0.0.11/24", true), eniAt("eth1", "10.0.0.21/24", false), ENI{Device: "veth7", MAC: "02:00:00:00:00:77", Up: true})
	if e = w.state.ENIs["n1/veth7"]; e.Detached || e.SetSubnet != "net" || e.Subnet != "net" {
		t.Errorf("%+v", e)
	}
	if o := w.state.Ineligible(v, e, w.at); o != nil {
		t.Errorf("and then: %+v", o)
	}
}

// Force, at the creation or later, has nobody ask for the address, and those who gave the HAVIP up try again.
func TestForcedAddress(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	w.must(CreateHAVIP{Name: "forced", IP: addr("10.0.0.101"), Force: true})
	v := w.havip("web", "10.0.0.100")
	if f, _ := w.state.HAVIPNamed("forced"); !f.Free || v.Free {
		t.Fatalf("forced: free %t; the other one: %t", f.Free, v.Free)
	}
	v.GaveUp = map[string]GaveUp{"n1/eth0": {Until: w.at + int64(GiveUpPause), Reason: "in use"}}
	w.state.HAVIPs[v.ID] = v
	w.must(UpdateHAVIP{ID: v.ID, Force: true})
	if v = w.state.HAVIPs[v.ID]; !v.Free || len(v.GaveUp) > 0 {
		t.Errorf("%+v", v)
	}
	// While it is disabled somebody else may take the address.
	w.must(UpdateHAVIP{ID: v.ID, Change: Change{Enabled: ptr(false)}})
	w.must(UpdateHAVIP{ID: v.ID, Change: Change{Enabled: ptr(true)}})
	if v = w.state.HAVIPs[v.ID]; v.Free {
		t.Error("nobody asks for its address after it was disabled")
	}
}
