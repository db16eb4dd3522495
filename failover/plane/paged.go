package plane

import (
	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
)

// paged stores a deadline into the fence and, for the agent, into the page.
type paged struct {
	fence shell.Fence
	page  *Page
}

func (p paged) SetDeadline(t lease.Instant) {
	p.fence.SetDeadline(t)
	p.page.put(t)
}

// sharedPaged is paged where a program in the kernel moves both deadlines as well. The fence's is the one that counts; that in
// the page is only what the agent sees.
type sharedPaged struct {
	paged
	shared shell.SharedFence
}

var _ shell.SharedFence = sharedPaged{}

func (p sharedPaged) Extend(t lease.Instant) {
	p.shared.Extend(t)
	p.page.extend(t)
}

// Expire brings the page to what the fence has: one of the two hands may have moved the fence alone, and somebody else may
// have made its deadline 0.
func (p sharedPaged) Expire(now lease.Instant) lease.Instant {
	t := p.shared.Expire(now)
	if t == 0 {
		p.page.put(0)
		return 0
	}
	p.page.extend(t)
	return t
}
