package leader

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

const (
	hearPending = 2 * limits.HAVIPs      // messages to the leader that wait; more are dropped, senders repeat
	controlTick = 250 * time.Millisecond // a turn without an event, at the latest
	followTick  = time.Second            // the same at a node that does not lead; the log tells it of a change
	retryPause  = 20 * time.Millisecond  // after a proposal that failed
	proposeWait = 3 * time.Second
)

// Config is what a Controller is made of.
type Config struct {
	Node   string // id
	Log    ports.Log
	Mail   *wire.Mail
	Voter  Promises
	Clock  ports.Clock
	Logger *slog.Logger
	// Wall is the time for records in unix nanoseconds; nothing is decided by it but pauses and
	// failback.
	Wall func() int64
	// Yield gives leadership to another voter, and waits for that, not for long; nil: it stays.
	Yield func(node string) error
}

// Promises is what this node's own voter knows of a session that is open: how long ago it heard
// it, and for how long its promise still runs.
type Promises interface {
	Heard(s lease.Session) (ago, left time.Duration, known bool)
}

// Controller is the leader's part: it gathers what the nodes say, decides with pure
// functions, and proposes. In a node that does not lead it only forgets what it hears.
type Controller struct {
	cfg   Config
	inbox chan *wire.Message // most of its places are always empty

	mu      sync.Mutex
	applied map[string]appliedAt // by node, from status messages
	// Below: only the goroutine of Run.
	leadership *leadership // nil while another node leads
	seat       seat
	timeline   *timeline
	seen       sighting
	proposed   bool // something, in this turn
}

// leadership is what a leader knows in one term.
type leadership struct {
	term     uint64
	closer   *lease.Closer
	asking   map[lease.Session]*lease.Inquiry
	releases map[fsm.ReleasedClaim]string // who said it
	confirms map[fsm.ConfirmedClaim]bool
	// When the oldest of them came; 0: there is none.
	firstRelease, firstConfirm lease.Instant
	settle                     settling
	placing                    placing
	began                      lease.Instant
	commits                    commits
	recalled                   lease.Instant      // when a node that is behind was last asked
	refusals                   map[string]refusal // by kind of command
	lineAt                     lease.Instant      // of the last line about them; 0: never
}

// New returns a Controller. Nothing runs before Run.
func New(cfg Config) *Controller {
	return &Controller{cfg: cfg, inbox: make(chan *wire.Message, hearPending), applied: map[string]appliedAt{}, timeline: newTimeline()}
}

// Hear takes a message for the leader. It does not block.
func (c *Controller) Hear(m wire.Message) {
	if _, leads := c.cfg.Log.Leading(); !leads {
		return
	}
	kept := m
	select {
	case c.inbox <- &kept:
	default:
	}
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
			act := c.take(*m)
			if !c.drain() && !act {
				continue // each node's word of how far it is, twice a second
			}
		}
		timer.Reset(c.turn(ctx))
	}
}

// drain takes what else waits, so that one turn handles it all. It reports whether some of it needs one.
func (c *Controller) drain() (act bool) {
	for range hearPending {
		select {
		case m := <-c.inbox:
			act = c.take(*m) || act
		default:
			return act
		}
	}
	return act
}

// take notes one message, and reports whether a turn should act on it now.
func (c *Controller) take(m wire.Message) (act bool) {
	now := c.cfg.Clock()
	if m.Status != nil {
		s := c.cfg.Log.State()
		_, member := s.Nodes[m.From]
		return member && c.heard(now, s, m.From, m.Status.Applied)
	}
	c.note(now, m)
	return true
}

// note notes a message other than a status.
func (c *Controller) note(now lease.Instant, m wire.Message) {
	if m.Steps != nil || m.Activated != nil {
		c.watch() // the owner may have read a change before this goroutine: its word needs the timeline
	}
	switch {
	case m.Steps != nil:
		c.timeline.told(m.From, *m.Steps)
	case c.leadership == nil:
		return
	case m.Clock != nil:
		c.timeline.clocks.compared(m.From, *m.Clock)
	case m.Hint != nil:
		for _, s := range m.Hint {
			c.hint(now, s, m.From)
		}
	case m.Endorsement != nil:
		c.endorsed(now, *m.Endorsement)
	case m.Released != nil:
		for _, w := range m.Released {
			c.timeline.released(now, m.From, w)
			if len(c.leadership.releases) < entryMax(c.cfg.Log.State()) {
				c.leadership.releases[fsm.ReleasedClaim{HAVIP: w.HAVIP, Epoch: w.Epoch, Session: w.Session, Failure: w.Failure}] = m.From
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
			c.timeline.activated(now, w)
			if len(c.leadership.confirms) < entryMax(state) {
				c.leadership.confirms[fsm.ConfirmedClaim{HAVIP: w.HAVIP, Epoch: w.Epoch, Session: w.Session}] = true
			}
		}
	}
}

// turn does what the leader has to do now, and says when to come back at the latest.
func (c *Controller) turn(ctx context.Context) time.Duration {
	term, leads := c.cfg.Log.Leading()
	if !leads {
		c.follow()
		return followTick
	}
	if c.leadership == nil || c.leadership.term != term {
		c.follow() // what earlier leaders committed is not this leadership's
		c.leadership = &leadership{
			term: term, closer: lease.NewCloser(c.cfg.Node, term),
			asking:   map[lease.Session]*lease.Inquiry{},
			releases: map[fsm.ReleasedClaim]string{},
			confirms: map[fsm.ConfirmedClaim]bool{},
			began:    c.cfg.Clock(),
		}
	}
	c.watch()
	c.proposed = false
	for _, act := range []func(context.Context) error{c.reportBehind, c.commitReleases, c.closeDead, c.placeAll, c.commitConfirms, c.endDrains, c.settleLease, c.recordFailovers} {
		if err := act(ctx); err != nil {
			c.cfg.Logger.Debug("a proposal failed, trying again", "err", err)
			return min(retryPause, c.askWhatIsOpen())
		}
	}
	c.yield()
	pause := c.askWhatIsOpen()
	now := c.cfg.Clock()
	if due := c.leadership.placing.due; due != 0 {
		pause = min(pause, max(due.Sub(now), time.Millisecond))
	}
	if held := c.leadership.heldUntil(now); held != 0 {
		pause = min(pause, held.Sub(now))
	}
	if due := c.timeline.due(); due != 0 {
		pause = min(pause, max(due.Sub(now), time.Millisecond))
	}
	for _, first := range []lease.Instant{c.leadership.firstRelease, c.leadership.firstConfirm} {
		if first != 0 {
			pause = min(pause, max(c.gatherUntil(first).Sub(now), 0))
		}
	}
	return pause
}

// follow is what is left to a node that does not lead.
func (c *Controller) follow() {
	c.leadership = nil
	clear(c.timeline.sessions)
	c.timeline.adopt()
	c.watch()
}

// errHeld stands for the refusal of a command that was refused lately: it is not proposed.
var errHeld = fsm.Refuse(fsm.CodeUnsupported, "refused lately")

// propose commits a command in this leadership's term. A kind of command that was refused twice in a
// row is not proposed for a while; the result then is a refusal too.
func (c *Controller) propose(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	if c.leadership.held(c.cfg.Clock(), body) {
		return fsm.Result{Refusal: errHeld}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, proposeWait)
	defer cancel()
	c.proposed = true
	res, err := c.cfg.Log.Propose(ctx, c.leadership.term, "", body)
	if err == nil {
		c.answered(body, res)
	}
	return res, err
}

// endDrains proposes the end of drains that are over.
func (c *Controller) endDrains(ctx context.Context) error {
	for _, end := range endedDrains(c.cfg.Log.State(), c.cfg.Wall()) {
		if _, err := c.propose(ctx, end); err != nil {
			return err
		}
	}
	return nil
}

// recordFailovers commits the timelines that are complete.
func (c *Controller) recordFailovers(ctx context.Context) error {
	if c.proposed {
		c.watch() // what this turn has brought about
	}
	if len(c.timeline.open) == 0 {
		return nil
	}
	s := c.cfg.Log.State()
	done, records := c.timeline.complete(c.cfg.Clock(), c.cfg.Wall(), s, c.cfg.Node)
	each := fsm.MaxFailoversPerEntry
	if s.Level() < 3 {
		each = 1
	}
	for len(done) > 0 {
		n := min(each, len(done))
		var body fsm.Body = fsm.RecordFailovers{Failovers: records[:n]}
		if s.Level() < 3 {
			body = fsm.RecordFailover{Failover: records[0]}
		}
		res, err := c.propose(ctx, body)
		if err != nil {
			return err
		}
		if res.Refusal != nil && res.Refusal.Code == fsm.CodeStale {
			return nil // another term has begun; whoever leads it has them, too
		}
		c.timeline.recorded(done[:n])
		done, records = done[n:], records[n:]
	}
	return nil
}
