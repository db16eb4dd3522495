package lease

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"havip-cluster/internal/limits"
)

// Arbitrary calls, sensible or not, on one holder, one acceptor and one closer: nothing
// panics, and what must never change does not.

var names = []string{"", "A", "B", "C", "D"}

func drawSession(t *rapid.T) Session {
	return Session{rapid.SampledFrom(names).Draw(t, "node"), rapid.Uint64Range(0, 4).Draw(t, "number")}
}

func drawSet(t *rapid.T) VoterSet {
	set := NewVoterSet(rapid.SliceOfN(rapid.SampledFrom(names[1:]), 0, 4).Draw(t, "voters"))
	set.Index = rapid.Uint64Range(0, 2).Draw(t, "index")
	return set
}

func drawLength(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{-1 << 63, 0, short, length, long, limits.LeaseLongest, 1<<63 - 1}).Draw(t, "length")
}

func TestHolderAgainstADumbOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := Instant(rapid.Int64Range(-1e9, 1e9).Draw(t, "start"))
		s, h := Session{"A", 1}, NewHolder(Session{"A", 1}, now, length)
		deadline, dead := now.Add(length), false
		var rounds []Renewal
		sets, acks := map[uint64]VoterSet{}, map[uint64]map[string]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(30*ms)).Draw(t, "pause")))
			dead = dead || !now.Before(deadline)
			if rapid.Bool().Draw(t, "begin") || len(rounds) == 0 {
				set := drawSet(t)
				if r, ok := h.Begin(now, set, length); ok {
					rounds, sets[r.Round], acks[r.Round] = append(rounds, r), set, map[string]bool{}
				} else if !dead {
					t.Fatal("a living lease does not renew")
				}
				continue
			}
			r := rapid.SampledFrom(rounds).Draw(t, "round")
			from := rapid.SampledFrom(names).Draw(t, "from")
			got, moved := h.Ack(now, Ack{s, r.Round, r.Sent, r.Length, r.Config, from, 0})
			// The dumb one never forgets a round, and counts it anew each time.
			before := deadline
			if remembered := r.Round+RoundsMax > uint64(len(rounds)); remembered && !dead && sets[r.Round].Has(from) {
				acks[r.Round][from] = true
				if 2*len(acks[r.Round]) > len(sets[r.Round].Voters) {
					deadline = max(deadline, r.Sent.Add(r.Length))
				}
			}
			if got != deadline || moved != (deadline != before) || h.Alive(now) == dead {
				t.Fatalf("deadline %d, moved %v, alive %v; the dumb one: %d, dead %v", got, moved, h.Alive(now), deadline, dead)
			}
		}
	})
}

func TestAcceptorAndCloserTakeAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := Instant(0)
		a, c := NewAcceptor("B", bootB, now, length), NewCloser("C", 1)
		renewed, revoked, until, dead := map[Session]Renewal{}, map[Session]bool{}, map[Session]Instant{}, map[QuestionID]bool{}
		q := Question{}
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")))
			},
			"caught up": func(*rapid.T) { a.CaughtUp(now) },
			"silence": func(t *rapid.T) {
				a.SetLongest(now, rapid.SampledFrom([]time.Duration{short, length}).Draw(t, "l"))
			},
			"voters": func(t *rapid.T) { set := drawSet(t); a.UseVoterSet(now, set); c.UseVoterSet(set) },
			"opened": func(t *rapid.T) { a.Opened(now, drawSession(t), short) },
			"closed": func(t *rapid.T) {
				s := drawSession(t)
				a.Closed(now, s)
				clear(revoked)
				clear(until)
				clear(renewed)
				c.Forget(s)
			},
			"renew": func(t *rapid.T) {
				r := Renewal{Session: drawSession(t), Length: drawLength(t), Config: a.voters.ID}
				r.Round, r.Sent = rapid.Uint64Range(0, 5).Draw(t, "round"), Instant(rapid.Int64Range(-3, 3).Draw(t, "sent"))
				r.Boot = rapid.SampledFrom([]BootID{bootB, bootB, 0, 1}).Draw(t, "boot")
				if _, refusal := a.Renew(now, r); refusal == "" {
					if revoked[r.Session] {
						t.Fatalf("%v is renewed after it was endorsed", r.Session)
					}
					if last, known := renewed[r.Session]; r.Boot != bootB || known && (last.Round >= r.Round || last.Sent >= r.Sent) {
						t.Fatalf("%+v is acknowledged after %+v", r, last)
					}
					renewed[r.Session] = r
				}
			},
			"ask": func(t *rapid.T) { q = c.Ask(now, drawSession(t), drawSet(t), drawLength(t)) },
			"endorse": func(t *rapid.T) {
				q.Config = a.voters.ID
				e, refusal := a.Endorse(now, q)
				if refusal == "" {
					revoked[q.Session] = true
				}
				e.From = rapid.SampledFrom(names).Draw(t, "from")
				if won, _ := c.Count(now, e); won && dead[e.Question] {
					t.Fatal("two verdicts on one question")
				} else if won {
					dead[e.Question] = true
				}
			},
			"": func(t *rapid.T) {
				for _, s := range a.Sessions() {
					_, left, _ := a.Heard(0, s)
					p := Instant(left)
					if p.Before(until[s]) {
						t.Fatalf("the promise to %v moved back", s)
					}
					until[s] = p
				}
				if next, ok := a.NextExpiry(now); ok && !next.After(now) {
					t.Fatalf("next expiry %d is not after %d", next, now)
				}
				if len(a.Expired(now)) > len(a.Sessions()) {
					t.Fatal("more expired than open")
				}
			},
		})
	})
}
