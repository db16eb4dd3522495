package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
	"havip-cluster/manifest"
)

// policyWorld is a world with two HAVIPs, each with a limited range, and a group.
func policyWorld(t *testing.T) *world {
	w := newWorld(t)
	for _, row := range [][2]string{
		{"/v1/havips", `{"name":"web","ip":"10.77.0.100","range":{"type":"cvm","members":["node-1","node-2"]}}`},
		{"/v1/havips", `{"name":"db","ip":"10.77.0.101","range":{"type":"cvm","members":["node-1","node-2"]},"prefer":{"node-2":10}}`},
		{"/v1/havips", `{"name":"free","ip":"10.77.0.102","eip":"203.0.113.9"}`},
		{"/v1/groups", `{"name":"pair","kind":"apart","havips":["web","db"]}`},
	} {
		if resp, answer := w.ask(t, 0, "POST", row[0], row[1]); resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s: %d %s", row[0], resp.StatusCode, answer)
		}
	}
	w.log.place(t)
	return w
}

// TestBadInput: what is wrong is refused with its code, names the value, and nothing of it
// gets into the log.
func TestBadInput(t *testing.T) {
	w := policyWorld(t)
	owner := *w.havip(t, "web").Node
	long := strings.Repeat("x", 61)
	rows := []struct {
		method, path, body string
		status             int
		code, says         string
	}{
		{"POST", "/v1/havips", `{"name":"","ip":"10.77.0.110"}`, 400, "MissingParameter", "name"},
		{"POST", "/v1/havips", `{"name":"havip-00000000","ip":"10.77.0.110"}`, 400, "InvalidParameterValue.Malformed", "havip-"},
		{"POST", "/v1/havips", `{"name":"a\u0007b","ip":"10.77.0.110"}`, 400, "InvalidParameterValue.Malformed", "control"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.1"}`, 400, "InvalidParameterValue.Reserved", "10.77.0.1"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.255"}`, 400, "InvalidParameterValue.Reserved", "10.77.0.255"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.11"}`, 409, "ResourceInUse", "node-1/eth0"},
		{"POST", "/v1/havips", `{"name":"x","ip":"010.77.0.110"}`, 400, "InvalidParameterValue.Malformed", "010.77.0.110"},
		{"POST", "/v1/havips", `{"name":"x","ip":"::ffff:10.77.0.110"}`, 400, "InvalidParameterValue.Malformed", "::ffff"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110/24"}`, 400, "InvalidParameterValue.Malformed", "/24"},
		{"POST", "/v1/havips", `{"name":"x","subnet":"nope"}`, 409, "UnsupportedOperation.SubnetNotExists", "nope"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","vpc":"vpc-other"}`, 400, "InvalidParameterValue.Range", "10.77.0.110"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","range":{"type":"cvm","members":["node-1","node-1"]}}`, 400, "InvalidParameterValue.Duplicate", "node-1"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","range":{"type":"eni","members":["node-1/eth0"]}}`, 400, "InvalidParameterValue", "primary"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","range":{"type":"eni","members":["node-1"]}}`, 400, "InvalidParameterValue.ParameterMismatch", "node-1"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","range":{"type":"both","members":[]}}`, 400, "InvalidParameterValue", "both"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","failback":"25:00-26:00"}`, 400, "InvalidParameterValue", "25:00-26:00"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","failback":"02:00-02:00"}`, 400, "InvalidParameterValue", "02:00-02:00"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","failback":"-5m"}`, 400, "InvalidParameterValue", "-5m"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","prefer":{"node-1":1000001}}`, 400, "InvalidParameterValue.Range", "1000001"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","prefer":{"nope":1}}`, 404, "ResourceNotFound", "nope"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","weight":-1}`, 400, "InvalidParameterValue.Range", "-1"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","stickiness":-1}`, 400, "InvalidParameterValue.Range", "-1"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","fail_limit":-1}`, 400, "InvalidParameterValue.Range", "-1"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","require":["node-1"],"forbid":["node-1"]}`, 400, "InvalidParameterValue", "node-1"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","require":["nope"]}`, 404, "ResourceNotFound", "nope"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","eip":"one"}`, 400, "InvalidParameterValue.Malformed", "one"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","eip":"203.0.113.9"}`, 409, "ResourceInUse", "free"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.110","priority":"high"}`, 400, "InvalidParameterValue", "high"},

		{"PATCH", "/v1/havips/nope", `{"priority":1}`, 404, "ResourceNotFound", "nope"},
		{"PATCH", "/v1/havips/web", `{"name":"` + long + `"}`, 400, "InvalidParameterValue.TooLong", "61"},
		{"PATCH", "/v1/havips/web", `{"range":{"type":"cvm","members":["` + other(owner) + `"]}}`, 409, "ResourceInUse", "--evict"},
		{"PATCH", "/v1/havips/web", `{"forbid":["node-9"]}`, 404, "ResourceNotFound", "node-9"},
		{"PATCH", "/v1/havips/web", `{"bans":["node-9"]}`, 404, "ResourceNotFound", "node-9"},
		{"PATCH", "/v1/havips/web", `{"ip":"10.77.0.111"}`, 400, "InvalidParameterValue", "ip"},
		{"POST", "/v1/havips/web/range", `{}`, 400, "MissingParameter", "members"},
		{"POST", "/v1/havips/web/range", `{"add":["node-1"]}`, 400, "InvalidParameterValue.DuplicatedHaVipAssociations", "node-1"},
		{"POST", "/v1/havips/web/range", `{"type":"eni","add":["node-1/eth0"]}`, 400, "InvalidParameterValue", "R13"},
		{"POST", "/v1/havips/web/range", `{"remove":["node-9"]}`, 404, "ResourceNotFound", "node-9"},
		{"POST", "/v1/havips/web/range", `{"remove":["` + owner + `"]}`, 409, "ResourceInUse", "--evict"},
		{"POST", "/v1/havips/web/range", `{"add":["node-9"]}`, 404, "ResourceNotFound", "node-9"},
		{"POST", "/v1/havips/web/bans", `{}`, 400, "MissingParameter", "add"},
		{"POST", "/v1/havips/web/bans", `{"add":["node-1","node-2"],"for_seconds":5}`, 400, "InvalidParameterValue", "one node"},
		{"POST", "/v1/havips/web/bans", `{"add":["node-1"],"for_seconds":9223372036854775807}`, 400, "InvalidParameterValue.Range", "ban of"},
		{"POST", "/v1/havips/web/bans", `{"add":["node-1"],"for_seconds":-5}`, 400, "InvalidParameterValue", "-5"},
		{"POST", "/v1/havips/web/bans", `{"add":["node-1"],"for_seconds":99999999}`, 400, "InvalidParameterValue.Range", "27777h46m39s"},
		{"POST", "/v1/havips/web/eip", `{"eip":""}`, 400, "InvalidParameterValue", "eip"},
		{"POST", "/v1/havips/web/eip", `{"eip":"127.0.0.1"}`, 400, "InvalidParameterValue.Malformed", "127.0.0.1"},
		{"POST", "/v1/havips/web/eip", `{"eip":"203.0.113.9"}`, 409, "ResourceInUse", "free"},
		{"POST", "/v1/havips/free/eip", `{"eip":"203.0.113.10"}`, 409, "UnsupportedOperation.BindEIP", "203.0.113.9"},
		{"DELETE", "/v1/havips/web/eip", "", 409, "UnsupportedOperation.UnbindEIP", "web"},
		{"DELETE", "/v1/havips/free", "", 409, "UnsupportedOperation", "203.0.113.9"},
		{"DELETE", "/v1/havips/free?release=true", "", 409, "UnsupportedOperation", "203.0.113.9"},
		{"DELETE", "/v1/havips/web", "", 409, "UnsupportedOperation", "web"},
		{"DELETE", "/v1/failures?havip=nope", "", 404, "ResourceNotFound", "nope"},
		{"DELETE", "/v1/failures?node=nope", "", 404, "ResourceNotFound", "nope"},

		{"POST", "/v1/groups", `{"name":"g","kind":"near","havips":["web","db"]}`, 400, "InvalidParameterValue", "near"},
		{"POST", "/v1/groups", `{"name":"a b","kind":"apart","havips":["web","db"]}`, 400, "InvalidParameterValue.Malformed", "a b"},
		{"POST", "/v1/groups", `{"name":"g","kind":"apart","havips":["web"]}`, 400, "InvalidParameterValue", "two"},
		{"POST", "/v1/groups", `{"name":"g","kind":"apart","havips":["web","web"]}`, 400, "InvalidParameterValue.Duplicate", "web"},
		{"POST", "/v1/groups", `{"name":"g","kind":"apart","havips":["web","nope"]}`, 404, "ResourceNotFound", "nope"},
		{"POST", "/v1/groups", `{"name":"pair","kind":"apart","havips":["web","db"]}`, 400, "InvalidParameterValue.Duplicate", "pair"},
		{"POST", "/v1/groups", `{"name":"g","kind":"together","havips":["web","db"]}`, 400, "InvalidParameterValue", "pair"},
		{"GET", "/v1/groups/nope", "", 404, "ResourceNotFound", "nope"},
		{"DELETE", "/v1/groups/nope", "", 404, "ResourceNotFound", "nope"},

		{"PATCH", "/v1/nodes/node-1", `{}`, 400, "MissingParameter", "capacity"},
		{"PATCH", "/v1/nodes/node-1", `{"capacity":-1}`, 400, "InvalidParameterValue.Range", "-1"},
		{"PATCH", "/v1/nodes/node-1", `{"capacity":1,"no_capacity":true}`, 400, "InvalidParameterValue", "capacity"},
		{"PATCH", "/v1/nodes/node-1", `{"score":2000000}`, 400, "InvalidParameterValue.Range", "2000000"},
		{"PATCH", "/v1/nodes/node-1", `{"health":"blue"}`, 400, "InvalidParameterValue", "blue"},
		{"PATCH", "/v1/nodes/node-1", `{"health":"red","score":1}`, 400, "InvalidParameterValue", "by itself"},
		{"PATCH", "/v1/nodes/node-1", `{"health_reason":"x"}`, 400, "MissingParameter", "health"},
		{"POST", "/v1/nodes/nope/drain", `{}`, 404, "ResourceNotFound", "nope"},
		{"POST", "/v1/nodes/node-1/drain", `{"deadline_seconds":0.5}`, 400, "InvalidParameterValue", "0.5"},
		{"POST", "/v1/nodes/node-1/drain", `{"deadline_seconds":86401}`, 400, "InvalidParameterValue.Range", "24h0m1s"},
		{"GET", "/v1/nodes/node-1/drain", "", 404, "ResourceNotFound", "never drained"},
		{"POST", "/v1/nodes/nope/activate", "", 404, "ResourceNotFound", "nope"},

		{"PATCH", "/v1/cluster", `{"lease_ms":400,"maintenance":true}`, 400, "InvalidParameterValue", "lease_ms"},
		{"PATCH", "/v1/cluster", `{"per_eni":-1}`, 400, "InvalidParameterValue.Range", "-1"},
		{"PATCH", "/v1/cluster", `{"rebalance":"sometimes"}`, 400, "InvalidParameterValue", "sometimes"},
		{"PATCH", "/v1/cluster", `{"provider":"moon"}`, 400, "InvalidParameterValue", "moon"},
		{"PATCH", "/v1/cluster", `{"range_members":65}`, 400, "InvalidParameterValue.Range", "65"},
		{"PATCH", "/v1/cluster", `{"quarantine_ms":86400001}`, 400, "InvalidParameterValue.Range", "24h0m0.001s"},

		{"GET", "/v1/havips/web/explain?epoch=77", "", 404, "ResourceNotFound", "epoch 1"},
		{"GET", "/v1/havips/web/explain?at=1999-01-01T00:00:00Z", "", 404, "ResourceNotFound", "epoch 1"},
		{"GET", "/v1/havips/web/explain?at=yesterday", "", 400, "InvalidParameterValue", "yesterday"},
		{"GET", "/v1/havips/nope/explain?epoch=1", "", 404, "ResourceNotFound", "nope"},
		{"GET", "/v1/havips/web/explain?epoch=1&at=2026-01-01T00:00:00Z", "", 400, "InvalidParameterValue", "one of them"},

		{"POST", "/v1/plan", `{"down":["nope"]}`, 404, "ResourceNotFound", "nope"},
		{"POST", "/v1/plan", `{"enis_gone":["node-1/eth9"]}`, 404, "ResourceNotFound", "node-1/eth9"},
		{"POST", "/v1/plan", `{"changes":"version: 9"}`, 400, "UnsupportedOperation", "1:10"},
		{"POST", "/v1/plan", `{"changes":"version: 1\nhavips: [{name: x, ip: 10.99.0.1}]"}`, 400, "InvalidParameterValue.Range", "10.99.0.1"},
		{"GET", "/v1/export?format=xml", "", 400, "InvalidParameterValue", "xml"},
		{"POST", "/v1/apply", "", 400, "", ""},
		{"POST", "/v1/apply", "version: 1\ncolour: red", 400, "UnknownParameter", "2:1"},
		{"POST", "/v1/apply", "version: 1\nhavips:\n- name: [x", 400, "InvalidParameterValue.Syntax", "3:"},
		{"POST", "/v1/apply", "version: 1\nhavips:\n- {name: x, ip: 10.77.0.1}", 400, "InvalidParameterValue.Reserved", "havips[0]"},
		{"POST", "/v1/apply", "version: 1\nhavips:\n- {name: a, ip: 10.77.0.110}\n- {name: b, ip: 10.77.0.100}", 409, "ResourceInUse", "havips[1]"},
		{"POST", "/v1/apply", "version: 1\nhavips:\n- {name: web, ip: 10.77.0.112}", 409, "UnsupportedOperation", "for life"},
		{"POST", "/v1/apply", "version: 1\nnodes:\n- {name: nope, standby: true}", 404, "ResourceNotFound", "nope"},
		{"POST", "/v1/apply?prune=true", "version: 1\nhavips: []\ngroups: []", 409, "UnsupportedOperation", "203.0.113.9"},
		{"POST", "/v1/apply?expected=99", "version: 1\nrebalance: even", 409, "UnsupportedOperation.RevisionConflict", "99"},
		{"POST", "/v1/apply?expected=new", "version: 1\nrebalance: even", 400, "InvalidParameterValue.Malformed", "new"},
		{"POST", "/v1/apply", "version: 1\nrevision: 99\nrebalance: even", 409, "UnsupportedOperation.RevisionConflict", "99"},
		{"POST", "/v1/apply?note=" + strings.Repeat("x", 301), "version: 1", 400, "InvalidParameterValue", "note"},
		{"POST", "/v1/revisions/99/rollback", "", 404, "ResourceNotFound", "99"},
		{"POST", "/v1/revisions/x/rollback", "", 400, "InvalidParameterValue", "x"},
		{"POST", "/v1/revisions/1/rollback?expected=99", "", 404, "ResourceNotFound", "1"},
	}
	t.Logf("%d rows", len(rows))
	before := w.log.now()
	for _, row := range rows {
		resp, answer := w.ask(t, 0, row.method, row.path, row.body)
		var p Problem
		if err := json.Unmarshal(answer, &p); err != nil {
			t.Errorf("%s %s: %v: %s", row.method, row.path, err, answer)
			continue
		}
		if resp.StatusCode != row.status || p.Status != row.status || row.code != "" && p.Code != row.code || p.Code == "" || !strings.Contains(p.Detail, row.says) {
			t.Errorf("%s %s %.120s:\n got  %d %s\n want %d %s with %q", row.method, row.path, row.body, resp.StatusCode, answer, row.status, row.code, row.says)
		}
		if w.log.now() != before {
			t.Fatalf("%s %s %.120s got into the log", row.method, row.path, row.body)
		}
	}
}

func other(node string) string {
	if node == "node-1" {
		return "node-2"
	}
	return "node-1"
}

func (w *world) havip(t *testing.T, name string) HAVIP {
	t.Helper()
	v, err := w.local(0).HAVIP(context.Background(), name)
	must(t, err)
	return v
}

// TestBanLife: a ban is listed with its end, explained, replaced, and ends.
func TestBanLife(t *testing.T) {
	w := policyWorld(t)
	ctx, c := context.Background(), w.local(1)
	v, err := c.ChangeBans(ctx, "web", BanChange{Add: []string{"node-1"}, ForSeconds: 3600})
	must(t, err)
	if left := time.Until(v.BanEnds["node-1"]); len(v.Bans) != 1 || left < 59*time.Minute || left > time.Hour {
		t.Errorf("bans %v, ends %v", v.Bans, v.BanEnds)
	}
	e, err := c.Explain(ctx, "web", 0, time.Time{})
	must(t, err)
	if e.Candidates[0].Rule != "banned" || e.Candidates[0].Until == 0 {
		t.Errorf("explained as %+v", e.Candidates[0])
	}
	v, err = c.ChangeBans(ctx, "web", BanChange{Add: []string{"node-1"}}) // now without an end
	if err != nil || len(v.Bans) != 1 || len(v.BanEnds) != 0 {
		t.Errorf("%v %v %v", v.Bans, v.BanEnds, err)
	}
	v, err = c.ChangeBans(ctx, "web", BanChange{Remove: []string{"node-1"}})
	if err != nil || len(v.Bans) != 0 {
		t.Errorf("%v %v", v.Bans, err)
	}
	v, err = c.ChangeBans(ctx, "web", BanChange{Add: []string{"node-2"}, ForSeconds: 1})
	must(t, err)
	look := newViewer(w.log.now(), time.Now().Add(2*time.Second).UnixNano()) // later, it has ended
	if got := look.havip(w.log.now().HAVIPs[v.ID]); len(got.Bans) != 0 {
		t.Errorf("an ended ban is listed: %v", got.Bans)
	}
}

// TestRange: the first members make a limit, an owner is evicted only by word.
func TestRange(t *testing.T) {
	w := policyWorld(t)
	ctx, c := context.Background(), w.local(0)
	v, err := c.ChangeRange(ctx, "free", RangeChange{Type: "cvm", Add: []string{"node-1", "node-2"}})
	if err != nil || !v.Range.Limit || len(v.Range.Members) != 2 {
		t.Fatalf("%+v %v", v.Range, err)
	}
	owner := *w.havip(t, "web").Node
	if _, err = c.ChangeRange(ctx, "web", RangeChange{Remove: []string{owner}}); err == nil {
		t.Error("the owner was taken out of the range without a word")
	}
	v, err = c.ChangeRange(ctx, "web", RangeChange{Remove: []string{owner}, Evict: true})
	if err != nil || v.State != StateUnbind || len(v.Draining) != 1 {
		t.Errorf("%+v %v", v, err)
	}
	w.log.place(t)
	if got := w.havip(t, "web"); got.Node == nil || *got.Node == owner {
		t.Errorf("after the eviction it is on %v", got.Node)
	}
	if got := w.havip(t, "web"); len(got.Warnings) == 0 {
		t.Error("a range of one member has no warning")
	}
}

// TestDrain: what is left, where it goes, and the end by `activate`.
func TestDrain(t *testing.T) {
	w := policyWorld(t)
	ctx, c := context.Background(), w.local(1)
	node := *w.havip(t, "web").Node
	// The group keeps web off the other node as long as db is there.
	d, err := c.DrainNode(ctx, node, DrainSpec{DeadlineSeconds: 60})
	must(t, err)
	if !d.Running || !d.Draining || d.Deadline == nil || d.Total != len(d.Left) || d.Total == 0 {
		t.Fatalf("%+v", d)
	}
	for _, l := range d.Left {
		if stuck := l.To == nil; stuck != (l.HAVIP == "web") || l.Reason == "" {
			t.Errorf("%+v", l)
		}
	}
	if _, err := c.DrainNode(ctx, node, DrainSpec{}); err == nil {
		t.Error("a second drain was taken")
	}
	n, err := c.ActivateNode(ctx, node)
	if err != nil || n.Draining {
		t.Errorf("%+v %v", n, err)
	}
	if d, err = c.Drain(ctx, node); err != nil || d.Result != fsm.DrainCancelled || d.Running {
		t.Errorf("%+v %v", d, err)
	}
}

// TestApply: diff, change, idempotence, conflict, rollback; and that an export can be
// applied again.
func TestApply(t *testing.T) {
	w := policyWorld(t)
	ctx, c := context.Background(), w.local(1)
	file := []byte("version: 1\nhavips:\n- {name: web, ip: 10.77.0.100, priority: 7, range: {type: cvm, members: [node-1, node-2]}}\n- {name: new, ip: 10.77.0.120}\n")
	before := w.log.now()
	dry, err := c.Apply(ctx, file, ApplyOptions{DryRun: true})
	must(t, err)
	if !dry.Changed || len(dry.Changes) != 2 || w.log.now() != before {
		t.Fatalf("dry run: %+v", dry)
	}
	done, err := c.Apply(ctx, file, ApplyOptions{Expected: &dry.Revision, Note: "n"})
	must(t, err)
	if done.Revision != dry.Revision+1 || w.havip(t, "web").Priority != 7 || w.havip(t, "new").IP != "10.77.0.120" {
		t.Fatalf("%+v", done)
	}
	again, err := c.Apply(ctx, file, ApplyOptions{})
	if err != nil || again.Changed || again.Revision != done.Revision {
		t.Errorf("the same again: %+v %v", again, err)
	}
	_, err = c.Apply(ctx, file, ApplyOptions{Expected: &dry.Revision})
	wantProblem(t, err, 409, "UnsupportedOperation.RevisionConflict")

	for _, format := range []string{"yaml", "json"} {
		export, err := c.Export(ctx, format)
		must(t, err)
		if got, err := c.Apply(ctx, export, ApplyOptions{Prune: true, DryRun: true}); err != nil || got.Changed {
			t.Errorf("an export applied again (%s): %+v %v", format, got, err)
		}
	}
	w.log.place(t) // so that what the rollback deletes has to be released first
	list, err := c.Revisions(ctx)
	if err != nil || len(list) != 2 || !list[1].Present || list[1].Note != "n" {
		t.Fatalf("%+v %v", list, err)
	}
	back, err := c.Rollback(ctx, list[0].Number, ApplyOptions{})
	must(t, err)
	if w.havip(t, "web").Priority != 0 || !back.Changed || len(back.Changes) != 2 || back.Changes[0].Op != "remove" {
		t.Errorf("%+v", back)
	}
	if v, err := c.HAVIP(ctx, "new"); err != nil || !v.Deleting {
		t.Errorf("%+v %v", v, err)
	}
	plan, err := c.Plan(ctx, PlanSpec{})
	if _, there := plan.Owners["new"]; err != nil || there {
		t.Errorf("what is being deleted is planned for: %+v %v", plan, err)
	}
}

// TestApplyRename: a file that names an id renames, and says so.
func TestApplyRename(t *testing.T) {
	w := policyWorld(t)
	id := w.havip(t, "web").ID
	file := []byte("version: 1\nhavips:\n- {name: www, id: " + id + ", ip: 10.77.0.100, range: {type: cvm, members: [node-1, node-2]}}\n")
	got, err := w.local(0).Apply(context.Background(), file, ApplyOptions{})
	must(t, err)
	if len(got.Changes) == 0 || !got.Changed || w.havip(t, "www").ID != id {
		t.Errorf("%+v", got)
	}
	if raw, err := json.Marshal(got.Changes); err != nil || !strings.Contains(string(raw), "www") {
		t.Errorf("the diff does not tell the new name: %s %v", raw, err)
	}
}

// TestApplyMuch: a configuration of nearly as many HAVIPs as there may be fits into one log
// entry; one of more is refused.
func TestApplyMuch(t *testing.T) {
	sized(t)
	w := newWorld(t)
	var b strings.Builder
	b.WriteString("version: 1\nsubnets: [{name: big, cidr: 10.64.0.0/12}]\nhavips:\n")
	for i := range 9000 {
		fmt.Fprintf(&b, "- {name: number-%05d-with-a-long-name-0123456789, ip: 10.64.%d.%d, prefer: {node-1: 5}}\n", i, i/250, 2+i%250)
	}
	before := w.log.now()
	res, err := w.local(0).Apply(context.Background(), []byte(b.String()), ApplyOptions{DryRun: true})
	if err != nil || !res.Changed {
		t.Errorf("a manifest of 9000: changed %t, %v", res.Changed, err)
	}
	fmt.Fprint(&b, strings.Repeat("- {name: and-more, ip: 10.65.0.9}\n", fsm.MaxHAVIPs))
	if _, err = w.local(0).Apply(context.Background(), []byte(b.String()), ApplyOptions{DryRun: true}); err == nil {
		t.Error("a manifest of 19000 was taken")
	}
	if w.log.now() != before {
		t.Error("it got into the log")
	}
}

// TestLevelOne: in a cluster with a node of the release before, hosts are upgraded by
// standby and activate, and what that node cannot read is refused before it is written.
func TestLevelOne(t *testing.T) {
	w := newWorld(t)
	old := *w.log.now()
	old.Cluster.Level = 0
	old.Nodes = maps.Clone(old.Nodes)
	for id, n := range old.Nodes {
		n.Version = "v1.0.0"
		old.Nodes[id] = n
	}
	w.log.mu.Lock()
	w.log.state = &old
	w.log.mu.Unlock()
	for _, row := range []struct {
		method, path, body string
		status             int
	}{
		{"PATCH", "/v1/nodes/node-2", `{"standby":true}`, 200},
		{"POST", "/v1/nodes/node-2/activate", "", 200},
		{"POST", "/v1/havips", webBody, 201},
		{"PATCH", "/v1/havips/web", `{"priority":2,"failback":"5m"}`, 200},
		{"PATCH", "/v1/havips/web", `{"failback":"02:00-04:00"}`, 409},
		{"POST", "/v1/nodes/node-2/drain", `{}`, 409},
		{"POST", "/v1/havips/web/bans", `{"add":["node-1"],"for_seconds":60}`, 409},
		{"POST", "/v1/havips/web/bans", `{"add":["node-1","node-2"]}`, 200},
		{"DELETE", "/v1/havips/web?release=true", "", 200},
	} {
		resp, answer := w.ask(t, 0, row.method, row.path, row.body)
		if resp.StatusCode != row.status || row.status == 409 && !strings.Contains(string(answer), string(fsm.CodeLevel)) {
			t.Errorf("%s %s %s: %d %s", row.method, row.path, row.body, resp.StatusCode, answer)
		}
	}
}

// TestApplyLostAnswer: the connection breaks after the configuration was applied.
func TestApplyLostAnswer(t *testing.T) {
	w := policyWorld(t)
	c := w.local(0)
	c.http.Transport = &forgetful{next: c.http.Transport}
	revision := w.log.now().Cluster.Revision
	got, err := c.Apply(context.Background(), []byte("version: 1\nrebalance: even\n"), ApplyOptions{Expected: &revision})
	if err != nil || got.Revision != revision+1 || w.log.now().Cluster.Revision != revision+1 {
		t.Errorf("%+v %v", got, err)
	}
}

// TestLimitsOfFiles: a file of the greatest length is read, a longer one is refused.
func TestLimitsOfFiles(t *testing.T) {
	sized(t)
	w := newWorld(t)
	file := []byte("version: 1\n# " + strings.Repeat("x", manifest.MaxBytes-14) + "\n")
	if _, err := w.local(0).Apply(context.Background(), file, ApplyOptions{DryRun: true}); err != nil {
		t.Errorf("%d bytes: %v", len(file), err)
	}
	_, err := w.local(0).Apply(context.Background(), append(file, make([]byte, fileBodyMax)...), ApplyOptions{DryRun: true})
	if p, ok := errors.AsType[*Problem](err); !ok || p.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("too long: %v", err)
	}
}

// TestPastDecisions: the journal says why a HAVIP was where it was.
func TestPastDecisions(t *testing.T) {
	w := policyWorld(t)
	ctx, c := context.Background(), w.local(0)
	first, err := c.Explain(ctx, "web", 1, time.Time{})
	must(t, err)
	if !first.Past || first.Epoch != 1 || first.To == "" || len(first.Candidates) != 2 || first.Cause == "" {
		t.Fatalf("%+v", first)
	}
	v := w.havip(t, "db")
	if _, err := c.MoveHAVIP(ctx, "free", "node-2"); err != nil {
		t.Fatal(err)
	}
	free := w.havip(t, "free")
	by, err := c.Explain(ctx, "free", free.Epoch, time.Time{})
	if err != nil || by.To != "node-2/eth0" || by.Reason != "moved by hand" {
		t.Errorf("%+v %v", by, err)
	}
	if at, err := c.Explain(ctx, v.ID, 0, time.Now()); err != nil || at.Epoch != v.Epoch || !at.Past {
		t.Errorf("%+v %v", at, err)
	}
}

// TestConfigurationsTakeTurns: a third waits, not for ever, and hears when to come back; other
// requests do not wait for it.
func TestConfigurationsTakeTurns(t *testing.T) {
	w := newWorld(t)
	s := w.servers[0]
	for range limits.Files {
		s.files <- struct{}{}
	}
	began := time.Now()
	resp, answer := w.ask(t, 0, "POST", "/v1/apply", "version: 1\n")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || time.Since(began) < fileWait {
		t.Errorf("%d %s after %s", resp.StatusCode, answer, time.Since(began))
	}
	if resp, answer = w.ask(t, 0, "POST", "/v1/plan", `{}`); resp.StatusCode != http.StatusOK {
		t.Errorf("a small plan: %d %s", resp.StatusCode, answer)
	}
	<-s.files
	if resp, answer = w.ask(t, 0, "POST", "/v1/apply", "version: 1\n"); resp.StatusCode != http.StatusOK {
		t.Errorf("with a place: %d %s", resp.StatusCode, answer)
	}
}
