package failover

import (
	"context"
	"slices"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// TestForgedMessages: an agent-role node with its own key, and a holder of the gossip key, say what
// made two owners and dark addresses in the version before. Nothing comes of it.
func TestForgedMessages(t *testing.T) { runWorld(t, 3, 1, forgedMessages) }

func forgedMessages(w *world) {
	w.boot()
	w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 4 })
	v := w.havip("web", 100)
	owner := w.head().HAVIPs[v].Owner.Node
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() { // D, whatever it can say, in whose name it likes
		defer close(done)
		for ctx.Err() == nil {
			w.forge("D", v)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	to := "B"
	if owner == "B" {
		to = "C"
	}
	session := w.head().HAVIPs[v].Owner.Session
	time.Sleep(2 * worldLease)
	if s := w.head(); s.Sessions[session].Node != owner {
		w.fault("forged words close session %d of %s", session, owner)
	}
	if now := w.head().HAVIPs[v].Owner; now == nil || now.Session != session {
		w.fault("forged words move the HAVIP: %+v", now)
	}
	w.mu.Lock()
	over := w.violation != ""
	w.mu.Unlock()
	if over {
		cancel()
		<-done
		return
	}
	w.moveTo(v, w.host(to).node.Name)
	w.await("the move is done", 3*time.Second, func() bool { return w.who(v) == to })
	cancel()
	<-done
}

// forge says everything that would help, in the names of all, as a node and by gossip.
func (w *world) forge(by, havip string) {
	s := w.head()
	set := w.voterSet()
	w.mu.Lock()
	leader, term := w.leader, w.term
	w.mu.Unlock()
	var words []wire.Message
	v := s.HAVIPs[havip]
	for _, c := range v.Claims() {
		words = append(words,
			wire.Message{From: c.Node, Released: []wire.ClaimMessage{{HAVIP: havip, Epoch: c.Epoch, Session: c.Session, Failure: "forged"}}},
			wire.Message{From: c.Node, Released: []wire.ClaimMessage{{HAVIP: havip, Epoch: c.Epoch, Session: c.Session}}},
		)
	}
	for _, voter := range set.Voters {
		for _, sess := range s.SessionList() {
			x := lease.Session{Node: sess.Node, Number: sess.Number}
			words = append(words, wire.Message{From: voter, Hint: []lease.Session{x}},
				wire.Message{From: voter, Question: &lease.Question{ID: lease.QuestionID{Leader: voter, Term: 99, Number: 1}, Session: x, Config: set.ID, Length: sess.Lease}})
			for n := range uint64(20) {
				q := lease.QuestionID{Leader: leader, Term: term, Number: n}
				words = append(words, wire.Message{From: voter, Endorsement: &lease.Endorsement{Question: q, Session: x, Config: set.ID, From: voter}})
			}
		}
	}
	for _, h := range w.hosts {
		w.mu.Lock()
		m, alive := h.member, h.alive
		w.mu.Unlock()
		if !alive {
			continue
		}
		for _, word := range words {
			m.ReceiveGossip(wire.Encode(nil, word))
			m.Receive(by, wire.EncodeAs(nil, wire.VersionSealed, word))
		}
	}
}

// The nodes of an older program are upgraded, and then get their keys one after the other, in any order:
// words go by gossip until both ends have one. No session ends, and the HAVIP is answered all the time.
func TestUpgradeOfTheWords(t *testing.T) {
	v := playWorldOf(t, "v+level.3", 3, 1, false, func(w *world) {
		w.boot()
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 4 })
		v := w.havip("web", 100)
		before, since := w.head().Sessions, w.now()
		word := wire.Message{From: "A", Renewal: &lease.Renewal{Session: lease.Session{Node: "A", Number: 1}}}
		for _, h := range w.hosts {
			version := fsm.VersionWithLevel("world")
			w.do(fsm.UpdateNode{ID: h.node.ID, Version: &version})
			time.Sleep(worldLease / 3)
		}
		for _, id := range []string{"D", "B", "A", "C"} {
			w.do(fsm.RegisterKey{Node: id, Key: worldKey(id), LeasePort: 4})
			time.Sleep(2 * worldLease)
		}
		for number, sess := range before {
			if _, open := w.head().Sessions[number]; !open {
				w.fault("session %d of %s has ended", number, sess.Node)
			}
		}
		if gap := w.gap(v, since); gap > 0 {
			w.fault("a gap of %v", gap)
		}
		for _, h := range w.hosts {
			h.member.ReceiveGossip(wire.Encode(nil, word))
			if got := h.member.Refused(); !slices.ContainsFunc(got, func(r wire.RefusedMessages) bool { return r.Reason == wire.NotProved }) {
				w.fault("%s hears A by gossip: %v", h.node.ID, got)
			}
		}
	})
	if v != "" {
		t.Error(v)
	}
}
