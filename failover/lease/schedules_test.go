package lease

import (
	"testing"
	"time"
)

// schedule is one hand-made course of events in which a single rule stands between the
// holder and a second owner.
type schedule struct {
	rule   string
	mutant string // planting this bug must turn the schedule into a violation
	run    func() *bench
}

const (
	length = 100 * ms // P = 104 ms
	short  = 50 * ms  // P = 53 ms
	long   = 500 * ms // P = 512 ms
)

// schedules leaves no rule out, and above all not those whose schedules are too rare to
// be hit at random: the silence before acknowledging, and the drift margin.
var schedules = []schedule{
	{"rule 1 (first promise)", "lease-first-promise", firstPromise},
	{"rule 2 (send time, not receipt time)", "lease-send-time-deadline", sendTime},
	{"rule 2 (the same voter set)", "lease-config-check", oldVoterSetRenews},
	{"rule 2 (silence before acknowledging)", "lease-silence-ack", silenceBeforeAck},
	{"rule 2 (majority)", "lease-majority", majority},
	{"rule 2 (round and sending grow)", "lease-growth", replays},
	{"rule 2 (the voter's boot id)", "lease-boot", replaysAfterRestart},
	{"rule 3 (continuity)", "lease-continuity", continuity},
	{"rule 4 (revocation)", "lease-revocation", revocation},
	{"rule 4 (silence before endorsing)", "lease-silence-endorse", silenceBeforeEndorse},
	{"rule 4 (silence until caught up)", "lease-caught-up", silenceUntilCaughtUp},
	{"rule 4 (age of the voter set)", "lease-config-age", youngVoterSet},
	{"rule 4 (a voter set that comes back is young)", "lease-config-index", voterSetComesBack},
	{"rule 5 (the same voter set)", "lease-config-endorse", oldVoterSetEndorses},
	{"rule 5 (the leader's current voter set)", "lease-config-leader", leaderMovesOn},
	{"rule 5 (age of the question)", "lease-question-age", oldQuestion},
	{"rule 8 (only lengths in force)", "lease-length-known", lengthNotApplied},
	{"rule 8 (the longer length lapses)", "lease-length-lapse", lengthLapses},
	{"a promise in another hand (what it begins with)", "lease-hand-begins", replaysInTheHand},
	{"a promise in another hand (round and sending are taken back)", "lease-hand-round", replaysAfterTheRecall},
	{"a promise in another hand (its end is taken back)", "lease-hand-until", endorsedAfterTheRecall},
	{"notation (drift margin)", "lease-drift-margin", drift},
}

func TestNoScheduleClosesALivingSession(t *testing.T) {
	for _, s := range schedules {
		t.Run(s.rule, func(t *testing.T) {
			if v := s.run().violation; v != "" {
				t.Error(v)
			}
		})
	}
}

// A session that is opened and not yet renewed lives on its first promise.
func firstPromise() *bench {
	b := newBench(abc, length, length, nil)
	b.at(10 * ms)
	b.endorse(b.ask(abc, length), "B", "C")
	return b
}

// The acknowledgements travel for 45 ms, in which the promises already run.
func sendTime() *bench {
	b := newBench(abc, length, length, nil)
	b.at(50 * ms)
	acks := b.send(abc, length, "A", "B", "C")
	b.at(95 * ms)
	b.deliver(acks)
	b.at(155 * ms)
	b.endorse(b.ask(abc, length), "B", "C")
	return b
}

// The holder counts by the first of three voter sets. A and B know better, but repeat
// its id; the majority of the last set has heard nothing of it for long.
func oldVoterSetRenews() *bench {
	b := newBench(abc, length, length, nil)
	b.use(abcd, "A", "B")
	b.use(abcde, "C", "D", "E")
	b.at(90 * ms)
	b.renew(abc, length, "A", "B")
	b.at(110 * ms)
	b.endorse(b.ask(abcde, length), "C", "D", "E")
	return b
}

// B endorses, restarts, forgets so, and acknowledges, all within the age of one question,
// which reaches C just when the promise of C has run out.
func silenceBeforeAck() *bench {
	b := newBench(abc, length, length, nil)
	b.at(50 * ms)
	b.renew(abc, length, "A", "C")
	b.at(110 * ms)
	q := b.ask(abc, length)
	b.endorse(q, "B")
	b.at(111 * ms)
	b.restart("B")
	b.at(140 * ms)
	b.renew(abc, length, "A", "B")
	b.at(155 * ms)
	b.endorse(q, "C")
	return b
}

// One voter of three is no majority.
func majority() *bench {
	b := newBench(abc, length, length, nil)
	b.at(50 * ms)
	b.renew(abc, length, "A", "C")
	b.at(110 * ms)
	b.endorse(b.ask(abc, length), "B")
	return b
}

// The holder died after its round at 50 ms. Somebody on the path sends that again and again.
func replays() *bench {
	b := newBench(abc, length, length, nil)
	b.at(50 * ms)
	b.renew(abc, length, "A", "B", "C")
	for now := 60 * ms; now <= 400*ms; now += 10 * ms {
		b.at(now)
		b.replay(0, "B", "C")
	}
	b.endorse(b.ask(abc, length), "B", "C")
	b.mustClose()
	return b
}

// The same, with many rounds and voters that have forgotten them.
func replaysAfterRestart() *bench {
	b := newBench(abc, length, length, nil)
	for now := 5 * ms; now <= 90*ms; now += 5 * ms {
		b.at(now)
		b.renew(abc, length, "A", "B", "C")
	}
	b.restart("B")
	b.restart("C")
	for i := range 8 {
		b.at(195*ms + time.Duration(i)*50*ms)
		b.replay(i, "B", "C")
	}
	b.endorse(b.ask(abc, length), "B", "C")
	b.mustClose()
	return b
}

// The session is closed. B restarts, has been silent for P, and is far behind in the log:
// its acknowledgement is in order, only the holder can know that it comes too late.
func continuity() *bench {
	b := newBench(abc, length, length, nil)
	b.at(110 * ms)
	b.endorse(b.ask(abc, length), "B", "C")
	b.at(111 * ms)
	b.restart("B")
	b.at(216 * ms)
	b.renew(abc, length, "A", "B")
	return b
}

// B endorses and then acknowledges; C endorses the same question a little later.
func revocation() *bench {
	b := newBench(abc, length, length, nil)
	b.at(50 * ms)
	b.renew(abc, length, "A", "C")
	b.at(110 * ms)
	q := b.ask(abc, length)
	b.endorse(q, "B")
	b.at(120 * ms)
	b.renew(abc, length, "A", "B")
	b.at(155 * ms)
	b.endorse(q, "C")
	return b
}

// B forgets a promise of 512 ms by a restart. What the replay of the opening promises is
// less: the session was opened when leases were short.
func silenceBeforeEndorse() *bench {
	b := newBench(abc, short, long, nil)
	b.at(40 * ms)
	b.renew(abc, long, "A", "B")
	b.at(41 * ms)
	b.restart("B")
	b.at(100 * ms)
	b.endorse(b.ask(abc, long), "B", "C")
	return b
}

// A change from 50 ms to 500 ms is under way: holders use the shorter, voters and leader
// reckon with the longer. The snapshot from which B restarts is older than the change.
func silenceUntilCaughtUp() *bench {
	b := newBench(abc, short, long, nil)
	for now := 10 * ms; now <= 110*ms; now += 10 * ms {
		b.at(now)
		b.renew(abc, short, "A", "C")
	}
	q := b.ask(abc, long)
	b.endorse(q, "B")
	b.at(111 * ms)
	b.longest["B"] = short
	b.start("B")
	b.open("B") // and here the replay stops, before the entry with the longer length
	for now := 120 * ms; now <= 240*ms; now += 10 * ms {
		b.at(now)
		b.renew(abc, short, "A", "B")
		if now <= 165*ms {
			b.at(now + ms) // each round has a time of its own
			b.renew(abc, short, "A", "C")
		}
	}
	b.endorse(q, "C")
	return b
}

// B's last act in the set of three is an acknowledgement; it then completes the majority
// that commits the set of four, and the leader begins the next change at once.
func youngVoterSet() *bench {
	b := newBench(abc, length, length, nil)
	b.use(abcd, "C", "D")
	b.at(90 * ms)
	b.renew(abc, length, "A", "B")
	b.at(91 * ms)
	b.use(abcd, "B")
	b.at(92 * ms)
	b.use(abcde, "C", "D", "E")
	b.at(110 * ms)
	b.endorse(b.ask(abcde, length), "C", "D", "E")
	return b
}

// Two voters are added and removed again while no lease message reaches A and B. C, D and
// E acknowledge by the set of five; C's last act in it.
func voterSetComesBack() *bench {
	b := newBench(atIndex(abc, 1), length, length, nil)
	b.use(atIndex(abcde, 3), "C", "D", "E")
	b.at(90 * ms)
	b.renew(atIndex(abcde, 3), length, "C", "D", "E")
	b.at(91 * ms)
	b.use(atIndex(abcd, 4), "C")
	b.at(92 * ms)
	b.use(atIndex(abc, 5), "A", "B")
	b.at(110 * ms)
	b.endorse(b.ask(atIndex(abc, 5), length), "A", "B")
	return b
}

// Two removals. C acknowledges by the set of five, completes the majority of the set of
// four, becomes leader and removes D. Question and count are by the set of three, but A
// and B are still in the set of four, and in it for long.
func oldVoterSetEndorses() *bench {
	b := newBench(abcde, length, length, nil)
	b.at(1 * ms)
	b.use(abcd, "A", "B")
	b.at(90 * ms)
	b.renew(abcde, length, "C", "D", "E")
	b.at(91 * ms)
	b.use(abcd, "C")
	b.at(92 * ms)
	b.use(abc, "C")
	b.at(110 * ms)
	b.endorse(b.ask(abc, length), "A", "B")
	return b
}

// The leader asks by the set of five and then removes E and D. C and D endorsed before,
// E endorses after it; meanwhile A and B renew by the set of three.
func leaderMovesOn() *bench {
	b := newBench(abcde, length, length, nil)
	b.at(50 * ms)
	b.renew(abcde, length, "A", "B", "E")
	b.at(110 * ms)
	q := b.ask(abcde, length)
	b.endorse(q, "C", "D")
	b.at(112 * ms)
	b.use(abcd, "A", "B", "C")
	b.at(114 * ms)
	b.use(abc, "A", "B", "C")
	b.closer.UseVoterSet(abc)
	b.renew(abc, length, "A", "B")
	b.at(155 * ms)
	b.endorse(q, "E")
	return b
}

// B endorses, restarts, has been silent for P, and acknowledges again. The question is
// still on its way to C.
func oldQuestion() *bench {
	b := newBench(abc, length, length, nil)
	for now := 10 * ms; now <= 110*ms; now += 10 * ms {
		b.at(now)
		b.renew(abc, length, "A", "C")
	}
	q := b.ask(abc, length)
	b.endorse(q, "B")
	b.restart("B")
	for now := 120 * ms; now <= 310*ms; now += 10 * ms {
		b.at(now)
		if now <= 200*ms {
			b.renew(abc, length, "A", "C")
		} else {
			b.renew(abc, length, "A", "B")
		}
	}
	b.endorse(q, "C")
	return b
}

// B has not applied the longer length: its silence after the restart is that of the
// shorter one.
func lengthNotApplied() *bench {
	b := newBench(abc, short, long, nil)
	b.apply(short, "B")
	b.at(40 * ms)
	b.renew(abc, long, "A", "B")
	b.at(41 * ms)
	b.restart("B")
	b.at(100 * ms)
	b.endorse(b.ask(abc, long), "B", "C")
	return b
}

// B promises for 512 ms, restarts, and replays that leases are short now.
func lengthLapses() *bench {
	b := newBench(abc, short, long, nil)
	b.at(40 * ms)
	b.renew(abc, long, "A", "B")
	b.at(41 * ms)
	b.restart("B")
	b.apply(short, "B")
	b.at(100 * ms)
	b.endorse(b.ask(abc, short), "B", "C")
	return b
}

// The worst clocks that are permitted: the holder's is slow, the voters' are fast.
func drift() *bench {
	const slow, fast = -5_000, 5_000
	clocks := map[string]clock{"A": {time.Hour, slow}, "B": {-time.Hour, fast}, "C": {7 * time.Second, fast}}
	b := newBench(abc, 10*time.Second, 10*time.Second, clocks)
	b.at(1 * time.Second)
	b.renew(abc, 10*time.Second, "A", "B", "C")
	for b.now < 12*time.Second {
		b.at(b.now + ms)
		if b.alive() {
			b.endorse(b.ask(abc, 10*time.Second), "B", "C")
		}
	}
	return b
}

// The danger of duty 7 (package documentation), shown: the count of a deposed leader is
// a true majority of its voter set, and the session lives on by a set two steps away.
// Raft cannot commit the close in the leader's term; a later term must not take it over.
func TestVerdictOfADeposedLeaderMayBeWrong(t *testing.T) {
	b := newBench(abcde, length, length, nil)
	b.at(50 * ms)
	b.renew(abcde, length, "A", "B", "E")
	b.at(110 * ms)
	q := b.ask(abcde, length)
	b.endorse(q, "C", "D")
	b.at(114 * ms) // elsewhere: a new leader, two removals
	b.use(abcd, "A", "B", "C")
	b.use(abc, "A", "B")
	b.renew(abc, length, "A", "B")
	b.at(155 * ms)
	b.endorse(q, "E") // and the old leader has noticed nothing
	if !b.closed || !b.alive() {
		t.Errorf("closed %v, alive %v: if this can no longer happen, drop duty 7", b.closed, b.alive())
	}
}
