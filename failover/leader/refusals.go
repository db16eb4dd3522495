package leader

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// A refused command is an entry of the log like any other: it wakes the leader, which would
// decide the same again, at the speed of commits, for as long as the reason lasts.

const (
	refusedFirst = 20 * time.Millisecond // before what was refused is decided again; twice as long each time
	refusedLast  = 5 * time.Second       // at most
	// refusedTold is how many refusals in a row are told: one alone is a decision that the log
	// has overtaken.
	refusedTold  = 3
	refusedEvery = time.Minute // between two events about placements, and two lines about other commands
)

// refusal is what became of the decisions about one thing: a HAVIP's place, or commands of a kind.
type refusal struct {
	count int // in a row
	until lease.Instant
	told  bool
}

// again counts one more refusal, and waits refusedFirst after the first one of the free that
// may be decided again at once.
func (r refusal) again(now lease.Instant, free int) refusal {
	if r.count >= free {
		r.until = now.Add(min(refusedFirst<<min(r.count-free, 16), refusedLast))
	}
	r.count++
	return r
}

// held reports whether commands of this kind have to wait, because the last ones were refused.
// Placements are told apart by HAVIP instead (noteRefused).
func (r *leadership) held(now lease.Instant, body fsm.Body) bool {
	return now.Before(r.refusals[kindOf(body)].until)
}

// answered notes what became of a command.
func (c *Controller) answered(body fsm.Body, res fsm.Result) {
	r, now, kind := c.leadership, c.cfg.Clock(), kindOf(body)
	if _, apart := body.(fsm.Place); apart || res.Refusal == nil {
		delete(r.refusals, kind)
		return
	}
	if r.refusals == nil {
		r.refusals = map[string]refusal{} // no more than there are kinds of commands
	}
	v := r.refusals[kind].again(now, 1)
	r.refusals[kind] = v
	if v.count >= refusedTold && (r.lineAt == 0 || now.Sub(r.lineAt) >= refusedEvery) {
		r.lineAt = now
		c.cfg.Logger.Warn("a decision of the leader is refused again and again", "kind", kind, "times", v.count, "reason", res.Refusal.Message)
	}
}

// heldUntil is when the first kind of commands that waits may be proposed again; 0: none waits.
func (r *leadership) heldUntil(now lease.Instant) lease.Instant {
	first := lease.Instant(0)
	for _, v := range r.refusals {
		if now.Before(v.until) && (first == 0 || v.until.Before(first)) {
			first = v.until
		}
	}
	return first
}

func kindOf(body fsm.Body) string { return fmt.Sprintf("%T", body) }

// toTell are the names of the HAVIPs whose placement is refused again and again, sorted, and was
// not told yet; nil while the last event is too young.
func (p *placing) toTell(s *fsm.State, now lease.Instant) []string {
	if p.toldAt != 0 && now.Sub(p.toldAt) < refusedEvery {
		return nil
	}
	var names []string
	for _, id := range slices.Sorted(maps.Keys(p.refused)) {
		if r := p.refused[id]; r.count >= refusedTold && !r.told {
			r.told = true
			p.refused[id] = r
			names = append(names, s.HAVIPs[id].Name)
		}
	}
	if names != nil {
		p.toldAt = now
	}
	slices.Sort(names)
	return names
}
