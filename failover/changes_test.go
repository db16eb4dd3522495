package failover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
)

// told is what a host's Agents have told so far.
func (h *host) told() []owner.Change {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return slices.Clone(h.changes)
}

func kindsOf(list []owner.Change) string {
	var kinds []string
	for _, c := range list {
		kinds = append(kinds, string(c.Kind))
	}
	return strings.Join(kinds, " ")
}

// TestChangesOfAMove: the old owner tells its release, the new one its acquisition, with
// the reason of the move.
func TestChangesOfAMove(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
		from := w.owner(v)
		to := w.otherThan(from)
		w.moveHere(v, to.node.ID)
		was, is := from.told(), to.told()
		if kindsOf(was) != "acquire release" || kindsOf(is) != "acquire" {
			t.Fatalf("%s told %q, %s told %q", from.node.ID, kindsOf(was), to.node.ID, kindsOf(is))
		}
		want := w.head().HAVIPs[v]
		if is[0].Claim != *want.Owner || is[0].ENI.ID != want.Owner.ENI || is[0].Reason != want.Reason || want.Reason == "" {
			t.Errorf("told %+v, want that of %+v", is[0], want)
		}
		if was[1].Claim.Epoch != want.Epoch-1 || was[1].Reason != want.Reason {
			t.Errorf("the release: %+v, want epoch %d, %q", was[1], want.Epoch-1, want.Reason)
		}
	})
}

// TestNoChangeByARelabel: away and back again before the other one had it.
func TestNoChangeByARelabel(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
		w.moveHere(v, "A")
		epoch := w.head().HAVIPs[v].Epoch
		w.await("A has told that it came", time.Second, func() bool {
			told := w.host("A").told()
			return len(told) > 0 && told[len(told)-1].Claim.Epoch == epoch
		})
		before := len(w.host("A").told())
		w.mu.Lock()
		w.host("B").lag = 50 * time.Millisecond
		w.mu.Unlock()
		w.moveTo(v, "b")
		w.moveTo(v, "a")
		w.await("all is settled", time.Second, w.settled)
		if got := w.head().HAVIPs[v].Epoch; got != epoch+2 {
			t.Fatalf("epoch %d, then %d: nothing was relabelled", epoch, got)
		}
		if more := w.host("A").told()[before:]; len(more) > 0 || len(w.host("B").told()) > 0 && w.host("B").told()[0].Claim.Epoch > epoch {
			t.Errorf("A told %q, B told %q", kindsOf(more), kindsOf(w.host("B").told()))
		}
	})
}

// TestChangesOfAFault: what cannot be kept is a fault and then released; what cannot be put
// up was never acquired.
func TestChangesOfAFault(t *testing.T) {
	for what, want := range map[string]string{"keep": "fault release", "up": "fault"} {
		runWorld(t, 3, 0, func(w *world) {
			w.boot()
			v := w.havip("web", 100)
			w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
			bad := w.owner(v)
			w.await("it is told", time.Second, func() bool { return len(bad.told()) > 0 })
			if what == "up" {
				bad = w.otherThan(bad)
			}
			before := len(bad.told())
			bad.fail(what, true)
			if what == "up" {
				w.moveTo(v, bad.node.Name+"/eth0")
			}
			w.await("another one answers", 3*time.Second, func() bool { return w.settled() && w.who(v) != bad.node.ID && len(bad.told()) > before })
			more := bad.told()[before:]
			if got := kindsOf(more); !strings.HasPrefix(got, want) || what == "up" && strings.Contains(got, "release") {
				t.Errorf("%s fails: told %q, want %q", what, got, want)
			}
			if more[0].Reason != what+" fails here" {
				t.Errorf("%s fails: the reason is %q", what, more[0].Reason)
			}
		})
	}
}

// TestChangesOfALostLease: also when the address goes with Clean only.
func TestChangesOfALostLease(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		runWorld(t, 3, 0, func(w *world) {
			w.boot()
			v := w.havip("web", 100)
			w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
			w.moveHere(v, "B")
			before := len(w.host("B").told())
			w.host("B").fail("down", stuck)
			w.split("B")
			w.await("another one answers", 3*time.Second, func() bool { return w.who(v) != "" && w.who(v) != "B" })
			time.Sleep(worldLease)
			w.host("B").fail("down", false)
			if more := w.host("B").told()[before:]; kindsOf(more) != "release" || more[0].Reason != "the lease is over" {
				t.Errorf("stuck %v: told %+v", stuck, more)
			}
		})
	}
}

// TestChangeOfADeletion names the reason of what the log does not have any more.
func TestChangeOfADeletion(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		h := w.owner(v)
		w.await("it is told", time.Second, func() bool { return len(h.told()) > 0 })
		w.do(fsm.DeleteHAVIP{ID: v, Force: true})
		w.await("it is told", time.Second, func() bool { return len(h.told()) > 1 })
		if kindsOf(h.told()) != "acquire release" || h.told()[1].Reason == "" {
			t.Errorf("told %+v", h.told())
		}
	})
}
