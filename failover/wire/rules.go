package wire

import (
	"cmp"
	"fmt"
	"slices"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// Whose message each kind of message may be. The carrier proves who sent a datagram; the table says
// which nodes may send one of that kind, and that what it says is about the sender itself. Only
// then it reaches a part of the Member. The latest configuration decides, so removal and demotion
// end the right at once.
//
// A message about a claim may be ahead of the log here. One that the log here does not know yet is
// passed on with its sender, and whoever uses it later compares that with the claim's node.

// rule is one row of the table.
type rule struct {
	name  string
	whose string // who may say it, as a person reads it
	// may reports whether the sender, m.From, may say m.
	may func(s *fsm.State, voters lease.VoterSet, m *Message) bool
}

// rules has a row for each kind. A test fails for a kind without one.
var rules = [KindEnd]rule{
	KindRenewal: {"renewal", "the node of the session", func(_ *fsm.State, _ lease.VoterSet, m *Message) bool {
		return m.Renewal.Session.Node == m.From
	}},
	KindAck: {"ack", "the voter that promises", func(_ *fsm.State, v lease.VoterSet, m *Message) bool {
		return m.Ack.From == m.From && v.Has(m.From)
	}},
	KindHint: {"hint", "a voter", func(_ *fsm.State, v lease.VoterSet, m *Message) bool {
		return v.Has(m.From)
	}},
	KindQuestion: {"question", "the voter that asks", func(_ *fsm.State, v lease.VoterSet, m *Message) bool {
		return m.Question.ID.Leader == m.From && v.Has(m.From)
	}},
	KindEndorsement: {"endorsement", "the voter that endorses", func(_ *fsm.State, v lease.VoterSet, m *Message) bool {
		return m.Endorsement.From == m.From && v.Has(m.From)
	}},
	KindReleased:      {"released", "the owner of that epoch", released},
	KindReleasedMany:  {"released-many", "the owner of each epoch", released},
	KindReady:         {"ready", "the owner of that epoch", ready},
	KindReadyMany:     {"ready-many", "the owner of each epoch", ready},
	KindActivated:     {"activated", "the node of the session", activated},
	KindActivatedMany: {"activated-many", "the node of each session", activated},
	KindStatus: {"status", "a member, of itself", func(s *fsm.State, _ lease.VoterSet, m *Message) bool {
		_, member := s.Nodes[m.From]
		return member
	}},
	KindCorrection: {"correction", "the voter that was asked", func(_ *fsm.State, v lease.VoterSet, m *Message) bool {
		return m.Correction.From == m.From && v.Has(m.From)
	}},
	KindEnded: {"ended", "a voter, to the session's node", func(_ *fsm.State, v lease.VoterSet, m *Message) bool {
		return m.Ended.From == m.From && v.Has(m.From)
	}},
	KindRecall: {"recall", "a voter", func(_ *fsm.State, v lease.VoterSet, m *Message) bool { return v.Has(m.From) }},
	KindSteps: {"steps", "the node of the session", func(s *fsm.State, _ lease.VoterSet, m *Message) bool {
		sess, open := s.Sessions[m.Steps.Session]
		return !open || sess.Node == m.From
	}},
	KindClock: {"clock", "a member, of itself", func(s *fsm.State, _ lease.VoterSet, m *Message) bool {
		_, member := s.Nodes[m.From]
		return member
	}},
}

func released(s *fsm.State, _ lease.VoterSet, m *Message) bool { return claimed(s, m.From, m.Released) }
func ready(s *fsm.State, _ lease.VoterSet, m *Message) bool    { return claimed(s, m.From, m.Ready) }

// claimed reports whether no claim of the messages is known to be another node's.
func claimed(s *fsm.State, from string, messages []ClaimMessage) bool {
	return !slices.ContainsFunc(messages, func(w ClaimMessage) bool {
		v := s.HAVIPs[w.HAVIP]
		others := func(c fsm.Claim) bool { return c.Epoch == w.Epoch && c.Node != from }
		if v.Owner != nil && others(*v.Owner) || slices.ContainsFunc(v.Draining, others) {
			return true
		}
		sess, open := s.Sessions[w.Session]
		return open && sess.Node != from
	})
}

func activated(s *fsm.State, _ lease.VoterSet, m *Message) bool {
	return !slices.ContainsFunc(m.Activated, func(w ActivatedMessage) bool {
		sess, open := s.Sessions[w.Session]
		return open && sess.Node != m.From
	})
}

// The reasons for which a message is not heard, beside its kind.
const (
	notMember  = "not a member"       // removed, or never one
	notItsOwn  = "not its own"        // the table does not let that node say it
	NotProved  = "by gossip alone"    // both nodes have keys, so their messages come sealed
	notWords   = "malformed"          // no message of ours
	wordsLimit = 2 * int(KindEnd) * 4 // rows of the count of refused messages
)

// judge returns why a message is not heard, "" if it is.
func (m *Mail) judge(k Kind, msg *Message) string {
	s := m.cfg.Log.State()
	if _, member := s.Nodes[msg.From]; !member {
		return notMember
	}
	if !rules[k].may(s, m.cfg.Log.VoterSet(), msg) {
		return notItsOwn
	}
	return ""
}

// refuse counts a message that is not heard.
func (m *Mail) refuse(k Kind, why string) {
	name := notWords
	if k < KindEnd && rules[k].name != "" {
		name = rules[k].name
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := RefusedMessages{Kind: name, Reason: why}
	if _, known := m.refused[key]; known || len(m.refused) < wordsLimit {
		m.refused[key]++
	}
}

// RefusedMessages are messages of one kind that were not heard, for one reason.
type RefusedMessages struct {
	Kind, Reason string
	Count        uint64
}

// Refused returns how many messages were not heard, sorted by kind and reason.
func (m *Mail) Refused() []RefusedMessages {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []RefusedMessages
	for r, n := range m.refused {
		r.Count = n
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b RefusedMessages) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// JoinRefused adds two counts.
func JoinRefused(a, b []RefusedMessages) []RefusedMessages {
	for _, r := range b {
		i := slices.IndexFunc(a, func(o RefusedMessages) bool { return o.Kind == r.Kind && o.Reason == r.Reason })
		if i < 0 {
			a = append(a, r)
			continue
		}
		a[i].Count += r.Count
	}
	slices.SortFunc(a, func(x, y RefusedMessages) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Reason, y.Reason))
	})
	return a
}

// String is for logs.
func (r RefusedMessages) String() string { return fmt.Sprintf("%s, %s: %d", r.Kind, r.Reason, r.Count) }
