package failover

import (
	"context"
	"testing"
	"time"

	"havip-cluster/failover/leader"
	"havip-cluster/fsm"
)

// TestChaos: a minute of faults of every kind, then service.
func TestChaos(t *testing.T) {
	for _, voters := range []int{3, 5} {
		runWorld(t, voters, 1, func(w *world) {
			chaos(w, time.Minute)
			w.await("all is settled", 20*time.Second, func() bool {
				return len(w.head().Sessions) == len(w.hosts) && w.settled()
			})
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Logf("%d entries, datagrams by kind %v", len(w.states), w.packets)
		})
	}
}

func chaos(w *world, length time.Duration) {
	rng := w.rng
	draw := func(n int) int { w.mu.Lock(); defer w.mu.Unlock(); return rng.IntN(n) }
	for _, h := range w.hosts {
		h.ppm = int64(draw(9_000)) - 4_500
		h.lag = time.Duration(draw(3_000_000))
	}
	w.boot()
	havips := []string{w.havip("web", 100), w.havip("db", 101), w.havip("mail", 102)}
	w.mu.Lock()
	w.loss, w.dup = 5, 5
	w.mu.Unlock()
	for end := w.now() + length; w.now() < end; time.Sleep(time.Duration(draw(400)) * time.Millisecond) {
		h := w.hosts[draw(len(w.hosts))]
		switch draw(10) {
		case 0:
			if h.running() {
				h.kill()
			}
		case 1, 2, 3:
			if !h.running() {
				h.boot()
			}
		case 4:
			w.split(h.node.ID)
		case 5, 6:
			w.heal()
		case 7:
			if h.running() && h.node.Role == fsm.RoleVoter {
				w.elect(h.node.ID)
			}
		case 8:
			if place, refusal := leader.Move(w.head(), time.Now().UnixNano(), havips[draw(len(havips))], h.node.Name); refusal == nil {
				w.wg.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					w.mu.Lock()
					leader := w.leader
					w.mu.Unlock()
					_, _ = w.propose(ctx, w.host(leader), 0, place)
				})
			}
		case 9:
			what := []string{"up", "down", "clean", "keep"}[draw(4)]
			h.fail(what, draw(3) == 0)
		}
	}
	w.mu.Lock()
	w.loss, w.dup = 0, 0
	w.mu.Unlock()
	w.heal()
	for _, h := range w.hosts {
		for _, what := range []string{"up", "down", "clean", "keep"} {
			h.fail(what, false)
		}
		if !h.running() {
			h.boot()
		}
	}
	w.elect("A")
}

// TestNobodyIsBusy: nothing turns without an end while there is nothing to do, nor while
// what there is to do cannot be done.
func TestNobodyIsBusy(t *testing.T) {
	runWorld(t, 3, 1, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 4 })
		w.moveHere(v, "D")
		reads := func(why string, limit int) {
			t.Helper()
			const length = 5 * time.Second
			before := []int{}
			for _, h := range w.hosts {
				before = append(before, h.readCount())
			}
			time.Sleep(length)
			for i, h := range w.hosts {
				if n := (h.readCount() - before[i]) / int(length/time.Second); n > limit {
					t.Errorf("%s: %s reads the state %d times a second, at most %d", why, h.node.ID, n, limit)
				} else {
					t.Logf("%s: %s reads the state %d times a second", why, h.node.ID, n)
				}
			}
		}
		reads("at rest", 420) // the leader looks for decisions once a turn, for the timelines
		w.host("D").fail("down", true)
		w.moveTo(v, "a")
		reads("the address will not go", 1000)
		w.host("D").fail("down", false)
		w.await("all is settled", time.Second, w.settled)
		w.moveHere(v, "D")
		w.elect("") // the release gets into no log
		w.host("D").fail("keep", true)
		reads("nobody leads", 1000)
		w.host("D").fail("keep", false)
		w.elect("B")
		w.await("all is settled", time.Second, w.settled)
		w.host("A").kill()
		w.host("C").kill()
		time.Sleep(time.Second)
		reads("no majority", 1000)
		w.host("A").boot()
		w.host("C").boot()
		w.await("all is settled", 10*time.Second, w.settled)
	})
}

func (h *host) readCount() int {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.reads
}
