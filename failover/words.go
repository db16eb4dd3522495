package failover

import (
	"maps"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

const (
	saidMax       = 4096                  // words whose time is remembered; beyond, old ones are forgotten
	confirmRepeat = 50 * time.Millisecond // until the log shows that a HAVIP is served
	// manyLevel is the level of the log from which on every node reads words about several claims.
	manyLevel = 3
)

// wordKey is one thing said to others, so that it is repeated at a bounded rate.
type wordKey struct {
	kind  kind
	havip string
	epoch fsm.Epoch
}

// saying gathers what one turn has to say, so that it leaves in few datagrams. What the log
// does not show yet is said again.
type saying struct {
	mail *mail
	said map[wordKey]lease.Instant

	ready, released map[string][]claimWord // by node; "" is the leader
	standing        []activatedWord
	repeat          bool
}

func newSaying(m *mail) *saying {
	return &saying{mail: m, said: map[wordKey]lease.Instant{}, ready: map[string][]claimWord{}, released: map[string][]claimWord{}}
}

// say takes a word about a claim: to the nodes of the step and, if it is a release, to the leader.
func (s *saying) say(step Step, failure string) {
	w := claimWord{HAVIP: step.HAVIP, Epoch: step.Claim.Epoch, Session: step.Claim.Session, Failure: failure}
	to, words := step.To, s.released
	if step.Kind == StepReady {
		words = s.ready
	} else {
		to = append(slices.Clone(to), "")
	}
	for _, node := range to {
		words[node] = append(words[node], w)
	}
	s.repeat = true
}

// activated takes the word that a HAVIP is served here.
func (s *saying) activated(h *holding, now lease.Instant) {
	key := wordKey{kindActivated, h.HAVIP.ID, h.Claim.Epoch}
	if last, before := s.said[key]; before && now.Sub(last) < confirmRepeat {
		return
	}
	s.said[key] = now
	s.standing = append(s.standing, activatedWord{HAVIP: h.HAVIP.ID, Epoch: h.Claim.Epoch, Session: h.Claim.Session, Took: h.took})
}

// flush sends what was gathered. True: some of it is to be said again after wordRepeat.
func (s *saying) flush(now lease.Instant, state *fsm.State) (repeat bool) {
	many := state.Level() >= manyLevel
	for _, node := range slices.Sorted(maps.Keys(s.released)) {
		s.sendClaims(node, kindReleased, s.due(now, kindReleased, s.released[node]), many)
	}
	for _, node := range slices.Sorted(maps.Keys(s.ready)) {
		s.sendClaims(node, kindReady, s.due(now, kindReady, s.ready[node]), many)
	}
	for list := s.standing; len(list) > 0; {
		n := 1 // a program of an older release reads only one
		if many {
			n = activationsFit(list)
		}
		s.mail.sendLeader(message{Activated: list[:n]})
		list = list[n:]
	}
	s.mark(now)
	repeat = s.repeat
	clear(s.ready)
	clear(s.released)
	s.standing, s.repeat = nil, false
	if len(s.said) > saidMax {
		maps.DeleteFunc(s.said, func(_ wordKey, at lease.Instant) bool { return now.Sub(at) >= confirmRepeat })
	}
	return repeat
}

// due leaves out what was said a moment ago.
func (s *saying) due(now lease.Instant, k kind, words []claimWord) []claimWord {
	return slices.DeleteFunc(slices.Clone(words), func(w claimWord) bool {
		last, before := s.said[wordKey{k, w.HAVIP, w.Epoch}]
		return before && now.Sub(last) < wordRepeat
	})
}

// mark notes what was said in this turn, to all of its nodes.
func (s *saying) mark(now lease.Instant) {
	for k, words := range map[kind]map[string][]claimWord{kindReleased: s.released, kindReady: s.ready} {
		for _, list := range words {
			for _, w := range s.due(now, k, list) {
				s.said[wordKey{k, w.HAVIP, w.Epoch}] = now
			}
		}
	}
}

func (s *saying) sendClaims(node string, k kind, words []claimWord, many bool) {
	for len(words) > 0 {
		n := 1
		if many {
			n = claimsFit(words)
		}
		m := message{Released: words[:n]}
		if k == kindReady {
			m = message{Ready: words[:n]}
		}
		if words = words[n:]; node == "" {
			s.mail.sendLeader(m)
		} else {
			s.mail.send(node, m)
		}
	}
}
