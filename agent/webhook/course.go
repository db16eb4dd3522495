package webhook

import (
	"context"
	"time"

	"havip-cluster/fsm"
)

// passedMax is how many events a webhook may leave out before the log is told that they are behind it.
// The journal reaches back fsm.MaxEvents: the next leader, who begins at what the log knows, would take
// a position further back for a loss.
const passedMax = fsm.MaxEvents / 5

// course is what the log knows of how far a worker has come, and what it has yet to be told.
type course struct {
	*worker
	said    fsm.AdvanceWebhook
	saidAt  time.Time
	passed  uint64 // of the queue, when said was
	failure string // why the last try failed, "" if it did not
	dirty   bool   // an event was taken or given up since
}

func newCourse(w *worker) *course {
	return &course{
		worker: w, failure: w.hook.Failure,
		said: fsm.AdvanceWebhook{Name: w.hook.Name, Created: w.hook.Created, Sent: w.hook.Sent, Failure: w.hook.Failure, Lost: w.hook.Lost},
	}
}

// due reports whether the log is to be told now: at once when nothing waits, otherwise now and then.
func (c *course) due(some bool) bool {
	_, _, passed := c.position()
	return (c.dirty || !some && passed-c.passed >= passedMax) && (!some || time.Since(c.saidAt) >= c.every)
}

// unsaid reports whether the log does not know that the webhook fails, or behind which event.
func (c *course) unsaid() bool {
	sent, _, _ := c.position()
	return c.said.Failure == "" || c.said.Sent != sent
}

// say puts the position into the log, with the failure that there is: only an event that was taken ends
// one. What the log does not take is said again.
func (c *course) say(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, proposeWait)
	defer cancel()
	sent, lost, passed := c.position()
	now := fsm.AdvanceWebhook{Name: c.said.Name, Created: c.said.Created, Sent: sent, Failure: c.failure, Lost: lost}
	res, err := c.cfg.Propose(ctx, now)
	if c.dirty = err != nil || res.Refusal != nil; !c.dirty {
		c.said, c.saidAt, c.passed = now, time.Now(), passed
	}
}

// position is up to which index nothing waits any more, how many events were given up, and how many left out.
func (w *worker) position() (sent, lost, passed uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.sent(), w.queue.lost, w.queue.passed
}
