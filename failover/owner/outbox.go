package owner

import (
	"maps"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

const (
	saidMax       = 2 * limits.HAVIPs     // messages whose time is remembered; beyond, old ones are forgotten
	repeatSlowest = 80 * time.Millisecond // between two repeats of a message, at most
	confirmSlower = 3                     // times, at most, that the pause doubles
	confirmRepeat = 50 * time.Millisecond // until the log shows that a HAVIP is served
	// manyLevel is the level of the log from which on every node reads messages about several claims.
	manyLevel = 3
)

// messageKey is one thing said to others, so that it is repeated at a bounded rate.
type messageKey struct {
	kind  wire.Kind
	havip string
	epoch fsm.Epoch
	to    string // node id; "" is the leader
}

// sentMessage is when a message was said the last time, and how often by then.
type sentMessage struct {
	at    lease.Instant
	times int
}

// again is when it is to be repeated. Datagrams seldom get lost, and thousands of messages wait for one
// commit, so the pauses grow.
func (w sentMessage) again() lease.Instant {
	return w.at.Add(min(repeatFirst<<min(w.times-1, 10), repeatSlowest))
}

// outbox gathers what one turn has to say, so that it leaves in few datagrams. What the log
// does not show yet is said again.
type outbox struct {
	mail *wire.Mail
	said map[messageKey]sentMessage

	ready, released map[string][]wire.ClaimMessage // by node; "" is the leader
	standing        []wire.ActivatedMessage
}

func newOutbox(m *wire.Mail) *outbox {
	return &outbox{mail: m, said: map[messageKey]sentMessage{}, ready: map[string][]wire.ClaimMessage{}, released: map[string][]wire.ClaimMessage{}}
}

// say takes a message about a claim: to the nodes of the step and, if it is a release, to the leader.
func (s *outbox) say(step Step, failure string) {
	w := wire.ClaimMessage{HAVIP: step.HAVIP, Epoch: step.Claim.Epoch, Session: step.Claim.Session, Failure: failure}
	to, messages := step.To, s.released
	if step.Kind == StepReady {
		messages = s.ready
	} else {
		to = append(slices.Clone(to), "")
	}
	for _, node := range to {
		messages[node] = append(messages[node], w)
	}
}

// saidReady reports whether the message of a StepReady was said before.
func (s *outbox) saidReady(step Step) bool {
	for _, node := range step.To {
		if _, before := s.said[messageKey{wire.KindReady, step.HAVIP, step.Claim.Epoch, node}]; before {
			return true
		}
	}
	return false
}

// activated takes the message that a HAVIP is served here.
func (s *outbox) activated(h *activation, now lease.Instant) {
	key := messageKey{wire.KindActivated, h.HAVIP.ID, h.Claim.Epoch, ""}
	last, before := s.said[key]
	if before && now.Sub(last.at) < confirmRepeat<<min(last.times-1, confirmSlower) {
		return
	}
	s.said[key] = sentMessage{now, last.times + 1}
	s.standing = append(s.standing, wire.ActivatedMessage{HAVIP: h.HAVIP.ID, Epoch: h.Claim.Epoch, Session: h.Claim.Session, Took: h.took})
}

// flush sends what was gathered. It returns when some of it is to be said again; 0: never.
func (s *outbox) flush(now lease.Instant, state *fsm.State) (again lease.Instant) {
	many := state.Level() >= manyLevel
	for _, node := range slices.Sorted(maps.Keys(s.released)) {
		s.sendClaims(node, wire.KindReleased, s.due(now, wire.KindReleased, node, s.released[node]), many)
	}
	for _, node := range slices.Sorted(maps.Keys(s.ready)) {
		s.sendClaims(node, wire.KindReady, s.due(now, wire.KindReady, node, s.ready[node]), many)
	}
	for list := s.standing; len(list) > 0; {
		n := 1 // a program of an older release reads only one
		if many {
			n = wire.ActivationsFit(list)
		}
		s.mail.SendLeader(wire.Message{Activated: list[:n]})
		list = list[n:]
	}
	again = s.mark(now)
	clear(s.ready)
	clear(s.released)
	s.standing = nil
	if len(s.said) > saidMax {
		maps.DeleteFunc(s.said, func(_ messageKey, w sentMessage) bool { return now.Sub(w.at) >= confirmRepeat<<confirmSlower })
	}
	return again
}

// due leaves out what was said a moment ago.
func (s *outbox) due(now lease.Instant, k wire.Kind, to string, messages []wire.ClaimMessage) []wire.ClaimMessage {
	return slices.DeleteFunc(slices.Clone(messages), func(w wire.ClaimMessage) bool {
		last, before := s.said[messageKey{k, w.HAVIP, w.Epoch, to}]
		return before && now < last.again()
	})
}

// mark notes what was said in this turn, and says when the first of it is to
// be said again.
func (s *outbox) mark(now lease.Instant) (again lease.Instant) {
	for k, messages := range map[wire.Kind]map[string][]wire.ClaimMessage{wire.KindReleased: s.released, wire.KindReady: s.ready} {
		for to, list := range messages {
			for _, w := range list {
				key := messageKey{k, w.HAVIP, w.Epoch, to}
				last, before := s.said[key]
				if !before || now >= last.again() {
					last = sentMessage{now, last.times + 1}
					s.said[key] = last
				}
				if again == 0 || last.again() < again {
					again = last.again()
				}
			}
		}
	}
	return again
}

func (s *outbox) sendClaims(node string, k wire.Kind, messages []wire.ClaimMessage, many bool) {
	for len(messages) > 0 {
		n := 1
		if many {
			n = wire.ClaimsFit(messages)
		}
		m := wire.Message{Released: messages[:n]}
		if k == wire.KindReady {
			m = wire.Message{Ready: messages[:n]}
		}
		if messages = messages[n:]; node == "" {
			s.mail.SendLeader(m)
		} else {
			s.mail.Send(node, m)
		}
	}
}
