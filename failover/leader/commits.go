package leader

import (
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

const (
	// behindLeast is the shortest time in which an entry has to be applied: with shorter leases two
	// words about the state of a node.
	behindLeast = 2 * wire.StatusEvery
	// commitMarks bounds the memory of when what was committed; a mark is that part of the
	// time that is looked back on after the one before.
	commitMarks = 128
)

// commits remembers when the leader had applied what.
type commits []struct {
	index uint64
	at    lease.Instant
}

// note adds the index that is applied now. keep is how far back it will be asked.
func (c *commits) note(now lease.Instant, index uint64, keep time.Duration) {
	list := *c
	if n := len(list); n > 0 && (list[n-1].index == index || now.Sub(list[n-1].at) < keep/commitMarks) {
		return
	}
	list = append(list, struct {
		index uint64
		at    lease.Instant
	}{index, now})
	old := 0 // the newest one that is old enough answers for all before it
	for old+1 < len(list) && now.Sub(list[old+1].at) >= keep {
		old++
	}
	*c = append((*c)[:0], list[old:]...)
}

// by is the newest index that was applied at an instant, as far as is known.
func (c commits) by(at lease.Instant) (index uint64) {
	for _, m := range c {
		if m.at.After(at) {
			break
		}
		index = m.index
	}
	return index
}

// behindAfter is how long an entry may wait until a node has applied it.
func behindAfter(s *fsm.State) time.Duration { return max(s.Cluster.LeaseMax, behindLeast) }

// unserved lists the claims of a session that nobody is known to serve, by HAVIP id.
func unserved(s *fsm.State, sess fsm.Session) []wire.ClaimMessage {
	var out []wire.ClaimMessage
	for _, v := range s.HAVIPList() {
		for _, cl := range v.Claims() {
			if cl.Session == sess.Number && (v.Owner == nil || *v.Owner != cl || v.Served != cl.Epoch) {
				out = append(out, wire.ClaimMessage{HAVIP: v.ID, Epoch: cl.Epoch, Session: cl.Session})
			}
		}
	}
	return out
}
