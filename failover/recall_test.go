package failover

import (
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// The oldest mark that is kept answers for all before it, and the memory does not grow.
func TestWhatWasCommittedWhen(t *testing.T) {
	var c commits
	at := lease.Instant(time.Hour)
	if c.by(at) != 0 {
		t.Error("who knows nothing asks for nothing")
	}
	for i := range 10_000 {
		c.note(at, uint64(i+1), time.Second)
		if len(c) > commitMarks+2 {
			t.Fatalf("%d marks", len(c))
		}
		at = at.Add(time.Millisecond)
	}
	for _, ago := range []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, 900 * time.Millisecond} {
		want := 10_000 - uint64(ago.Milliseconds())
		if got := c.by(at.Add(-ago)); got > want || got+16 < want { // a mark every 8 ms
			t.Errorf("%s ago: %d, want about %d", ago, got, want)
		}
	}
	for range 100 { // at rest
		at = at.Add(time.Second)
		c.note(at, 10_000, time.Second)
	}
	if got := c.by(at); got > 10_000 || got < 9_990 {
		t.Errorf("at rest: %d", got)
	}
}

// says gives the controller a node's word of how far it is.
func (b *bench) says(node string, applied uint64) {
	b.c.take(message{From: "n-" + node, Status: &statusWord{Applied: applied}})
}

// FIELD S4, decided: n1 keeps its lease and its word, but stands still. It gets nothing more, what it
// does not serve is asked back, and when it goes on all is as before.
func TestANodeThatDoesNotApplyIsNoOwner(t *testing.T) {
	b := newBench(t, 6)
	var recalled []claimWord
	b.c.mail.post = watched{func(m message) { recalled = append(recalled, m.Recall...) }}
	for _, n := range []string{"n1", "n2", "n3"} {
		b.do(fsm.RegisterKey{Node: "n-" + n, Key: worldKey("n-" + n), LeasePort: 4})
	}
	stands := b.state.Index
	served := b.state.HAVIPList()[0]
	b.do(fsm.Confirm{Claims: []fsm.ConfirmedClaim{{HAVIP: served.ID, Epoch: served.Epoch, Session: served.Owner.Session}}})
	beat := func(n1 uint64) {
		b.pass(statusEvery)
		b.says("n1", n1)
		b.says("n2", b.state.Index)
		b.says("n3", b.state.Index)
		b.turn()
	}
	b.turn()
	for range 2 { // no longer than it may take
		beat(stands)
	}
	behind := func() uint64 { return b.state.Sessions[b.session("n1")].Behind }
	if got := behind(); got != 0 {
		t.Fatalf("found behind after %s, as entry %d", 2*statusEvery, got)
	}
	for range 3 {
		beat(stands)
	}
	if got := behind(); got != stands {
		t.Fatalf("behind since %d, want %d; proposed %s", got, stands, b.kinds())
	}
	asked := map[string]bool{}
	for _, w := range recalled {
		asked[w.HAVIP] = true
		if w.Session != b.session("n1") {
			t.Errorf("asked about %+v", w)
		}
	}
	if len(asked) != 2 || asked[served.ID] {
		t.Errorf("asked about %v; it has three, and serves %s", asked, served.ID)
	}
	for _, w := range recalled[:2] {
		b.c.take(message{From: "n-n1", Released: []claimWord{w}})
	}
	b.pass(gatherMax)
	b.turn()
	b.turn()
	for id := range asked {
		if v := b.state.HAVIPs[id]; v.Owner == nil || v.Owner.Node == "n-n1" {
			t.Errorf("%s is at %+v", v.Name, v.Owner)
		}
	}
	if v := b.state.HAVIPs[served.ID]; v.Owner == nil || v.Owner.Node != "n-n1" {
		t.Errorf("what it serves has gone to %+v", v.Owner)
	}
	for range 2 {
		beat(b.state.Index)
	}
	if behind() != 0 {
		t.Error("it applies again, and is still behind")
	}
	b.kinds()
	for range 20 {
		beat(b.state.Index)
	}
	if got := b.kinds(); got != "" {
		t.Errorf("at rest it proposes %s", got)
	}
}

// watched is a Post that reads along.
type watched struct{ see func(message) }

func (w watched) Send(_ fsm.Node, msg []byte) error {
	m, err := decode(msg)
	if err == nil {
		w.see(m)
	}
	return nil
}

// What is asked of a node, and what it says.
func TestRecalled(t *testing.T) {
	w := newStage(2)
	a := w.node("A")
	a.decide()
	web, db := w.head().HAVIPList()[1].ID, w.head().HAVIPList()[0].ID
	if w.head().HAVIPs[web].Name != "web" {
		web, db = db, web
	}
	w.must(w.place(web, "node-a/eth0"))
	a.see(len(w.states) - 1)
	for a.decide(); len(a.steps) > 0; {
		a.step()
	}
	epoch := w.head().HAVIPs[web].Epoch
	w.must(w.place(db, "node-a/eth0")) // and A does not see it
	for _, row := range []struct {
		name    string
		havip   string
		epoch   fsm.Epoch
		session uint64
		want    bool
	}{
		{"what it serves", web, epoch, a.session, false},
		{"a later claim of what it serves", web, epoch + 1, a.session, false},
		{"another session", db, 1, a.session + 1, false},
		{"no session", db, 1, 0, false},
		{"a HAVIP that it does not know", "havip-none", 1, a.session, false},
		{"what it does not know of", db, 1, a.session, true},
		{"the same once more", db, 1, a.session, true},
	} {
		if got := a.handoff.Recalled(a.state(), row.havip, row.epoch, row.session); got != row.want {
			t.Errorf("%s: %t", row.name, got)
		}
	}
	a.see(len(w.states) - 1) // now it sees it
	for _, s := range a.decide() {
		if s.HAVIP == db && s.Kind != StepReleased {
			t.Errorf("after its promise: %+v", s)
		}
	}
	if a.handoff.Recalled(a.state(), db, 1, a.session) {
		t.Error("what its log knows goes the ordinary way")
	}
}
