package fsm

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

var writeGolden = flag.Bool("update", false, "write the golden files again; those of a released version must never change")

const (
	goldenLog      = "testdata/golden/log-v1.txt"
	goldenSnapshot = "testdata/golden/snapshot-v1.bin"
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
		Prefer: map[string]int{"n1": 100, "n2/eth0": -5}, Failback: "5m", Priority: 7,
	})
	w.tryKey("request-1", CreateHAVIP{Name: "another", IP: addr("10.0.0.101")}) // refused
	w.must(UpdateHAVIP{ID: res.Object, Name: ptr("wéb"), Bans: ptr([]string{"n3", "n2/eth1"}), Priority: ptr(8), Failback: ptr("immediate"), Enabled: ptr(true)})
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

func TestGoldenStoryHasEveryKind(t *testing.T) {
	told := map[string]bool{}
	for _, entry := range story(t).log {
		c, err := DecodeCommand(entry)
		if err != nil {
			t.Fatal(err)
		}
		told[c.Kind] = true
	}
	for _, kind := range kindsOfLevel1 {
		if !told[kind] {
			t.Errorf("no %s in the story", kind)
		}
	}
}

// What this version writes is what version 1 has always written.
func TestGoldenBytes(t *testing.T) {
	w := story(t)
	var text strings.Builder
	text.WriteString("# Log entries of version 1, one a line, in hexadecimal. Never changed: old logs look like this.\n")
	for _, entry := range w.log {
		text.WriteString(hex.EncodeToString(entry) + "\n")
	}
	golden(t, goldenLog, []byte(text.String()))
	golden(t, goldenSnapshot, snapshot(t, w.state))
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
func readGoldenLog(t testing.TB) [][]byte {
	t.Helper()
	raw, err := os.ReadFile(goldenLog)
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
		t.Fatalf("only %d entries in %s", len(log), goldenLog)
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
	want, err := os.ReadFile(goldenSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	s := replay(t, New(), readGoldenLog(t))
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
	log := readGoldenLog(t)
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
