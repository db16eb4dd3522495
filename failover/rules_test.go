package failover

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// doorLog is a log with four nodes: voters a, b and c, and the agent-role node d. A owns web in
// epoch 4 and drains db, whose owner is d. The log of this node knows no epoch beyond.
func doorState() *fsm.State {
	s := fsm.New()
	s.Cluster = fsm.Cluster{ID: "c-1", Lease: time.Second, LeaseMax: time.Second, Level: 4}
	for i, id := range []string{"a", "b", "c", "d"} {
		s.Nodes[id] = fsm.Node{ID: id, Name: id, LastSession: uint64(10 + i), LeasePort: 1, Keys: []fsm.NodeKey{worldKey(id)}}
		s.Sessions[uint64(10+i)] = fsm.Session{Number: uint64(10 + i), Node: id, Lease: time.Second}
	}
	a, d := fsm.Claim{Epoch: 4, Node: "a", Session: 10}, fsm.Claim{Epoch: 8, Node: "d", Session: 13}
	s.HAVIPs["web"] = fsm.HAVIP{ID: "web", Name: "web", Epoch: 4, Owner: &a}
	s.HAVIPs["db"] = fsm.HAVIP{ID: "db", Name: "db", Epoch: 8, Owner: &d, Draining: []fsm.Claim{{Epoch: 7, Node: "a", Session: 10}}}
	return s
}

var doorVoters = lease.NewVoterSet([]string{"a", "b", "c"})

// doorWords has a word of each kind that only node a may say, and only while it is a voter if
// voter is set. The test fails for a kind that is missing.
var doorWords = map[kind]struct {
	voter, anyMember bool
	m                message
}{
	kindRenewal:       {m: message{Renewal: &lease.Renewal{Session: lease.Session{Node: "a", Number: 10}, Round: 1, Sent: 1, Length: time.Second, Config: doorVoters.ID}}},
	kindAck:           {voter: true, m: message{Ack: &lease.Ack{Session: lease.Session{Node: "b", Number: 11}, From: "a"}}},
	kindHint:          {voter: true, anyMember: true, m: message{Hint: []lease.Session{{Node: "b", Number: 11}}}},
	kindQuestion:      {voter: true, m: message{Question: &lease.Question{ID: lease.QuestionID{Leader: "a", Term: 1, Number: 1}, Session: lease.Session{Node: "b", Number: 11}}}},
	kindEndorsement:   {voter: true, m: message{Endorsement: &lease.Endorsement{Session: lease.Session{Node: "b", Number: 11}, From: "a"}}},
	kindReleased:      {m: message{Released: []claimWord{{HAVIP: "db", Epoch: 7, Session: 10}}}},
	kindReleasedMany:  {m: message{Released: []claimWord{{HAVIP: "db", Epoch: 7, Session: 10}, {HAVIP: "web", Epoch: 4, Session: 10, Failure: "broken"}}}},
	kindReady:         {m: message{Ready: []claimWord{{HAVIP: "web", Epoch: 4, Session: 10}}}},
	kindReadyMany:     {m: message{Ready: []claimWord{{HAVIP: "web", Epoch: 4, Session: 10}, {HAVIP: "db", Epoch: 7, Session: 10}}}},
	kindActivated:     {m: message{Activated: []activatedWord{{HAVIP: "web", Epoch: 4, Session: 10}}}},
	kindActivatedMany: {m: message{Activated: []activatedWord{{HAVIP: "web", Epoch: 4, Session: 10}, {HAVIP: "db", Epoch: 8, Session: 10}}}},
	kindStatus:        {anyMember: true, m: message{Status: &statusWord{Applied: 1}}},
	kindCorrection:    {voter: true, m: message{Correction: &lease.Correction{Session: lease.Session{Node: "b", Number: 11}, From: "a", Boot: 1}}},
	kindRecall:        {voter: true, anyMember: true, m: message{Recall: []claimWord{{HAVIP: "web", Epoch: 4, Session: 11}}}},
}

// TestWhoSaysWhat tries every kind of word as every kind of node, sealed and by gossip, and says
// what happened. A new kind without a rule, or without a row above, fails.
func TestWhoSaysWhat(t *testing.T) {
	var table strings.Builder
	for k := kindRenewal; k < kindEnd; k++ {
		row, tried := doorWords[k]
		if rules[k].may == nil || rules[k].name == "" || !tried {
			t.Errorf("kind %d has no rule, or is not tried", k)
			continue
		}
		if got := kind(encodeAs(nil, wireSealed, row.m)[1]); got != k {
			t.Fatalf("the word for kind %d is one of kind %d", k, got)
		}
		for _, who := range []struct {
			name, node      string
			voter, memberOf bool // a votes; the node is a member
		}{
			{"itself", "a", true, true}, {"itself, no voter any more", "a", false, true}, {"another voter", "c", true, true},
			{"an agent-role node", "d", true, true}, {"a removed node", "x", true, false}, {"itself, removed", "a", false, false},
		} {
			want := notItsOwn
			switch {
			case !who.memberOf:
				want = notMember
			case who.node == "a" && (!row.voter || who.voter), row.anyMember && (!row.voter || who.node != "d" && (who.node != "a" || who.voter)):
				want = ""
			}
			got := hears(t, k, row.m, who.node, who.voter, who.memberOf)
			fmt.Fprintf(&table, "%-15s by %-26s %s\n", rules[k].name, who.name+":", outcomeOf(got))
			if got != want {
				t.Errorf("%s by %s: %q, want %q", rules[k].name, who.name, got, want)
			}
		}
		if k != kindCorrection && k != kindRecall {
			got := hears(t, k, row.m, "", true, true)
			fmt.Fprintf(&table, "%-15s by %-26s %s\n", rules[k].name, "gossip, in its name:", outcomeOf(got))
			if got != notProved {
				t.Errorf("%s by gossip: %q", rules[k].name, got)
			}
		}
	}
	t.Log("\n" + table.String())
}

func outcomeOf(why string) string {
	if why == "" {
		return "heard"
	}
	return "refused, " + why
}

// hears gives a word to node b and says why it was not heard, "" if it was.
func hears(t *testing.T, k kind, m message, from string, voter, member bool) string {
	t.Helper()
	state := doorState()
	voters := doorVoters
	if !voter {
		voters = lease.NewVoterSet([]string{"b", "c"})
	}
	if !member {
		delete(state.Nodes, from)
	}
	b := New(Config{
		Node: "b", Log: &still{state: state, set: voters}, Clock: func() lease.Instant { return 1 }, Logger: slog.New(slog.DiscardHandler), Lease: time.Second,
		Post: postman{}, Owner: true, Edge: &storing{},
	})
	if from == "" {
		m.From = "a"
		b.ReceiveGossip(encode(nil, m))
	} else {
		b.Receive(from, encodeAs(nil, wireSealed, m))
	}
	refused := b.Refused()
	if len(refused) == 0 {
		return ""
	}
	if r := refused[0]; r.Kind != rules[k].name || r.Count != 1 {
		t.Errorf("counted as %s", r)
	}
	return refused[0].Reason
}

// By gossip speaks who has no key, or speaks to one that has none, as in the version before:
// until all have changed, both kinds are on the wire.
func TestGossipUntilBothHaveKeys(t *testing.T) {
	word := message{From: "a", Renewal: doorWords[kindRenewal].m.Renewal}
	for _, row := range []struct {
		keyed []string
		heard bool
	}{{nil, true}, {[]string{"a"}, true}, {[]string{"b"}, true}, {[]string{"a", "b"}, false}} {
		state := doorState()
		for id, n := range state.Nodes {
			if !slices.Contains(row.keyed, id) {
				n.Keys, n.LeasePort = nil, 0
				state.Nodes[id] = n
			}
		}
		bySeal, byGossip := postman{}, postman{}
		b := New(Config{
			Node: "b", Log: &still{state: state, set: doorVoters}, Clock: func() lease.Instant { return lease.Instant(time.Hour) }, Logger: slog.New(slog.DiscardHandler),
			Lease: time.Second, Post: bySeal, Gossip: byGossip,
		})
		b.Voter.acceptor = lease.NewAcceptor("b", drawBoot(), 1, time.Second)
		b.Voter.prepare()
		b.ReceiveGossip(encode(nil, word))
		granted, _ := b.Voter.Figures()
		if heard := granted == 1; heard != row.heard {
			t.Errorf("keys of %v: heard %t: %v", row.keyed, heard, b.Refused())
		}
		b.mail.send("a", message{Status: &statusWord{}})
		want := byGossip
		if len(row.keyed) == 2 {
			want = bySeal
		}
		if len(bySeal)+len(byGossip) != 1 || want["a"] == 0 {
			t.Errorf("keys of %v: sealed %v, by gossip %v", row.keyed, bySeal, byGossip)
		}
	}
}

// A word that is ahead of the log here is kept with its sender, and counts only if the claim
// turns out to be its own.
func TestAWordAheadOfTheLog(t *testing.T) {
	for _, from := range []string{"A", "C"} {
		h := NewHandoff(7, time.Second)
		h.HeardReleased(from, "v", 4, 3)
		h.HeardReady(from, "v", 9)
		claim := fsm.Claim{Epoch: 4, Node: "A", Session: 3}
		if got := h.toldReleased("v", claim); got != (from == "A") {
			t.Errorf("the release said by %s counts: %t", from, got)
		}
		v := fsm.HAVIP{ID: "v", Owner: &fsm.Claim{Epoch: 9, Node: "A"}}
		if got := h.drained(1, v); got != (from == "A") {
			t.Errorf("the ready said by %s counts: %t", from, got)
		}
	}
	h := NewHandoff(7, time.Second)
	for i := range 1000 {
		h.HeardReleased(fmt.Sprint("n", i), "v", 4, 3)
		h.HeardReady(fmt.Sprint("n", i), "v", 4)
	}
	if len(h.heard["v"]) > heardMax || len(h.ready["v"]) > heardMax {
		t.Errorf("%d and %d words are remembered", len(h.heard["v"]), len(h.ready["v"]))
	}
}

// TestForgedWords: an agent-role node with its own key, and a holder of the gossip key, say what
// made two owners and dark addresses in the version before. Nothing comes of it.
func TestForgedWords(t *testing.T) { runWorld(t, 3, 1, forgedWords) }

func forgedWords(w *world) {
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
	var words []message
	v := s.HAVIPs[havip]
	for _, c := range v.Claims() {
		words = append(words,
			message{From: c.Node, Released: []claimWord{{HAVIP: havip, Epoch: c.Epoch, Session: c.Session, Failure: "forged"}}},
			message{From: c.Node, Released: []claimWord{{HAVIP: havip, Epoch: c.Epoch, Session: c.Session}}},
		)
	}
	for _, voter := range set.Voters {
		for _, sess := range s.SessionList() {
			x := lease.Session{Node: sess.Node, Number: sess.Number}
			words = append(words, message{From: voter, Hint: []lease.Session{x}},
				message{From: voter, Question: &lease.Question{ID: lease.QuestionID{Leader: voter, Term: 99, Number: 1}, Session: x, Config: set.ID, Length: sess.Lease}})
			for n := range uint64(20) {
				q := lease.QuestionID{Leader: leader, Term: term, Number: n}
				words = append(words, message{From: voter, Endorsement: &lease.Endorsement{Question: q, Session: x, Config: set.ID, From: voter}})
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
			m.ReceiveGossip(encode(nil, word))
			m.Receive(by, encodeAs(nil, wireSealed, word))
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
		word := message{From: "A", Renewal: &lease.Renewal{Session: lease.Session{Node: "A", Number: 1}}}
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
			h.member.ReceiveGossip(encode(nil, word))
			if got := h.member.Refused(); !slices.ContainsFunc(got, func(r RefusedWords) bool { return r.Reason == notProved }) {
				w.fault("%s hears A by gossip: %v", h.node.ID, got)
			}
		}
	})
	if v != "" {
		t.Error(v)
	}
}
