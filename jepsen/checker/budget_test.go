package checker

import (
	"testing"
	"time"

	"havip-cluster/jepsen/history"
)

func TestWithinBudget(t *testing.T) {
	series := []history.Series{{Kind: history.Probing, From: "client", Target: "v", Every: int64(ms)}}
	b := Budgets{Failover: 4 * ms, Recovery: 8 * ms}
	outage := func(begin, end int64) []history.Fault {
		return []history.Fault{{Name: "all", Begin: begin * tms, End: end * tms, Outage: true}}
	}
	for _, c := range []struct {
		name    string
		series  []history.Series
		pattern string
		faults  []history.Fault
		want    Validity
	}{
		{"nobody probed", nil, "", nil, Unknown},
		{"prober wedged", series, "", nil, Unknown},
		{"prober paused", series, "aaa------aaa", nil, Unknown},
		{"within", series, "aa...bb", nil, Valid},
		{"planted: too long", series, "aa......bb", nil, Invalid},
		{"planted: never comes back", series, "aa......", nil, Invalid},
		{"an ordinary fault excuses nothing", series, "aa......bb", []history.Fault{{Name: "kill", Begin: tms, End: 9 * tms}}, Invalid},
		{"outage", series, "aa...........bb", outage(1, 9), Valid},
		{"planted: too long after the outage", series, "aa................bb", outage(1, 5), Invalid},
		{"planted: outage elsewhere", series, "aa........................bb......bb", outage(1, 24), Valid},
		{"planted: gap long after the outage", series, "aaaaaaaaaaaaaaaaaaa......bb", outage(1, 2), Invalid},
	} {
		h := &history.History{Series: c.series, Probes: probes(c.pattern), Faults: c.faults}
		if v := WithinBudget(h, b); v.Valid != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
}

func TestRecovered(t *testing.T) {
	mark := func(kind string, at int64) history.Mark { return history.Mark{Kind: kind, At: at} }
	heal, whole, broken := history.MarkHeal, history.MarkWhole, history.MarkBroken
	for _, c := range []struct {
		name  string
		marks []history.Mark
		want  Validity
	}{
		{"empty", nil, Unknown},
		{"no fault", []history.Mark{mark(whole, 1)}, Unknown},
		{"recovered", []history.Mark{mark(heal, 1), mark(whole, 2)}, Valid},
		{"cut short", []history.Mark{mark(heal, 1), mark(whole, 2), mark(heal, 3)}, Unknown},
		{"planted: not recovered", []history.Mark{mark(heal, 1), mark(broken, 2)}, Invalid},
		{"planted: forgotten", []history.Mark{mark(heal, 1), mark(heal, 2), mark(whole, 3)}, Invalid},
	} {
		if v := Recovered(&history.History{Marks: c.marks}); v.Valid != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
}

func TestGrowth(t *testing.T) {
	usage := func(n int, edit func(i int, u *history.Usage)) *history.History {
		h := &history.History{Runs: []history.Run{{Nodes: []string{"a"}}}}
		for i := range n {
			u := history.Usage{Node: "a", RSS: 40 << 20, FDs: 50, Threads: 12, Goroutines: 90, Files: 12, Bytes: 1 << 20}
			edit(i, &u)
			h.Usage = append(h.Usage, u)
		}
		return h
	}
	same := func(int, *history.Usage) {}
	for _, c := range []struct {
		name string
		h    *history.History
		want Validity
	}{
		{"empty", &history.History{}, Unknown},
		{"too few", usage(5, same), Unknown},
		{"steady", usage(12, same), Valid},
		{"planted: memory", usage(12, func(i int, u *history.Usage) { u.RSS += int64(i) << 24 }), Invalid},
		{"planted: descriptors", usage(12, func(i int, u *history.Usage) { u.FDs += 10 * i }), Invalid},
		{"planted: threads", usage(12, func(i int, u *history.Usage) { u.Threads += 5 * i }), Invalid},
		{"planted: goroutines", usage(12, func(i int, u *history.Usage) { u.Goroutines += 20 * i }), Invalid},
		{"planted: files", usage(12, func(i int, u *history.Usage) { u.Files += 4 * i }), Invalid},
		{"planted: disk", usage(12, func(i int, u *history.Usage) { u.Bytes += int64(i) << 24 }), Invalid},
		{"metrics never answered", usage(12, func(_ int, u *history.Usage) { u.Goroutines = -1 }), Unknown},
		{"one peak", usage(12, func(i int, u *history.Usage) {
			if i == 11 {
				u.RSS *= 9
			}
		}), Valid},
	} {
		if v := Growth(c.h); v.Valid != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
	missing := usage(12, same)
	missing.Runs[0].Nodes = append(missing.Runs[0].Nodes, "b")
	if v := Growth(missing); v.Valid != Unknown {
		t.Errorf("a node without samples: %v", v)
	}
}

// No check passes on a history of a world that does not move.
func TestNothingPassesOnNothing(t *testing.T) {
	for _, h := range []*history.History{{}, {Runs: []history.Run{{Nodes: []string{"a"}, HAVIPs: []string{"v"}, End: int64(time.Hour)}}}} {
		for _, v := range All(h, Budgets{time.Second, time.Second}) {
			if v.Pass() {
				t.Errorf("%v", v)
			}
		}
	}
}
