package fence

import (
	"errors"
	"sync"
	"testing"
)

// TestAtOnce: agent and guard open the fence of one owner in the same moment.
func TestAtOnce(t *testing.T) {
	eachKind(t, func(w *world) {
		w.wire()
		var mu sync.Mutex
		var all []Fence
		cfg := w.config() // it may skip, which only the test's own goroutine may do
		w.must("New", w.atOnce(4, func() error {
			f, _, err := New(cfg)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, f)
			return err
		}))
		for i, f := range all {
			w.must("guard", f.Guard(host4(1, i+1)))
		}
		for _, f := range all {
			if got, err := f.Guarded(); err != nil || len(got) != len(all) {
				w.t.Errorf("one of four sees %v, error %v", got, err)
			}
		}
		w.must("uninstall", all[0].Uninstall())
		w.eni = w.peer
		w.nothingLeft()
	})
}

// TestOldestAnchorStays: a fence that is about to go back because another was quicker is
// taken up by nobody who comes meanwhile, even if its maps are the older ones.
func TestOldestAnchorStays(t *testing.T) {
	eachKind(t, func(w *world) {
		if w.variant.kind != EBPF {
			t.Skip("nftables makes a table in one transaction")
		}
		w.wire()
		h, err := hookNamed(w.config(), w.variant.hook)
		w.must("hook", err)
		fresh := func() *bpfFence {
			f := &bpfFence{cfg: w.config(), owner: idOf(w.owner), hook: h, look: programCache{}, stand: map[int][2][]slot{}}
			w.must("create", errors.Join(f.create(), f.load(), f.mapPage()))
			return f
		}
		late, quick := fresh(), fresh() // late has the lower map ids
		w.must("the quick one's anchor", quick.anchorAlone(true))
		w.must("the late one's anchor", late.dropAnchor()) // it looked before the quick one came
		third, err := installBPF(w.config(), h)
		w.must("the third", err)
		if third.id != quick.id {
			t.Errorf("the third is on map %d, want the quick one's %d", third.id, quick.id)
		}
		if err := late.anchorAlone(true); !errors.Is(err, errChanged) {
			t.Errorf("the late one: %v, want that it goes back", err)
		}
		if q := (&bpfFence{cfg: w.config(), hook: h, id: quick.id, look: programCache{}}); q.anchored() != nil {
			t.Errorf("the quick one has gone: %v", q.anchored())
		}
		if s, err := late.judge(late.anchorLine, anchor); err != nil || s.current < 0 {
			t.Errorf("it never had an anchor: %+v, error %v", s, err)
		}
		if err := late.anchored(); !errors.Is(err, ErrUnhealthy) {
			t.Errorf("the late one's anchor: %v, want that it is gone", err)
		}
		w.must("close", errors.Join(late.Close(), third.Close(), quick.Uninstall()))
		w.eni = w.peer
		w.nothingLeft()
	})
}
