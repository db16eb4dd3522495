package checker

import (
	"testing"
	"time"

	"havip-cluster/jepsen/history"
)

const (
	tick = int64(2e6) // polling interval, ns
	trip = int64(1e5) // round trip of an answer, ns
)

// answers builds a history from one string per node: one letter per poll, x answered by ARP
// and UDP, a by ARP alone, u by UDP alone, anything else unanswered.
func answers(byNode map[string]string) []history.Answer {
	var list []history.Answer
	for node, polls := range byNode {
		for i, c := range polls {
			sent := int64(i+1) * tick
			a := history.Answer{From: "observer", HAVIP: "v", Poll: uint64(i + 1), Node: node, Sent: sent, Received: sent + trip}
			for channel, letters := range map[string]string{history.ARP: "xa", history.UDP: "xu"} {
				if a.Channel = channel; c == rune(letters[0]) || c == rune(letters[1]) {
					list = append(list, a)
				}
			}
		}
	}
	return list
}

func TestDualOwner(t *testing.T) {
	const step, rtt = time.Duration(tick), time.Duration(trip)
	for _, c := range []struct {
		name      string
		a, b      string
		certain   time.Duration
		suspect   time.Duration
		handovers int
	}{
		{"nobody", "......", "......", 0, 0, 0},
		{"one owner", "xxxxxx", "......", 0, 0, 0},
		{"one owner, frames lost", "x..x...x", "........", 0, 0, 0},
		{"hand-over with a gap", "xxx....", ".....xx", 0, 0, 1},
		{"hand-over within one poll", "xxx...", "..xxxx", 0, rtt, 3},
		{"there and back, every other poll", "x.x.x.x", ".x.x.x.", 0, 0, 6},
		{"there and back, frames lost", "x.....x", "..xx...", 0, 0, 2},
		{"nested without a common poll", "xx..xx", "..xx..", 0, 0, 2},
		{"one common poll in the middle", "xxxxx", "..x..", 0, rtt, 3},
		{"two owners for two polls", "xxx...", ".xxxxx", step - rtt, 2 * rtt, 5},
		{"two owners throughout", "xxxxxx", "xxxxxx", 5*step - rtt, 2 * rtt, 0},
		{"two owners, common loss", "x..x", "x..x", 3*step - rtt, 2 * rtt, 0},
		{"two owners, long common loss", "x...x", "x...x", 0, 2 * rtt, 0},
		{"two owners, one loses frames", "xxx.xxx", "xxxxxxx", 2 * (2*step - rtt), 4 * rtt, 0},
		{"one by ARP, the other by UDP", "aaaa", "uuuu", 3*step - rtt, 2 * rtt, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := DualOwner(answers(map[string]string{"a": c.a, "b": c.b}))
			if got.Certain != c.certain || got.Suspect != c.suspect {
				t.Errorf("certain %v suspect %v, want %v and %v", got.Certain, got.Suspect, c.certain, c.suspect)
			}
			if c.handovers > 0 && got.Handovers == 0 {
				t.Errorf("no hand-over seen")
			}
			if (got.Certain > 0) != (len(got.Overlaps) > 0) {
				t.Errorf("certain %v but overlaps %v", got.Certain, got.Overlaps)
			}
		})
	}
}

// TestLateAnswersProveNothing: a move from a to b at 10.5 ms whose answers all arrive late
// is no violation, however many polls both answered.
func TestLateAnswersProveNothing(t *testing.T) {
	var list []history.Answer
	for i := range int64(5) {
		sent := (i + 1) * tick
		for _, node := range []string{"a", "b"} {
			list = append(list, history.Answer{HAVIP: "v", Poll: uint64(i + 1), Node: node, Channel: history.UDP, Sent: sent, Received: 10_600_000 + i})
		}
	}
	if got := DualOwner(list); got.Certain != 0 || got.Suspect == 0 {
		t.Errorf("certain %v, suspect %v; want only suspicion", got.Certain, got.Suspect)
	}
}

func TestThreeOwnersCountOnce(t *testing.T) {
	list := answers(map[string]string{"a": "xxx", "b": "xxx", "c": "xxx"})
	got := DualOwner(list)
	if want := time.Duration(2*tick - trip); got.Certain != want || len(got.Overlaps) != 3 {
		t.Errorf("certain %v in %d overlaps, want %v in 3", got.Certain, len(got.Overlaps), want)
	}
}

func TestObserversDoNotMix(t *testing.T) {
	mine, other := answers(map[string]string{"a": "xxxx"}), answers(map[string]string{"b": "....xxxx"})
	for i := range other {
		other[i].From, other[i].Poll = "second", other[i].Poll-4
	}
	if got := DualOwner(append(mine, other...)); got.Certain != 0 {
		t.Errorf("polls of two observers counted as common: %v", got.Overlaps)
	}
}

func TestSingleOwner(t *testing.T) {
	series := []history.Series{{Kind: history.Observing, From: "observer", Target: "v", Every: tick, Count: 6}}
	for _, c := range []struct {
		name   string
		h      history.History
		want   Validity
		byNode map[string]string
	}{
		{"empty", history.History{}, Unknown, nil},
		{"wedged: polls without one answer", history.History{Series: series}, Unknown, nil},
		{"wedged: only a client probed", history.History{Probes: []history.Probe{{Sent: 1, Answered: 2}}}, Unknown, nil},
		{"hand-over", history.History{Series: series}, Valid, map[string]string{"a": "xx....", "b": "...xxx"}},
		{"two owners", history.History{Series: series}, Invalid, map[string]string{"a": "xxxx..", "b": "..xxxx"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.h.Answers = answers(c.byNode)
			if got := SingleOwner(&c.h); got.Valid != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
