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
	saidMax       = 2 * limits.HAVIPs     // words whose time is remembered; beyond, old ones are forgotten
	wordSlowest   = 80 * time.Millisecond // between two repeats of a word, at most
	confirmSlower = 3                     // times, at most, that the pause doubles
	confirmRepeat = 50 * time.Millisecond // until the log shows that a HAVIP is served
	// manyLevel is the level of the log from which on every node reads words about several claims.
	manyLevel = 3
)

// wordKey is one thing said to others, so that it is repeated at a bounded rate.
type wordKey struct {
	kind  wire.Kind
	havip string
	epoch fsm.Epoch
	to    string // node id; "" is the leader
}

// saidWord is when a word was said the last time, and how often by then.
type saidWord struct {
	at    lease.Instant
	times int
}

// again is when it is to be repeated. Datagrams seldom get lost, and thousands of words wait for one
// commit, so the pauses grow.
func (w saidWord) again() lease.Instant {
	return w.at.Add(min(wordRepeat<<min(w.times-1, 10), wordSlowest))
}

// saying gathers what one turn has to say, so that it leaves in few datagrams. What the log
// does not show yet is said again.
type saying struct {
	mail *wire.Mail
	said map[wordKey]saidWord

	ready, released map[string][]wire.ClaimWord // by node; "" is the leader
	standing        []wire.ActivatedWord
}

func newSaying(m *wire.Mail) *saying {
	return &saying{mail: m, said: map[wordKey]saidWord{}, ready: map[string][]wire.ClaimWord{}, released: map[string][]wire.ClaimWord{}}
}

// say takes a word about a claim: to the nodes of the step and, if it is a release, to the leader.
func (s *saying) say(step Step, failure string) {
	w := wire.ClaimWord{HAVIP: step.HAVIP, Epoch: step.Claim.Epoch, Session: step.Claim.Session, Failure: failure}
	to, words := step.To, s.released
	if step.Kind == StepReady {
		words = s.ready
	} else {
		to = append(slices.Clone(to), "")
	}
	for _, node := range to {
		words[node] = append(words[node], w)
	}
}

// saidReady reports whether the word of a StepReady was said before.
func (s *saying) saidReady(step Step) bool {
	for _, node := range step.To {
		if _, before := s.said[wordKey{wire.KindReady, step.HAVIP, step.Claim.Epoch, node}]; before {
			return true
		}
	}
	return false
}

// activated takes the word that a HAVIP is served here.
func (s *saying) activated(h *activation, now lease.Instant) {
	key := wordKey{wire.KindActivated, h.HAVIP.ID, h.Claim.Epoch, ""}
	last, before := s.said[key]
	if before && now.Sub(last.at) < confirmRepeat<<min(last.times-1, confirmSlower) {
		return
	}
	s.said[key] = saidWord{now, last.times + 1}
	s.standing = append(s.standing, wire.ActivatedWord{HAVIP: h.HAVIP.ID, Epoch: h.Claim.Epoch, Session: h.Claim.Session, Took: h.took})
}

// flush sends what was gathered. It returns when some of it is to be said again; 0: never.
func (s *saying) flush(now lease.Instant, state *fsm.State) (again lease.Instant) {
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
		maps.DeleteFunc(s.said, func(_ wordKey, w saidWord) bool { return now.Sub(w.at) >= confirmRepeat<<confirmSlower })
	}
	return again
}

// due leaves out what was said a moment ago.
func (s *saying) due(now lease.Instant, k wire.Kind, to string, words []wire.ClaimWord) []wire.ClaimWord {
	return slices.DeleteFunc(slices.Clone(words), func(w wire.ClaimWord) bool {
		last, before := s.said[wordKey{k, w.HAVIP, w.Epoch, to}]
		return before && now < last.again()
	})
}

// mark notes what was said in this turn, and says when the first of it is to
// be said again.
func (s *saying) mark(now lease.Instant) (again lease.Instant) {
	for k, words := range map[wire.Kind]map[string][]wire.ClaimWord{wire.KindReleased: s.released, wire.KindReady: s.ready} {
		for to, list := range words {
			for _, w := range list {
				key := wordKey{k, w.HAVIP, w.Epoch, to}
				last, before := s.said[key]
				if !before || now >= last.again() {
					last = saidWord{now, last.times + 1}
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

func (s *saying) sendClaims(node string, k wire.Kind, words []wire.ClaimWord, many bool) {
	for len(words) > 0 {
		n := 1
		if many {
			n = wire.ClaimsFit(words)
		}
		m := wire.Message{Released: words[:n]}
		if k == wire.KindReady {
			m = wire.Message{Ready: words[:n]}
		}
		if words = words[n:]; node == "" {
			s.mail.SendLeader(m)
		} else {
			s.mail.Send(node, m)
		}
	}
}
