package leader

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
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
	b.c.take(wire.Message{From: "n-" + node, Status: &wire.StatusMessage{Applied: applied}})
}

// FIELD S4, decided: n1 keeps its lease and its word, but stands still. It gets nothing more, what it
// does not serve is asked back, and when it goes on all is as before.
func TestANodeThatDoesNotApplyIsNoOwner(t *testing.T) {
	var recalled []wire.ClaimMessage
	b := newBenchWith(t, 6, watched{func(m wire.Message) { recalled = append(recalled, m.Recall...) }})
	for _, n := range []string{"n1", "n2", "n3"} {
		b.do(fsm.RegisterKey{Node: "n-" + n, Key: nodeKey(t), LeasePort: 4})
	}
	stands := b.state.Index
	served := b.state.HAVIPList()[0]
	b.do(fsm.Confirm{Claims: []fsm.ConfirmedClaim{{HAVIP: served.ID, Epoch: served.Epoch, Session: served.Owner.Session}}})
	beat := func(n1 uint64) {
		b.pass(wire.StatusEvery)
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
		t.Fatalf("found behind after %s, as entry %d", 2*wire.StatusEvery, got)
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
		b.c.take(wire.Message{From: "n-n1", Released: []wire.ClaimMessage{w}})
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
type watched struct{ see func(wire.Message) }

func (w watched) Send(_ fsm.Node, msg []byte) error {
	m, err := wire.Decode(msg)
	if err == nil {
		w.see(m)
	}
	return nil
}

// nodeKey is a key that a node may register. Nothing is sealed with it.
func nodeKey(t *testing.T) fsm.NodeKey {
	t.Helper()
	secret, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(secret.Bytes())
	return fsm.NodeKey{Certificate: hex.EncodeToString(sum[:]), Public: base64.StdEncoding.EncodeToString(secret.PublicKey().Bytes())}
}

// A node that was cut off has a session opened before Raft sends it the log: a move to it would be undone
// when that session ends. Found by TestUnplugAndReplug.
func TestAMoveNeedsANodeThatKnowsItsSession(t *testing.T) {
	b := newBench(t, 6)
	session := b.session("n1")
	for _, c := range []struct {
		name   string
		before func()
		want   bool
	}{
		{"nothing was heard", func() {}, false},
		{"its log ends before its session", func() { b.says("n1", session-1) }, false},
		{"its log has its session", func() { b.says("n1", session) }, true},
		{"that is long ago", func() { b.pass(freshFor) }, false},
		{"its log has more", func() { b.says("n1", b.state.Index) }, true},
	} {
		c.before()
		if got := b.c.Learns("n-n1", session); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	if !b.c.Learns("n-n3", b.session("n3")) {
		t.Error("the leader itself knows what it writes")
	}
}
