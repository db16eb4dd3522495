package shell

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

const (
	handLength = 500 * time.Millisecond
	handBoot   = lease.BootID(99)
)

// hand is a Delegate that keeps promises as the program in the kernel does.
type hand struct {
	world     *handWorld
	suspended int64
	granted   map[lease.Session]*handful
	acked     uint64
	broken    error           // what Recall says
	recalled  []lease.Session // in their order, whether it went well or not
	onRecall  func(s lease.Session)
}

type handful struct {
	lease.Delegation
	mark int64
}

func (h *hand) Mark() int64 {
	h.world.did = append(h.world.did, "mark")
	return h.suspended
}

func (h *hand) Grant(d lease.Delegation, mark int64) bool {
	if h.granted[d.Session] != nil {
		panic("delegated twice")
	}
	h.granted[d.Session] = &handful{d, mark}
	return true
}

func (h *hand) Recall(s lease.Session) (lease.Progress, error) {
	h.recalled = append(h.recalled, s)
	if h.onRecall != nil {
		h.onRecall(s)
	}
	if h.broken != nil {
		return lease.Progress{}, h.broken
	}
	p := h.granted[s].Progress
	delete(h.granted, s)
	return p, nil
}

func (h *hand) Look(s lease.Session) (lease.Progress, bool) {
	if h.granted[s] == nil {
		return lease.Progress{}, false
	}
	return h.granted[s].Progress, true
}

func (h *hand) Granted() uint64 { return h.acked }

// renewal is a frame that comes in.
func (h *hand) renewal(r lease.Renewal) bool {
	d := h.granted[r.Session]
	if d == nil || d.mark != h.suspended || r.Config != d.Config || r.Length != d.Length || r.Boot != d.Boot || r.Round <= d.Round || r.Sent <= d.Sent {
		return false
	}
	d.Round, d.Sent, d.Heard = r.Round, r.Sent, h.world.now
	d.Until = max(d.Until, h.world.now.Add(d.Promise))
	h.acked++
	return true
}

// handWorld is one voter, n-2, with a hand in the kernel. It has used the voter set for long.
type handWorld struct {
	still
	now    lease.Instant
	hand   *hand
	voter  *Voter
	told   int           // messages that n-1 and n-3 were sent
	did    []string      // what was looked at, in which order
	onLook func()        // called when the voters are looked at
	first  lease.Session // of n-1
	other  lease.Session // of n-3
}

func (w *handWorld) VoterSet() lease.VoterSet {
	w.did = append(w.did, "voters")
	if w.onLook != nil {
		w.onLook()
	}
	return w.set
}

func newHandWorld(t *testing.T) *handWorld {
	t.Helper()
	w := &handWorld{now: ports.Boot(), first: lease.Session{Node: "n-1", Number: 7}, other: lease.Session{Node: "n-3", Number: 8}}
	w.hand = &hand{world: w, granted: map[lease.Session]*handful{}}
	w.state, w.set = fsm.New(), lease.NewVoterSet([]string{"n-1", "n-2", "n-3"})
	w.state.Cluster.Lease, w.state.Cluster.LeaseMax = handLength, handLength
	w.state.Nodes = map[string]fsm.Node{}
	mails := wires{}
	for _, id := range []string{"n-1", "n-2", "n-3"} {
		w.state.Nodes[id] = fsm.Node{ID: id, Name: id, LeasePort: 1, Keys: make([]fsm.NodeKey, 1)}
		mails[id] = wire.NewMail(wire.Config{Node: id, Log: &w.still, Post: wiresOf{mails, id}, Boot: handBoot}, func(wire.Message) { w.told++ })
	}
	w.state.Sessions = map[uint64]fsm.Session{
		7: {Number: 7, Node: "n-1", Lease: handLength}, 8: {Number: 8, Node: "n-3", Lease: handLength},
	}
	w.voter = NewVoter(Config{
		Node: "n-2", Log: w, Mail: mails["n-2"], Clock: func() lease.Instant { return w.now }, Logger: slog.New(slog.DiscardHandler),
		Boot: handBoot, Lease: handLength, Delegate: w.hand,
	})
	w.voter.Follow()
	w.now = w.now.Add(2 * handLength)
	return w
}

// another is the state with something changed in it.
func (w *handWorld) another(change func(s *fsm.State)) {
	s := *w.state
	s.Index++
	change(&s)
	w.state = &s
}

func (w *handWorld) round(s lease.Session, round uint64) lease.Renewal {
	return lease.Renewal{Session: s, Round: round, Sent: lease.Instant(1000 * round), Length: handLength, Config: w.set.ID, Boot: handBoot}
}

func (w *handWorld) question(s lease.Session) lease.Question {
	return lease.Question{ID: lease.QuestionID{Leader: "n-3", Term: 1, Number: 1}, Session: s, Config: w.set.ID, Length: handLength}
}

// delegated is a world in which both sessions have renewed once, and are in the hand.
func delegated(t *testing.T) *handWorld {
	t.Helper()
	w := newHandWorld(t)
	w.voter.Renewal(w.round(w.first, 1))
	w.voter.Renewal(w.round(w.other, 1))
	if len(w.hand.granted) != 2 || w.told != 2 {
		t.Fatalf("%d sessions delegated, %d acknowledged", len(w.hand.granted), w.told)
	}
	return w
}

// refused returns how often the voter refused something for a reason.
func (w *handWorld) refused(why lease.Refusal) uint64 {
	_, refused := w.voter.Figures()
	return refused[string(why)]
}

// TestDelegatedWithItsProgress: what the hand has at first is what the voter has promised.
func TestDelegatedWithItsProgress(t *testing.T) {
	w := newHandWorld(t)
	w.voter.Renewal(w.round(w.first, 3))
	d := w.hand.granted[w.first]
	if d == nil {
		t.Fatal("not delegated")
	}
	want := lease.Delegation{
		Session: w.first, Config: w.set.ID, Length: handLength, Promise: lease.Promise(handLength), Boot: handBoot,
		Progress: lease.Progress{Round: 3, Sent: 3000, Heard: w.now, Until: w.now.Add(lease.Promise(handLength))},
	}
	if d.Delegation != want {
		t.Errorf("%+v, want %+v", d.Delegation, want)
	}
}

// TestRefusedIsNotDelegated: only what was acknowledged is.
func TestRefusedIsNotDelegated(t *testing.T) {
	w := newHandWorld(t)
	r := w.round(w.first, 1)
	r.Boot++
	w.voter.Renewal(r)
	if len(w.hand.granted) != 0 {
		t.Error("delegated")
	}
}

// TestMarkedBeforeTheLook: what is suspended between the look at the voters and the grant ends the delegation.
func TestMarkedBeforeTheLook(t *testing.T) {
	w := newHandWorld(t)
	w.did, w.onLook = nil, func() { w.hand.suspended++ }
	w.voter.Renewal(w.round(w.first, 1))
	if !slices.Equal(w.did, []string{"mark", "voters"}) {
		t.Errorf("order: %v", w.did)
	}
	if w.hand.granted[w.first] == nil || w.hand.renewal(w.round(w.first, 2)) {
		t.Error("not delegated, or acknowledged by voters that were suspended meanwhile")
	}
}

// TestTakenBackBeforeARenewal: the voter knows what the hand has acknowledged, and gives the rest back to it.
func TestTakenBackBeforeARenewal(t *testing.T) {
	w := delegated(t)
	if !w.hand.renewal(w.round(w.first, 5)) {
		t.Fatal("the hand does not acknowledge")
	}
	w.voter.Renewal(w.round(w.first, 5))
	if n := w.refused(lease.RefusedStale); n != 1 || w.told != 2 {
		t.Errorf("a replay is refused %d times, %d messages", n, w.told)
	}
	if !slices.Equal(w.hand.recalled, []lease.Session{w.first}) {
		t.Errorf("taken back: %v", w.hand.recalled)
	}
	if w.hand.granted[w.first] == nil || w.hand.renewal(w.round(w.first, 5)) {
		t.Error("a replay ends the delegation, or the hand acknowledges it")
	}
	w.voter.Renewal(w.round(w.first, 6))
	if w.told != 3 || w.hand.renewal(w.round(w.first, 6)) || !w.hand.renewal(w.round(w.first, 7)) {
		t.Error("it does not go on after the recall")
	}
}

// TestTakenBackBeforeAQuestion: nothing is endorsed that the hand has promised, and what is endorsed is in no hand.
func TestTakenBackBeforeAQuestion(t *testing.T) {
	w := delegated(t)
	w.now = w.now.Add(handLength)
	if !w.hand.renewal(w.round(w.first, 2)) {
		t.Fatal("the hand does not acknowledge")
	}
	w.now = w.now.Add(lease.Promise(handLength) - 1)
	w.voter.Question("n-3", w.question(w.first))
	if w.refused(lease.RefusedPromised) != 1 || w.voter.Refuses(w.first) {
		t.Fatal("endorsed, and the hand's promise runs")
	}
	w.now++
	w.voter.Question("n-3", w.question(w.first))
	if !w.voter.Refuses(w.first) {
		t.Fatal("not endorsed")
	}
	if w.hand.renewal(w.round(w.first, 3)) {
		t.Error("the hand acknowledges what the voter has endorsed the end of")
	}
	w.voter.Renewal(w.round(w.first, 4))
	if w.hand.granted[w.first] != nil {
		t.Error("delegated after it was endorsed")
	}
}

// TestWhatChangesTakesAllBack: before the acceptor hears of it; what is right by the new state is delegated again.
func TestWhatChangesTakesAllBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		again  int // how many are delegated afterwards
		change func(w *handWorld)
	}{
		{"voters", 2, func(w *handWorld) { w.set = lease.NewVoterSet([]string{"n-1", "n-2"}) }},
		{"the same voters again", 2, func(w *handWorld) { w.set.Index++ }},
		{"no voters for sure", 0, func(w *handWorld) { w.set = lease.VoterSet{} }},
		{"without this voter", 0, func(w *handWorld) { w.set = lease.NewVoterSet([]string{"n-1", "n-3"}) }},
		{"a longest length for whose silence it has not been up", 0, func(w *handWorld) { w.another(func(s *fsm.State) { s.Cluster.LeaseMax *= 2 }) }},
		{"a shorter length", 0, func(w *handWorld) {
			w.another(func(s *fsm.State) { s.Cluster.Lease, s.Cluster.LeaseMax = handLength/2, handLength/2 })
		}},
		{"a session that was closed", 1, func(w *handWorld) {
			w.another(func(s *fsm.State) { s.Sessions = map[uint64]fsm.Session{8: s.Sessions[8]} })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := delegated(t)
			before, set := w.voter.acceptor.Sessions(), w.voter.set
			w.hand.onRecall = func(lease.Session) {
				if !slices.Equal(w.voter.acceptor.Sessions(), before) || w.voter.set.ID != set.ID || w.voter.set.Index != set.Index {
					t.Error("the acceptor has heard of it")
				}
			}
			c.change(w)
			w.voter.Follow()
			if len(w.hand.recalled) != 2 || len(w.hand.granted) != c.again {
				t.Errorf("%d recalled, %d are delegated now", len(w.hand.recalled), len(w.hand.granted))
			}
			for s, d := range w.hand.granted {
				if d.Config != w.set.ID || d.Round != 1 || s.Number != 8 && c.again == 1 {
					t.Errorf("delegated again: %+v", d)
				}
			}
		})
	}
}

// TestUnchangedStaysDelegated: looking at a log in which nothing has happened takes nothing back.
func TestUnchangedStaysDelegated(t *testing.T) {
	w := delegated(t)
	w.voter.Follow()
	w.voter.expired()
	if len(w.hand.recalled) != 0 {
		t.Errorf("%d recalled", len(w.hand.recalled))
	}
}

// TestWhatCannotBeTakenBack: a voter of which nobody knows what it has promised never says anything again, about
// no session, and gives no hint.
func TestWhatCannotBeTakenBack(t *testing.T) {
	for name, do := range map[string]func(w *handWorld){
		"a renewal":  func(w *handWorld) { w.voter.Renewal(w.round(w.first, 2)) },
		"a question": func(w *handWorld) { w.voter.Question("n-3", w.question(w.first)) },
		"a change":   func(w *handWorld) { w.set.Index++; w.voter.Follow() },
	} {
		t.Run(name, func(t *testing.T) {
			w := delegated(t)
			w.hand.broken = errors.New("no answer")
			do(w)
			w.hand.broken, w.told = nil, 0
			w.now = w.now.Add(time.Minute)
			for round := range uint64(3) {
				w.voter.Renewal(w.round(w.first, 10+round))
				w.voter.Renewal(w.round(w.other, 10+round))
				w.voter.Question("n-3", w.question(w.other))
			}
			if w.told != 0 || w.voter.Refuses(w.other) {
				t.Errorf("it says %d messages more; endorsed: %v", w.told, w.voter.Refuses(w.other))
			}
			if hints, _ := w.voter.expired(); len(hints) != 0 {
				t.Errorf("it hints %v", hints)
			}
		})
	}
}

// TestStopTakesAllBack: and says nothing afterwards.
func TestStopTakesAllBack(t *testing.T) {
	w := delegated(t)
	w.voter.Stop()
	if len(w.hand.recalled) != 2 || len(w.hand.granted) != 0 {
		t.Errorf("%d recalled", len(w.hand.recalled))
	}
	w.told = 0
	w.voter.Renewal(w.round(w.first, 2))
	w.now = w.now.Add(time.Minute)
	w.voter.Question("n-3", w.question(w.first))
	if w.told != 0 || w.voter.Refuses(w.first) || len(w.hand.granted) != 0 {
		t.Error("it says something")
	}
}

// TestWhatTheHandHeardIsKnown: hints, and what is told of a promise, go by the newest renewal in either hand.
func TestWhatTheHandHeardIsKnown(t *testing.T) {
	w := delegated(t)
	promise := lease.Promise(handLength)
	w.now = w.now.Add(handLength)
	if !w.hand.renewal(w.round(w.first, 2)) {
		t.Fatal("the hand does not acknowledge")
	}
	w.now = w.now.Add(promise - time.Millisecond)
	if hints, pause := w.voter.expired(); !slices.Equal(hints, []lease.Session{w.other}) || pause != time.Millisecond {
		t.Errorf("hints %v, pause %v", hints, pause)
	}
	if ago, left, known := w.voter.Heard(w.first); ago != promise-time.Millisecond || left != time.Millisecond || !known {
		t.Errorf("heard %v ago, %v left, %v", ago, left, known)
	}
	w.hand.renewal(w.round(w.first, 3))
	if left, known := w.voter.Promised(w.first); left != promise || !known {
		t.Errorf("promised for %v, %v", left, known)
	}
	w.hand.renewal(w.round(w.first, 4))
	if ago, _, known, err := w.voter.Ask(w.first); ago != 0 || !known || err != nil {
		t.Errorf("heard %v ago, %v, %v", ago, known, err)
	}
	if len(w.hand.recalled) != 0 {
		t.Error("a look takes back")
	}
}

// TestFiguresCountBothHands: a renewal is one, whoever acknowledged it.
func TestFiguresCountBothHands(t *testing.T) {
	w := delegated(t)
	w.hand.renewal(w.round(w.first, 2))
	w.hand.renewal(w.round(w.first, 3))
	if granted, _ := w.voter.Figures(); granted != 4 {
		t.Errorf("%d acknowledged, want 4", granted)
	}
}

// TestDatedAfterTheLook: a voter that stands still while it looks at the log does not take what it sees there for as old
// as its standing still. A voter set would be old enough to endorse by at once, and a first promise over.
func TestDatedAfterTheLook(t *testing.T) {
	w := newHandWorld(t)
	w.onLook = func() {
		w.onLook = nil
		w.now = w.now.Add(time.Minute)
		w.set = lease.NewVoterSet([]string{"n-2", "n-3"})
		w.another(func(s *fsm.State) {
			s.Sessions = map[uint64]fsm.Session{9: {Number: 9, Node: "n-1", Lease: handLength}, 8: s.Sessions[8]}
		})
	}
	w.voter.Follow()
	if left, known := w.voter.Promised(lease.Session{Node: "n-1", Number: 9}); left != lease.Promise(handLength) || !known {
		t.Errorf("%v are left of the first promise, %v", left, known)
	}
	w.voter.Question("n-3", w.question(w.other))
	if w.refused(lease.RefusedYoungVoterSet) != 1 || w.voter.Refuses(w.other) {
		t.Error("it endorses by a voter set of which it has only just heard")
	}
}
