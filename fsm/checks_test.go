package fsm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

var kindsOfChecks = []string{"create-check", "update-check", "delete-check", "report-checks"}

// webUp is a check that bars.
func webUp(havips ...string) Check {
	return Check{Name: "web-up", Type: CheckHTTP, Target: "http://127.0.0.1:80/health", HAVIPs: havips}
}

// checking is the trio at level 4, with the HAVIP web and a check of it.
func checking(t testing.TB) *world {
	w := trio(t)
	w.upgrade4()
	w.havip("web", "10.0.0.100")
	w.guarded()
	w.must(CreateCheck{webUp("web")})
	return w
}

// says lets a node report a result.
func (w *world) says(node, check string, state CheckState, output string) {
	w.t.Helper()
	w.must(ReportChecks{nodeID(node), w.session(node), []ReportedResult{{check, w.state.Checks[check].Revision, state, output}}})
}

// best is where the HAVIP web should be, and why.
func (w *world) best() (string, string) {
	w.t.Helper()
	d, ok := w.state.ExplainOne(w.at, w.get("web").ID)
	if !ok {
		w.t.Fatal("no HAVIP web")
	}
	return d.To, d.Reason
}

func (w *world) settle() {
	w.t.Helper()
	for range 3 {
		moves := w.state.Moves(w.at, nil)
		if len(moves) == 0 {
			return
		}
		w.must(Place{moves})
		w.releaseAll()
	}
	w.t.Fatal("the placement does not come to rest")
}

func TestCheckBars(t *testing.T) {
	w := checking(t)
	for _, n := range []string{"n1", "n2", "n3"} {
		w.says(n, "web-up", CheckPassing, "200 OK")
	}
	w.settle()
	first := w.get("web").Owner.ENI
	w.says(first[:2], "web-up", CheckFailing, "connection refused\nand more")
	to, _ := w.best()
	if to == "" || to[:2] == first[:2] {
		t.Fatalf("it fails on %s, and goes to %q", first, to)
	}
	d, _ := w.state.ExplainOne(w.at, w.get("web").ID)
	if !strings.Contains(d.Words(), "fault: check web-up fails there (connection refused and more)") {
		t.Error(d.Words())
	}
	w.settle()
	second := w.get("web").Owner.ENI

	// Red everywhere: it stays where it was, loudly.
	for _, n := range []string{"n1", "n2", "n3"} {
		w.says(n, "web-up", CheckFailing, "connection refused")
		w.settle()
	}
	last := w.get("web").Owner
	if last == nil || !w.hasEvent("check-everywhere", "check web-up fails on every node that runs it") {
		t.Fatalf("owner %+v, events %v", last, w.state.Events[len(w.state.Events)-1])
	}
	if !w.hasEvent("check", "check web-up is failing on node n1: connection refused") {
		t.Error("no event of the check")
	}
	_, why := w.best()
	if !strings.Contains(why, "keeps it, as no other place is sound: check web-up fails there") {
		t.Error(why)
	}
	// The owner dies meanwhile: the best of the bad.
	w.must(CloseSession{Session: w.session(last.ENI[:2])})
	w.settle()
	if v := w.get("web"); v.Owner == nil {
		t.Error("it is dark where it could be somewhere bad")
	}
	// One comes back, and has it.
	good := w.get("web").Owner.ENI[:2]
	for _, n := range []string{"n1", "n2", "n3"} {
		if _, open := w.state.SessionOf(nodeID(n)); open && n != good {
			w.says(n, "web-up", CheckPassing, "200 OK")
			w.settle()
			if got := w.get("web").Owner.ENI[:2]; got != n {
				t.Errorf("it passes on %s, and is on %s (was on %s, %s)", n, got, first, second)
			}
		}
	}
	if !w.hasEvent("check-everywhere", "no longer fails everywhere") {
		t.Error("nothing said when it passed again")
	}
}

func TestCheckDrops(t *testing.T) {
	w := checking(t)
	k := w.state.Checks["web-up"]
	k.Drop, k.Revision = true, 0
	w.must(UpdateCheck{Check: k})
	w.settle()
	for _, n := range []string{"n1", "n2", "n3"} {
		w.says(n, "web-up", CheckFailing, "down")
	}
	w.settle()
	if v := w.get("web"); v.Owner != nil || !w.hasEvent("check-everywhere", "have no owner until it passes somewhere") {
		t.Fatalf("when-all-fail is drop: %+v", v.Owner)
	}
	if _, why := w.best(); !strings.Contains(why, "check web-up fails there (down) (when-all-fail is drop)") {
		t.Error(why)
	}
	w.refuses(Place{[]Assignment{w.to("web", "n2/eth0")}}, CodeUnsupported, "check web-up fails there (down)")
	w.says("n2", "web-up", CheckPassing, "up")
	w.settle()
	if v := w.get("web"); v.Owner == nil || v.Owner.ENI[:2] != "n2" {
		t.Errorf("it passes on n2, and is on %+v", v.Owner)
	}
}

// A score moves what leaves a failing check, even where failback is never, and brings nothing back.
func TestCheckScores(t *testing.T) {
	w := checking(t)
	w.must(DeleteCheck{"web-up"})
	w.must(CreateCheck{Check{Name: "slow", Type: CheckTCP, Target: "127.0.0.1:80", Score: -50}})
	w.must(update(UpdateHAVIP{Change: Change{Prefer: ptr(map[string]int{"n1": 20}), Stickiness: ptr(10)}})(w))
	for _, n := range []string{"n1", "n2", "n3"} {
		w.says(n, "slow", CheckPassing, "")
	}
	w.settle()
	if at := w.get("web").Owner.ENI[:2]; at != "n1" {
		t.Fatalf("it is on %s", at)
	}
	w.says("n1", "slow", CheckFailing, "late")
	d, _ := w.state.ExplainOne(w.at, w.get("web").ID)
	if d.To == "" || d.To[:2] == "n1" || !strings.Contains(d.Words(), "check slow -50") {
		t.Fatal(d.Words())
	}
	w.settle()
	at := w.get("web").Owner.ENI
	w.says("n1", "slow", CheckPassing, "")
	if to, _ := w.best(); to != at {
		t.Errorf("it comes back to %s though failback is never", to)
	}
	// Less than the stickiness: it stays.
	w.must(update(UpdateHAVIP{Change: Change{Stickiness: ptr(100)}})(w))
	w.says(at[:2], "slow", CheckFailing, "late")
	if to, _ := w.best(); to != at {
		t.Errorf("it leaves to %s for less than its stickiness", to)
	}
}

// A result of an earlier session or of another definition is not what is so now.
func TestCheckResultsGetOld(t *testing.T) {
	w := checking(t)
	state := func(node string) CheckState {
		got, _ := w.state.ResultOf(w.state.Checks["web-up"], w.node(node))
		return got
	}
	w.says("n1", "web-up", CheckPassing, "up")
	w.says("n2", "web-up", CheckFailing, "down")
	if state("n1") != CheckPassing || state("n2") != CheckFailing || state("n3") != CheckUnknown {
		t.Fatal(state("n1"), state("n2"), state("n3"))
	}
	w.must(CloseSession{Session: w.session("n1"), Released: true})
	w.open("n1")
	w.must(CloseSession{Session: w.session("n2"), Released: true})
	w.open("n2")
	if state("n1") != CheckUnknown || state("n2") != CheckFailing {
		t.Errorf("in new sessions: %s, %s", state("n1"), state("n2"))
	}
	for range 3 { // unknown is no place to go to for a wish
		w.must(update(UpdateHAVIP{Change: Change{Prefer: ptr(map[string]int{"n1": 500}), Failback: ptr("immediate")}})(w))
	}
	w.says("n3", "web-up", CheckPassing, "up")
	w.settle()
	if at := w.get("web").Owner.ENI[:2]; at != "n3" {
		t.Errorf("it went to %s, where nothing is known of it", at)
	}
	k := webUp("web")
	k.Target = "http://127.0.0.1:81/"
	w.must(UpdateCheck{Check: k, Expected: w.state.Checks["web-up"].Revision})
	if state("n2") != CheckUnknown || state("n3") != CheckUnknown {
		t.Error("results of another definition count")
	}
	was := w.state
	w.must(UpdateCheck{Check: k})
	if w.state.Checks["web-up"].Revision != was.Checks["web-up"].Revision {
		t.Error("the same definition is a new one")
	}
	w.must(ReportChecks{nodeID("n3"), w.session("n3"), []ReportedResult{{"web-up", 1, CheckFailing, "old"}, {"other", 1, CheckFailing, "gone"}}})
	if state("n3") != CheckUnknown {
		t.Error("a result of an old definition was taken")
	}
	w.must(DeleteCheck{"web-up"})
	if len(w.state.Results) != 0 {
		t.Errorf("results of a check that has gone: %v", w.state.Results)
	}
}

// A check goes with the last HAVIP that it names: without names it would be about all.
func TestCheckGoesWithItsHAVIPs(t *testing.T) {
	w := checking(t)
	w.havip("api", "10.0.0.101")
	w.guarded()
	k := webUp("web", "api")
	w.must(UpdateCheck{Check: k})
	w.must(DeleteHAVIP{ID: w.get("api").ID})
	if got := w.state.Checks["web-up"].HAVIPs; !slices.Equal(got, []string{w.get("web").ID}) {
		t.Errorf("it names %v", got)
	}
	w.must(DeleteHAVIP{ID: w.get("web").ID})
	if len(w.state.Checks) != 0 || !w.hasEvent("check-deleted", "with its last HAVIP") {
		t.Errorf("checks %v", w.state.Checks)
	}
}

func TestCheckConfig(t *testing.T) {
	w := checking(t)
	w.says("n1", "web-up", CheckFailing, "down")
	cfg := w.state.DesiredConfig()
	if len(cfg.Checks) != 1 || cfg.Checks[0].Revision != 0 || !slices.Equal(cfg.Checks[0].HAVIPs, []string{"web"}) || cfg.Checks[0].Interval != 2*time.Second {
		t.Fatalf("%+v", cfg.Checks)
	}
	w.must(ApplyConfig{Config: cfg, Prune: true})
	if len(w.state.Results) != 1 {
		t.Error("applying the same forgot the results")
	}
	first := w.state.Cluster.Revision
	cfg.Checks = append(cfg.Checks, Check{Name: "gw", Type: CheckPing, Target: "10.0.0.1", Score: -20, Nodes: []string{"n2", "n1"}})
	w.must(ApplyConfig{Config: cfg, Prune: true})
	cfg.Checks = []Check{}
	w.must(ApplyConfig{Config: cfg})
	if len(w.state.Checks) != 2 {
		t.Errorf("without prune: %v", w.state.Checks)
	}
	w.must(ApplyConfig{Config: cfg, Prune: true})
	if len(w.state.Checks)+len(w.state.Results) != 0 {
		t.Errorf("with prune: %v, %v", w.state.Checks, w.state.Results)
	}
	w.must(Rollback{To: first + 1})
	if got := slices.Sorted(maps.Keys(w.state.Checks)); !slices.Equal(got, []string{"gw", "web-up"}) {
		t.Errorf("rolled back to %v", got)
	}
}

var checkRefusals = []refusal{
	{"no name", nil, does(CreateCheck{Check{Type: CheckTCP, Target: "h:1"}}), CodeMalformed, "cannot name a check"},
	{"no type", nil, does(CreateCheck{Check{Name: "x", Target: "h:1"}}), CodeParameter, "not a type of check"},
	{"twice", after(CreateCheck{webUp()}), does(CreateCheck{webUp()}), CodeDuplicate, "`check update web-up`"},
	{"a revision", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Revision: 7}}), CodeParameter, "not for the caller"},
	{"tcp without a port", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h"}}), CodeMalformed, "HOST:PORT"},
	{"a URL with a user", nil, does(CreateCheck{Check{Name: "x", Type: CheckHTTP, Target: "http://u:p@h/"}}), CodeMalformed, "without a user"},
	{"ftp", nil, does(CreateCheck{Check{Name: "x", Type: CheckHTTP, Target: "ftp://h/"}}), CodeMalformed, "write a URL"},
	{"a program with a path", nil, does(CreateCheck{Check{Name: "x", Type: CheckExec, Target: "../sh"}}), CodeMalformed, "no path"},
	{"a process with a path", nil, does(CreateCheck{Check{Name: "x", Type: CheckProcess, Target: "/bin/sh"}}), CodeMalformed, "pidfile:"},
	{"a relative pidfile", nil, does(CreateCheck{Check{Name: "x", Type: CheckProcess, Target: "pidfile:x.pid"}}), CodeMalformed, "pidfile:"},
	{"a path that climbs", nil, does(CreateCheck{Check{Name: "x", Type: CheckFile, Target: "/run/../etc/shadow"}}), CodeMalformed, "whole path"},
	{"ping of a name", nil, does(CreateCheck{Check{Name: "x", Type: CheckPing, Target: "router"}}), CodeMalformed, "IPv4 or IPv6"},
	{"arp of many", nil, does(CreateCheck{Check{Name: "x", Type: CheckARP, Target: "224.0.0.1"}}), CodeMalformed, "IPv4 or IPv6"},
	{"no unit", nil, does(CreateCheck{Check{Name: "x", Type: CheckSystemd, Target: "a b.service"}}), CodeMalformed, "name of a unit"},
	{"no status", nil, does(CreateCheck{Check{Name: "x", Type: CheckHTTP, Target: "http://h/", Status: "ok"}}), CodeMalformed, "200-399,401"},
	{"statuses backwards", nil, does(CreateCheck{Check{Name: "x", Type: CheckHTTP, Target: "http://h/", Status: "299-200"}}), CodeMalformed, "200-399,401"},
	{"a header with a line end", nil, does(CreateCheck{Check{Name: "x", Type: CheckHTTP, Target: "http://h/", Headers: []string{"A: b\r\nC: d"}}}), CodeMalformed, "control characters"},
	{"no header", nil, does(CreateCheck{Check{Name: "x", Type: CheckHTTP, Target: "http://h/", Headers: []string{"A b"}}}), CodeMalformed, "Name: value"},
	{"too many headers", nil, does(CreateCheck{Check{Name: "x", Type: CheckHTTP, Target: "http://h/", Headers: slices.Repeat([]string{"A: b"}, 9)}}), CodeLimit, "9 headers"},
	{"no server name", nil, does(CreateCheck{Check{Name: "x", Type: CheckHTTP, Target: "https://h/", SNI: "a b"}}), CodeMalformed, "not a server name"},
	{"a body of tcp", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Body: "ok"}}), CodeParameter, "of type http"},
	{"a content of tcp", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Content: "ok"}}), CodeParameter, "of type file"},
	{"a long text", nil, does(CreateCheck{Check{Name: "x", Type: CheckFile, Target: "/a", Content: strings.Repeat("x", MaxCheckText+1)}}), CodeTooLong, "513 bytes"},
	{"an interval of nothing", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Interval: time.Millisecond}}), CodeRange, "an interval of 1ms"},
	{"a timeout beyond the interval", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Timeout: time.Minute}}), CodeRange, "longer than the interval"},
	{"a fall of none", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Fall: -1}}), CodeRange, "fall -1"},
	{"a grace of a day", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Grace: 24 * time.Hour}}), CodeRange, "a grace"},
	{"a score above 0", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Score: 5}}), CodeRange, "the effect 5"},
	{"a score that drops", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Score: -5, Drop: true}}), CodeParameter, "the effect bar does"},
	{"a node twice", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Nodes: []string{"n1", "n1"}}}), CodeDuplicate, "node n1 twice"},
	{"a node that is none", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Nodes: []string{"n9"}}}), CodeNotFound, `"n9"`},
	{"too many nodes", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", Nodes: numberedNames(MaxNodes + 1)}}), CodeLimit, "129 nodes"},
	{"too many HAVIPs", nil, does(CreateCheck{Check{Name: "x", Type: CheckTCP, Target: "h:1", HAVIPs: numberedNames(MaxCheckHAVIPs + 1)}}), CodeLimit, "1001 HAVIPs"},
	{"a HAVIP that is none", nil, does(CreateCheck{webUp("nobody")}), CodeNotFound, `"nobody"`},
	{"a HAVIP twice", web, func(w *world) Body { return CreateCheck{webUp("web", w.get("web").ID)} }, CodeDuplicate, "HAVIP web twice"},
	{"too many checks", filled(func(s *State) {
		for _, name := range numberedNames(MaxChecks) {
			s.Checks[name] = Check{Name: name, Type: CheckProcess, Target: "x", Revision: 1}.Complete()
		}
	}), does(CreateCheck{webUp()}), CodeLimit, "1000 checks"},
	{"an update of nothing", nil, does(UpdateCheck{Check: webUp()}), CodeNotFound, `"web-up"`},
	{"an update of an old one", after(CreateCheck{webUp()}), does(UpdateCheck{Check: webUp(), Expected: 1}), CodeConflict, "changed since"},
	{"a wrong update", after(CreateCheck{webUp()}), does(UpdateCheck{Check: Check{Name: "web-up", Type: CheckTCP}}), CodeMalformed, "HOST:PORT"},
	{"a delete of nothing", nil, does(DeleteCheck{"x"}), CodeNotFound, `"x"`},
	{"a report of nobody", nil, does(ReportChecks{Node: "n-none"}), CodeNotFound, "node n-none"},
	{"a report of an old session", nil, does(ReportChecks{Node: "n-n1", Session: 1}), CodeStale, "session 1"},
	{"a report of nothing", nil, func(w *world) Body { return ReportChecks{Node: "n-n1", Session: w.session("n1")} }, CodeLimit, "0 results"},
	{"a state that is none", after(CreateCheck{webUp()}), func(w *world) Body {
		return ReportChecks{"n-n1", w.session("n1"), []ReportedResult{{"web-up", w.state.Checks["web-up"].Revision, "fine", ""}}}
	}, CodeParameter, `"fine"`},
}

// numberedNames gives so many names.
func numberedNames(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("x%04d", i)
	}
	return out
}

func TestCheckRefusals(t *testing.T) {
	for _, r := range checkRefusals {
		t.Run(r.name, func(t *testing.T) {
			w := trio(t)
			w.upgrade4()
			if r.given != nil {
				r.given(w)
			}
			w.refuses(r.body(w), r.code, r.says)
		})
	}
}

// A token that is bound to a group makes checks of its HAVIPs alone.
func TestCheckScope(t *testing.T) {
	w := checking(t)
	w.havip("api", "10.0.0.101")
	w.havip("db", "10.0.0.102")
	w.must(CreateGroup{Group{Name: "fronts", Kind: Apart, HAVIPs: []string{"web", "api"}}})
	bound := Caller{Principal: "token:x", Right: RightAdmin, Group: "fronts"}
	may := func(b Body, want bool) {
		t.Helper()
		if r := w.state.Permits(bound, b); (r == nil) != want {
			t.Errorf("%s %+v: %v", b.kind(), b, r)
		}
	}
	may(CreateCheck{webUp("web")}, true)
	may(CreateCheck{webUp(w.get("api").ID, "web")}, true)
	may(CreateCheck{webUp("db")}, false)
	may(CreateCheck{webUp()}, false)
	may(UpdateCheck{Check: webUp("api")}, true)
	may(UpdateCheck{Check: webUp("db")}, false)
	may(UpdateCheck{Check: webUp()}, false)
	may(DeleteCheck{"web-up"}, true)
	w.must(UpdateCheck{Check: webUp("db")})
	may(DeleteCheck{"web-up"}, false)
	may(UpdateCheck{Check: webUp("web")}, false)
	for _, c := range []Caller{operator, viewer, {Principal: "node:n1"}} {
		if w.state.Permits(c, CreateCheck{webUp("web")}) == nil || w.state.Permits(c, ReportChecks{Node: "n-n1"}) == nil {
			t.Errorf("%s may make checks, or report for a node", c.Principal)
		}
	}
	for node, want := range map[string]bool{"n-n1": true, "n-n2": false} {
		_, refusal := OwnCommand(w.state, node, "report-checks", json.RawMessage(`{"node":"n-n1","session":1,"results":[]}`))
		if (refusal == nil) != want {
			t.Errorf("%s reports for n-n1: %v", node, refusal)
		}
	}
}

func TestChecksNeedLevel4(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	w.refuses(CreateCheck{webUp()}, CodeLevel, "upgrade it first")
	if bytes.Contains(snapshot(t, w.state), []byte("check")) || w.state.DesiredConfig().Checks != nil {
		t.Error("checks in a state of level 3")
	}
}

// checkDraws draws the commands about checks.
func (c chooser) checkDraws(node string, session uint64) map[string]func() Body {
	name := func() string {
		return pick(c, "check", append(slices.Sorted(maps.Keys(c.s.Checks)), "web-up", "gw", "none", ""))
	}
	draw := func() Check {
		k := Check{Name: name(), Type: pick(c, "check type", CheckTypes), Score: c.number("effect", -2, 1), Drop: c.chance("drop", 4)}
		k.Target = map[CheckType]string{
			CheckTCP: "127.0.0.1:1", CheckHTTP: "http://h/", CheckExec: "x", CheckProcess: "x", CheckFile: "/x", CheckPing: "10.0.0.1", CheckARP: "10.0.0.1", CheckSystemd: "x",
		}[k.Type]
		if c.chance("scoped", 2) {
			k.HAVIPs = []string{c.havip()}
		}
		if c.chance("somewhere", 3) {
			k.Nodes = []string{pick(c, "runs on", randomNames)}
		}
		return k
	}
	return map[string]func() Body{
		"create-check": func() Body { return CreateCheck{draw()} },
		"update-check": func() Body { return UpdateCheck{draw(), uint64(c.number("seen", 0, 1))} },
		"delete-check": func() Body { return DeleteCheck{name()} },
		"report-checks": func() Body {
			b := ReportChecks{Node: node, Session: session}
			for _, k := range c.s.CheckList() {
				b.Results = append(b.Results, ReportedResult{k.Name, k.Revision, pick(c, "result", []CheckState{CheckPassing, CheckFailing, CheckFailing, CheckUnknown, "fine"}), "drawn"})
			}
			return b
		},
	}
}

// checkChecks is checkInvariants for checks and their results.
func checkChecks(s *State, bad complain) {
	for name, k := range s.Checks {
		revision := k.Revision
		k.Revision = 0
		if k.Name != name || revision == 0 || revision > s.Index || k.Valid() != nil || !k.same(k.Complete()) {
			bad("check %+v is kept under %s: %v", k, name, k.Valid())
		}
		for _, id := range k.HAVIPs {
			if _, there := s.HAVIPs[id]; !there {
				bad("check %s names %s, which is not there", name, id)
			}
		}
	}
	for node, list := range s.Results {
		if _, there := s.Nodes[node]; !there || len(list) == 0 || !slices.IsSortedFunc(list, func(a, b CheckResult) int { return strings.Compare(a.Check, b.Check) }) {
			bad("results of %s: %v", node, list)
		}
		for _, r := range list {
			if _, there := s.Checks[r.Check]; !there || len(r.Output) > MaxCheckOutput || r.Session > s.Index {
				bad("result %+v of node %s", r, node)
			}
		}
	}
	if len(s.Checks) > MaxChecks {
		bad("%d checks", len(s.Checks))
	}
}

// checked is the newest stage with checks and results.
func checkedStage(t testing.TB) *State {
	w := &world{t: t, state: newest(t), at: epoch0}
	w.upgrade4()
	w.must(CreateCheck{webUp("web")})
	w.must(CreateCheck{Check{Name: "gw", Type: CheckPing, Target: "10.0.0.1", Score: -5}})
	w.says("n1", "web-up", CheckFailing, "down")
	return w.state
}

// checksStory goes on where edgeStory ends: every command and field about checks comes up.
func checksStory(t testing.TB) *world {
	w := edgeStory(t)
	w.upgrade4()
	k := webUp("edge")
	k.Nodes, k.Grace, k.Drop, k.Headers = []string{"n1", "n3"}, time.Second, true, []string{"Host: example.org"}
	k.SNI, k.Verify, k.Body = "example.org", true, "ok"
	w.must(CreateCheck{k})
	w.must(CreateCheck{Check{Name: "fresh", Type: CheckFile, Target: "/run/app", Content: "ready", MaxAge: time.Minute, Score: -50, Interval: time.Second, Timeout: 100 * time.Millisecond, Rise: 1, Fall: 1}})
	w.says("n3", "web-up", CheckFailing, "status 503")
	w.must(UpdateCheck{Check: k, Expected: w.state.Checks["web-up"].Revision})
	w.must(ApplyConfig{Config: w.state.DesiredConfig(), Prune: true})
	w.must(CreateCheck{Check{Name: "gone", Type: CheckSystemd, Target: "nginx"}})
	w.must(DeleteCheck{"gone"})
	w.says("n3", "fresh", CheckPassing, "")
	return w
}

func TestGoldenChecks(t *testing.T) {
	w := checksStory(t)
	goldenStory(t, w, "checks", "about checks", kindsOfChecks...)
}
