package api

import (
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// Status speaks of a station that claims a HAVIP, once for each HAVIP, and for a minute after it was last seen.
func TestStrangersInStatus(t *testing.T) {
	now := time.Now()
	event := func(ago time.Duration, kind, havip, text string) fsm.Event {
		return fsm.Event{At: now.Add(-ago).UnixNano(), Kind: kind, HAVIP: havip, Node: "node-1", Text: text}
	}
	claims := fsm.StrangerClaims + ", MAC 02:00:00:00:00:99, claims 10.77.0.100 (seen on eth0)"
	for _, row := range []struct {
		name   string
		events []fsm.Event
		want   []string
	}{
		{"none", nil, nil},
		{"seen by two nodes", []fsm.Event{event(20*time.Second, "conflict", "web", claims), event(5*time.Second, "conflict", "web", claims)}, []string{"MAC 02:00:00:00:00:99, claims 10.77.0.100 (seen on eth0) of node-1 5s ago"}},
		{"of two HAVIPs", []fsm.Event{event(time.Second, "conflict", "db", claims), event(0, "conflict", "web", claims)}, []string{"HAVIP web", "HAVIP db"}},
		{"long ago", []fsm.Event{event(strangerShown+time.Second, "conflict", "web", claims)}, nil},
		{"another conflict", []fsm.Event{event(0, "conflict", "web", "ENI node-1/eth0 has the address")}, nil},
		{"another kind", []fsm.Event{event(0, "fault", "web", claims)}, nil},
		{"by a clock that is ahead", []fsm.Event{event(-time.Hour, "conflict", "web", claims)}, []string{" 0s ago"}},
	} {
		st := fsm.New()
		st.Events = row.events
		h := &health{&Status{Health: HealthGreen}, map[string]int{}}
		h.strangers(st, now.UnixNano())
		if len(h.out.Problems) != len(row.want) || (h.out.Health == HealthYellow) != (row.want != nil) {
			t.Errorf("%s: %s %q", row.name, h.out.Health, h.out.Problems)
			continue
		}
		for i, want := range row.want {
			if !strings.Contains(h.out.Problems[i], want) {
				t.Errorf("%s: %q, want %q", row.name, h.out.Problems[i], want)
			}
		}
	}
}
