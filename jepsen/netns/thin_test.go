package netns

import (
	"math/rand/v2"
	"testing"
	"time"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/history"
)

// Thinning never changes what is certain, whatever moves, overlaps and gets lost.
func TestThinKeepsWhatIsCertain(t *testing.T) {
	kept, all, dual := 0, 0, 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		answers := randomAnswers(rng)
		want, got := checker.DualOwner(answers), checker.DualOwner(thin(answers))
		if want.Certain != got.Certain || want.Handovers != got.Handovers {
			t.Fatalf("seed %d: certain %v, hand-overs %d; thinned: %v, %d", seed, want.Certain, want.Handovers, got.Certain, got.Handovers)
		}
		if want.Certain > 0 {
			dual++
		}
		kept, all = kept+len(thin(answers)), all+len(answers)
	}
	if dual < 20 || dual == 300 {
		t.Errorf("two owners in %d of 300 histories: not much of a test", dual)
	}
	if kept > all/2 {
		t.Errorf("%d of %d answers kept", kept, all)
	}
}

// randomAnswers is a HAVIP that moves now and then, at times with two owners for a while, and
// answers that get lost.
func randomAnswers(rng *rand.Rand) []history.Answer {
	var list []history.Answer
	const every = int64(2 * time.Millisecond)
	owners := []string{"a"}
	for n := uint64(1); n < 1500; n++ {
		switch {
		case rng.IntN(300) == 0:
			owners = []string{string('a' + rune(rng.IntN(3)))}
		case rng.IntN(2000) == 0:
			owners = []string{"a", "b"}
		}
		for i, node := range owners {
			for _, channel := range []string{history.ARP, history.UDP} {
				if rng.IntN(400) == 0 {
					continue
				}
				sent := int64(n)*every + int64(i)*10_000
				list = append(list, history.Answer{From: "o", HAVIP: "v", Poll: n, Node: node, Channel: channel, Sent: sent, Received: sent + 50_000 + 2*rng.Int64N(30_000) + int64(i)}) // no two at once
			}
		}
	}
	return list
}
