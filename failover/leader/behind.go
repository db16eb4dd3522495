package leader

import (
	"context"
	"maps"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// A node that does not apply the log keeps its lease: a full disk or a blocked Raft port does not
// touch renewals. What was given to it is dark, because it does not know. So the leader compares what
// each node says that it has applied with what was committed a while ago, puts what it finds into the
// log, where it bars new HAVIPs (fsm.ReportBehind), and asks the node for each claim that it does not
// serve: "do you know of it?". A node that does not promises never to use it, which is a release like
// any other (rule 7), and the HAVIP goes elsewhere.

const (
	// behindInARow is how many words in a row have to say so: one alone may have been late.
	behindInARow = 2
	// freshFor is how long what a node told counts as news: three of its words may be lost.
	freshFor = 4 * wire.StatusEvery
)

// appliedAt is what a node said last of how far it is.
type appliedAt struct {
	index  uint64
	at     lease.Instant
	behind int // so many words in a row said less than was committed a while before
}

// Applied returns how far a node has applied the log, as it told lately.
func (c *Controller) Applied(node string) (uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.applied[node]
	return a.index, ok && c.cfg.Clock().Sub(a.at) < freshFor
}

// Hears reports whether this node, if it leads, has heard of a node lately. One that it does
// not hear may keep its lease with the other voters, and would still learn late, from them,
// that a HAVIP is its own: until then nobody would serve it.
func (c *Controller) Hears(node string) bool {
	_, fresh := c.Applied(node)
	return fresh || node == c.cfg.Node
}

// Learns reports whether a node to which this leader gave a HAVIP in a session would know it by the next entry:
// it was heard lately, and its log had come as far as that session. One that was cut off may have a session opened
// as soon as it hears of a leader, while Raft sends it the log after a pause of up to a second. Until then it does
// not renew, so the session ends, and what it was given goes elsewhere.
func (c *Controller) Learns(node string, session uint64) bool {
	applied, fresh := c.Applied(node)
	return fresh && applied >= session || node == c.cfg.Node
}

// unheard are the nodes with a session that the leader does not hear, a wish of the placement: they
// get what nobody else may have. A new leader listens for a while before it says of anybody that it
// tells nothing.
func (c *Controller) unheard(s *fsm.State) map[string]bool {
	listened := c.cfg.Clock().Sub(c.leadership.began) >= freshFor
	return nodesOf(s, func(sess fsm.Session) bool { return listened && !c.Hears(sess.Node) })
}

// silent are the nodes of whose session this node's voter has had no renewal for half a promise. They count
// as unheard, too: hosts that die together end up to a fifth of a lease apart, and the first must leave
// nothing to the others. The voter may be in another process, so it is asked only when what a placement
// depends on has changed, and while one avoids such a node.
func (c *Controller) silent(s *fsm.State) map[string]bool {
	return nodesOf(s, func(sess fsm.Session) bool { return c.renewsLate(s, sess) })
}

// nodesOf are those whose session is as is says; nil: none.
func nodesOf(s *fsm.State, is func(fsm.Session) bool) (out map[string]bool) {
	for _, sess := range s.Sessions {
		if is(sess) {
			if out == nil {
				out = map[string]bool{}
			}
			out[sess.Node] = true
		}
	}
	return out
}

// union is one of two sets where the other is empty, or a new one.
func union(a, b map[string]bool) map[string]bool {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// renewsLate reports whether this node's voter has had no renewal of a session for half a promise.
func (c *Controller) renewsLate(s *fsm.State, sess fsm.Session) bool {
	_, left, known := c.cfg.Voter.Heard(lease.Session{Node: sess.Node, Number: sess.Number})
	return known && left < lease.Promise(s.RenewsBy(sess))/2
}

// heard notes how far a node says that it is, and whether it should be further. It reports whether the
// node is behind, or was.
func (c *Controller) heard(now lease.Instant, s *fsm.State, node string, index uint64) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := appliedAt{index: index, at: now}
	if c.leadership != nil && index < c.leadership.commits.by(now.Add(-behindAfter(s))) {
		a.behind = c.applied[node].behind + 1
	}
	c.applied[node] = a
	if len(c.applied) > len(s.Nodes) { // some have been removed
		maps.DeleteFunc(c.applied, func(id string, _ appliedAt) bool { _, member := s.Nodes[id]; return !member })
	}
	sess, open := s.SessionOf(node)
	return a.behind >= behindInARow || open && sess.Behind != 0
}

// reportBehind puts into the log which holders do not apply it, and asks those what they know of.
func (c *Controller) reportBehind(ctx context.Context) error {
	s, now := c.cfg.Log.State(), c.cfg.Clock()
	c.leadership.commits.note(now, c.cfg.Log.Applied(), 2*behindAfter(s))
	if s.Level() < 4 {
		return nil
	}
	for _, sess := range s.SessionList() {
		c.mu.Lock()
		a := c.applied[sess.Node]
		c.mu.Unlock()
		report := fsm.ReportBehind{Session: sess.Number}
		switch {
		case sess.Behind == 0 && a.behind >= behindInARow && sess.Node != c.cfg.Node: // whoever leads applies, or steps down
			report.Behind = max(a.index, 1)
		case sess.Behind != 0 && (sess.Node == c.cfg.Node || a.index > sess.Behind && a.behind == 0):
		default:
			continue
		}
		if _, err := c.propose(ctx, report); err != nil {
			return err
		}
	}
	c.recall(now)
	return nil
}

// recall asks the nodes that do not apply the log about what they do not serve.
func (c *Controller) recall(now lease.Instant) {
	s := c.cfg.Log.State()
	if c.leadership.recalled != 0 && now.Sub(c.leadership.recalled) < controlTick {
		return
	}
	for _, sess := range s.SessionList() {
		if sess.Behind == 0 {
			continue
		}
		c.leadership.recalled = now
		for list := unserved(s, sess); len(list) > 0; {
			n := wire.ClaimsFit(list)
			c.cfg.Mail.Send(sess.Node, wire.Message{Recall: list[:n]})
			list = list[n:]
		}
	}
}
