package api

import (
	"slices"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/internal/doorbook"
	"havip-cluster/membership/identity"
)

// Every route that is registered, as each of the four, at the leader and at a follower: the table of docs/doors.md.
func TestDoorbook(t *testing.T) {
	w := newWorld(t)
	ids := map[string]*identity.Identity{
		doorbook.Agent: w.agentNode(t), doorbook.RemovedVoter: w.join(t, 4, fsm.RoleVoter), doorbook.RemovedAgent: w.join(t, 5, fsm.RoleAgent), doorbook.Stranger: nil,
	}
	w.gone(t, ids[doorbook.RemovedVoter].NodeID)
	w.gone(t, ids[doorbook.RemovedAgent].NodeID)
	table := doorbook.NewTable("route", "who may")
	byPath := func(x, y string) int {
		mx, px, _ := strings.Cut(x, " ")
		my, py, _ := strings.Cut(y, " ")
		return strings.Compare(px+" "+mx, py+" "+my)
	}
	for _, pattern := range slices.SortedFunc(slices.Values(w.servers[0].mux.patterns), byPath) {
		rule, known := rules[pattern]
		if !known {
			t.Errorf("route %s has no rule", pattern)
		}
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.NewReplacer("{name}", "nothing", "{id}", "nothing", "{number}", "999").Replace(path)
		table.Row(func(who string) string {
			var outcome []string
			for at := range 2 {
				w.servers[0].logins, w.servers[1].logins = joinLimiter{}, joinLimiter{}
				a := asker{name: who, client: w.tlsClient(t, at, ids[who]), base: "https://" + w.addrs[at]}
				got := "open"
				if status, p := a.send(t, method, path, map[bool]string{true: "", false: "{}"}[method == "GET"]); denied(status, p) {
					got = doorbook.Refused
				}
				outcome = append(outcome, got)
			}
			member := who == doorbook.Agent && (rule.need == needViewer || rule.need == needNode || rule.own)
			want := map[bool]string{true: "open", false: doorbook.Refused}[rule.need == needNothing || member]
			if outcome[0] != want || outcome[1] != want {
				t.Errorf("%s, %s: %v, want %s", who, pattern, outcome, want)
			}
			return outcome[0]
		}, "`"+pattern+"`", string(rule.need))
	}
	if err := doorbook.Check("api", table); err != nil {
		t.Error(err)
	}
}

// gone removes a node.
func (w *world) gone(t *testing.T, node string) {
	t.Helper()
	yes := true
	w.log.apply(t, fsm.UpdateNode{ID: node, Removing: &yes}, "")
	if sess, open := w.log.now().SessionOf(node); open {
		w.log.apply(t, fsm.CloseSession{Session: sess.Number, Released: true}, "")
	}
	if res := w.log.apply(t, fsm.RemoveNode{ID: node}, ""); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
}
