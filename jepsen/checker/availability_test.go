package checker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"havip-cluster/jepsen/history"
)

const ms = time.Millisecond

// probes builds a series of one probe a millisecond: a letter names the answering node, a dot
// is lost, a dash was never sent.
func probes(pattern string) []history.Probe {
	var list []history.Probe
	for i, c := range pattern {
		sent := int64(i) * int64(ms)
		p := history.Probe{From: "client", Target: "v", Seq: uint64(i), Sent: sent}
		if c == '-' {
			continue
		}
		if c != '.' {
			p.Answered, p.Node = sent+trip, string(c)
		}
		list = append(list, p)
	}
	return list
}

func TestGaps(t *testing.T) {
	for _, c := range []struct {
		pattern string
		min     time.Duration
		want    []Gap
	}{
		{"", 0, nil},
		{"aaaa", 0, nil},
		{"aa-----aa", 0, nil}, // the prober paused: nothing was lost
		{"aa.aa", 0, []Gap{{1 * ms, 3 * ms, 1 * ms, "a", "a", 1, false}}},
		{"a...bb.b", 2 * ms, []Gap{{0, 4 * ms, 3 * ms, "a", "b", 3, false}}},
		{"a-.-b", 0, []Gap{{0, 4 * ms, 3 * ms, "a", "b", 1, false}}},
		{"..ab", 0, []Gap{{0, 2 * ms, 2 * ms, "", "a", 2, true}}},
		{"ab...", 0, []Gap{{1 * ms, 4 * ms, 3 * ms, "b", "", 3, true}}},
		{"....", 0, []Gap{{0, 3 * ms, 3 * ms, "", "", 4, true}}},
	} {
		if diff := cmp.Diff(c.want, Gaps(probes(c.pattern), ms, c.min)); diff != "" {
			t.Errorf("%q: %s", c.pattern, diff)
		}
	}
}

func TestSummarize(t *testing.T) {
	got := Summarize(probes("a.b....bbb-b"), ms, 0)
	want := Summary{
		Sent: 11, Answered: 6, Gaps: 2, GapP50: ms, GapP99: 4 * ms, GapMax: 4 * ms,
		RTTP50: time.Duration(trip), RTTP99: time.Duration(trip), RTTMax: time.Duration(trip),
		Blind: 2 * ms, Nodes: []string{"a", "b"}, FirstAnswer: time.Duration(trip), LastAnswer: 11*ms + time.Duration(trip),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPercentile(t *testing.T) {
	list := []time.Duration{5, 1, 4, 2, 3}
	for p, want := range map[int]time.Duration{1: 1, 20: 1, 21: 2, 50: 3, 99: 5, 100: 5} {
		if got := Percentile(list, p); got != want {
			t.Errorf("p%d = %d, want %d", p, got, want)
		}
	}
	if Percentile(nil, 50) != 0 {
		t.Error("percentile of nothing is not 0")
	}
}

func TestAvailability(t *testing.T) {
	series := []history.Series{{Kind: history.Probing, From: "client", Target: "v", Every: int64(ms)}}
	for _, c := range []struct {
		name    string
		series  []history.Series
		pattern string
		want    Validity
	}{
		{"nobody probed", nil, "", Unknown},
		{"prober wedged at the start", series, "", Unknown},
		{"prober wedged in the middle", series, "aaa-----aaa", Unknown},
		{"world wedged at the start", series, "......", Invalid},
		{"world wedged in the end", series, "aaaa......", Invalid},
		{"within budget", series, "aa..bb", Valid},
		{"beyond budget", series, "aa....bb", Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &history.History{Series: c.series, Probes: probes(c.pattern)}
			if got := Availability(h, 3*ms); got.Valid != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestWorst(t *testing.T) {
	verdict := func(v Validity) Verdict { return Verdict{Valid: v} }
	for _, c := range []struct {
		in   []Verdict
		want Validity
	}{
		{nil, Unknown},
		{[]Verdict{verdict(Valid), verdict(Valid)}, Valid},
		{[]Verdict{verdict(Valid), verdict(Unknown)}, Unknown},
		{[]Verdict{verdict(Unknown), verdict(Invalid), verdict(Valid)}, Invalid},
	} {
		if got := Worst(c.in...).Valid; got != c.want {
			t.Errorf("%v: %v, want %v", c.in, got, c.want)
		}
	}
}
