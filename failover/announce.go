package failover

import (
	"cmp"
	"slices"
	"time"

	"havip-cluster/failover/lease"
)

const (
	announceNext = 1100 * time.Millisecond // outlasts a neighbour's lock time of 1 s (metallb#172)
	announceSlow = 5 * time.Second         // for switches and clients that forgot or missed it
)

// pace is when each ENI, by id, may send its next claim. Some cloud fabrics take about one
// claim of an ENI in some seconds (fsm.ProviderRules.AnnounceInterval) and lose the others,
// so claims wait here and not there. An ENI without an entry may speak at once.
type pace map[string]lease.Instant

// next is when a holding is to be announced.
func (p pace) next(h *holding) lease.Instant { return max(h.nextAnnounce, p[h.ENI.ID]) }

// spoken notes a claim of the ENI; without an interval nothing has to wait.
func (p pace) spoken(eni string, now lease.Instant, interval time.Duration) {
	if interval <= 0 {
		delete(p, eni)
		return
	}
	p[eni] = now.Add(interval)
}

// due lists what is to be announced now, in the order in which it is: first what has never
// been, because nobody finds it yet, then what has waited longest.
func (p pace) due(now lease.Instant, holdings map[string]*holding) []*holding {
	var out []*holding
	for _, h := range holdings {
		if !h.givenUp && !now.Before(p.next(h)) {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b *holding) int {
		if a.announced != b.announced {
			if b.announced {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.nextAnnounce, b.nextAnnounce), cmp.Compare(a.HAVIP.ID, b.HAVIP.ID))
	})
	return out
}

// refresh keeps and announces what is due.
func (a *Agent) refresh(now, deadline lease.Instant) {
	for _, id := range a.held() {
		if h := a.holdings[id]; !h.givenUp && !now.Before(h.nextKeep) {
			a.keep(h)
		}
	}
	a.announceDue(now, deadline)
}

// announceDue announces what is due, as fast as each ENI may. The lease is read again right
// before each frame leaves, not once per turn.
func (a *Agent) announceDue(now, deadline lease.Instant) {
	due := a.pace.due(now, a.holdings)
	if len(due) == 0 {
		return
	}
	interval := a.cfg.Log.State().Cluster.Provider.Rules().AnnounceInterval
	for _, h := range due {
		if !now.Before(a.pace.next(h)) && a.cfg.Clock().Before(deadline) {
			a.announce(h)
			a.pace.spoken(h.ENI.ID, a.cfg.Clock(), interval)
		}
	}
}

func (a *Agent) announce(h *holding) {
	if err := a.cfg.Edge.Announce(h.Holding); err != nil {
		a.cfg.Logger.Warn("cannot announce a HAVIP", "havip", h.HAVIP.Name, "eni", h.ENI.ID, "err", err)
	}
	pause := announceSlow
	if h.second = !h.second; h.second {
		pause = announceNext
	}
	h.announced = true
	h.nextAnnounce = a.cfg.Clock().Add(pause)
}

// announceAll begins a burst for everything: now, and once more after announceNext.
func (a *Agent) announceAll() {
	for _, h := range a.holdings {
		h.nextAnnounce, h.second = 0, false
	}
}
