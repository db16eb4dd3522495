package membership

import (
	"cmp"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// refusalPause is between two lines about refused connections, whoever makes them.
const refusalPause = time.Minute

// refusals counts what a port refuses. The first one is logged with its reason; what
// follows within a minute is one more line with the count and the newest reason.
type refusals struct {
	log   *slog.Logger
	pause time.Duration // refusalPause; a test has less
	what  string        // what is refused: "raft" or "gossip"; "" is raft

	mu     sync.Mutex
	total  uint64
	more   uint64      // since the last line
	timer  *time.Timer // nil when the next one may be logged at once
	from   string      // of the newest one; "": source is
	source netip.AddrPort
	reason error
}

// note counts one refusal.
func (r *refusals) note(from string, reason error) { r.add(from, netip.AddrPort{}, reason) }

// noteFrom is note without memory for the address, for what may come thousands of times a second.
func (r *refusals) noteFrom(from netip.AddrPort, reason error) { r.add("", from, reason) }

func (r *refusals) add(from string, source netip.AddrPort, reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	r.from, r.source, r.reason = from, source, reason
	if r.timer == nil {
		r.log.Warn(cmp.Or(r.what, "raft")+": connection refused", "from", r.newest(), "reason", reason)
		r.timer = time.AfterFunc(r.pause, r.summarise)
		return
	}
	r.more++
}

// newest is where the last one came from.
func (r *refusals) newest() string {
	if r.from == "" {
		return r.source.String()
	}
	return r.from
}

func (r *refusals) summarise() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil { // stopped
		return
	}
	if r.more == 0 {
		r.timer = nil
		return
	}
	r.log.Warn(cmp.Or(r.what, "raft")+": more connections were refused", "count", r.more, "in", r.pause.String(), "last_from", r.newest(), "last_reason", r.reason)
	r.more = 0
	r.timer.Reset(r.pause)
}

// stop ends the timer; what comes later is counted and not logged.
func (r *refusals) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	r.pause, r.timer = 0, nil
	r.log = slog.New(slog.DiscardHandler)
}

// count returns how many were refused so far.
func (r *refusals) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}
