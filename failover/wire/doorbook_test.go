package wire

import (
	"testing"

	"havip-cluster/internal/doorbook"
)

// Every kind of message as each of the four: the table of docs/doors.md. Each message is one that only node
// a may say, or that any member of its kind may say; see doorWords.
func TestDoorbook(t *testing.T) {
	table := doorbook.NewTable("message", "whose it is")
	for k := KindRenewal; k < KindEnd; k++ {
		row, tried := doorWords[k]
		if !tried || rules[k].name == "" {
			t.Errorf("kind %d has no rule, or is not tried", k)
			continue
		}
		own := row.anyMember && !row.voter // what a member of role agent may say of itself
		table.Row(func(who string) string {
			why := ""
			switch who {
			case doorbook.RemovedVoter:
				why = hears(t, k, row.m, "a", false, false)
			case doorbook.RemovedAgent:
				why = hears(t, k, row.m, "d", true, false)
			case doorbook.Agent:
				why = hears(t, k, row.m, "d", true, true)
			case doorbook.Stranger:
				why = whispered(k, row.m)
			}
			if want := who == doorbook.Agent && own; want != (why == "") {
				t.Errorf("%s by %s: %q", rules[k].name, who, why)
			}
			if why == "" {
				return "heard, of itself"
			}
			return doorbook.Refused + " (" + why + ")"
		}, rules[k].name, rules[k].whose)
	}
	if err := doorbook.Check("messages", table); err != nil {
		t.Error(err)
	}
}

// whispered gives node b a message by gossip in the name of node a, and says why it was not heard.
// What has no form for gossip is tried in its sealed form.
func whispered(k Kind, m Message) string {
	b := NewMail(Config{Node: "b", Log: still{state: doorState(), set: doorVoters}, Post: postman{}}, func(Message) {})
	m.From = "a"
	if sealedOnly(k) {
		b.ReceiveGossip(EncodeAs(nil, VersionSealed, m))
	} else {
		b.ReceiveGossip(Encode(nil, m))
	}
	for _, r := range b.Refused() {
		return r.Reason
	}
	return ""
}

// sealedOnly: the kind has no form for gossip.
func sealedOnly(k Kind) bool {
	return k == KindCorrection || k == KindRecall || k == KindEnded || k == KindSteps || k == KindClock
}
