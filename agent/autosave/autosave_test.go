package autosave

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

func newTest(t *testing.T, plan fsm.SnapshotPlan) (*Saver, *fsm.State, *time.Time, *bytes.Buffer) {
	t.Helper()
	st := fsm.New()
	c, err := fsm.NewCommand(1, "", "", fsm.InitCluster{ID: "c-0123456789abcdef", Profile: "lan", Lease: 500 * time.Millisecond, Node: fsm.Node{
		ID: "n-1", Name: "n1", Address: "192.0.2.1", APIPort: 7400, RaftPort: 7401, GossipPort: 7402, Role: fsm.RoleVoter, KeyHash: "k", Version: fsm.VersionWithLevel("v"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	st, res, err := fsm.Apply(st, 1, c)
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	if err != nil {
		t.Fatal(err)
	}
	set, err := fsm.NewCommand(2, "", "", fsm.SetCluster{Snapshots: &plan})
	if err == nil {
		st, res, err = fsm.Apply(st, 2, set)
	}
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	var log bytes.Buffer
	s := &Saver{
		Dir: t.TempDir(), Node: "n-1", Log: slog.New(slog.NewTextHandler(&log, nil)), State: func() *fsm.State { return st },
		Now: func() time.Time { return now }, Room: func(string) (uint64, error) { return 1 << 40, nil },
	}
	return s, st, &now, &log
}

func files(t *testing.T, s *Saver) []string {
	t.Helper()
	list, err := List(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range list {
		out = append(out, f.Name)
	}
	return out
}

// TestPlan: one file when it is due, the newest ones are kept, each can be read, and what somebody
// else put there stays.
func TestPlan(t *testing.T) {
	s, st, now, _ := newTest(t, fsm.SnapshotPlan{Every: time.Hour, Keep: 3})
	s.SaveIfDue()
	s.SaveIfDue()
	if got := files(t, s); len(got) != 1 || got[0] != "auto-20261129T120000Z-2.snap" {
		t.Fatalf("%q", got)
	}
	other := filepath.Join(s.Dir, Folder, "monday")
	if err := os.WriteFile(other, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		*now = now.Add(61 * time.Minute)
		s.SaveIfDue()
	}
	got := files(t, s)
	if len(got) != 3 || got[0] != "auto-20261129T170500Z-2.snap" || s.Problem() != "" {
		t.Fatalf("%q, %q", got, s.Problem())
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	raw, err := os.ReadFile(filepath.Join(s.Dir, Folder, got[0]))
	if err != nil {
		t.Fatal(err)
	}
	back, err := fsm.ReadSnapshot(bytes.NewReader(raw))
	if err != nil || back.Index != st.Index || back.Cluster.Snapshots.Keep != 3 {
		t.Errorf("%v, %+v", err, back)
	}
	if info, err := os.Stat(filepath.Join(s.Dir, Folder, got[0])); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// TestClockThatWasAhead: files from the future, as many as are kept, hold up none of the next ones, and
// go first.
func TestClockThatWasAhead(t *testing.T) {
	s, _, now, _ := newTest(t, fsm.SnapshotPlan{Every: time.Hour, Keep: 3})
	*now = now.Add(48 * time.Hour)
	for range 4 {
		*now = now.Add(time.Hour)
		s.SaveIfDue()
	}
	*now = now.Add(-52 * time.Hour)
	for n, want := range []string{"auto-20261129T120000Z-2.snap", "auto-20261129T130000Z-2.snap", "auto-20261129T140000Z-2.snap"} {
		for range 3 { // the plan is looked at more often than a file is due
			s.SaveIfDue()
			*now = now.Add(time.Minute)
		}
		*now = now.Add(57 * time.Minute)
		if got := files(t, s); len(got) != 3 || !slices.Contains(got, want) || slices.IndexFunc(got, func(name string) bool { return name < "auto-20261130" }) != 2-n {
			t.Errorf("after %d: %q", n+1, got)
		}
	}
	if s.Problem() != "" {
		t.Error(s.Problem())
	}
}

// TestKilledWhileSaving: what a process that was killed left half written goes with the next one, and
// nothing else does.
func TestKilledWhileSaving(t *testing.T) {
	s, _, now, _ := newTest(t, fsm.SnapshotPlan{Every: time.Hour, Keep: 3})
	s.SaveIfDue()
	dir := filepath.Join(s.Dir, Folder)
	for _, name := range []string{"auto-20261129T110000Z-1.snap.part", "auto-20261128T110000Z-1.snap.part", "monday.part"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	*now = now.Add(2 * time.Hour)
	s.SaveIfDue()
	left, err := filepath.Glob(filepath.Join(dir, "*.part"))
	if got := files(t, s); err != nil || len(got) != 2 || len(left) != 1 || filepath.Base(left[0]) != "monday.part" {
		t.Errorf("%v: %q, %q", err, got, left)
	}
}

// TestFullDisk: what would leave too little for the log is not written, and a write that fails
// leaves nothing; both are told, and the next one that works ends that.
func TestFullDisk(t *testing.T) {
	s, _, now, log := newTest(t, fsm.SnapshotPlan{Every: time.Minute, Keep: 3})
	s.Room = func(string) (uint64, error) { return RoomMin, nil }
	s.SaveIfDue()
	if got := files(t, s); len(got) != 0 || !strings.Contains(s.Problem(), "64 MiB stay free for the log; make room there") || !strings.Contains(log.String(), "not saved") {
		t.Fatalf("%q, %q", got, s.Problem())
	}
	s.Room = func(string) (uint64, error) { return 0, fmt.Errorf("no disk") }
	s.SaveIfDue()
	if !strings.Contains(s.Problem(), "no disk") {
		t.Errorf("%q", s.Problem())
	}
	s.Room = nil
	if err := os.RemoveAll(filepath.Join(s.Dir, Folder)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, Folder), nil, 0o600); err != nil { // no directory can be made
		t.Fatal(err)
	}
	s.SaveIfDue()
	if s.Problem() == "" {
		t.Error("nothing is told")
	}
	if err := os.Remove(filepath.Join(s.Dir, Folder)); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Minute)
	s.SaveIfDue()
	if got := files(t, s); len(got) != 1 || s.Problem() != "" {
		t.Errorf("%q, %q", got, s.Problem())
	}
}

// TestWhoSaves: without a plan nobody, and an agent never.
func TestWhoSaves(t *testing.T) {
	s, _, _, _ := newTest(t, fsm.SnapshotPlan{})
	s.SaveIfDue()
	if got := files(t, s); len(got) != 0 {
		t.Errorf("without a plan: %q", got)
	}
	s, st, _, _ := newTest(t, fsm.SnapshotPlan{Every: time.Hour, Keep: 1})
	n := st.Nodes["n-1"]
	n.Role = fsm.RoleAgent
	st.Nodes["n-1"] = n
	s.SaveIfDue()
	if got := files(t, s); len(got) != 0 {
		t.Errorf("an agent: %q", got)
	}
}
