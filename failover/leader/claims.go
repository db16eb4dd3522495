package leader

import (
	"cmp"
	"context"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

// The owners' words about their claims become entries: what they released, and what they serve.

const (
	gatherEach = 50 * time.Microsecond // of every HAVIP: some times what one entry about HAVIPs costs each member
	gatherMax  = 100 * time.Millisecond
)

// commitReleases puts what the nodes released into the log.
func (c *Controller) commitReleases(ctx context.Context) error {
	hurried := func(r fsm.ReleasedClaim) bool { return r.Failure != "" } // the HAVIP is to go elsewhere
	if len(c.leadership.releases) == 0 || !c.gathered(&c.leadership.firstRelease) && !anyKey(c.leadership.releases, hurried) {
		return nil
	}
	c.leadership.firstRelease = 0
	s := c.cfg.Log.State()
	var claims []fsm.ReleasedClaim
	for r, from := range c.leadership.releases {
		if slices.ContainsFunc(s.HAVIPs[r.HAVIP].Claims(), func(cl fsm.Claim) bool {
			return cl.Epoch == r.Epoch && cl.Session == r.Session && cl.Node == from
		}) {
			claims = append(claims, r)
		}
	}
	clear(c.leadership.releases) // a node that sees no effect says it again
	if len(claims) == 0 {
		return nil
	}
	slices.SortFunc(claims, func(a, b fsm.ReleasedClaim) int {
		// Of two words about one claim the one with a reason comes first, and counts.
		return cmp.Or(cmp.Compare(a.HAVIP, b.HAVIP), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(b.Failure, a.Failure))
	})
	_, err := c.propose(ctx, fsm.Release{Claims: claims})
	return err
}

func anyKey[K comparable, V any](m map[K]V, is func(K) bool) bool {
	for k := range m {
		if is(k) {
			return true
		}
	}
	return false
}

// commitConfirms puts into the log which owners serve: all that they have told by now in one
// entry. An owner that sees no effect says it again, also to the next leader.
func (c *Controller) commitConfirms(ctx context.Context) error {
	if len(c.leadership.confirms) == 0 || !c.gathered(&c.leadership.firstConfirm) {
		return nil
	}
	s := c.cfg.Log.State()
	var claims []fsm.ConfirmedClaim
	for w := range c.leadership.confirms {
		if v, exists := s.HAVIPs[w.HAVIP]; exists && s.Serving(v) == fsm.Pending && v.Owner.Epoch == w.Epoch && v.Owner.Session == w.Session {
			claims = append(claims, w)
		}
	}
	clear(c.leadership.confirms)
	if len(claims) == 0 {
		return nil
	}
	slices.SortFunc(claims, func(a, b fsm.ConfirmedClaim) int { return cmp.Compare(a.HAVIP, b.HAVIP) })
	_, err := c.propose(ctx, fsm.Confirm{Claims: claims})
	return err
}

// gatherUntil is until when words about HAVIPs wait for others, so that one entry holds them all:
// while a host hands over, they come in a stream, nobody waits for the log to have them, and each
// entry costs every member in proportion to the number of HAVIPs. That is 1 ms for each 20 of them.
func (c *Controller) gatherUntil(first lease.Instant) lease.Instant {
	return first.Add(min(gatherEach*time.Duration(len(c.cfg.Log.State().HAVIPs)), gatherMax).Truncate(time.Millisecond))
}

// gathered notes when the first word came, and reports whether it has waited long enough.
func (c *Controller) gathered(first *lease.Instant) bool {
	now := c.cfg.Clock()
	if *first == 0 {
		*first = now
	}
	if now < c.gatherUntil(*first) {
		return false
	}
	*first = 0
	return true
}

// entryMax is how many HAVIPs one entry may be about.
func entryMax(s *fsm.State) int {
	if s.Level() < 3 {
		return limits.AssignmentsLevel2
	}
	return fsm.MaxAssignments
}
