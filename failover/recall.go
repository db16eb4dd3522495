package failover

import (
	"context"
	"maps"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// A node that does not apply the log keeps its lease: a full disk or a blocked Raft port does not
// touch renewals. What was given to it is dark, because it does not know. So the leader compares what
// each node says that it has applied with what was committed a while ago, puts what it finds into the
// log, where it bars new HAVIPs (fsm.ReportBehind), and asks the node for each claim that it does not
// serve: "do you know of it?". A node that does not promises never to use it, which is a release like
// any other (rule 7), and the HAVIP goes elsewhere.

const (
	// behindLeast is the shortest time in which an entry has to be applied: with shorter leases two
	// words about the state of a node.
	behindLeast = 2 * statusEvery
	// behindWords is how many words in a row have to say so: one alone may have been late.
	behindWords = 2
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

// heard notes how far a node says that it is, and whether it should be further.
func (c *Controller) heard(now lease.Instant, s *fsm.State, node string, index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := appliedAt{index: index, at: now}
	if c.reign != nil && index < c.reign.commits.by(now.Add(-behindAfter(s))) {
		a.behind = c.applied[node].behind + 1
	}
	c.applied[node] = a
	if len(c.applied) > len(s.Nodes) { // some have been removed
		maps.DeleteFunc(c.applied, func(id string, _ appliedAt) bool { _, member := s.Nodes[id]; return !member })
	}
}

// reportBehind puts into the log which holders do not apply it, and asks those what they know of.
func (c *Controller) reportBehind(ctx context.Context) error {
	s, now := c.cfg.Log.State(), c.cfg.Clock()
	c.reign.commits.note(now, c.cfg.Log.Applied(), 2*behindAfter(s))
	if s.Level() < 4 {
		return nil
	}
	for _, sess := range s.SessionList() {
		c.mu.Lock()
		a := c.applied[sess.Node]
		c.mu.Unlock()
		report := fsm.ReportBehind{Session: sess.Number}
		switch {
		case sess.Behind == 0 && a.behind >= behindWords && sess.Node != c.cfg.Node: // whoever leads applies, or steps down
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
	if c.reign.recalled != 0 && now.Sub(c.reign.recalled) < controlTick {
		return
	}
	words := map[string][]claimWord{}
	for _, sess := range s.SessionList() {
		if sess.Behind != 0 {
			words[sess.Node] = unserved(s, sess)
		}
	}
	for node, list := range words {
		c.reign.recalled = now
		for len(list) > 0 {
			n := claimsFit(list)
			c.mail.send(node, message{Recall: list[:n]})
			list = list[n:]
		}
	}
}

// unserved lists the claims of a session that nobody is known to serve, by HAVIP id.
func unserved(s *fsm.State, sess fsm.Session) []claimWord {
	var out []claimWord
	for _, v := range s.HAVIPList() {
		for _, cl := range v.Claims() {
			if cl.Session == sess.Number && (v.Owner == nil || *v.Owner != cl || v.Served != cl.Epoch) {
				out = append(out, claimWord{HAVIP: v.ID, Epoch: cl.Epoch, Session: cl.Session})
			}
		}
	}
	return out
}

// recalled gives up claims of which this node's log does not know, and tells who asked: which leader that
// is, this node may not know.
func (a *Agent) recalled(s *fsm.State, leader string, words []claimWord) {
	var given []claimWord
	for _, w := range words {
		if a.handoff.Recalled(s, w.HAVIP, w.Epoch, w.Session) {
			given = append(given, claimWord{HAVIP: w.HAVIP, Epoch: w.Epoch, Session: w.Session})
		}
	}
	if len(given) == 0 {
		return
	}
	a.cfg.Logger.Warn("the log of this node is behind: what it was given meanwhile goes elsewhere", "havips", len(given), "first", s.HAVIPs[given[0].HAVIP].Name)
	for part := range slices.Chunk(given, max(1, claimsFit(given))) {
		a.mail.send(leader, message{Released: part})
	}
}
