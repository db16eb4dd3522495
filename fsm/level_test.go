package fsm

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/internal/limits"
)

func TestVersionWithLevel(t *testing.T) {
	for _, tc := range []struct {
		reported, version string
		level             int
	}{
		{"", "", 1}, {"v1.2.3", "v1.2.3", 1}, {"v2+level.2", "v2", 2}, {"v2-dirty+level.17", "v2-dirty", 17}, {"+level.2", "", 2},
		{"v2+level.", "v2+level.", 1}, {"v2+level.0", "v2+level.0", 1}, {"v2+level.-2", "v2+level.-2", 1}, {"v2+level.2x", "v2+level.2x", 1},
		{"v2+level.02", "v2+level.02", 1}, {"v2+level.99999", "v2+level.99999", 1}, {"v2+level.2+level.3", "v2+level.2+level.3", 1},
	} {
		version, level := SplitVersion(tc.reported)
		if version != tc.version || level != tc.level || (Node{Version: tc.reported}).CommandLevel() != level {
			t.Errorf("%q: %q reads level %d, want %q and %d", tc.reported, version, level, tc.version, tc.level)
		}
	}
	for _, version := range []string{"", "v2", strings.Repeat("v", 200), strings.Repeat("é", 60), VersionWithLevel("v2")} {
		reported := VersionWithLevel(version)
		if (Node{Version: reported}).CommandLevel() != CommandLevel || len(reported) > MaxNameRunes {
			t.Errorf("%q is reported as %q", version, reported)
		}
		if again := VersionWithLevel(reported); again != reported {
			t.Errorf("%q, reported again, is %q", reported, again)
		}
	}
}

// The level rises when the last node has said that it reads it, or when the last one that
// does not has gone; and it never sinks.
func TestLevelRisesAndStays(t *testing.T) {
	w := trio(t)
	for _, name := range []string{"n1", "n2", "n3"} {
		w.must(UpdateNode{ID: nodeID(name), Version: ptr("v2+level.2")})
		if w.state.Level() != 1 {
			t.Fatalf("level %d, and the witness has said nothing", w.state.Level())
		}
	}
	w.must(UpdateNode{ID: "n-w", Version: ptr("v1+level.1")})
	w.must(RemoveNode{"n-w"})
	if w.state.Level() != 2 {
		t.Fatalf("level %d without the witness", w.state.Level())
	}
	w.must(UpdateNode{ID: "n-n1", Version: ptr("v1")})
	w.must(SetCluster{Maintenance: ptr(true)})
	if w.state.Level() != 2 {
		t.Error("a node that goes back takes the level along")
	}
	// A cluster made by this program begins there.
	fresh := empty(t)
	n := newNode("n1", 1)
	n.Version = VersionWithLevel("v3")
	fresh.must(InitCluster{ID: "c-1", Lease: time.Second, Node: n})
	if fresh.state.Level() != CommandLevel {
		t.Errorf("a new cluster is at level %d", fresh.state.Level())
	}
}

// jsonNames collects the names of all fields in a body.
func jsonNames(into map[string]bool, prefix string, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		jsonNames(into, prefix, t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous {
				jsonNames(into, prefix, f.Type)
			}
			if !f.IsExported() || name == "" {
				continue
			}
			if _, newer := f.Tag.Lookup("level"); newer {
				continue
			}
			into[prefix+"."+name] = true
			jsonNames(into, prefix+"."+name, f.Type)
		}
	}
}

// Leases below those of earlier programs are for clusters that have none of them.
func TestShortLeasesNeedLevel4(t *testing.T) {
	for _, c := range []struct {
		lease time.Duration
		level int
	}{{limits.LeaseShortest - time.Millisecond, 1}, {limits.LeaseShortest, 4}, {limits.LeaseLevel3 - time.Millisecond, 4}, {limits.LeaseLevel3, 1}, {limits.LeaseLongest, 1}} {
		for _, b := range []Body{&SetLease{Lease: c.lease}, &InitCluster{Lease: c.lease}} {
			if l := levelOf(b); l != c.level {
				t.Errorf("%T with %s is of level %d, want %d", b, c.lease, l, c.level)
			}
		}
	}
}

// Every field of a body that has no level was there in the log of version 1, or in the
// state of that version. A new field without a tag would stop older nodes.
func TestFieldsWithoutALevelAreOfLevel1(t *testing.T) {
	known := map[string]bool{}
	collect := func(raw []byte) {
		var tree any
		if err := json.Unmarshal(raw, &tree); err != nil {
			t.Fatal(err)
		}
		var walk func(v any)
		walk = func(v any) {
			switch v := v.(type) {
			case map[string]any:
				for k, x := range v {
					known[k] = true
					walk(x)
				}
			case []any:
				for _, x := range v {
					walk(x)
				}
			}
		}
		walk(tree)
	}
	for _, entry := range readGoldenLog(t, goldenLog) {
		collect(entry[1:])
	}
	// Fields that version 1 had and its golden log does not use.
	for _, name := range []string{"fault", "detached", "draining", "used_by", "node_id", "auto", "cursor", "last_session", "gateway", "id", "set_subnet", "set_primary", "joined",
		"disabled", // as enabled; of a creation it is of level 2, see levelOf
	} {
		known[name] = true
	}
	fields := map[string]bool{}
	for _, kind := range kindsOfLevel1 {
		b, _ := newBody(kind)
		jsonNames(fields, kind, reflect.TypeOf(b))
	}
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		if name := f[strings.LastIndex(f, ".")+1:]; !known[name] {
			t.Errorf("%s was not there in version 1 and has no level", f)
		}
	}
	for _, v := range []any{State{}, image{}, Node{}, HAVIP{}, Cluster{}, GaveUp{}, Session{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			if tag, ok := f.Tag.Lookup("level"); ok && tag != "2" && tag != "3" && tag != "4" {
				t.Errorf("%T.%s has the level %q", v, f.Name, tag)
			}
		}
	}
}

// A cluster of level 1 gives the bytes that its program gave, whatever happens in it, so
// that an older node can follow it and take its snapshots. The golden files of version 1
// say so for one life; here it is that nothing of level 2 is ever in a snapshot.
func TestLevel1WritesVersion1(t *testing.T) {
	w := trio(t)
	owned(w)
	w.must(Release{[]ReleasedClaim{{HAVIP: w.get("web").ID, Epoch: 1, Session: w.session("n1"), Failure: "no carrier"}}})
	w.must(CloseSession{Session: w.session("n1")})
	w.must(DeleteHAVIP{ID: w.get("web").ID})
	w.havip("again", "10.0.0.100") // nothing is in quarantine
	snap := snapshot(t, w.state)
	if snap[9] != 1 {
		t.Errorf("a snapshot of version %d", snap[9])
	}
	for _, word := range []string{"fails", "flaps", "quarantine", "decisions", "revision", `"level"`} {
		if bytes.Contains(snap, []byte(word)) {
			t.Errorf("%s in a snapshot of version 1", word)
		}
	}
	w.upgrade()
	if snap := snapshot(t, w.state); snap[9] != 2 {
		t.Errorf("a snapshot of version %d after the upgrade", snap[9])
	}
}

func TestOwnCommandsOfLevel2(t *testing.T) {
	w := trio(t)
	for _, tc := range []struct {
		node, kind, raw string
		may             bool
	}{
		{"n-n1", "update-node", `{"id":"n-n1","version":"v2+level.2"}`, true},
		{"n-n1", "update-node", `{"id":"n-n2","version":"v2+level.2"}`, false},
		{"n-n1", "update-node", `{"id":"n-n1","version":"v2","standby":false}`, false},
		{"n-n1", "update-node", `{"id":"n-n1","score":5}`, false},
		{"n-n1", "update-node", `{"id":"n-n1"}`, false},
		{"n-n1", "report-health", `{"node":"n-n1","health":"red"}`, true},
		{"n-n1", "report-health", `{"node":"n-n2","health":"red"}`, false},
		{"n-n1", "record-failure", `{"havip":"x","node":"n-n1","reason":""}`, true},
		{"n-n1", "record-failure", `{"havip":"x","node":"n-n3","reason":""}`, false},
		{"n-n1", "apply-config", `{"config":{}}`, false},
		{"n-n1", "activate-node", `{"id":"n-n1"}`, false},
	} {
		body, refusal := OwnCommand(w.state, tc.node, tc.kind, json.RawMessage(tc.raw))
		if (refusal == nil) != tc.may || (body != nil) != tc.may {
			t.Errorf("%s %s of %s: %v", tc.kind, tc.raw, tc.node, refusal)
		}
	}
}

// A list that is pointed to and nil is an empty one, not a field of null that says nothing
// to this program and stops an older one.
func TestNilListsAreEmptyOnes(t *testing.T) {
	w := trio(t)
	web(w)
	w.must(update(UpdateHAVIP{Bans: ptr([]string{"n1"}), Change: Change{Prefer: ptr(map[string]int{"n1": 1})}})(w))
	var none []string
	w.refuses(update(UpdateHAVIP{Change: Change{Require: &none}})(w), CodeLevel, "upgrade it first")
	var nobody map[string]int
	w.must(update(UpdateHAVIP{Bans: &none, Change: Change{Prefer: &nobody}})(w))
	if v := w.get("web"); len(v.Bans)+len(v.Prefer) != 0 {
		t.Errorf("not cleared: %+v", v)
	}
}
