package plane

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
)

const (
	// Authorisation is for how long the agent lets the plane renew ahead: a stop of the agent of less
	// costs nothing, and one of more ends the lease that much later.
	Authorisation = 500 * time.Millisecond
	authoriseEach = Authorisation / 5

	callWait = 2 * time.Second // for an answer; a plane that is that late lost its lease long ago
	// heardWait is for what the leader asks on its way; one that was not answered in that time is not asked
	// again for muteFor.
	heardWait = 50 * time.Millisecond
	muteFor   = time.Second
)

// ErrGone is returned when the plane does not answer any more.
var ErrGone = errors.New("plane: the process of the lease plane does not answer")

// ClientConfig says who the agent is.
type ClientConfig struct {
	Log    ports.Log
	Clock  ports.Clock
	Logger *slog.Logger
	// Keys are the node's own, the newest first; they may change with the state.
	Keys func() []Key
	// Word takes a word from the network, of the node that has said it; WordOut sends one by gossip for the
	// plane. Neither blocks, nor keeps word.
	Word    func(from string, word []byte)
	WordOut func(to fsm.Node, word []byte)
	Owner   func() shell.Listener // nil: there is none yet
	Measure shell.Measure
}

// Client is the agent's side of the lease plane. It implements failover.Apart and ports.Post. All methods
// may be called from any goroutine.
type Client struct {
	cfg     ClientConfig
	page    *Page
	control net.Conn
	words   *packets
	ended   chan struct{} // gets a token when the lease may be over
	gone    chan struct{} // closed when the plane is
	again   chan struct{} // gets a token when the plane is to be told something
	parts   sync.WaitGroup

	mu      sync.Mutex // held while an order is sent
	enc     *gob.Encoder
	next    uint64
	waiting map[uint64]chan answer
	mute    time.Time // until then nothing is asked on the leader's way

	feed feeder
}

// NewClient takes over the agent's ends. Nothing is said before Start.
func NewClient(e Ends, cfg ClientConfig) (*Client, error) {
	defer e.Close()
	page, err := OpenPage(e.Page)
	if err != nil {
		return nil, err
	}
	control, err := net.FileConn(e.Control)
	if err != nil {
		return nil, fmt.Errorf("plane: %w", err)
	}
	words, err := newPackets(e.Words)
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	c := &Client{
		cfg: cfg, page: page, control: control, words: words, enc: gob.NewEncoder(control), waiting: map[uint64]chan answer{},
		ended: make(chan struct{}, 1), gone: make(chan struct{}), again: make(chan struct{}, 1),
	}
	c.parts.Go(c.listen)
	return c, nil
}

// Start has the plane speak for this node. The error says why it cannot; then the Client is of no more use.
func (c *Client) Start(s Start) error {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	s.View = *c.feed.view(c.cfg.Log, c.page)
	s.Keys = c.feed.newKeys(c.cfg.Keys)
	if _, err := c.call(order{Start: &s}); err != nil {
		return err
	}
	c.parts.Go(func() { c.words.run(c.packet) })
	return nil
}

// Run tells the plane what changes, until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	watch, stop := c.cfg.Log.Watch()
	defer stop()
	for {
		pause := time.Duration(0)
		if !c.follow() {
			pause = settleEvery
		}
		var soon <-chan time.Time
		if pause > 0 {
			soon = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.gone:
			return ErrGone
		case <-watch:
		case <-c.again:
		case <-soon:
		}
	}
}

// Close ends the plane's part for this agent.
func (c *Client) Close() error {
	c.page.Authorise(0)
	err := c.control.Close()
	c.words.stop()
	c.parts.Wait()
	c.words.close()
	if errors.Is(err, net.ErrClosed) { // the plane went first
		return nil
	}
	return err
}

// listen takes what the plane says, until it is gone.
func (c *Client) listen() {
	defer close(c.gone)
	dec := gob.NewDecoder(c.control)
	for {
		var a answer
		if err := dec.Decode(&a); err != nil {
			break
		}
		if a.ID == 0 {
			c.heard(&a)
			continue
		}
		c.mu.Lock()
		w := c.waiting[a.ID]
		delete(c.waiting, a.ID)
		c.mu.Unlock()
		if w != nil {
			w <- a // room for one
		}
	}
}

// heard takes what the plane says by itself.
func (c *Client) heard(a *answer) {
	var owner shell.Listener
	if c.cfg.Owner != nil {
		owner = c.cfg.Owner()
	}
	if a.Look {
		c.wake()
		if owner != nil {
			owner.Look()
		}
	}
	if a.Again != "" && owner != nil {
		owner.AnnounceAgain(a.Again)
	}
	if a.Seen == nil {
		return
	}
	if c.cfg.Measure.Renewed != nil {
		for _, d := range a.Seen.Trips {
			c.cfg.Measure.Renewed(d)
		}
	}
	if c.cfg.Measure.Extended != nil {
		for _, d := range a.Seen.Left {
			c.cfg.Measure.Extended(d)
		}
	}
}

func (c *Client) wake() {
	select {
	case c.ended <- struct{}{}:
	default:
	}
}

// call sends an order and waits for its answer.
func (c *Client) call(o order) (answer, error) { return c.callFor(callWait, o) }

func (c *Client) callFor(wait time.Duration, o order) (answer, error) {
	w := make(chan answer, 1)
	id, err := c.send(o, w)
	if err != nil {
		return answer{}, err
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case a := <-w:
		if a.Error != "" {
			return a, errors.New(a.Error)
		}
		return a, nil
	case <-c.gone:
		return answer{}, ErrGone
	case <-limit.C:
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
		c.mute = time.Now().Add(muteFor)
		return answer{}, fmt.Errorf("%w for %v", ErrGone, wait)
	}
}

// send sends an order; w gets the answer, nil: none is waited for.
func (c *Client) send(o order, w chan answer) (id uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w != nil {
		c.next++
		o.ID = c.next
		c.waiting[o.ID] = w
	}
	_ = c.control.SetWriteDeadline(time.Now().Add(callWait))
	if err := c.enc.Encode(&o); err != nil {
		_ = c.control.Close() // half an order may have been written
		return o.ID, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return o.ID, nil
}

// packet takes a packet of the plane.
func (c *Client) packet(kind byte, node, word []byte) {
	switch kind {
	case packetWord:
		c.cfg.Word(string(node), word)
	case packetGossip:
		if n, known := c.cfg.Log.State().Nodes[string(node)]; known && c.cfg.WordOut != nil {
			c.cfg.WordOut(n, word)
		}
	}
}

// Send implements ports.Post: the plane seals the word and sends it.
func (c *Client) Send(to fsm.Node, word []byte) error { return c.words.send(packetWord, to.ID, word) }

// Hear implements failover.Apart.
func (c *Client) Hear(from string, word []byte) {
	kind := byte(packetWord)
	if from == "" {
		kind = packetGossip
	}
	_ = c.words.send(kind, from, word) // a lost word is ordinary; senders repeat
}

// Begin implements shell.Leaseholder.
func (c *Client) Begin(s lease.Session, sent lease.Instant, length time.Duration) bool {
	c.follow() // the plane must know the session before it renews it
	c.page.Authorise(c.cfg.Clock().Add(Authorisation))
	a, err := c.call(order{Begin: &begin{s, sent, length}})
	return err == nil && a.OK
}

// Renew implements shell.Leaseholder: the plane renews, and this side lets it.
func (c *Client) Renew(ctx context.Context, leave func(context.Context) bool) {
	watch, stop := c.cfg.Log.Watch()
	defer stop()
	tick := time.NewTicker(authoriseEach)
	defer tick.Stop()
	begun, _ := c.page.Lease()
	for {
		now := c.cfg.Clock()
		session, deadline := c.page.Lease()
		if session != begun || !now.Before(deadline) {
			c.cfg.Logger.Warn("the lease is over", "session", begun)
			return
		}
		c.page.Authorise(now.Add(Authorisation))
		if leave(ctx) {
			return
		}
		select {
		case <-ctx.Done():
			c.Release()
			return
		case <-c.gone: // its lease ends by itself
			return
		case <-watch:
		case <-tick.C:
		case <-c.ended:
		}
	}
}

// Lease implements shell.Leaseholder.
func (c *Client) Lease() (session uint64, deadline lease.Instant) {
	session, deadline = c.page.Lease()
	if !c.cfg.Clock().Before(deadline) {
		return 0, 0
	}
	return session, deadline
}

// Release implements shell.Leaseholder. Where the plane does not answer, nothing is authorised any more, and
// what stands is silenced one by one by the owner, whose word alone is reported.
func (c *Client) Release() {
	c.page.Authorise(0)
	if _, err := c.call(order{Release: true}); err != nil {
		c.cfg.Logger.Warn("the lease could not be ended; it ends by itself", "err", err)
	}
	c.wake()
}

// Course implements shell.Leaseholder.
func (c *Client) Course(from int64) []shell.Second {
	a, _ := c.call(order{Ask: askCourse, From: from}) // none, where there is no answer
	return a.Course
}

// Heard implements failover.Voter.
func (c *Client) Heard(s lease.Session) (ago, left time.Duration, known bool) {
	a, err := c.ask(s)
	return a.Ago, a.Left, err == nil && a.Known
}

// ask asks about a session, on the leader's way: a plane that does not answer costs a moment, once in a
// while.
func (c *Client) ask(s lease.Session) (answer, error) {
	c.mu.Lock()
	muted := time.Now().Before(c.mute)
	c.mu.Unlock()
	if muted {
		return answer{}, ErrGone
	}
	return c.callFor(heardWait, order{Ask: askHeard, Session: s})
}

// Promised implements failover.Voter.
func (c *Client) Promised(s lease.Session) (time.Duration, bool) {
	_, left, known := c.Heard(s)
	return left, known
}

// Refuses implements failover.Voter.
func (c *Client) Refuses(s lease.Session) bool {
	a, err := c.ask(s)
	return err == nil && a.Revoked
}

// Figures implements failover.Voter.
func (c *Client) Figures() (granted uint64, refused map[string]uint64) {
	f := c.Counted()
	return f.Granted, f.Refused
}

// Counted returns what the plane has counted; nothing, where it does not answer.
func (c *Client) Counted() Figures {
	a, err := c.call(order{Ask: askFigures})
	if err != nil || a.Figures == nil {
		return Figures{}
	}
	return *a.Figures
}

// Report returns what the plane has of its host.
func (c *Client) Report() realtime.Report {
	a, err := c.call(order{Ask: askReport})
	if err != nil || a.Report == nil {
		return realtime.Report{Refused: ErrGone.Error()}
	}
	return *a.Report
}

// Dropped is that of the plane's socket (membership/words).
func (c *Client) Dropped() map[string]uint64 { return c.Counted().Dropped }

// Silent is that of the plane's socket (membership/words).
func (c *Client) Silent() []string { return c.Counted().Silent }

// RefusedWords are the words that the plane has not heard.
func (c *Client) RefusedWords() (out []wire.RefusedWords) {
	for _, r := range c.Counted().Words {
		out = append(out, wire.RefusedWords{Kind: r.Kind, Reason: r.Reason, Count: r.Count})
	}
	return out
}
