package failover

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

const (
	hearPending = 2 * limits.HAVIPs      // messages to the leader that wait; more are dropped, senders repeat
	askAgain    = 10 * time.Millisecond  // while a question is not settled; twice as long each time
	askSlowest  = 8                      // up to this part of a lease: a longer round trip renews no lease either
	controlTick = 250 * time.Millisecond // a turn without an event, at the latest
	retryPause  = 20 * time.Millisecond  // after a proposal that failed
	gatherEach  = 50 * time.Microsecond  // of every HAVIP: some times what one entry about HAVIPs costs each member
	gatherMax   = 100 * time.Millisecond
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
	index  uint64
	at     lease.Instant
	behind int // so many words in a row said less than was committed a while before
}

// reign is what a leader knows in one term.
type reign struct {
	term     uint64
	closer   *lease.Closer
	asking   map[lease.Session]*inquiry
	releases map[fsm.ReleasedClaim]string // who said it
	confirms map[fsm.ConfirmedClaim]bool
	// When the oldest of them came; 0: there is none.
	firstRelease, firstConfirm lease.Instant
	timeline                   *timeline
	settle                     settling
	placing                    placing
	began                      lease.Instant
	commits                    commits
	recalled                   lease.Instant      // when a node that is behind was last asked
	refusals                   map[string]refusal // by kind of command
	lineAt                     lease.Instant      // of the last line about them; 0: never
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

// unheard are the nodes with a session that the leader does not hear, a wish of the placement: they
// get what nobody else may have. A new leader listens for a while before it says of anybody that it
// tells nothing. Of whom its own voter has had no renewal for half a promise, it knows at once: hosts
// that die together end up to a fifth of a lease apart, and the first must leave nothing to the others.
func (c *Controller) unheard(s *fsm.State) map[string]bool {
	listened := c.cfg.Clock().Sub(c.reign.began) >= freshFor
	var out map[string]bool
	for _, sess := range s.Sessions {
		if listened && !c.Hears(sess.Node) || c.silent(s, sess) {
			if out == nil {
				out = map[string]bool{}
			}
			out[sess.Node] = true
		}
	}
	return out
}

// silent reports whether this node's voter has had no renewal of a session for half a promise.
func (c *Controller) silent(s *fsm.State, sess fsm.Session) bool {
	left, known := c.voter.Promised(lease.Session{Node: sess.Node, Number: sess.Number})
	return known && left < lease.Promise(min(sess.Lease, s.Cluster.Lease))/2
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
		s := c.cfg.Log.State()
		if _, member := s.Nodes[m.From]; member {
			c.heard(now, s, m.From, m.Status.Applied)
		}
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
			if len(c.reign.releases) < entryMax(c.cfg.Log.State()) {
				c.reign.releases[fsm.ReleasedClaim{HAVIP: w.HAVIP, Epoch: w.Epoch, Session: w.Session, Failure: w.Failure}] = m.From
			}
		}
	case m.Activated != nil:
		state := c.cfg.Log.State()
		for _, w := range m.Activated {
			// Nobody but its holder says of a session that it serves.
			sess, open := state.Sessions[w.Session]
			if !open || sess.Node != m.From {
				continue
			}
			c.reign.timeline.activated(now, w)
			if len(c.reign.confirms) < entryMax(state) {
				c.reign.confirms[fsm.ConfirmedClaim{HAVIP: w.HAVIP, Epoch: w.Epoch, Session: w.Session}] = true
			}
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
			releases: map[fsm.ReleasedClaim]string{},
			confirms: map[fsm.ConfirmedClaim]bool{},
			timeline: newTimeline(),
			began:    c.cfg.Clock(),
		}
	}
	for _, act := range []func(context.Context) error{c.reportBehind, c.commitReleases, c.closeDead, c.placeAll, c.commitConfirms, c.endDrains, c.settleLease, c.recordFailovers} {
		if err := act(ctx); err != nil {
			c.cfg.Logger.Debug("a proposal failed, trying again", "err", err)
			return min(retryPause, c.askWhatIsOpen())
		}
	}
	pause := c.askWhatIsOpen()
	now := c.cfg.Clock()
	if due := c.reign.placing.due; due != 0 {
		pause = min(pause, max(due.Sub(now), time.Millisecond))
	}
	if held := c.reign.heldUntil(now); held != 0 {
		pause = min(pause, held.Sub(now))
	}
	for _, first := range []lease.Instant{c.reign.firstRelease, c.reign.firstConfirm} {
		if first != 0 {
			pause = min(pause, max(c.gatherUntil(first).Sub(now), 0))
		}
	}
	return pause
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

// errHeld stands for the refusal of a command that was refused lately: it is not proposed.
var errHeld = fsm.Refuse(fsm.CodeUnsupported, "refused lately")

// propose commits a command in this reign's term. A kind of command that was refused twice in a
// row is not proposed for a while; the result then is a refusal too.
func (c *Controller) propose(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	if c.reign.held(c.cfg.Clock(), body) {
		return fsm.Result{Refusal: errHeld}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, proposeWait)
	defer cancel()
	res, err := c.cfg.Log.Propose(ctx, c.reign.term, "", body)
	if err == nil {
		c.answered(body, res)
	}
	return res, err
}

// commitReleases puts what the nodes released into the log.
func (c *Controller) commitReleases(ctx context.Context) error {
	hurried := func(r fsm.ReleasedClaim) bool { return r.Failure != "" } // the HAVIP is to go elsewhere
	if len(c.reign.releases) == 0 || !c.gathered(&c.reign.firstRelease) && !anyKey(c.reign.releases, hurried) {
		return nil
	}
	c.reign.firstRelease = 0
	s := c.cfg.Log.State()
	var claims []fsm.ReleasedClaim
	for r, from := range c.reign.releases {
		if slices.ContainsFunc(s.HAVIPs[r.HAVIP].Claims(), func(cl fsm.Claim) bool {
			return cl.Epoch == r.Epoch && cl.Session == r.Session && cl.Node == from
		}) {
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

func anyKey[K comparable, V any](m map[K]V, is func(K) bool) bool {
	for k := range m {
		if is(k) {
			return true
		}
	}
	return false
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
	if now.Sub(st.known) < 2*lease.Promise(s.Cluster.LeaseMax) {
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
