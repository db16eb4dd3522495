package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A domainRow is one of the rules R1 to R28, or an edge case E1 to E36, of the domain that
// this machine imitates. docs/rules.md says where each is enforced.
type domainRow struct {
	id, says string
	run      func(t *testing.T, w *world)
}

// refusing is a row of one refusal.
func refusing(given func(*world), body func(*world) Body, code Code, says string) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		if given != nil {
			given(w)
		}
		w.refuses(body(w), code, says)
	}
}

// want fails when something that has to hold does not.
func want(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Errorf(format, args...)
	}
}

func (w *world) why(name, eni string) string {
	if o := w.state.Ineligible(w.get(name), w.state.ENIs[eni], w.at); o != nil {
		return o.Rule
	}
	return ""
}

func (w *world) warned(name, fragment string) bool {
	return slices.ContainsFunc(w.state.Warnings(w.get(name)), func(s string) bool { return strings.Contains(s, fragment) })
}

func (w *world) hasEvent(kind, fragment string) bool {
	return slices.ContainsFunc(w.state.Events, func(e Event) bool { return e.Kind == kind && strings.Contains(e.Text, fragment) })
}

// releaseAll lets every holder give back what drains.
func (w *world) releaseAll() {
	for _, v := range w.state.HAVIPList() {
		for _, cl := range v.Draining {
			w.must(Release{[]ReleasedClaim{{HAVIP: v.ID, Epoch: cl.Epoch, Session: cl.Session}}})
		}
	}
}

func TestDomain(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range slices.Concat(objectRows, rangeRows, ownerRows) {
		seen[row.id] = true
		t.Run(row.id+" "+row.says, func(t *testing.T) {
			w := trio(t)
			w.upgrade()
			row.run(t, w)
		})
	}
	documented := documentedRules(t)
	for _, id := range slices.Sorted(maps.Keys(documented)) {
		if strings.Contains(documented[id], "`TestDomain/"+id+" ") && !seen[id] {
			t.Errorf("docs/rules.md speaks of TestDomain/%s, which is not there", id)
		}
	}
	for id := range seen {
		if !strings.Contains(documented[id], "`TestDomain/"+id) {
			t.Errorf("docs/rules.md does not say that TestDomain/%s is tested", id)
		}
	}
}

// documentedRules reads the rows of docs/rules.md, and checks that every rule has one and
// that every test which it names exists.
func documentedRules(t *testing.T) map[string]string {
	raw, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([RE]\d+) \|.*$`).FindAllStringSubmatch(string(raw), -1) {
		rows[m[1]] = m[0]
	}
	for i := 1; i <= 36; i++ {
		for _, id := range []string{fmt.Sprint("R", i), fmt.Sprint("E", i)} {
			if _, ok := rows[id]; !ok && (i <= 28 || id[0] == 'E') {
				t.Errorf("docs/rules.md has no row for %s", id)
			}
		}
	}
	known := testsOfTheTree(t)
	for id, row := range rows {
		names := regexp.MustCompile("`(Test[A-Za-z0-9]+)").FindAllStringSubmatch(row, -1)
		if len(names) == 0 && !strings.Contains(row, "not tested:") {
			t.Errorf("docs/rules.md names no test for %s", id)
		}
		for _, m := range names {
			if !known[m[1]] {
				t.Errorf("docs/rules.md: %s names %s, which is not there", id, m[1])
			}
		}
	}
	return rows
}

// testsOfTheTree finds the names of all tests.
func testsOfTheTree(t *testing.T) map[string]bool {
	known := map[string]bool{}
	find := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, m := range find.FindAllStringSubmatch(string(raw), -1) {
			known[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// The HAVIP and its address.
var objectRows = []domainRow{
	{"R1", "a name is trimmed and counted in characters", func(t *testing.T, w *world) {
		id := w.must(CreateHAVIP{Name: "  " + strings.Repeat("ü", 60) + " ", IP: addr("10.0.0.100")}).Object
		want(t, w.state.HAVIPs[id].Name == strings.Repeat("ü", 60), "it is called %q", w.state.HAVIPs[id].Name)
		w.refuses(UpdateHAVIP{ID: id, Name: ptr(strings.Repeat("ü", 61))}, CodeTooLong, "61 characters, at most 60")
	}},
	{"R1", "a name that two share is refused with both ids", func(t *testing.T, w *world) {
		a, b := w.havip("web", "10.0.0.100"), w.havip("web", "10.0.0.101")
		_, refusal := w.state.HAVIPNamed("web")
		want(t, refusal != nil && strings.Contains(refusal.Message, a.ID) && strings.Contains(refusal.Message, b.ID), "%v", refusal)
	}},
	{"R2", "an address in no network that is known", refusing(nil, at("10.66.0.9"), CodeRange, "no subnet holds 10.66.0.9")},
	{"R3", "an unknown VPC", refusing(nil, creating(func(b *CreateHAVIP) { b.VPC = "vpc-none" }), CodeRange, "no subnet of vpc-none holds")},
	{"R4", "a subnet of another VPC", refusing(nil, creating(func(b *CreateHAVIP) { b.Subnet, b.VPC = "net", "vpc-2" }), CodeParameter, "subnet net belongs to vpc-default, not vpc-2")},
	{"R4", "a subnet that is not there", refusing(nil, creating(func(b *CreateHAVIP) { b.Subnet = "none" }), CodeSubnetNotExist, `"none"`)},
	{"R4", "a subnet with a HAVIP stays", refusing(web, does(DeleteSubnet{"net"}), CodeInUse, "holds HAVIP web")},
	{"R5", "an address is chosen above the last one, and not one in quarantine", func(t *testing.T, w *world) {
		w.must(CreateSubnet{subnet("tiny", "10.1.0.0/29")}) // usable .2 to .6
		ip := func(name string) string {
			return w.state.HAVIPs[w.must(CreateHAVIP{Name: name, Subnet: "tiny"}).Object].IP.String()
		}
		want(t, ip("a") == "10.1.0.2" && ip("b") == "10.1.0.3", "not the lowest first")
		w.must(DeleteHAVIP{ID: w.get("a").ID})
		want(t, ip("c") == "10.1.0.4" && ip("d") == "10.1.0.5" && ip("e") == "10.1.0.6", "not on from the last one")
		w.refuses(CreateHAVIP{Name: "f", Subnet: "tiny"}, CodeInsufficient, "no free address") // .2 is in quarantine
		w.at += int64(time.Minute)
		want(t, ip("f") == "10.1.0.2", "not round after the quarantine")
	}},
	{"R6", "an address outside its subnet", refusing(nil, creating(func(b *CreateHAVIP) { b.Subnet, b.IP = "net", addr("10.0.1.5") }), CodeRange, "10.0.1.5 is not in subnet net (10.0.0.0/24)")},
	{"R6", "an IPv4 address in the dress of IPv6", refusing(nil, at("::ffff:10.0.0.101"), CodeRange, "no subnet holds")},
	{"R7", "reserved addresses are counted from the prefix", func(_ *testing.T, w *world) {
		w.must(CreateSubnet{subnet("a", "10.1.0.64/26")})
		for ip, why := range map[string]string{"10.1.0.64": "network", "10.1.0.65": "gateway", "10.1.0.127": "broadcast"} {
			w.refuses(CreateHAVIP{Name: "x", IP: addr(ip)}, CodeReserved, ip+" is reserved ("+why+") in subnet a")
		}
		w.havip("last", "10.1.0.126")
	}},
	{"R7", "the first host is reserved by provider tencent, whatever the gateway", refusing(
		all(provided(Provider{Name: "tencent"}), after(CreateSubnet{Subnet{Name: "g", CIDR: prefix("10.4.0.0/24"), Gateway: addr("10.4.0.9")}})), at("10.4.0.1"), CodeReserved, "(gateway)")},
	{"R8", "an address of an ENI names the ENI and its node", refusing(nil, at("10.0.0.21"), CodeInUse, "used by ENI n1/eth1 (node n1)")},
	{"R8", "an ENI that comes with the address of a HAVIP is told of", func(t *testing.T, w *world) {
		web(w)
		w.report("n2", eniAt("eth0", "10.0.0.12/24", true), eniAt("eth7", "10.0.0.100/24", false))
		want(t, w.hasEvent("conflict", "ENI n2/eth7 has the address 10.0.0.100 of HAVIP web"), "no event: %v", w.state.Events)
		n := len(w.state.Events)
		w.report("n2", eniAt("eth0", "10.0.0.12/24", true), eniAt("eth7", "10.0.0.100/24", false))
		want(t, len(w.state.Events) == n, "told twice")
	}},
	{"R9", "owned or not, as the list says", func(t *testing.T, w *world) {
		web(w)
		want(t, w.get("web").Owner == nil, "owned from the start")
		w.place("web", "n1/eth0")
		want(t, w.get("web").Owner != nil, "not owned after it was placed")
	}},
	{"R10", "a HAVIP that is not there", func(t *testing.T, w *world) {
		_, refusal := w.state.HAVIPNamed("none")
		want(t, refusal != nil && refusal.Code == CodeNotFound, "%v", refusal)
	}},
	{"R26", "a quota of HAVIPs for each VPC", func(_ *testing.T, w *world) {
		w.must(SetCluster{Provider: &Provider{HAVIPsPerVPC: ptr(1)}})
		web(w)
		w.refuses(CreateHAVIP{Name: "b", IP: addr("10.0.0.101")}, CodeLimit, "vpc-default has 1 of 1 HAVIPs")
		w.must(CreateSubnet{Subnet{Name: "other", VPC: "vpc-2", CIDR: prefix("10.0.0.0/24")}})
		w.must(CreateHAVIP{Name: "b", IP: addr("10.0.0.101"), Subnet: "other"})
	}},
	{"E1", "usable addresses of small subnets", func(t *testing.T, w *world) {
		for cidr, n := range map[string]int{"10.1.0.0/28": 13, "10.1.1.0/29": 5, "10.1.2.0/30": 1, "10.1.3.0/31": 0, "10.1.4.0/32": 0} {
			name := strings.ReplaceAll(cidr, "/", "-")
			w.must(CreateSubnet{subnet(name, cidr)})
			want(t, w.state.Usable(w.state.Subnets[name], 100) == n, "%s: %d", cidr, w.state.Usable(w.state.Subnets[name], 100))
		}
		w.must(CreateHAVIP{Name: "one", Subnet: "10.1.2.0-30"})
		want(t, w.warned("one", "has 1 usable addresses"), "%v", w.state.Warnings(w.get("one")))
		want(t, w.hasEvent("warning", "has 1 usable"), "not in the journal")
	}},
	{"E2", "gateway, network and broadcast", func(_ *testing.T, w *world) {
		for ip, why := range map[string]string{"10.0.0.0": "network", "10.0.0.1": "gateway", "10.0.0.255": "broadcast"} {
			w.refuses(CreateHAVIP{Name: "x", IP: addr(ip)}, CodeReserved, "("+why+")")
		}
	}},
	{"E3", "the primary address of an ENI", refusing(nil, at("10.0.0.13"), CodeInUse, "used by ENI n3/eth0")},
	{"E4", "two creations of one address", refusing(web, at("10.0.0.100"), CodeInUse, "used by HAVIP web")},
	{"E4", "a key repeated, and a key used for something else", func(t *testing.T, w *world) {
		body := CreateHAVIP{Name: "web", IP: addr("10.0.0.100")}
		first, again := w.tryKey("k", body), w.tryKey("k", body)
		want(t, again.Repeated && again.Object == first.Object && len(w.state.HAVIPs) == 1, "%+v", again)
		body.Name = "other"
		wantRefusal(t, w.tryKey("k", body), CodeKeyMismatch, "used for another request")
	}},
	{"E5", "a log replayed chooses the same address", func(t *testing.T, w *world) {
		w.must(CreateHAVIP{Name: "auto", Subnet: "net"})
		s := replay(t, New(), w.log)
		v, _ := s.HAVIPNamed("auto")
		want(t, v.IP == w.get("auto").IP && v.ID == w.get("auto").ID, "%+v", v)
	}},
	{"E6", "deleted and created again at once", func(t *testing.T, w *world) {
		owned(w)
		w.must(DeleteHAVIP{ID: w.get("web").ID, Force: true})
		w.refuses(CreateHAVIP{Name: "b", IP: addr("10.0.0.100")}, CodeInUse, "waits for its owner's release")
		w.releaseAll()
		w.refuses(CreateHAVIP{Name: "b", IP: addr("10.0.0.100")}, CodeInUse, "in quarantine for 1m0s more")
		w.must(CreateHAVIP{Name: "b", IP: addr("10.0.0.100"), ReuseNow: true})
		want(t, len(w.state.Quarantine) == 0, "%v", w.state.Quarantine)
	}},
	{"E7", "two prefixes of one VPC are two subnets", func(t *testing.T, w *world) {
		w.must(CreateSubnet{subnet("aux", "10.8.0.0/24")})
		web(w)
		w.must(CreateHAVIP{Name: "b", IP: addr("10.8.0.9")})
		want(t, w.get("b").Subnet == "aux" && w.why("b", "n1/eth0") == "other-subnet", "%+v: %s", w.get("b"), w.why("b", "n1/eth0"))
	}},
	{"E8", "a new name that is the old one, or of one being deleted", func(_ *testing.T, w *world) {
		owned(w)
		w.must(update(UpdateHAVIP{Name: ptr("web")})(w))
		id := w.get("web").ID
		w.must(DeleteHAVIP{ID: id, Force: true})
		w.refuses(UpdateHAVIP{ID: id, Name: ptr("web")}, CodeUnsupported, "being deleted")
	}},
	{"E9", "address, subnet and VPC are for life", func(_ *testing.T, w *world) {
		web(w)
		for _, spec := range []HAVIPSpec{{Name: "web", IP: addr("10.0.0.101")}, {Name: "web", Subnet: "x"}, {Name: "web", VPC: "x"}} {
			w.refuses(ApplyConfig{Config: Config{HAVIPs: []HAVIPSpec{spec}}}, CodeUnsupported, "create a new one")
		}
	}},
	{"R23", "a second EIP", refusing(all(web, withEIP("198.51.100.1")), of(func(id string) Body { return BindEIP{id, addr("198.51.100.2")} }), CodeBindEIP, "already has EIP 198.51.100.1")},
	{"R24", "no EIP to unbind", refusing(web, of(func(id string) Body { return UnbindEIP{id} }), CodeUnbindEIP, "has no EIP")},
	{"R24", "an EIP unbound", func(t *testing.T, w *world) {
		web(w)
		withEIP("198.51.100.1")(w)
		w.must(UnbindEIP{w.get("web").ID})
		want(t, !w.get("web").EIP.IsValid() && w.hasEvent("eip", "public traffic to it stops"), "%+v", w.get("web"))
	}},
	{"R25", "deletion with an EIP", refusing(all(owned, withEIP("198.51.100.1")), of(func(id string) Body { return DeleteHAVIP{ID: id, Force: true} }), CodeUnsupported, "unbind that first")},
	{"R25", "deletion under an owner", refusing(owned, of(func(id string) Body { return DeleteHAVIP{ID: id} }), CodeUnsupported, "owned by n1/eth0; disable it first, or delete it with --force")},
	{"R25", "forced, the owner releases first", func(t *testing.T, w *world) {
		owned(w)
		w.must(DeleteHAVIP{ID: w.get("web").ID, Force: true})
		v := w.get("web")
		want(t, v.Deleting && v.Owner == nil && len(v.Draining) == 1, "%+v", v)
		w.releaseAll()
		want(t, len(w.state.HAVIPs) == 0 && len(w.state.Quarantine) == 1, "%v %v", w.state.HAVIPs, w.state.Quarantine)
	}},
	{"E33", "an EIP without an owner is idle", func(t *testing.T, w *world) {
		owned(w)
		withEIP("198.51.100.1")(w)
		want(t, !w.warned("web", "is idle"), "idle under an owner")
		w.must(CloseSession{Session: w.session("n1")})
		want(t, w.warned("web", "EIP 198.51.100.1 is idle"), "%v", w.state.Warnings(w.get("web")))
	}},
	{"E34", "an EIP of another", refusing(all(webAndAPI, withEIP("198.51.100.1")), func(w *world) Body { return BindEIP{w.get("api").ID, addr("198.51.100.1")} }, CodeInUse, "bound to HAVIP web")},
	{"E36", "the same EIP once more", func(t *testing.T, w *world) {
		web(w)
		withEIP("198.51.100.1")(w)
		withEIP("198.51.100.1")(w)
		want(t, w.get("web").EIP == netip.MustParseAddr("198.51.100.1"), "%v", w.get("web").EIP)
	}},
}
