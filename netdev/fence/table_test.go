package fence

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Blocks of addresses by the state that the tests give them.
const (
	blockOpen byte = 1 + iota
	blockShut
	blockUnmanaged
)

var tagStacks = [][]uint16{nil, {0x8100}, {0x88a8, 0x8100}}

// row is one frame of the table with what must become of it.
type row struct {
	name    string
	frame   []byte
	dropped [2]bool // by direction
}

// rows crosses the samples of one block with the tag stacks; silent says that
// the block's HAVIPs must not be answered or spoken for now.
func rows(v variant, block byte, state string, silent bool) (all []row) {
	for _, s := range append(samples4(host4(block, 1)), samples6(host6(block, 1))...) {
		for depth, tags := range tagStacks {
			r := row{fmt.Sprintf("%s, %s, %d tags", s.name, state, depth), tagged(s.frame, tags...), [2]bool{s.in && silent, s.out && silent}}
			if v.kind == NFTables && depth > 0 && strings.Contains(s.name, "behind") {
				continue // DESIGN.md: nftables cannot walk headers behind a tag
			}
			all = append(all, r)
		}
	}
	return all
}

// check sends every row both ways and returns how many had to be dropped.
func (w *world) check(all []row) (drops [2]uint64) {
	w.t.Helper()
	frames := make([][]byte, len(all))
	for i, r := range all {
		frames[i] = r.frame
	}
	peer, tap, eni := w.socket(w.peer), w.socket(w.tap), w.socket(w.eni)
	got := [2]map[int]bool{ingress: arrived(peer, tap, frames), egress: arrived(eni, peer, frames)}
	for dir, seen := range got {
		for i, r := range all {
			if r.dropped[dir] {
				drops[dir]++
			}
			if seen[i] == r.dropped[dir] {
				w.t.Errorf("%s %s: passed %v, want %v", direction(dir), r.name, seen[i], !r.dropped[dir])
			}
		}
	}
	return drops
}

// TestFrameTable is the table of DESIGN.md against the wire.
func TestFrameTable(t *testing.T) {
	eachKind(t, func(w *world) {
		w.bridged()
		f := w.newFence()
		defer func() { w.must("uninstall", f.Uninstall()) }()
		w.must("attach", f.Attach(index(w.eni)))
		for _, block := range []byte{blockOpen, blockShut} {
			w.must("guard", f.Guard(host4(block, 1)))
			w.must("guard", f.Guard(host6(block, 1)))
		}
		w.must("open", f.Open(host4(blockOpen, 1)))
		w.must("open", f.Open(host6(blockOpen, 1)))

		w.must("deadline", f.SetDeadline(BootNow()+time.Hour.Nanoseconds()))
		shut := w.check(rows(w.variant, blockShut, "shut", true))
		none := w.check(append(rows(w.variant, blockOpen, "open", false), rows(w.variant, blockUnmanaged, "unmanaged", false)...))
		w.must("deadline", f.SetDeadline(BootNow()-1))
		expired := w.check(rows(w.variant, blockOpen, "expired", true))

		c, err := f.Counters()
		w.must("counters", err)
		if none != [2]uint64{} || c.Ingress.Shut != shut[ingress] || c.Egress.Shut != shut[egress] ||
			c.Ingress.Expired != expired[ingress] || c.Egress.Expired != expired[egress] {
			t := fmt.Sprintf("counters %+v; want shut %v, expired %v", c, shut, expired)
			w.t.Error(t)
		}
		if c.Ingress.Open == 0 || c.Egress.Open == 0 || c.Ingress.Other == 0 || c.Egress.Other == 0 || c.Ingress.Announce == 0 {
			w.t.Errorf("counters %+v: passed frames were not counted", c)
		}
		if shut[ingress] < 10 || expired[egress] < 10 {
			w.t.Errorf("the table proved too little: %v %v", shut, expired)
		}
	})
}

// TestStates walks one HAVIP through all changes and asks the wire after each.
func TestStates(t *testing.T) {
	eachKind(t, func(w *world) {
		w.bridged()
		f := w.newFence()
		defer func() { w.must("uninstall", f.Uninstall()) }()
		w.must("attach", f.Attach(index(w.eni)))
		w.must("attach again", f.Attach(index(w.eni)))
		ip := host4(1, 1)
		speaks := func(when string, want bool) {
			w.t.Helper()
			frames := [][]byte{ip4(other4, ip, 0)}
			if got := arrived(w.socket(w.peer), w.socket(w.tap), frames)[0]; got != want {
				w.t.Errorf("%s: in %v, want %v", when, got, want)
			}
			if got := arrived(w.socket(w.eni), w.socket(w.peer), [][]byte{arpFrame(2, ip, other4)})[0]; got != want {
				w.t.Errorf("%s: out %v, want %v", when, got, want)
			}
		}
		future := func() int64 { return BootNow() + time.Minute.Nanoseconds() }
		step := func(when string, err error, want bool) {
			w.t.Helper()
			w.must(when, err)
			speaks(when, want)
		}
		speaks("unmanaged", true)
		step("guarded", f.Guard(ip), false)
		step("open without deadline", f.Open(ip), false)
		step("deadline", f.SetDeadline(future()), true)
		step("shut", f.Shut(ip), false)
		step("shut again", f.Shut(ip), false)
		step("renewed while shut", f.SetDeadline(future()), false)
		step("open", f.Open(ip), true)
		step("open again", f.Open(ip), true)
		step("guarded again", f.Guard(ip), false)
		step("open after guard", f.Open(ip), true)
		step("late store", f.SetDeadline(BootNow()-time.Second.Nanoseconds()), false)
		step("silence", f.SetDeadline(0), false)
		step("negative", f.SetDeadline(-5), false)
		step("renewed", f.SetDeadline(future()), true)
		step("forgotten", f.Forget(ip), true)
		step("forgotten again", f.Forget(ip), true)
		step("guarded anew", f.Guard(ip), false)
		w.must("detach", f.Detach(index(w.eni)))
		step("detached", f.Detach(index(w.eni)), true)
		step("attached", f.Attach(index(w.eni)), false)
	})
}
