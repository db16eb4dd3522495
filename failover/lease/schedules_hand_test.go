package lease

import (
	"testing"
	"time"
)

// Schedules in which a second hand acknowledges in an acceptor's place (Delegation).

// delegatingBench is a bench whose voters delegate what they acknowledge.
func delegatingBench(set VoterSet) *bench {
	b := newBench(set, length, length, nil)
	b.delegating = true
	return b
}

// The holder died after many rounds that the acceptors acknowledged themselves; the last of them was delegated.
// Somebody on the path sends them all again.
func replaysInTheHand() *bench {
	b := delegatingBench(abc)
	b.delegating = false
	for now := 5 * ms; now <= 90*ms; now += 5 * ms {
		b.at(now)
		b.delegating = now == 90*ms
		b.renew(abc, length, "A", "B", "C")
	}
	return b.replayed()
}

// The same, and the second hand had acknowledged all but the first round. It is recalled first.
func replaysAfterTheRecall() *bench {
	b := delegatingBench(abc)
	for now := 5 * ms; now <= 90*ms; now += 5 * ms {
		b.at(now)
		b.renew(abc, length, "A", "B", "C")
	}
	b.endorse(b.ask(abc, length), "B", "C") // refused; it takes the promises back
	b.delegating = false
	return b.replayed()
}

// replayed sends what B and C have seen once more, one renewal every 50 ms, and demands that the session can
// be closed all the same.
func (b *bench) replayed() *bench {
	for i := range 8 {
		b.at(195*ms + time.Duration(i)*50*ms)
		b.replay(i+1, "B", "C")
	}
	b.endorse(b.ask(abc, length), "B", "C")
	b.mustClose()
	return b
}

// The second hand has promised for longer than the acceptor.
func endorsedAfterTheRecall() *bench { return handNotAsked(noFlaw) }

// B endorses. Its second hand acknowledges after that if the recall has not ended it; C endorses the same
// question a little later.
func handGoesOn(f flaw) *bench {
	b := delegatingBench(abc)
	b.flaw = f
	b.at(10 * ms)
	b.renew(abc, length, "B")
	b.at(50 * ms)
	b.renew(abc, length, "A", "C")
	b.at(115 * ms)
	q := b.ask(abc, length)
	b.endorse(q, "B")
	b.at(120 * ms)
	b.renew(abc, length, "A", "B")
	b.at(155 * ms)
	b.endorse(q, "C")
	return b
}

// The holder counts by the first of three voter sets, by which A and B have delegated.
func handSurvives(f flaw) *bench {
	b := delegatingBench(abc)
	b.flaw = f
	b.at(1 * ms)
	b.renew(abc, length, "A", "B")
	b.use(abcd, "A", "B")
	b.use(abcde, "C", "D", "E")
	b.at(90 * ms)
	b.renew(abc, length, "A", "B")
	b.at(110 * ms)
	b.endorse(b.ask(abcde, length), "C", "D", "E")
	return b
}

// The second hand acknowledged the newest round. Its promise runs when the leader asks.
func handNotAsked(f flaw) *bench {
	b := delegatingBench(abc)
	b.flaw = f
	b.at(10 * ms)
	b.renew(abc, length, "A", "B", "C")
	b.at(90 * ms)
	b.renew(abc, length, "A", "B", "C")
	b.at(150 * ms)
	b.endorse(b.ask(abc, length), "B", "C")
	return b
}

// What the shell does before it answers is outside this package. Left out, each of its duties gives two owners.
func TestAHandThatIsNotRecalled(t *testing.T) {
	for name, c := range map[string]struct {
		flaw flaw
		run  func(flaw) *bench
	}{
		"endorsed without a recall":          {flawEndorses, handNotAsked},
		"recalled, and goes on":              {flawGoesOn, handGoesOn},
		"it survives a change of the voters": {flawSurvives, handSurvives},
	} {
		t.Run(name, func(t *testing.T) {
			if v := c.run(noFlaw).violation; v != "" {
				t.Errorf("without the flaw: %s", v)
			}
			if c.run(c.flaw).violation == "" {
				t.Error("the flaw does not show")
			}
		})
	}
}
