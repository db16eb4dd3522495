package failover

import (
	"context"
	"errors"
	"testing"
	"time"

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
		if err := h.member.Keeper.Close(ctx); err != nil {
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
// is closed all the same, by the node's own word, and then its HAVIPs go elsewhere.
func TestCloseInMaintenance(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
		h := w.owner(v)
		w.do(fsm.UpdateNode{ID: h.node.ID, Maintenance: ptr(true)})
		since := w.now()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := h.member.Keeper.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if _, open := w.head().SessionOf(h.node.ID); open {
			t.Error("the session is open")
		}
		w.await("all is settled", time.Second, w.settled)
		if gap := w.gap(v, since); gap > 10*time.Millisecond {
			t.Errorf("a gap of %v", gap)
		}
	})
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
		if err := h.member.Keeper.Close(ctx); err == nil {
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
			if !errors.Is(err, ErrRemoved) {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("it goes on")
		}
		w.await("all is settled", time.Second, w.settled)
	})
}

func ptr[T any](v T) *T { return &v }
