package failover

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
	"havip-cluster/internal/mutant"
)

const (
	hearPending = 4096                   // messages to the leader that wait; more are dropped, senders repeat
	askAgain    = 10 * time.Millisecond  // while a question is not settled; twice as long each time
	askSlowest  = 8                      // up to this part of a lease: a longer round trip renews no lease either
	controlTick = 250 * time.Millisecond // pauses after failures and delayed failback run out without an event
	retryPause  = 20 * time.Millisecond  // after a proposal that failed
	proposeWait = 3 * time.Second
)

// Controller is the leader's part: it gathers what the nodes say, decides with pure
// functions, and proposes. In a node that does not lead it only forgets what it hears.
type Controller struct {
	cfg   Config
	mail  *mail
	voter *Voter
	inbox chan message

	mu      sync.Mutex
	applied map[string]appliedAt // by node, from status words
	// Below: only the goroutine of Run.
	reign *reign // nil while another node leads
}

type appliedAt struct {
	index uint64
	at    lease.Instant
}

// reign is what a leader knows in one term.
type reign struct {
	term     uint64
	closer   *lease.Closer
	asking   map[lease.Session]*inquiry
	releases map[fsm.ReleasedClaim]bool
	timeline *timeline
	settle   settling
	placed   *fsm.State // the state for which nothing was to be moved
	placedAt lease.Instant
	began    lease.Instant
}

// inquiry is the question whether one session is dead.
type inquiry struct {
	hinted lease.Instant            // first hint
	hints  map[string]lease.Instant // the last one, by voter
	asked  lease.Instant            // 0: not yet
	pause  time.Duration            // from then until it is asked again
	dead   bool
}

// settling waits until a lowered lease length is known everywhere (rule 8).
type settling struct {
	index uint64 // of the change
	known lease.Instant
}

func newController(cfg Config, m *mail, v *Voter) *Controller {
	return &Controller{cfg: cfg, mail: m, voter: v, inbox: make(chan message, hearPending), applied: map[string]appliedAt{}}
}

// hear takes a message for the leader. It does not block.
func (c *Controller) hear(m message) {
	if _, leads := c.cfg.Log.Leading(); !leads {
		return
	}
	select {
	case c.inbox <- m:
	default:
	}
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

// unheard are the nodes with a session that the leader does not hear. A new leader listens
// for a while before it says so of anybody.
func (c *Controller) unheard(s *fsm.State) map[string]bool {
	if c.cfg.Clock().Sub(c.reign.began) < freshFor {
		return nil
	}
	var out map[string]bool
	for _, sess := range s.Sessions {
		if !c.Hears(sess.Node) {
			if out == nil {
				out = map[string]bool{}
			}
			out[sess.Node] = true
		}
	}
	return out
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) {
	watch, stop := c.cfg.Log.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch:
		case <-timer.C:
		case m := <-c.inbox:
			c.take(m)
			c.drain()
		}
		timer.Reset(c.turn(ctx))
	}
}

// drain takes what else waits, so that one turn handles it all.
func (c *Controller) drain() {
	for range hearPending {
		select {
		case m := <-c.inbox:
			c.take(m)
		default:
			return
		}
	}
}

// take notes one message; the turn that follows acts on it.
func (c *Controller) take(m message) {
	now := c.cfg.Clock()
	if m.Status != nil {
		c.mu.Lock()
		if _, member := c.cfg.Log.State().Nodes[m.From]; member {
			c.applied[m.From] = appliedAt{m.Status.Applied, now}
		}
		c.mu.Unlock()
		return
	}
	if c.reign == nil {
		return
	}
	switch {
	case m.Hint != nil:
		for _, s := range m.Hint {
			c.hint(now, s, m.From)
		}
	case m.Endorsement != nil:
		c.endorsed(now, *m.Endorsement)
	case m.Released != nil:
		for _, w := range m.Released {
			if len(c.reign.releases) < fsm.MaxAssignments {
				c.reign.releases[fsm.ReleasedClaim{HAVIP: w.HAVIP, Epoch: w.Epoch, Session: w.Session, Failure: w.Failure}] = true
			}
		}
	case m.Activated != nil:
		for _, w := range m.Activated {
			c.reign.timeline.activated(now, w)
		}
	}
}

// turn does what the leader has to do now, and says when to come back at the latest.
func (c *Controller) turn(ctx context.Context) time.Duration {
	term, leads := c.cfg.Log.Leading()
	if !leads {
		c.reign = nil
		return controlTick
	}
	if c.reign == nil || c.reign.term != term {
		c.reign = &reign{
			term: term, closer: lease.NewCloser(c.cfg.Node, term),
			asking:   map[lease.Session]*inquiry{},
			releases: map[fsm.ReleasedClaim]bool{},
			timeline: newTimeline(),
			began:    c.cfg.Clock(),
		}
	}
	for _, act := range []func(context.Context) error{c.commitReleases, c.closeDead, c.placeAll, c.endDrains, c.settleLease, c.recordFailovers} {
		if err := act(ctx); err != nil {
			c.cfg.Logger.Debug("a proposal failed, trying again", "err", err)
			return min(retryPause, c.askWhatIsOpen())
		}
	}
	return c.askWhatIsOpen()
}

// propose commits a command in this reign's term.
func (c *Controller) propose(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeWait)
	defer cancel()
	res, err := c.cfg.Log.Propose(ctx, c.reign.term, "", body)
	if err == nil && res.Refusal != nil {
		c.cfg.Logger.Debug("a decision was refused", "reason", res.Refusal.Message)
	}
	return res, err
}

// commitReleases puts what the nodes released into the log.
func (c *Controller) commitReleases(ctx context.Context) error {
	if len(c.reign.releases) == 0 {
		return nil
	}
	s := c.cfg.Log.State()
	var claims []fsm.ReleasedClaim
	for r := range c.reign.releases {
		if slices.ContainsFunc(s.HAVIPs[r.HAVIP].Claims(), func(cl fsm.Claim) bool { return cl.Epoch == r.Epoch && cl.Session == r.Session }) {
			claims = append(claims, r)
		}
	}
	clear(c.reign.releases) // a node that sees no effect says it again
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

// placeAll proposes what the placement would change. The claims of this release are
// guarded by their epochs, so a decision on an older state is refused, not done wrongly.
func (c *Controller) placeAll(ctx context.Context) error {
	s, now := c.cfg.Log.State(), c.cfg.Clock()
	if s == c.reign.placed && now.Sub(c.reign.placedAt) < controlTick {
		return nil
	}
	assignments := slices.DeleteFunc(moves(s, c.cfg.wall(), c.unheard(s)), func(a fsm.Assignment) bool { return c.awaited(s, now, a) })
	if len(assignments) == 0 {
		c.reign.placed, c.reign.placedAt = s, now
		return nil
	}
	res, err := c.propose(ctx, fsm.Place{Assignments: assignments})
	if err != nil {
		return err
	}
	if res.Refusal != nil {
		return fmt.Errorf("failover: placement refused: %w", res.Refusal)
	}
	return nil
}

// coldGrace is how long after the start of its reign a leader keeps a HAVIP without an
// owner for the node that had it last.
const coldGrace = 2 * time.Second

// awaited reports whether a HAVIP should wait for the node that owned it last: after a
// restart of the whole cluster the nodes come back within moments of each other, and
// everything should be where it was. A failover does not pass here: it places what it takes
// away in the same entry.
func (c *Controller) awaited(s *fsm.State, now lease.Instant, a fsm.Assignment) bool {
	v := s.HAVIPs[a.HAVIP]
	last, known := s.ENIs[v.Last]
	if v.Owner != nil || !known || last.Node == a.Node || now.Sub(c.reign.began) >= coldGrace {
		return false
	}
	_, back := s.SessionOf(last.Node)
	return !back
}

// moves is the placement's difference from what the state has, as commands for one entry.
func moves(s *fsm.State, at int64, unheard map[string]bool) []fsm.Assignment {
	out := drainStep(s, placement.Moves(s, at, unheard))
	return out[:min(len(out), fsm.MaxAssignments)]
}

// settleLease ends the time in which the longer of two lease lengths counts: every voter
// and every holder has applied the change, and twice the longer promise has passed since.
func (c *Controller) settleLease(ctx context.Context) error {
	s := c.cfg.Log.State()
	st := &c.reign.settle
	if s.Cluster.LeaseMax == s.Cluster.Lease {
		return nil
	}
	now := c.cfg.Clock()
	if st.index != s.Cluster.LeaseIndex {
		*st = settling{index: s.Cluster.LeaseIndex}
	}
	if st.known == 0 {
		if !c.allApplied(s, st.index) {
			return nil
		}
		st.known = now
	}
	if now.Sub(st.known) < 2*lease.Promise(s.Cluster.LeaseMax) && !mutant.Active("controller-settle-early") {
		return nil
	}
	_, err := c.propose(ctx, fsm.SettleLease{Index: st.index})
	return err
}

// allApplied reports whether every voter, and every node that may still renew by an older
// length, has applied the log up to index.
func (c *Controller) allApplied(s *fsm.State, index uint64) bool {
	nodes := slices.Clone(c.cfg.Log.VoterSet().Voters)
	for _, sess := range s.SessionList() {
		nodes = append(nodes, sess.Node)
	}
	for _, node := range nodes {
		if applied, fresh := c.Applied(node); !fresh || applied < index {
			return false
		}
	}
	return true
}

// recordFailovers commits the timelines that are complete.
func (c *Controller) recordFailovers(ctx context.Context) error {
	for _, f := range c.reign.timeline.complete(c.cfg.Clock()) {
		if _, err := c.propose(ctx, fsm.RecordFailover{Failover: f}); err != nil {
			return err
		}
	}
	return nil
}

// Move is an operator's planned move of one HAVIP to a node (name) or an ENI (id). It is
// one change and leaves no rule behind. The refusal says why the target cannot own it.
func Move(s *fsm.State, havip, to string) (fsm.Place, *fsm.Refusal) {
	d, known := placement.ComputeOne(s, wall(), havip)
	if !known {
		return fsm.Place{}, fsm.Refuse(fsm.CodeNotFound, "no HAVIP has the id %q", havip)
	}
	var found []placement.Candidate
	for _, cand := range d.Candidates {
		if cand.ENI == to || cand.Node == to {
			found = append(found, cand)
		}
	}
	return moveTo(s, s.HAVIPs[havip], to, found)
}

func moveTo(s *fsm.State, v fsm.HAVIP, to string, found []placement.Candidate) (fsm.Place, *fsm.Refusal) {
	if n, known := s.NodeNamed(to); known && len(found) == 0 {
		why := "it has no ENI"
		if n.Role == fsm.RoleWitness {
			why = "it is a witness: it votes and owns nothing"
		}
		return fsm.Place{}, fsm.Refuse(fsm.CodeUnsupported, "HAVIP %s cannot go to node %s: %s", v.Name, to, why)
	}
	if len(found) == 0 {
		return fsm.Place{}, fsm.Refuse(fsm.CodeNotFound, "%q is neither a node nor an ENI of the cluster; `node list` and `eni list` show those there are", to)
	}
	why := ""
	for _, cand := range found {
		if cand.Present {
			return fsm.Place{}, fsm.Refuse(fsm.CodeInUse, "HAVIP %s is on %s already", v.Name, cand.ENI)
		}
		if cand.Eligible {
			sess, _ := s.SessionOf(s.ENIs[cand.ENI].Node)
			return fsm.Place{Assignments: []fsm.Assignment{{
				HAVIP: v.ID, FromEpoch: v.Epoch, Node: sess.Node, Session: sess.Number, ENI: cand.ENI,
				Reason: "moved by an operator",
			}}}, nil
		}
		if why == "" || cand.Rule != "other-subnet" {
			why = cand.ENI + ": " + cand.Why
		}
	}
	return fsm.Place{}, fsm.Refuse(fsm.CodeUnsupported, "HAVIP %s cannot go to %s: %s", v.Name, to, why)
}
