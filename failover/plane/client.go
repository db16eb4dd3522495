package plane

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
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

	callWait  = 2 * time.Second  // for an answer
	startWait = 10 * time.Second // for the fence and the socket
	// askWait is for what is asked on the way of others. A plane that did not answer in that time is not
	// asked again for muteFor, and what it has said last counts.
	askWait = 50 * time.Millisecond
	muteFor = time.Second
	// How old an answer may be.
	promisesAge = 20 * time.Millisecond
	countedAge  = time.Second
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

	sending sync.Mutex // held while an order is sent
	enc     *gob.Encoder

	next    atomic.Uint64
	mu      sync.Mutex
	waiting map[uint64]chan answer

	// current is the session that this side takes for its own; 0: none. What is over here stays over, whatever
	// a plane stores that was held up.
	current atomic.Uint64
	viewed  atomic.Uint64 // index of the state that the plane knows
	mute    atomic.Int64  // unix nanoseconds: until then nothing is asked on the way of others

	known    sync.Mutex // held while one of these is asked for
	promises asked[[]promise]
	counted  asked[Figures]

	feed feeder
}

// asked is an answer, and when it came.
type asked[T any] struct {
	what T
	at   time.Time
}

// NewClient takes over the agent's ends. Nothing is said before Start.
func NewClient(e Ends, cfg ClientConfig) (*Client, error) {
	page, control, words, err := e.open()
	if err != nil {
		return nil, err
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
	if _, err := c.callFor(startWait, order{Start: &s}); err != nil {
		return err
	}
	c.feed.told = s.View
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
	defer c.current.Store(0)
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
		if c.followed(a.ID) {
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
	if a.Wake {
		c.wake()
		if owner != nil {
			owner.Wake()
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
	o.ID = c.id()
	c.mu.Lock()
	c.waiting[o.ID] = w
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, o.ID)
	}()
	if err := c.send(o); err != nil {
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
		c.mute.Store(time.Now().Add(muteFor).UnixNano())
		return answer{}, fmt.Errorf("%w for %v", ErrGone, wait)
	}
}

// id is that of the next order that is answered.
func (c *Client) id() uint64 { return c.next.Add(1) }

// send sends an order.
func (c *Client) send(o order) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	_ = c.control.SetWriteDeadline(time.Now().Add(callWait))
	if err := c.enc.Encode(&o); err != nil {
		_ = c.control.Close() // half an order may have been written
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
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
	c.page.Authorise(c.cfg.Clock().Add(Authorisation))
	a, err := c.beginBy(&begin{s, sent, length})
	if err != nil || !a.OK {
		c.page.Authorise(0)
		_ = c.send(order{Release: true}) // an order that is late is followed by this one
		return false
	}
	c.current.Store(s.Number)
	return true
}

// beginBy sends the order with what the plane must know before it renews the session. No other view is told
// between the look at the log and the answer: the plane would go back to this one after it.
func (c *Client) beginBy(b *begin) (answer, error) {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	v := c.feed.view(c.cfg.Log, c.page)
	c.feed.told = *v
	return c.call(order{Begin: b, View: v})
}

// Renew implements shell.Leaseholder: the plane renews, and this side lets it.
func (c *Client) Renew(ctx context.Context, leave func(context.Context) bool) {
	defer c.Release() // the plane takes it for over, too, before anything else begins
	watch, stop := c.cfg.Log.Watch()
	defer stop()
	tick := time.NewTicker(authoriseEach)
	defer tick.Stop()
	begun := c.current.Load()
	for {
		if session, _ := c.Lease(); session == 0 || session != begun {
			c.cfg.Logger.Warn("the lease is over", "session", begun)
			return
		}
		c.page.Authorise(c.cfg.Clock().Add(Authorisation))
		if leave(ctx) {
			return
		}
		select {
		case <-ctx.Done():
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
	current := c.current.Load()
	if current == 0 {
		return 0, 0
	}
	session, deadline = c.page.Lease()
	if session != current {
		return 0, 0
	}
	if !c.cfg.Clock().Before(deadline) {
		c.current.CompareAndSwap(current, 0) // rule 3: over for good
		return 0, 0
	}
	return session, deadline
}

// Release implements shell.Leaseholder. A plane that does not answer is authorised to nothing any more, and for
// this side the session is over at once; what it still lets answer ends with its deadline.
func (c *Client) Release() {
	c.current.Store(0)
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

// Ask implements shell.Heard.
func (c *Client) Ask(s lease.Session) (ago, left time.Duration, known bool, err error) {
	a, err := c.call(order{Ask: askPromises})
	if err != nil {
		return 0, 0, false, err
	}
	p, known := find(a.Promises, s)
	return p.Ago, p.Left, known, nil
}

// Heard implements failover.Voter. One question is for all sessions: a leader asks for each of many on its way.
func (c *Client) Heard(s lease.Session) (ago, left time.Duration, known bool) {
	p, since, known := c.promise(s)
	return p.Ago + since, p.Left - since, known
}

func find(list []promise, s lease.Session) (promise, bool) {
	i := slices.IndexFunc(list, func(p promise) bool { return p.Session == s })
	if i < 0 {
		return promise{}, false
	}
	return list[i], true
}

// promise is what the voter said of a session, and how long ago.
func (c *Client) promise(s lease.Session) (p promise, since time.Duration, known bool) {
	c.known.Lock()
	defer c.known.Unlock()
	if time.Since(c.promises.at) > promisesAge {
		a, err := c.ask(order{Ask: askPromises})
		if err != nil {
			return promise{}, 0, false
		}
		c.promises = asked[[]promise]{a.Promises, time.Now()}
	}
	p, known = find(c.promises.what, s)
	return p, time.Since(c.promises.at), known
}

// ask asks on the way of others: a plane that does not answer costs askWait, once in a while.
func (c *Client) ask(o order) (answer, error) {
	if time.Now().UnixNano() < c.mute.Load() {
		return answer{}, ErrGone
	}
	return c.callFor(askWait, o)
}

// Promised implements failover.Voter.
func (c *Client) Promised(s lease.Session) (time.Duration, bool) {
	_, left, known := c.Heard(s)
	return left, known
}

// Refuses implements failover.Voter.
func (c *Client) Refuses(s lease.Session) bool {
	p, _, known := c.promise(s)
	return known && p.Revoked
}

// Viewed implements failover.Apart.
func (c *Client) Viewed() uint64 { return c.viewed.Load() }

// Figures implements failover.Voter.
func (c *Client) Figures() (granted uint64, refused map[string]uint64) {
	f := c.Counted()
	return f.Granted, f.Refused
}

// Counted returns what the plane has counted, countedAge ago at most while it answers, else what it said last.
func (c *Client) Counted() Figures {
	c.known.Lock()
	defer c.known.Unlock()
	if time.Since(c.counted.at) > countedAge {
		if a, err := c.ask(order{Ask: askFigures}); err == nil && a.Figures != nil {
			c.counted = asked[Figures]{*a.Figures, time.Now()}
		}
	}
	return c.counted.what
}

// Report returns what the plane has of its host.
func (c *Client) Report() realtime.Report {
	r := c.Counted().Report
	if time.Now().UnixNano() < c.mute.Load() {
		r.Refused = ErrGone.Error()
	}
	return r
}

// Dropped is that of the plane's socket (membership/datagram).
func (c *Client) Dropped() map[string]uint64 { return c.Counted().Dropped }

// Silent is that of the plane's socket (membership/datagram).
func (c *Client) Silent() []string { return c.Counted().Silent }

// RefusedMessages are the words that the plane has not heard.
func (c *Client) RefusedMessages() (out []wire.RefusedMessages) {
	for _, r := range c.Counted().Words {
		out = append(out, wire.RefusedMessages{Kind: r.Kind, Reason: r.Reason, Count: r.Count})
	}
	return out
}
