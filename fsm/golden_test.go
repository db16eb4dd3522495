package fsm

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var writeGolden = flag.Bool("update", false, "write the golden files again; those of a released version must never change")

const (
	goldenLog      = "testdata/golden/log-v1.txt"
	goldenSnapshot = "testdata/golden/snapshot-v1.bin"

	goldenLog2      = "testdata/golden/log-v2.txt"
	goldenSnapshot2 = "testdata/golden/snapshot-v2.bin"

	goldenLog3      = "testdata/golden/log-v3.txt"
	goldenSnapshot3 = "testdata/golden/snapshot-v3.bin"

	goldenLog4      = "testdata/golden/log-v4.txt"
	goldenSnapshot4 = "testdata/golden/snapshot-v4.bin"
)

// story is one fixed life of a cluster, with every kind of command and every field that
// they have.
func story(t testing.TB) *world {
	w := trio(t)
	w.must(CreateSubnet{Subnet{Name: "six", VPC: "vpc-6", CIDR: prefix("2001:db8::/64"), Gateway: addr("2001:db8::1"), Reserved: []netip.Addr{addr("2001:db8::3"), addr("2001:db8::2")}}})
	w.must(CreateSubnet{subnet("spare", "10.9.0.0/24")})
	w.must(DeleteSubnet{"spare"})
	w.must(SetENI{ID: "n3/eth1", Subnet: ptr("six"), Primary: ptr(true)})
	w.must(SetLease{2 * time.Second})
	w.must(SetLease{300 * time.Millisecond})
	w.at += int64(4 * time.Second)
	w.must(SettleLease{w.state.Cluster.LeaseIndex})
	w.must(SetLease{500 * time.Millisecond})

	res := w.tryKey("request-1", CreateHAVIP{
		Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeCVM, "n2", "n1"),
		Spec: Spec{Prefer: map[string]int{"n1": 100, "n2/eth0": -5}, Failback: "5m", Priority: 7},
	})
	w.tryKey("request-1", CreateHAVIP{Name: "another", IP: addr("10.0.0.101")}) // refused
	w.must(UpdateHAVIP{ID: res.Object, Name: ptr("wéb"), Bans: ptr([]string{"n3", "n2/eth1"}), Change: Change{Priority: ptr(8), Failback: ptr("immediate"), Enabled: ptr(true)}})
	w.must(CreateHAVIP{Name: "auto", Subnet: "net", VPC: DefaultVPC})
	w.must(CreateHAVIP{Name: "v6", IP: addr("2001:db8::5")})
	w.must(CreateHAVIP{Name: "gone", Subnet: "net"})
	w.must(Place{[]Assignment{w.to("wéb", "n1/eth0"), w.to("auto", "n1/eth1"), w.to("gone", "n2/eth1")}})
	w.term = 1
	w.place("wéb", "n2/eth0")
	w.term = 0
	w.place("auto", "n3/eth0")
	w.must(DeleteHAVIP{ID: w.get("gone").ID, Force: true})
	w.must(Release{[]ReleasedClaim{{HAVIP: w.get("auto").ID, Epoch: 1, Session: w.session("n1")}}})
	w.must(Release{[]ReleasedClaim{{HAVIP: w.get("auto").ID, Epoch: 2, Session: w.session("n3"), Failure: "no carrier"}}})

	w.must(UpdateNode{ID: "n-n3", Standby: ptr(true), Maintenance: ptr(true), Version: ptr("v0.1.0")})
	w.must(DrainSession{Node: "n-n1", Session: w.session("n1")})
	w.must(CloseSession{Session: w.session("n1"), Released: true, Place: []Assignment{w.to("auto", "n2/eth1"), w.to("wéb", "n1/eth0")}})
	w.open("n1")
	w.must(ReportEvent{Node: nodeID("n1"), Kind: "conflict", HAVIP: "web", Text: "a foreign MAC claims it"})
	w.must(RecordFailover{Failover{
		HAVIP: w.get("wéb").ID, Epoch: 2, From: "n1/eth0", To: "n2/eth0", At: w.at,
		Steps: []FailoverStep{{What: "lease expired", After: 0}, {What: "placed", After: 12 * time.Millisecond}},
	}})
	w.must(UpdateNode{ID: "n-w", Removing: ptr(true)})
	w.must(RemoveNode{"n-w"})
	w.must(CreateToken{w.token("n4", RoleAgent)})
	return w
}

// policyStory goes on where story ends: the nodes are upgraded, and every command of level
// 2 comes up.
func policyStory(t testing.TB) *world {
	w := story(t)
	w.upgrade()
	w.must(SetCluster{
		Maintenance: ptr(false), Limits: &Limits{PerENI: 5, PerNode: 9}, Rebalance: ptr(RebalanceEven),
		Provider: &Provider{HAVIPsPerVPC: ptr(50), HAVIPsPerENI: ptr(4), RangeMembers: ptr(12), AnnounceInterval: ptr(2 * time.Second), Quarantine: ptr(time.Minute)},
	})
	api := w.must(CreateHAVIP{
		Name: "api", IP: addr("10.0.0.140"), Range: inRange(RangeCVM, "n1", "n2"), Spec: Spec{Require: []string{"n1", "n2"}, Forbid: []string{"n2/eth0"}, Stickiness: ptr(0), Weight: ptr(2), FailLimit: ptr(5), Maintenance: true, Failback: "22:00-04:30"}, EIP: addr("198.51.100.5"),
	}).Object
	w.must(CreateHAVIP{Name: "off", Subnet: "net", Spec: Spec{Disabled: true, Unmanaged: true}})
	w.must(UpdateHAVIP{ID: api, Change: Change{Maintenance: ptr(false), Managed: ptr(true), Require: ptr([]string{"n1"}), Forbid: ptr([]string{}), Stickiness: ptr(7), Weight: ptr(3), FailLimit: ptr(2)}})
	w.must(UpdateNode{ID: "n-n1", Capacity: ptr(10), Score: ptr(-3)})
	w.must(UpdateNode{ID: "n-n2", NoCapacity: true})
	w.must(ChangeRange{ID: api, Type: RangeCVM, Add: []string{"n3"}, Remove: []string{"n2"}})
	w.must(BanHAVIP{ID: api, Target: "n3", For: time.Hour})
	w.must(BanHAVIP{ID: api, Target: "n2/eth1"})
	w.must(UnbanHAVIP{ID: api, Target: "n2/eth1"})
	a := w.to("api", "n1/eth0")
	a.Detail = "n1/eth0 100"
	w.must(Place{[]Assignment{a}})
	w.must(RecordFailure{api, "n-n1", "no answer"})
	w.must(ChangeRange{ID: api, Remove: []string{"n1"}, Evict: true})
	w.must(CloseSession{Session: w.session("n1")})
	w.open("n1")
	w.must(ReportHealth{"n-n2", HealthYellow, "disk 91 %"})
	w.must(CreateGroup{Group{Name: "fronts", Kind: Apart, Hard: true, HAVIPs: []string{"api", "wéb"}}})
	w.must(CreateGroup{Group{Name: "pair", Kind: Together, HAVIPs: []string{"api", "auto"}}})
	w.must(DeleteGroup{"pair"})
	w.must(DrainNode{ID: "n-n1", For: time.Minute})
	w.must(EndDrain{"n-n1", DrainDone})
	w.must(ActivateNode{"n-n1"})
	w.must(ResetFailures{HAVIP: api, Node: "n-n1"})
	w.must(UnbindEIP{api})
	w.must(BindEIP{api, addr("198.51.100.6")})
	cfg := w.state.DesiredConfig()
	cfg.HAVIPs = append(cfg.HAVIPs, HAVIPSpec{Name: "db", IP: addr("10.0.0.150"), Bans: []string{"n1"}, BanEnds: map[string]int64{"n1": w.at + 1}})
	w.must(ApplyConfig{Expected: ptr(w.state.Cluster.Revision), Config: cfg, Prune: true, Note: "one more"})
	w.must(Rollback{To: w.state.Revisions[0].Number, Expected: ptr(w.state.Cluster.Revision)}) // db goes into quarantine
	return w
}

// edgeStory goes on where policyStory ends: the nodes are upgraded again, and every command
// and field of level 3 comes up.
func edgeStory(t testing.TB) *world {
	w := policyStory(t)
	w.upgrade3()
	if sess, open := w.state.SessionOf(nodeID("n2")); open {
		w.must(CloseSession{Session: sess.Number})
	}
	w.open("n2")
	w.must(UpdateNode{ID: nodeID("n3"), Standby: ptr(false), Maintenance: ptr(false)})
	renamed := eniAt("wan0", "10.0.0.31/24", false)
	renamed.MAC = "02:00:00:00:03:01"
	before := renamed
	before.Device = "eth2"
	first := []ENI{eniAt("eth0", "10.0.0.13/24", true), eniAt("eth1", "10.0.0.23/24", false)}
	w.must(ReportENIs{Node: nodeID("n3"), ENIs: append(slices.Clone(first), before), Leftout: "2 devices of containers"})
	w.must(ReportENIs{Node: nodeID("n3"), ENIs: append(slices.Clone(first), renamed)}) // n3/eth2 is called wan0
	w.must(CreateHAVIP{Name: "edge", IP: addr("10.0.0.180")})
	w.must(CreateHAVIP{Name: "clash", IP: addr("10.0.0.181")})
	w.guarded()
	clash := slices.Clone(first)
	clash[1].Prefixes = append(slices.Clone(clash[1].Prefixes), prefix("10.0.0.181/32"))
	w.must(ReportENIs{Node: nodeID("n3"), ENIs: clash})
	w.must(ReportENIs{Node: nodeID("n3"), ENIs: first})
	w.guarded()
	w.place("edge", "n2/eth0")
	v := w.get("edge")
	w.must(Confirm{[]ConfirmedClaim{{HAVIP: v.ID, Epoch: v.Epoch, Session: w.session("n2")}, {HAVIP: v.ID, Epoch: 99, Session: 1}}})
	open := []uint64{w.session("n1"), w.session("n2")}
	slices.Sort(open)
	w.must(CloseSessions{Sessions: open, Place: []Assignment{w.to("edge", "n3/eth0")}})
	w.must(RecordFailovers{[]Failover{{HAVIP: "edge", Epoch: 2, From: "n2/eth0", To: "n3/eth0", At: w.at, Steps: []FailoverStep{{What: "placed", After: time.Millisecond}}}}})
	return w
}

// doorsStory goes on where edgeStory ends: the nodes are upgraded once more, and every command
// and field of level 4 comes up.
func doorsStory(t testing.TB) *world {
	w := edgeStory(t)
	w.upgrade4()
	w.must(RegisterKey{Node: nodeID("n1"), Key: nodeKey(1), LeasePort: 7403})
	w.must(RegisterKey{Node: nodeID("n2"), Key: nodeKey(2), LeasePort: 7403})
	w.must(RegisterKey{Node: nodeID("n1"), Key: nodeKey(3), LeasePort: 7403})
	w.must(RegisterKey{Node: nodeID("n1"), Key: nodeKey(3), LeasePort: 7404, Alone: true})
	w.must(ReportBehind{Session: w.session("n3"), Behind: w.state.Index - 1})
	w.must(RestVote{Node: nodeID("n1")})
	w.must(RestVote{Node: nodeID("n1"), Back: true})
	w.must(RestVote{Node: nodeID("n2")})
	w.must(CreateToken{w.token("n5", RoleAgent)})
	n := newNode("n5", 5)
	n.Version, n.LeasePort, n.Keys = "v4+level.4", 7403, []NodeKey{nodeKey(4)}
	w.must(AddNode{Token: "t-n5", SecretHash: "secret-n5", Node: n})
	return w
}

// keysStory goes on where doorsStory ends: every command and field about keys comes up.
func keysStory(t testing.TB) *world {
	w := doorsStory(t)
	giveKeys(w)
	w.must(SetCluster{CertificateLife: ptr(90 * 24 * time.Hour)})
	w.must(RotateKeys{What: KeyOfNode, Node: nodeID("n2"), Why: "asked for"})
	w.must(RotateKeys{What: KeyOfGossip, Why: "asked for"})
	w.must(OfferKey{What: KeyOfGossip, Node: nodeID("n1"), ID: keyID("gossip", 2)})
	next := caNumber(2)
	next.Cross = caNumber(3).Cert
	w.must(RotateKeys{What: KeyOfCA})
	w.must(OfferKey{What: KeyOfCA, Node: nodeID("n1"), ID: next.ID, CA: next})
	for _, n := range w.state.NodeList() {
		w.tell(n.Name, func(r *KeyReport) {
			r.Trusts, r.Gossip = append(r.Trusts, next.ID), append(r.Gossip, keyID("gossip", 2))
			if n.Name == "n1" {
				r.Holds = append(r.Holds, next.ID)
			}
		})
	}
	w.must(AdvanceKeys{What: KeyOfGossip, Phase: PhaseSpread, New: keyID("gossip", 2), Without: []string{"n-n2"}})
	w.must(AdvanceKeys{What: KeyOfCA, Phase: PhaseSpread, New: next.ID, Force: true})
	w.must(RotateKeys{What: KeyOfCA, Why: "once more"})
	w.must(UpdateNode{ID: nodeID("n2"), KeepCA: ptr(true)})
	return w
}

func TestGoldenStoryHasEveryKind(t *testing.T) {
	haveAll(t, story(t).log, kindsOfLevel1)
	haveAll(t, policyStory(t).log, slices.Concat(kindsOfLevel1, kindsOfLevel2))
	haveAll(t, edgeStory(t).log, slices.Concat(kindsOfLevel1, kindsOfLevel2, kindsOfLevel3))
	haveAll(t, keysStory(t).log, slices.Concat(kindsOfLevel1, kindsOfLevel2, kindsOfLevel3, kindsOfLevel4, kindsOfKeys))
}

func haveAll(t *testing.T, log [][]byte, kinds []string) {
	t.Helper()
	told := map[string]bool{}
	for _, entry := range log {
		c, err := DecodeCommand(entry)
		if err != nil {
			t.Fatal(err)
		}
		told[c.Kind] = true
	}
	for _, kind := range kinds {
		if !told[kind] {
			t.Errorf("no %s in the story", kind)
		}
	}
}

// What this version writes is what version 1 has always written.
func TestGoldenBytes(t *testing.T) {
	for version, w := range map[int]*world{1: story(t), 2: policyStory(t), 3: edgeStory(t), 4: keysStory(t)} {
		var text strings.Builder
		fmt.Fprintf(&text, "# Log entries of version %d, one a line, in hexadecimal. Never changed: old logs look like this.\n", version)
		for _, entry := range w.log {
			text.WriteString(hex.EncodeToString(entry) + "\n")
		}
		golden(t, fmt.Sprintf("testdata/golden/log-v%d.txt", version), []byte(text.String()))
		golden(t, fmt.Sprintf("testdata/golden/snapshot-v%d.bin", version), snapshot(t, w.state))
	}
}

// goldenStory holds the log and the snapshot of a world to the golden files of a name. about says what the
// entries are; the story has to have each of the kinds.
func goldenStory(t *testing.T, w *world, name, about string, kinds ...string) {
	t.Helper()
	haveAll(t, w.log, kinds)
	var text strings.Builder
	fmt.Fprintf(&text, "# Log entries of version 4 %s, one a line, in hexadecimal. Never changed: old logs look like this.\n", about)
	for _, entry := range w.log {
		text.WriteString(hex.EncodeToString(entry) + "\n")
	}
	log, state := "testdata/golden/log-v4-"+name+".txt", "testdata/golden/snapshot-v4-"+name+".bin"
	golden(t, log, []byte(text.String()))
	golden(t, state, snapshot(t, w.state))
	logGivesSnapshot(t, log, state)
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *writeGolden {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s holds other bytes; if they are meant to differ, raise the version and keep the old file", file)
	}
}

// readGoldenLog gives the entries of the file, not those of this program.
func readGoldenLog(t testing.TB, file string) [][]byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var log [][]byte
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 2*MaxCommand)
	for lines.Scan() {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			entry, err := hex.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			log = append(log, entry)
		}
	}
	if len(log) < 40 {
		t.Fatalf("only %d entries in %s", len(log), file)
	}
	return log
}

// replay applies a log, as a replica does.
func replay(t testing.TB, s *State, log [][]byte) *State {
	t.Helper()
	for _, entry := range log {
		c, err := DecodeCommand(entry)
		if err != nil {
			t.Fatal(err)
		}
		if s, _, err = ApplyEntry(s, s.Index+1, 1, c); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestGoldenLogGivesGoldenSnapshot(t *testing.T) {
	logGivesSnapshot(t, goldenLog, goldenSnapshot)
	logGivesSnapshot(t, goldenLog2, goldenSnapshot2)
	logGivesSnapshot(t, goldenLog3, goldenSnapshot3)
	logGivesSnapshot(t, goldenLog4, goldenSnapshot4)
}

func logGivesSnapshot(t *testing.T, goldenLog, goldenSnapshot string) {
	t.Helper()
	want, err := os.ReadFile(goldenSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	s := replay(t, New(), readGoldenLog(t, goldenLog))
	if err := checkInvariants(s); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(snapshot(t, s), want) {
		t.Errorf("%s, replayed, is not %s: this program would diverge from those that wrote it", goldenLog, goldenSnapshot)
	}
	restored, err := ReadSnapshot(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshot(t, restored), want) {
		t.Errorf("%s, read and written, has other bytes", goldenSnapshot)
	}
}

// Cut anywhere, restored from a snapshot there and continued, the log ends the same.
func TestGoldenLogContinuesFromAnySnapshot(t *testing.T) {
	log := readGoldenLog(t, goldenLog4) // it begins with version 1
	want := snapshot(t, replay(t, New(), log))
	s := New()
	for i := range log {
		restored, err := ReadSnapshot(bytes.NewReader(snapshot(t, s)))
		if err != nil {
			t.Fatalf("before entry %d: %v", i, err)
		}
		if !bytes.Equal(snapshot(t, replay(t, restored, log[i:])), want) {
			t.Fatalf("a replica restored before entry %d diverges", i)
		}
		s = replay(t, s, log[i:i+1])
	}
}
