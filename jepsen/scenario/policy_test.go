package scenario

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const policyFile = `version: 1
havips:
  - {name: a, ip: 10.77.0.101, range: {type: cvm, members: [node-1, node-2, node-3], limit: true}, prefer: {node-1: 100}}
  - {name: b, ip: 10.77.0.102, range: {type: cvm, members: [node-1, node-2, node-3], limit: true}, prefer: {node-1: 90}}
  - {name: c, ip: 10.77.0.103, range: {type: cvm, members: [node-1, node-2, node-3], limit: true}, prefer: {node-1: 80}}
  - {name: d, ip: 10.77.0.104, range: {type: cvm, members: [node-1, node-2, node-3], limit: true}, prefer: {node-2: 100}}
  - {name: e, ip: 10.77.0.105, range: {type: cvm, members: [node-1, node-2, node-3], limit: true}}
  - {name: f, ip: 10.77.0.106, range: {type: cvm, members: [node-3], limit: true}}
groups:
  - {name: fronts, kind: apart, hard: true, havips: [a, b, c]}
  - {name: pair, kind: together, hard: true, havips: [d, e]}
`

// policyChange moves f, which can only be where its range is, and disables e.
const policyChange = `version: 1
havips:
  - {name: e, ip: 10.77.0.105, range: {type: cvm, members: [node-1, node-2, node-3], limit: true}, enabled: false}
  - {name: f, ip: 10.77.0.106, range: {type: cvm, members: [node-2], limit: true}}
`

// applied is `apply -o json` and `rollback -o json`.
type applied struct {
	Changed  bool   `json:"changed"`
	Revision uint64 `json:"revision"`
}

// planned is `plan -o json`.
type planned struct {
	Moves    []json.RawMessage `json:"moves"`
	Unplaced []json.RawMessage `json:"unplaced"`
	// Owners are ENIs: NODE/DEVICE; null without one.
	Owners map[string]*string `json:"owners"`
}

// ask runs a command with -o json and decodes its answer.
func ask[T any](b *Bed, at int, args ...string) (out T) {
	b.t.Helper()
	b.must(json.Unmarshal(b.CLI(at, append(args, "-o", "json")...), &out))
	return out
}

// file writes a file of the test.
func (b *Bed) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), name)
	b.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// kept reports whether the groups of policyFile are.
func kept(owners map[string]string) bool {
	return len(owners) == 7 && owners["a"] != owners["b"] && owners["b"] != owners["c"] && owners["a"] != owners["c"] &&
		owners["a"] == "node-1" && owners["d"] == "node-2" && owners["e"] == "node-2" && owners["f"] == "node-3"
}

// The policy as a file, on a running cluster: apply, again, export, verify, plan, change, rollback.
func TestPolicyAsAFile(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	file := b.file("policy.yaml", policyFile)
	first := ask[applied](b, 2, "apply", "-f", file)
	if !first.Changed {
		t.Errorf("the first apply: %+v", first)
	}
	b.Eventually("placement as the file says", func() bool { return kept(b.owners(1)) })
	before, owners := b.rows(1), b.owners(1)
	if again := ask[applied](b, 3, "apply", "-f", file); again.Changed || again.Revision != first.Revision {
		t.Errorf("applied again: %+v, first %+v", again, first)
	}
	time.Sleep(settleTime)
	for name, p := range b.rows(1) {
		if p.Epoch != before[name].Epoch {
			t.Errorf("%s moved though nothing changed", name)
		}
	}
	export := string(b.CLI(3, "export"))
	state := b.file("state.yaml", export)
	b.CLI(1, "verify", state)
	b.samePlans(state)
	snapshot := filepath.Join(filepath.Dir(state), "saved")
	b.CLI(2, "snapshot", "save", snapshot)

	changed := ask[applied](b, 1, "apply", "-f", b.file("change.yaml", policyChange))
	b.Eventually("f on node-2, e nowhere", func() bool {
		owners := b.owners(1)
		return owners["f"] == "node-2" && owners["e"] == "" && owners["a"] == "node-1"
	})
	back := ask[applied](b, 2, "rollback", fmt.Sprint(first.Revision))
	if !changed.Changed || !back.Changed || changed.Revision != first.Revision+1 || back.Revision != changed.Revision+1 {
		t.Errorf("revisions %d, %d, %d", first.Revision, changed.Revision, back.Revision)
	}
	b.Eventually("placement as at first", func() bool { return maps.Equal(b.owners(1), owners) })
	if again := ask[applied](b, 1, "apply", "-f", file); again.Changed {
		t.Errorf("after the rollback the file changes something: %+v", again)
	}
	t.Logf("revisions %d, %d, %d; owners %v", first.Revision, changed.Revision, back.Revision, b.owners(1))
	b.restores(snapshot, owners)
}

// restores: what was changed and deleted since a snapshot is there again, and owned as then.
func (b *Bed) restores(snapshot string, owners map[string]string) {
	b.t.Helper()
	b.CLI(1, "apply", "-f", b.file("change.yaml", policyChange))
	b.CLI(1, "cluster", "set", "quarantine=0s")
	b.CLI(1, "havip", "delete", "d", "--release")
	b.CLI(1, "havip", "create", "later", "--ip", b.Lab.Address(140).String(), "--no-range-limit")
	b.Eventually("d gone", func() bool { _, there := b.owners(2)["d"]; return !there })
	b.refused(2, 1, "is there already", "snapshot", "save", snapshot)
	if r := ask[applied](b, 3, "snapshot", "restore", snapshot); !r.Changed {
		b.t.Errorf("restored: %+v", r)
	}
	b.Eventually("placement as in the snapshot", func() bool { return maps.Equal(b.owners(1), owners) })
	if r := ask[applied](b, 1, "snapshot", "restore", snapshot); r.Changed {
		b.t.Errorf("restored again: %+v", r)
	}
}

// samePlans: what is exported gives offline the answers of the cluster.
func (b *Bed) samePlans(state string) {
	b.t.Helper()
	for _, suppose := range [][]string{nil, {"--down", "node-1"}, {"--standby", "node-2"}, {"--drain", "node-3"}} {
		live := ask[planned](b, 1, append([]string{"plan"}, suppose...)...)
		offline := ask[planned](b, 1, append([]string{"plan", "--offline", state}, suppose...)...)
		l, err := json.Marshal(live)
		b.must(err)
		o, err := json.Marshal(offline)
		b.must(err)
		if string(l) != string(o) {
			b.t.Errorf("plan %v: the cluster says %s, the file %s", suppose, l, o)
		}
		if moves := len(offline.Moves) + len(offline.Unplaced); (moves == 0) != (suppose == nil) {
			b.t.Errorf("plan %v: %s", suppose, o)
		}
	}
}
