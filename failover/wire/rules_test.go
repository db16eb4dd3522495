package wire

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
)

// doorLog is a log with four nodes: voters a, b and c, and the agent-role node d. A owns web in
// epoch 4 and drains db, whose owner is d. The log of this node knows no epoch beyond.
func doorState() *fsm.State {
	s := fsm.New()
	s.Cluster = fsm.Cluster{ID: "c-1", Lease: time.Second, LeaseMax: time.Second, Level: 4}
	for i, id := range []string{"a", "b", "c", "d"} {
		s.Nodes[id] = fsm.Node{ID: id, Name: id, LastSession: uint64(10 + i), LeasePort: 1, Keys: make([]fsm.NodeKey, 1)}
		s.Sessions[uint64(10+i)] = fsm.Session{Number: uint64(10 + i), Node: id, Lease: time.Second}
	}
	a, d := fsm.Claim{Epoch: 4, Node: "a", Session: 10}, fsm.Claim{Epoch: 8, Node: "d", Session: 13}
	s.HAVIPs["web"] = fsm.HAVIP{ID: "web", Name: "web", Epoch: 4, Owner: &a}
	s.HAVIPs["db"] = fsm.HAVIP{ID: "db", Name: "db", Epoch: 8, Owner: &d, Draining: []fsm.Claim{{Epoch: 7, Node: "a", Session: 10}}}
	return s
}

var doorVoters = lease.NewVoterSet([]string{"a", "b", "c"})

// doorWords has a message of each kind that only node a may say, and only while it is a voter if
// voter is set. The test fails for a kind that is missing.
var doorWords = map[Kind]struct {
	voter, anyMember bool
	m                Message
}{
	KindRenewal:       {m: Message{Renewal: &lease.Renewal{Session: lease.Session{Node: "a", Number: 10}, Round: 1, Sent: 1, Length: time.Second, Config: doorVoters.ID}}},
	KindAck:           {voter: true, m: Message{Ack: &lease.Ack{Session: lease.Session{Node: "b", Number: 11}, From: "a"}}},
	KindHint:          {voter: true, anyMember: true, m: Message{Hint: []lease.Session{{Node: "b", Number: 11}}}},
	KindQuestion:      {voter: true, m: Message{Question: &lease.Question{ID: lease.QuestionID{Leader: "a", Term: 1, Number: 1}, Session: lease.Session{Node: "b", Number: 11}}}},
	KindEndorsement:   {voter: true, m: Message{Endorsement: &lease.Endorsement{Session: lease.Session{Node: "b", Number: 11}, From: "a"}}},
	KindReleased:      {m: Message{Released: []ClaimMessage{{HAVIP: "db", Epoch: 7, Session: 10}}}},
	KindReleasedMany:  {m: Message{Released: []ClaimMessage{{HAVIP: "db", Epoch: 7, Session: 10}, {HAVIP: "web", Epoch: 4, Session: 10, Failure: "broken"}}}},
	KindReady:         {m: Message{Ready: []ClaimMessage{{HAVIP: "web", Epoch: 4, Session: 10}}}},
	KindReadyMany:     {m: Message{Ready: []ClaimMessage{{HAVIP: "web", Epoch: 4, Session: 10}, {HAVIP: "db", Epoch: 7, Session: 10}}}},
	KindActivated:     {m: Message{Activated: []ActivatedMessage{{HAVIP: "web", Epoch: 4, Session: 10}}}},
	KindActivatedMany: {m: Message{Activated: []ActivatedMessage{{HAVIP: "web", Epoch: 4, Session: 10}, {HAVIP: "db", Epoch: 8, Session: 10}}}},
	KindStatus:        {anyMember: true, m: Message{Status: &StatusMessage{Applied: 1}}},
	KindCorrection:    {voter: true, m: Message{Correction: &lease.Correction{Session: lease.Session{Node: "b", Number: 11}, From: "a", Boot: 1}}},
	KindEnded:         {voter: true, m: Message{Ended: &lease.Ended{Session: lease.Session{Node: "b", Number: 11}, From: "a"}}},
	KindSteps:         {m: Message{Steps: &StepsMessage{HAVIP: "web", Epoch: 4, Session: 10, Steps: []StepTime{{Step: StepApplied, At: 1}}}}},
	KindClock:         {anyMember: true, m: Message{Clock: &ClockMessage{Asked: 1}}},
	KindRecall:        {voter: true, anyMember: true, m: Message{Recall: []ClaimMessage{{HAVIP: "web", Epoch: 4, Session: 11}}}},
}

// TestWhoSaysWhat tries every kind of message as every kind of node, sealed and by gossip, and says
// what happened. A new kind without a rule, or without a row above, fails.
func TestWhoSaysWhat(t *testing.T) {
	var table strings.Builder
	for k := KindRenewal; k < KindEnd; k++ {
		row, tried := doorWords[k]
		if rules[k].may == nil || rules[k].name == "" || !tried {
			t.Errorf("kind %d has no rule, or is not tried", k)
			continue
		}
		if got := Kind(EncodeAs(nil, VersionSealed, row.m)[1]); got != k {
			t.Fatalf("the message for kind %d is one of kind %d", k, got)
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
		if !sealedOnly(k) {
			got := hears(t, k, row.m, "", true, true)
			fmt.Fprintf(&table, "%-15s by %-26s %s\n", rules[k].name, "gossip, in its name:", outcomeOf(got))
			if got != NotProved {
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

// still is a log in which nothing happens.
type still struct {
	ports.Log
	state *fsm.State
	set   lease.VoterSet
}

func (l still) State() *fsm.State        { return l.state }
func (l still) VoterSet() lease.VoterSet { return l.set }
func (l still) LeaderID() string         { return "" }

// postman counts what is sent to whom.
type postman map[string]int

func (p postman) Send(to fsm.Node, _ []byte) error { p[to.ID]++; return nil }

// hears gives a message to node b and says why it was not heard, "" if it was.
func hears(t *testing.T, k Kind, m Message, from string, voter, member bool) string {
	t.Helper()
	state := doorState()
	voters := doorVoters
	if !voter {
		voters = lease.NewVoterSet([]string{"b", "c"})
	}
	if !member {
		delete(state.Nodes, from)
	}
	heard := 0
	b := NewMail(Config{Node: "b", Log: still{state: state, set: voters}, Post: postman{}}, func(Message) { heard++ })
	if from == "" {
		m.From = "a"
		b.ReceiveGossip(Encode(nil, m))
	} else {
		b.Receive(from, EncodeAs(nil, VersionSealed, m))
	}
	refused := b.Refused()
	if heard+len(refused) != 1 {
		t.Errorf("handed on %d times, refused %v", heard, refused)
	}
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
	message := Message{From: "a", Renewal: doorWords[KindRenewal].m.Renewal}
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
		var got Message
		b := NewMail(Config{Node: "b", Log: still{state: state, set: doorVoters}, Post: bySeal, Gossip: byGossip, Boot: 7}, func(m Message) {
			got = m
			if m.Renewal != nil {
				renewal := *m.Renewal
				got.Renewal = &renewal
			}
		})
		b.ReceiveGossip(Encode(nil, message))
		if heard := got.Renewal != nil && got.From == "a" && got.Renewal.Boot == 7; heard != row.heard {
			t.Errorf("keys of %v: heard %t, %+v: %v", row.keyed, heard, got, b.Refused())
		}
		b.Send("a", Message{Status: &StatusMessage{}})
		want := byGossip
		if len(row.keyed) == 2 {
			want = bySeal
		}
		if len(bySeal)+len(byGossip) != 1 || want["a"] == 0 {
			t.Errorf("keys of %v: sealed %v, by gossip %v", row.keyed, bySeal, byGossip)
		}
	}
}
