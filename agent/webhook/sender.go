package webhook

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"havip-cluster/fsm"
)

const (
	retryFirst   = time.Second // after a try that failed; twice as long each time
	retryLast    = 5 * time.Minute
	giveUpAfter  = 24 * time.Hour // then an event is too old to be sent
	advanceEvery = time.Second    // between two words to the log about how far a webhook has come
	proposeWait  = 3 * time.Second
	leadPoll     = time.Second // between two looks whether this node leads
)

// Config is what a Sender is made of.
type Config struct {
	State func() *fsm.State
	Watch func() (<-chan struct{}, func())
	// Leading reports whether this node leads and has applied all that was committed before.
	Leading func() bool
	// Propose commits a command of the leader.
	Propose func(ctx context.Context, body fsm.Body) (fsm.Result, error)
	// Allowed are the prefixes to which this host may send although Refuse would not; it is asked
	// for each connection.
	Allowed func() []netip.Prefix
	Roots   *x509.CertPool // nil: those of the host
	Log     *slog.Logger
}

// Sender sends events to webhooks while this node leads.
type Sender struct {
	cfg    Config
	poster *poster
	first  time.Duration // pause after a first failure
	every  time.Duration // between two words to the log
}

// New makes a Sender. Nothing is sent before Run.
func New(cfg Config) *Sender {
	return &Sender{cfg: cfg, poster: newPoster(cfg.Allowed, cfg.Roots), first: retryFirst, every: advanceEvery}
}

// worker sends to one webhook.
type worker struct {
	*Sender
	hook fsm.Webhook
	stop context.CancelFunc
	wake chan struct{}

	mu    sync.Mutex
	queue queue
}

// Run sends until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	changed, stop := s.cfg.Watch()
	defer stop()
	tick := time.NewTicker(leadPoll)
	defer tick.Stop()
	workers := map[string]*worker{}
	var group sync.WaitGroup
	defer group.Wait()
	for {
		st := s.cfg.State()
		leads := s.cfg.Leading()
		for name, w := range workers {
			if h, there := st.Webhooks[name]; !leads || !there || !sendsAs(h, w.hook) {
				w.stop()
				delete(workers, name)
			}
		}
		for _, h := range st.WebhookList() {
			w := workers[h.Name]
			if w == nil && leads {
				w = s.begin(ctx, &group, h)
				workers[h.Name] = w
			}
			if w != nil {
				w.feed(st)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// sendsAs reports whether h is sent to as before: the same webhook, receiver, secret and kinds. Otherwise
// the worker begins again behind what the log knows to be taken.
func sendsAs(h, before fsm.Webhook) bool {
	return h.Created == before.Created && h.URL == before.URL && h.Secret == before.Secret && slices.Equal(h.Events, before.Events)
}

// begin starts to send to a webhook, behind what it has taken.
func (s *Sender) begin(ctx context.Context, group *sync.WaitGroup, h fsm.Webhook) *worker {
	ctx, cancel := context.WithCancel(ctx)
	w := &worker{Sender: s, hook: h, stop: cancel, wake: make(chan struct{}, 1), queue: queue{read: h.Sent, lost: h.Lost}}
	group.Go(func() { w.run(ctx) })
	return w
}

func (w *worker) feed(st *fsm.State) {
	w.mu.Lock()
	w.queue.feed(w.hook, st)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// next is the first event that waits.
func (w *worker) next() (e waiting, some bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue.list) > 0 {
		e, some = w.queue.list[0], true
	}
	return e, some
}

// run sends one event after another until ctx ends.
func (w *worker) run(ctx context.Context) {
	c := newCourse(w)
	for fails := 0; ctx.Err() == nil; {
		e, some := w.next()
		if c.due(some) {
			c.say(ctx)
		}
		if !some {
			if !w.rest(ctx, w.pause(c.dirty)) {
				return
			}
			continue
		}
		err := w.send(ctx, e)
		switch {
		case err == nil:
			fails = 0
			w.finish(e, false)
			c.failure, c.dirty = "", true
			continue
		case ctx.Err() != nil:
			return
		case time.Since(time.Unix(0, e.At)) > giveUpAfter:
			w.finish(e, true)
			c.dirty = true
		}
		fails++
		c.failure = err.Error()
		w.cfg.Log.Debug("a webhook was not taken", "webhook", w.hook.Name, "event", e.Index, "tries", fails, "err", err)
		if fails == 1 || c.unsaid() {
			c.say(ctx)
		}
		wait(ctx, backOff(w.first, fails))
	}
}

// pause is how long a worker without an event waits for one.
func (w *worker) pause(dirty bool) time.Duration {
	if dirty {
		return w.every // the log did not take the position
	}
	return time.Hour
}

// finish takes an event off the queue.
func (w *worker) finish(e waiting, lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue.done(e)
	if lost {
		w.queue.lost++
	}
}

func (w *worker) send(ctx context.Context, e waiting) error {
	_, lost, _ := w.position()
	body, id, err := message(w.cfg.State().Cluster.ID, w.hook, e, lost)
	if err != nil {
		return err
	}
	return w.poster.post(ctx, w.hook, id, body, time.Now())
}

// rest waits for news.
func (w *worker) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.wake:
	case <-t.C:
	}
	return true
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// backOff is the pause after so many failures in a row, a fifth more or less, so that receivers that
// come back are not met by all at once.
func backOff(first time.Duration, fails int) time.Duration {
	d := min(first<<min(fails-1, 16), retryLast)
	return d - d/5 + rand.N(2*d/5) //nolint:gosec // no secret
}

// Test sends one message of kind test now, whatever waits.
func (s *Sender) Test(ctx context.Context, name string) error {
	st := s.cfg.State()
	h, ok := st.Webhooks[name]
	if !ok {
		return fsm.Refuse(fsm.CodeNotFound, "no webhook is called %q; `webhook list` shows those there are", name)
	}
	now := time.Now()
	e := waiting{fsm.Event{Index: st.Index, At: now.UnixNano(), Kind: "test", Text: fmt.Sprintf("a test of webhook %s", h.Name)}, 0}
	body, id, err := message(st.Cluster.ID, h, e, h.Lost)
	if err != nil {
		return err
	}
	return s.poster.post(ctx, h, id, body, now)
}
