package lease

import (
	"errors"
	"slices"
	"testing"
	"time"

	"havip-cluster/internal/limits"
)

// Boundaries of each rule, to the nanosecond.

var (
	s7       = Session{Node: "A", Number: 7}
	promised = Promise(length)
)

// acceptorB is up and has used the set for long; the log opens s7 there at 0.
func acceptorB(t *testing.T) *Acceptor {
	t.Helper()
	a := NewAcceptor("B", bootB, -Instant(time.Minute), length)
	a.UseVoterSet(-Instant(time.Minute), abc)
	a.CaughtUp(-Instant(time.Minute))
	a.Opened(0, s7, length)
	return a
}

const bootB BootID = 77

func aRenewal(set VoterSet) Renewal {
	return Renewal{Session: s7, Round: 1, Length: length, Config: set.ID, Boot: bootB}
}

func aQuestion(set VoterSet) Question {
	return Question{ID: QuestionID{Leader: "C", Term: 3, Number: 1}, Session: s7, Config: set.ID, Length: length}
}

func wantRenew(t *testing.T, a *Acceptor, now Instant, r Renewal, want Refusal) {
	t.Helper()
	if _, got := a.Renew(now, r); got != want {
		t.Errorf("renewal at %d: refusal %q, want %q", now, got, want)
	}
}

func wantEndorse(t *testing.T, a *Acceptor, now Instant, q Question, want Refusal) {
	t.Helper()
	if _, got := a.Endorse(now, q); got != want {
		t.Errorf("question at %d: refusal %q, want %q", now, got, want)
	}
}

func TestPromiseOutlastsTheLeaseOnTheWorstClocks(t *testing.T) {
	for length := limits.LeaseShortest; length <= limits.LeaseLongest; length += 9_999_991 {
		// The voter's clock is 0.5 % fast, the holder's 0.5 % slow.
		if got, least := Promise(length), length*1_005/995; got <= least {
			t.Fatalf("promise of %v is %v, not above %v", length, got, least)
		}
	}
	if got, want := Promise(500*ms), 512*ms; got != want {
		t.Errorf("Promise(500ms) = %v, want %v", got, want)
	}
}

func TestCheckLength(t *testing.T) {
	for _, c := range []struct {
		length time.Duration
		ok     bool
	}{{limits.LeaseShortest - 1, false}, {limits.LeaseShortest, true}, {limits.LeaseLongest, true}, {limits.LeaseLongest + 1, false}, {0, false}, {-1, false}} {
		err := CheckLength(c.length)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrLength) {
			t.Errorf("CheckLength(%d) = %v", c.length, err)
		}
	}
}

func TestVoterSet(t *testing.T) {
	if a, b := NewVoterSet([]string{"b", "a", "b"}), NewVoterSet([]string{"a", "b"}); a.ID != b.ID || !slices.Equal(a.Voters, b.Voters) {
		t.Errorf("order and repetition matter: %v, %v", a, b)
	}
	if NewVoterSet([]string{"ab"}).ID == NewVoterSet([]string{"a", "b"}).ID {
		t.Error("the borders between names do not matter")
	}
	for voters, want := range []int{1, 1, 2, 2, 3, 3, 4} {
		if got := (VoterSet{Voters: make([]string, voters)}).Majority(); got != want {
			t.Errorf("majority of %d is %d, want %d", voters, got, want)
		}
	}
}

func TestRule1FirstDeadlineIsFromTheRequest(t *testing.T) {
	h := NewHolder(s7, 1_000, length)
	if want := Instant(1_000).Add(length); h.Deadline() != want || !h.Alive(want-1) || h.Alive(want) {
		t.Errorf("deadline %d, want %d, alive before it and not at it", h.Deadline(), want)
	}
	if NewHolder(s7, 0, limits.LeaseShortest-1).Alive(0) {
		t.Error("a lease of no permitted length is alive")
	}
}

func TestRule1FirstPromise(t *testing.T) {
	end := Instant(promised)
	wantEndorse(t, acceptorB(t), end-1, aQuestion(abc), RefusedPromised)
	wantEndorse(t, acceptorB(t), end, aQuestion(abc), "")
}

func TestRule2DeadlineIsFromTheSending(t *testing.T) {
	h := NewHolder(s7, 0, length)
	r, _ := h.Begin(10, abc, length)
	ack := Ack{r.Session, r.Round, r.Sent, r.Length, r.Config, "A", 0}
	for _, step := range []struct {
		from  string
		moved bool
	}{{"A", false}, {"A", false}, {"D", false}, {"B", true}, {"C", false}} {
		ack.From = step.from
		if _, moved := h.Ack(50, ack); moved != step.moved {
			t.Errorf("ack of %s moved the deadline: %v", step.from, moved)
		}
	}
	if want := Instant(10).Add(length); h.Deadline() != want {
		t.Errorf("deadline %d, want %d", h.Deadline(), want)
	}
	if want := Instant(10).Add(length / 5); h.NextRenewal() != want {
		t.Errorf("next renewal %d, want %d", h.NextRenewal(), want)
	}
}

func TestRule2AckOfAnotherRoundIsIgnored(t *testing.T) {
	h := NewHolder(s7, 0, length)
	r, _ := h.Begin(10, NewVoterSet([]string{"B"}), length)
	good := Ack{r.Session, r.Round, r.Sent, r.Length, r.Config, "B", 0}
	for name, spoil := range map[string]func(*Ack){
		"session": func(a *Ack) { a.Session.Number++ },
		"round":   func(a *Ack) { a.Round++ },
		"sent":    func(a *Ack) { a.Sent++ },
		"length":  func(a *Ack) { a.Length++ },
		"config":  func(a *Ack) { a.Config++ },
		"from":    func(a *Ack) { a.From = "C" },
	} {
		bad := good
		spoil(&bad)
		if _, moved := h.Ack(11, bad); moved {
			t.Errorf("an ack with another %s counts", name)
		}
	}
	if _, moved := h.Ack(11, good); !moved {
		t.Error("the right ack does not count")
	}
}

func TestRule2OldRoundsAreForgotten(t *testing.T) {
	h := NewHolder(s7, 0, length)
	var first, last Renewal
	for i := range Instant(RoundsMax + 1) {
		last, _ = h.Begin(10+i, NewVoterSet([]string{"B"}), length)
		if i == 0 {
			first = last
		}
	}
	for r, want := range map[Renewal]bool{first: false, last: true} {
		if _, moved := h.Ack(50, Ack{r.Session, r.Round, r.Sent, r.Length, r.Config, "B", 0}); moved != want {
			t.Errorf("ack of round %d moved the deadline: %v", r.Round, moved)
		}
	}
	if len(h.rounds) != 0 {
		t.Errorf("%d rounds are kept that cannot move the deadline", len(h.rounds))
	}
}

func TestRule2SilenceAfterStart(t *testing.T) {
	start := func() *Acceptor {
		a := NewAcceptor("B", bootB, 0, length)
		a.UseVoterSet(0, abc)
		a.CaughtUp(0)
		a.Opened(0, s7, length)
		return a
	}
	end := Instant(promised)
	wantRenew(t, start(), end-1, aRenewal(abc), RefusedStarting)
	wantRenew(t, start(), end, aRenewal(abc), "")
	wantEndorse(t, start(), end-1, aQuestion(abc), RefusedStarting)
	wantEndorse(t, start(), end, aQuestion(abc), "")
	if got := start().Expired(end - 1); got != nil {
		t.Errorf("a silent acceptor hints %v", got)
	}
}

// A renewal is acknowledged once, in the order of rounds, and by the process that it names.
func TestRule2ARenewalCountsOnce(t *testing.T) {
	a := acceptorB(t)
	r := func(round uint64, sent Instant, boot BootID) Renewal {
		x := aRenewal(abc)
		x.Round, x.Sent, x.Boot = round, sent, boot
		return x
	}
	for i, step := range []struct {
		r    Renewal
		want Refusal
	}{
		{r(1, -50, 0), RefusedBoot}, {r(1, -50, bootB+1), RefusedBoot},
		{r(1, -50, bootB), ""}, {r(1, -50, bootB), RefusedStale}, {r(1, -40, bootB), RefusedStale},
		{r(3, -30, bootB), ""}, {r(2, -40, bootB), RefusedStale}, {r(2, -20, bootB), RefusedStale}, {r(4, -30, bootB), RefusedStale},
		{r(4, -29, bootB+1), RefusedBoot}, {r(4, -29, bootB), ""},
	} {
		_, before, _ := a.Heard(0, s7)
		wantRenew(t, a, Instant(i+1), step.r, step.want)
		if _, after, _ := a.Heard(0, s7); (after != before) != (step.want == "") {
			t.Errorf("step %d: the promise moved: %v", i, after != before)
		}
	}
	if got, want := a.Correct(r(9, 9, 9)), (Correction{s7, 9, "B", bootB}); got != want {
		t.Errorf("corrected by %+v", got)
	}
	// Another session begins anew.
	next := Session{Node: s7.Node, Number: s7.Number + 1}
	a.Opened(50, next, length)
	x := r(1, -100, bootB)
	x.Session = next
	wantRenew(t, a, 51, x, "")
}

func TestBoots(t *testing.T) {
	b := Boots{}
	if !b.Learn("A", 1) || b.Learn("A", 1) || !b.Learn("A", 2) || b["A"] != 2 {
		t.Error("what is learned is not what is known")
	}
	for i := range 2 * NodesMax {
		b.Learn(string(rune(1000+i)), 5)
	}
	if len(b) != NodesMax || !b.Learn("A", 3) {
		t.Errorf("%d are known", len(b))
	}
}

func TestRule3AMissedDeadlineStaysMissed(t *testing.T) {
	for name, notice := range map[string]func(*Holder, Instant){
		"nobody looked": func(*Holder, Instant) {},
		"Alive":         func(h *Holder, now Instant) { h.Alive(now) },
		"Begin":         func(h *Holder, now Instant) { h.Begin(now, abc, length) },
	} {
		h := NewHolder(s7, 0, length)
		r, _ := h.Begin(10, NewVoterSet([]string{"B"}), length)
		notice(h, h.Deadline())
		if _, moved := h.Ack(h.Deadline(), Ack{r.Session, r.Round, r.Sent, r.Length, r.Config, "B", 0}); moved || h.Alive(20) {
			t.Errorf("%s: the deadline moved: %v, alive: %v", name, moved, h.Alive(20))
		}
	}
}

func TestReleaseIsFinal(t *testing.T) {
	h := NewHolder(s7, 0, length)
	r, _ := h.Begin(10, NewVoterSet([]string{"B"}), length)
	h.Release()
	if _, moved := h.Ack(20, Ack{r.Session, r.Round, r.Sent, r.Length, r.Config, "B", 0}); moved || h.Alive(20) {
		t.Error("a released lease moves or is alive")
	}
	if _, ok := h.Begin(20, abc, length); ok {
		t.Error("a released lease renews")
	}
}

func TestRule4EndorsedOnceRefusedForEver(t *testing.T) {
	a := acceptorB(t)
	end := Instant(promised)
	wantEndorse(t, a, end, aQuestion(abc), "")
	wantRenew(t, a, end+1, aRenewal(abc), RefusedRevoked)
	wantEndorse(t, a, end+2, aQuestion(abc), "") // another question, or the same again
	a.Opened(end+3, s7, length)                  // replayed: changes nothing
	wantRenew(t, a, end+4, aRenewal(abc), RefusedRevoked)
}

func TestRule4AgeOfTheVoterSet(t *testing.T) {
	const changed = Instant(time.Second)
	a := acceptorB(t)
	a.UseVoterSet(changed, abcd)
	wantRenew(t, a, changed, aRenewal(abcd), "") // renewals need no age
	a = acceptorB(t)
	a.UseVoterSet(changed, abcd)
	wantEndorse(t, a, changed.Add(promised)-1, aQuestion(abcd), RefusedYoungVoterSet)
	wantEndorse(t, a, changed.Add(promised), aQuestion(abcd), "")
}

func TestAcceptorRefuses(t *testing.T) {
	with := func(change func(*Renewal)) Renewal {
		r := aRenewal(abc)
		change(&r)
		return r
	}
	for _, c := range []struct {
		name string
		r    Renewal
		want Refusal
	}{
		{"another voter set", aRenewal(abcd), RefusedVoterSet},
		{"a node the log never opened", with(func(r *Renewal) { r.Session.Node = "C" }), RefusedUnknown},
		{"a session that is not open yet", with(func(r *Renewal) { r.Session.Number = 8 }), RefusedUnknown},
		{"an older session", with(func(r *Renewal) { r.Session.Number = 6 }), RefusedSuperseded},
		{"a length not in force", with(func(r *Renewal) { r.Length++ }), RefusedLength},
		{"no length", with(func(r *Renewal) { r.Length = 0 }), RefusedLength},
	} {
		a := acceptorB(t)
		wantRenew(t, a, 1, c.r, c.want)
		q := Question{Session: c.r.Session, Config: c.r.Config, Length: c.r.Length}
		wantEndorse(t, a, Instant(time.Second), q, c.want)
	}
	a := acceptorB(t)
	a.UseVoterSet(1, NewVoterSet([]string{"A", "C"}))
	wantRenew(t, a, 2, aRenewal(a.voters), RefusedNotVoter)
	a = acceptorB(t)
	a.Closed(1, s7)
	wantRenew(t, a, 2, aRenewal(abc), RefusedUnknown)
}

func TestRule4Hints(t *testing.T) {
	a := acceptorB(t)
	end := Instant(promised)
	if next, ok := a.NextExpiry(0); !ok || next != end {
		t.Errorf("next expiry %d, %v, want %d", next, ok, end)
	}
	if got := a.Expired(end - 1); got != nil {
		t.Errorf("expired too early: %v", got)
	}
	a.Opened(1, Session{"0", 8}, length)
	for range 2 { // again while the session stays open, endorsed or not
		if got, want := a.Expired(end+1), []Session{{"0", 8}, s7}; !slices.Equal(got, want) {
			t.Errorf("expired %v, want %v", got, want)
		}
		wantEndorse(t, a, end+1, aQuestion(abc), "")
		if !a.Revoked(s7) || a.Revoked(Session{"0", 8}) || a.Revoked(Session{s7.Node, s7.Number + 1}) {
			t.Error("it refuses what it has endorsed, and nothing else")
		}
	}
	if _, ok := a.NextExpiry(end + 1); ok {
		t.Error("there is nothing left to expire")
	}
}

func TestRule5AgeOfTheQuestion(t *testing.T) {
	for _, c := range []struct {
		age  time.Duration
		dead bool
		why  Refusal
	}{{length / 2, true, ""}, {length/2 + 1, false, RefusedOld}} {
		closer := NewCloser("C", 3)
		q := closer.Ask(100, s7, abc, length)
		closer.Count(101, Endorsement{q.ID, s7, abc.ID, "A"})
		if dead, why := closer.Count(Instant(100).Add(c.age), Endorsement{q.ID, s7, abc.ID, "B"}); dead != c.dead || why != c.why {
			t.Errorf("age %v: dead %v, %q", c.age, dead, why)
		}
	}
}

func TestRule5WhatCounts(t *testing.T) {
	closer := NewCloser("C", 3)
	old := closer.Ask(0, s7, abc, length)
	q := closer.Ask(1, s7, abc, length)
	for _, c := range []struct {
		name string
		e    Endorsement
		dead bool
		why  Refusal
	}{
		{"an earlier question", Endorsement{old.ID, s7, abc.ID, "A"}, false, RefusedQuestion},
		{"another leader's question", Endorsement{QuestionID{"D", 3, q.ID.Number}, s7, abc.ID, "A"}, false, RefusedQuestion},
		{"an earlier term's question", Endorsement{QuestionID{"C", 2, q.ID.Number}, s7, abc.ID, "A"}, false, RefusedQuestion},
		{"another voter set", Endorsement{q.ID, s7, abcd.ID, "A"}, false, RefusedVoterSet},
		{"not a voter", Endorsement{q.ID, s7, abc.ID, "D"}, false, RefusedNotVoter},
		{"the first", Endorsement{q.ID, s7, abc.ID, "A"}, false, ""},
		{"the first again", Endorsement{q.ID, s7, abc.ID, "A"}, false, RefusedRepeated},
		{"the second", Endorsement{q.ID, s7, abc.ID, "B"}, true, ""},
		{"one more than needed", Endorsement{q.ID, s7, abc.ID, "C"}, false, RefusedQuestion},
	} {
		if dead, why := closer.Count(2, c.e); dead != c.dead || why != c.why {
			t.Errorf("%s: dead %v, %q, want %v, %q", c.name, dead, why, c.dead, c.why)
		}
	}
}

func TestRule8SilenceLapses(t *testing.T) {
	a := acceptorB(t)
	a.SetLongest(1_000, short)
	wantRenew(t, a, 1_001, aRenewal(abc), RefusedLength) // at once
	for at, want := range map[Instant]time.Duration{
		Instant(1_000).Add(promised) - 1: promised,
		Instant(1_000).Add(promised):     Promise(short),
	} {
		if got := a.silence.at(at); got != want {
			t.Errorf("silence at %d is %v, want %v", at, got, want)
		}
	}
	a.SetLongest(2_000, long)
	if got := a.silence.at(2_000); got != Promise(long) {
		t.Errorf("a longer silence is %v, not in force at once", got)
	}
}

// TestRule8PaceOfTheShorterLease: until a round of the longer length was acknowledged, the holder
// renews every fifth of the shorter one, and after a change to a shorter one at once by that.
func TestRule8PaceOfTheShorterLease(t *testing.T) {
	h := NewHolder(s7, 0, short)
	if h.NextRenewal() != 0 {
		t.Errorf("the first renewal is due at %d, not at once", h.NextRenewal())
	}
	round := func(at Instant, length, pace time.Duration, acked bool) {
		t.Helper()
		r, ok := h.Begin(at, abc, length)
		if !ok {
			t.Fatalf("the lease was over at %d", at)
		}
		for _, from := range []string{"A", "B"} {
			if acked {
				h.Ack(at, Ack{r.Session, r.Round, r.Sent, r.Length, r.Config, from, 0})
			}
		}
		if want := at.Add(pace / 5); h.NextRenewal() != want || h.Length() != length {
			t.Errorf("renewed at %d with %v: the next one is due at %d, want %d", at, length, h.NextRenewal(), want)
		}
	}
	round(1_000, short, short, true)
	round(2_000, long, short, false)
	round(3_000, long, short, false)
	round(4_000, long, long, true)
	round(5_000, short, short, false)
	round(6_000, short, short, true)
}

// TestHeard: what an acceptor knows of a session's last renewal, whatever length it had.
func TestHeard(t *testing.T) {
	a := NewAcceptor("B", bootB, -Instant(time.Minute), long)
	a.CaughtUp(0)
	a.UseVoterSet(-Instant(time.Minute), abc)
	if _, _, known := a.Heard(0, s7); known {
		t.Error("it knows a session that was never opened")
	}
	heard := func(at Instant, wantAgo, wantLeft time.Duration) {
		t.Helper()
		if ago, left, known := a.Heard(at, s7); !known || ago != wantAgo || left != wantLeft {
			t.Errorf("at %d: heard %v ago, %v left, known %t, want %v and %v", at, ago, left, known, wantAgo, wantLeft)
		}
	}
	a.Opened(0, s7, length)
	heard(10, 10, promised-10)
	renewal := Renewal{Session: s7, Round: 1, Sent: 1, Length: long, Config: abc.ID, Boot: bootB}
	wantRenew(t, a, 100, renewal, "")
	heard(130, 30, Promise(long)-30)
	wantRenew(t, a, 200, renewal, RefusedStale)
	heard(230, 130, Promise(long)-130)
	renewal.Round, renewal.Sent, renewal.Length = 2, 2, short // a promise never moves back
	wantRenew(t, a, 300, renewal, "")
	heard(310, 10, Promise(long)-210)
}

func TestLimits(t *testing.T) {
	a, c := acceptorB(t), NewCloser("C", 3)
	for i := range uint64(2 * NodesMax) {
		s := Session{Node: string(rune('a' + i)), Number: i + 100}
		a.Opened(0, s, length)
		c.Ask(0, s, abc, length)
	}
	if len(a.promises) != NodesMax || len(c.open) != NodesMax {
		t.Errorf("%d promises, %d questions, want %d", len(a.promises), len(c.open), NodesMax)
	}
	wantRenew(t, a, 1, aRenewal(abc), "") // those who were there first stay
}
