package shell

import (
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
)

// The renewing thread keeps a lease by the real clock while the ordinary goroutine does nothing, and
// ends with the session.
func TestTheThreadRenews(t *testing.T) {
	r := newRenewing(t, 1)
	k := r.renewer
	k.cfg.Clock = ports.Boot
	for _, v := range r.voters {
		v.cfg.Clock = ports.Boot
		v.acceptor = lease.NewAcceptor(v.cfg.Node, v.cfg.Boot, ports.Boot().Add(-time.Second), time.Second/2) // its silence is over
		v.fed = fsm.New()
		v.prepare()
	}
	k.Begin(lease.Session{Node: "n-1", Number: 7}, ports.Boot(), 500*time.Millisecond)
	h := k.holder
	k.cfg.Plane = realtime.New()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); k.beat(h, over) }()
	time.Sleep(700 * time.Millisecond) // longer than a lease
	if _, deadline := k.Lease(); deadline.Sub(ports.Boot()) < 100*time.Millisecond {
		t.Errorf("it was not renewed: %v left", deadline.Sub(ports.Boot()))
	}
	k.mu.Lock()
	h.Release()
	k.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the thread does not end with the session")
	}
	close(over)
}

// With a grace the ordinary goroutine leaves a renewal to the thread, and takes it over when that is late.
func TestGrace(t *testing.T) {
	r := newRenewing(t, 1)
	r.renew() // the first one
	sent := r.now
	pause := 100 * time.Millisecond // a fifth of the lease
	for _, c := range []struct {
		after time.Duration
		round uint64 // that is sent; 0: none
	}{{pause, 0}, {pause + pause/graceShare - 1, 0}, {pause + pause/graceShare, 2}} {
		r.now = sent.Add(c.after)
		var out lease.Renewal
		if _, alive := r.renewer.round(r.renewer.holder, &out, graceShare); !alive || out.Round != c.round {
			t.Errorf("after %v: round %d, alive %v", c.after, out.Round, alive)
		}
	}
}
