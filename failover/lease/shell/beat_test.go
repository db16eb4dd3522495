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
	const length = 5 * time.Second // a stall of a busy host does not end it
	r.log.state.Cluster.Lease, r.log.state.Cluster.LeaseMax = length, length
	past := func() lease.Instant { return ports.Boot().Add(-time.Minute) } // the voters' silence is over
	for _, v := range r.voters {
		v.cfg.Clock = past
		v.acceptor = lease.NewAcceptor(v.cfg.Node, v.cfg.Boot, past(), length)
		v.fed = fsm.New()
		v.prepare()
		v.cfg.Clock = ports.Boot
	}
	begun := ports.Boot()
	k.Begin(lease.Session{Node: "n-1", Number: 7}, begun, length)
	h := k.holder
	k.cfg.Plane = realtime.New()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); k.beat(h, over) }()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, deadline := k.Lease()
		if deadline.Sub(begun) > length+length/2 { // some renewals later
			break
		}
		if time.Now().After(end) {
			t.Errorf("it was not renewed: %v left", deadline.Sub(ports.Boot()))
			break
		}
	}
	k.mu.Lock()
	h.Release()
	k.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
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
