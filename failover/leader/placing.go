package leader

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// placing is what a leader remembers of its last placement, so that a turn in which nothing
// is due costs nothing.
type placing struct {
	known   bool
	inputs  uint64          // fsm.State.PlacementInputs of the state that it was computed for
	unheard map[string]bool // node ids
	silent  map[string]bool // the same
	// Since when somebody is not heard, renews late or does not apply the log; 0: nobody.
	late lease.Instant
	// When it has to be computed again although nothing has changed; 0 = not for that.
	due     lease.Instant
	dueWall int64              // unix nanoseconds
	refused map[string]refusal // by HAVIP
	toldAt  lease.Instant      // when the last event about them was made; 0: never
}

// settled reports whether there is nothing new to decide.
func (p *placing) settled(s *fsm.State, now lease.Instant, at int64, unheard map[string]bool) bool {
	return p.known && p.inputs == s.PlacementInputs() && maps.Equal(p.unheard, unheard) &&
		(p.due == 0 || now.Before(p.due)) && (p.dueWall == 0 || at < p.dueWall)
}

// settle notes that a state needs no more than what waits until some time; 0 = nothing waits.
func (p *placing) settle(s *fsm.State, now lease.Instant, at int64, unheard map[string]bool, waits lease.Instant) {
	p.known, p.inputs, p.unheard, p.due = true, s.PlacementInputs(), unheard, waits
	if p.dueWall = s.NextDue(at); p.dueWall != 0 {
		if in := now.Add(time.Duration(p.dueWall - at)); p.due == 0 || in.Before(p.due) {
			p.due = in // and where the clock on the wall is set back meanwhile
		}
	}
}

// placeAll proposes what the placement would change. The assignments are guarded by their
// epochs, so a decision on an older state is refused, not done wrongly. A refusal is no
// error: what stands behind it in the turn still happens.
func (c *Controller) placeAll(ctx context.Context) error {
	s, now, at := c.cfg.Log.State(), c.cfg.Clock(), c.cfg.Wall()
	unheard, p := c.unheard(s), &c.leadership.placing
	settled := p.settled(s, now, at, unheard)
	if settled && len(p.silent) == 0 {
		return nil
	}
	silent := c.silent(s)
	if settled && maps.Equal(p.silent, silent) {
		return nil
	}
	p.silent = silent
	avoid := union(unheard, p.silent)
	behind := nodesOf(s, func(sess fsm.Session) bool { return sess.Behind != 0 })
	if len(avoid)+len(behind) == 0 {
		p.late = 0
	} else if p.late == 0 {
		p.late = now
	}
	waits := lease.Instant(0)
	wait := func(until lease.Instant) bool {
		if waits == 0 || until.Before(waits) {
			waits = until
		}
		return true
	}
	assignments := slices.DeleteFunc(moves(s, at, avoid), func(a fsm.Assignment) bool {
		if r := p.refused[a.HAVIP]; now.Before(r.until) {
			return wait(r.until)
		}
		v, until := s.HAVIPs[a.HAVIP], p.late.Add(newGrace)
		if p.late != 0 && now.Before(until) && v.Owner == nil && v.Last == "" {
			return wait(until)
		}
		return c.awaited(s, now, a) && wait(now.Add(controlTick))
	})
	if len(assignments) == 0 {
		p.settle(s, now, at, unheard, waits)
		return nil
	}
	p.known = false
	res, err := c.propose(ctx, fsm.Place{Assignments: assignments})
	if err != nil {
		return err
	}
	return c.noteRefused(ctx, assignments, res)
}

// noteRefused backs off where an assignment was refused: the same decision would be refused
// again, and again, as long as its reason lasts.
func (c *Controller) noteRefused(ctx context.Context, asked []fsm.Assignment, res fsm.Result) error {
	p := &c.leadership.placing
	if res.Refusal == nil && len(res.Refused) == 0 {
		for _, a := range asked {
			delete(p.refused, a.HAVIP)
		}
		return nil
	}
	s, now := c.cfg.Log.State(), c.cfg.Clock()
	if p.refused == nil {
		p.refused = map[string]refusal{}
	}
	maps.DeleteFunc(p.refused, func(id string, _ refusal) bool { _, exists := s.HAVIPs[id]; return !exists })
	for _, a := range asked {
		v, exists := s.HAVIPs[a.HAVIP]
		if !exists || v.Epoch != a.FromEpoch {
			delete(p.refused, a.HAVIP) // done, or overtaken
			continue
		}
		p.refused[a.HAVIP] = p.refused[a.HAVIP].again(now, 0)
	}
	told := p.toTell(s, now)
	if len(told) == 0 {
		return nil
	}
	why := ""
	if res.Refusal != nil {
		why = res.Refusal.Message
	} else {
		why = res.Refused[0]
	}
	text := fmt.Sprintf("the placement of %d HAVIPs is refused again and again, of %s for one: %s", len(told), told[0], why)
	_, err := c.propose(ctx, fsm.ReportEvent{Node: c.cfg.Node, Kind: "fault", HAVIP: told[0], Text: text})
	return err
}

// newGrace is how long a HAVIP that nobody ever had waits for a node that was well until now. Thousands of new ones are
// one large entry, and keep every node busy for a moment: all of them would come to the leader, and stay there.
const newGrace = 2 * time.Second

// coldGrace is how long after the start of its leadership a leader keeps a HAVIP without an
// owner for the node that had it last.
const coldGrace = 2 * time.Second

// awaited reports whether a HAVIP should wait for the node that owned it last: after a
// restart of the whole cluster the nodes come back within moments of each other, and
// everything should be where it was. A failover does not pass here: it places what it takes
// away in the same entry.
func (c *Controller) awaited(s *fsm.State, now lease.Instant, a fsm.Assignment) bool {
	v := s.HAVIPs[a.HAVIP]
	last, known := s.ENIs[v.Last]
	if v.Owner != nil || !known || last.Node == a.Node || now.Sub(c.leadership.began) >= coldGrace {
		return false
	}
	_, back := s.SessionOf(last.Node)
	return !back
}

// moves is the placement's difference from what the state has, as commands for one entry.
func moves(s *fsm.State, at int64, unheard map[string]bool) []fsm.Assignment {
	out := drainStep(s, s.Moves(at, unheard))
	return out[:min(len(out), entryMax(s))]
}
