package failover

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"havip-cluster/failover/lease/shell"
	"havip-cluster/fsm"
)

// TestCloseHandsOver: a node that stops in order leaves no gap worth a lease, and its
// session is closed when Close returns.
func TestCloseHandsOver(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
		h := w.owner(v)
		since := w.now()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if err := h.member.Session.Close(ctx); err != nil {
			t.Error(err)
		}
		if took := w.now() - since; took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if _, open := w.head().SessionOf(h.node.ID); open || len(h.held()) > 0 {
			t.Errorf("open %v, holds %v", open, h.held())
		}
		w.await("all is settled", time.Second, w.settled)
		if gap := w.gap(v, since); gap > 3*time.Millisecond {
			t.Errorf("a gap of %v", gap)
		}
		time.Sleep(2 * time.Second)
		if _, open := w.head().SessionOf(h.node.ID); open {
			t.Error("it opened a session after Close")
		}
	})
}

// TestCloseInMaintenance: the placement is frozen, so nothing is handed over. The session
// is closed all the same, by the node's own word, and then its HAVIPs go elsewhere: when little of
// the time is left, or when nothing has left for a while.
func TestCloseInMaintenance(t *testing.T) {
	for _, row := range []struct{ limit, took time.Duration }{{2 * time.Second, 1500 * time.Millisecond}, {time.Minute, 5 * time.Second}} {
		t.Run(row.limit.String(), func(t *testing.T) {
			runWorld(t, 3, 0, func(w *world) {
				w.boot()
				v := w.havip("web", 100)
				w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
				h := w.owner(v)
				w.do(fsm.UpdateNode{ID: h.node.ID, Maintenance: ptr(true)})
				since := w.now()
				ctx, cancel := context.WithTimeout(context.Background(), row.limit)
				defer cancel()
				if err := h.member.Session.Close(ctx); err == nil || !strings.Contains(err.Error(), "still owns 1 HAVIPs") {
					t.Error(err)
				}
				if took := w.now() - since; took < row.took || took > row.took+100*time.Millisecond {
					t.Errorf("it took %v, want %v", took, row.took)
				}
				if _, open := w.head().SessionOf(h.node.ID); open {
					t.Error("the session is open")
				}
				w.await("all is settled", time.Second, w.settled)
				if gap := w.gap(v, since); gap > 10*time.Millisecond {
					t.Errorf("a gap of %v", gap)
				}
			})
		})
	}
}

// TestCloseWithoutTime: Close whose context has ended still shuts the fence at once.
func TestCloseWithoutTime(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
		h := w.owner(v)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := h.member.Session.Close(ctx); err == nil {
			t.Error("it handed over without time")
		}
		if h.answers(v) {
			t.Error("the fence is open")
		}
		w.await("all is settled", 2*time.Second, w.settled)
	})
}

// TestNodeIsRemoved: it hands over, ends its session, and its Member ends with the reason.
func TestNodeIsRemoved(t *testing.T) {
	runWorld(t, 3, 1, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 4 })
		w.moveHere(v, "D")
		since := w.now()
		w.do(fsm.UpdateNode{ID: "D", Removing: ptr(true)})
		w.await("its session ends", time.Second, func() bool { _, open := w.head().SessionOf("D"); return !open })
		if gap := w.gap(v, since); gap > 3*time.Millisecond {
			t.Errorf("a gap of %v", gap)
		}
		w.do(fsm.RemoveNode{ID: "D"})
		select {
		case err := <-w.host("D").done:
			if !errors.Is(err, shell.ErrRemoved) {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("it goes on")
		}
		w.await("all is settled", time.Second, w.settled)
	})
}

func ptr[T any](v T) *T { return &v }

// A node whose fence does not know every HAVIP gives its session up, gets no new one, and
// comes back when it does; an orderly stop is not held up by it.
func TestANodeThatCannotGuard(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
		w.moveHere(v, "B")
		b := w.host("B")
		b.fail("guard", true)
		w.await("another answers", 5*time.Second, func() bool { return w.who(v) != "" && w.who(v) != "B" })
		time.Sleep(5 * worldLease)
		if _, open := w.head().SessionOf("B"); open {
			t.Error("B has a session, and its fence does not know the HAVIP")
		}
		b.fail("guard", false)
		w.await("B has a session again", 2*time.Second, func() bool { _, open := w.head().SessionOf("B"); return open })
		w.moveHere(v, "B")
		b.fail("guard", true)
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.member.Session.Close(ctx); err != nil || time.Since(began) > time.Second {
			t.Errorf("the stop: %v after %v", err, time.Since(began))
		}
	})
}

// A new HAVIP is owned by nobody before the fence of each node with a session knows it, and
// by somebody at once when the last of them does.
func TestGuardBeforePlacement(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		w.havip("first", 99)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
		w.host("C").fail("guard", true)
		v := w.do(fsm.CreateHAVIP{Name: "web", IP: netip.AddrFrom4([4]byte{10, 0, 0, 100})}).Object
		time.Sleep(worldLease) // C keeps its session for two leases
		if w.head().HAVIPs[v].Owner != nil {
			t.Fatalf("owned by %+v while C does not guard it", w.head().HAVIPs[v].Owner)
		}
		w.host("C").fail("guard", false)
		if took := w.await("it is answered", time.Second, func() bool { return w.who(v) != "" }); took > 100*time.Millisecond {
			t.Errorf("%v after C guards it", took)
		}
		w.host("C").fail("guard", true)
		u := w.do(fsm.CreateHAVIP{Name: "late", IP: netip.AddrFrom4([4]byte{10, 0, 0, 101})}).Object
		w.await("it is answered without C", 5*time.Second, func() bool { return w.who(u) != "" })
		if _, open := w.head().SessionOf("C"); open {
			t.Error("C has a session and guards nothing")
		}
	})
}
