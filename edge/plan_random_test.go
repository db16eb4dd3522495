package edge

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Tracked connections are forgotten when nobody waits: not in a round in which others leave or come.
func TestFlushWaitsForOthers(t *testing.T) {
	b := newBed(t, 3)
	b.here(0, 1)
	b.here(1, 1)
	b.turn()
	b.nowhere(0)
	b.loop.Turn(b.want) // it has left
	b.nowhere(1)
	b.here(2, 1)
	before := b.m.did[OpFlush]
	if f := b.loop.Turn(b.want); b.m.did[OpFlush] != before || !slices.Contains(f.Gone, ip(1)) {
		t.Errorf("flushed %d times, gone %v", b.m.did[OpFlush]-before, f.Gone)
	}
	for range 9 { // one leaves each 90 ms: what left first is flushed in time all the same
		if b.m.items[OpFlush] > 0 {
			t.Fatal("flushed while others leave")
		}
		b.here(1, 1)
		b.turn()
		b.nowhere(1)
		b.later(flushQuiet - 10*time.Millisecond)
	}
	if b.later(flushQuiet); b.m.items[OpFlush] != 2 {
		t.Errorf("%d flushed in the end, want 2", b.m.items[OpFlush])
	}
	b.nowhere(2)
	b.want.Deadline = b.m.now
	if b.turn(); b.m.items[OpFlush] != 3 {
		t.Errorf("%d flushed when the lease is over, want 3", b.m.items[OpFlush])
	}
}

// Random wants, failures and other programs: the model checks each operation by the rules, and
// in the end, without faults, all is as wanted.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(t, 6)
		kinds := []string{"attach", "guard", "shut", "open", "add", "remove", "announce", "forget", "extend", "listen", "unlisten"}
		meddle := func() {
			n := rapid.IntRange(0, 7).Draw(rt, "of")
			b.m.changed |= Everything
			switch rapid.IntRange(0, 6).Draw(rt, "meddle") {
			case 6: // the fence was flushed, or a process has died
				p := b.m.ports[port(n)]
				if p.Tied, p.Listening = rapid.Bool().Draw(rt, "tied"), rapid.Bool().Draw(rt, "listening"); p.HAVIP.IsValid() {
					b.m.ports[port(n)] = p
				}
			case 0:
				delete(b.m.addresses, ip(n))
			case 1:
				b.m.set(ip(n), append(b.m.without(ip(n), 1), At{1, "eth1", 32, false, 0}))
			case 2:
				clear(b.m.fence)
			case 3:
				clear(b.m.attached)
			case 4:
				b.m.attached[1] = errModel
			}
		}
		awaited := rapid.SliceOfN(rapid.Bool(), 1, 8).Draw(rt, "awaited")
		if asked := 0; rapid.Bool().Draw(rt, "others wait") {
			b.want.Awaited = func() bool { asked++; return awaited[asked%len(awaited)] }
		}
		gone := map[netip.Addr]bool{}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			n := rapid.IntRange(0, 7).Draw(rt, "havip")
			switch rapid.IntRange(0, 8).Draw(rt, "step") {
			case 0, 1:
				b.here(n, rapid.IntRange(1, 2).Draw(rt, "device"))
				if rapid.Bool().Draw(rt, "probed") {
					b.probed(n, rapid.SampledFrom([]string{"", "/", "/up"}).Draw(rt, "path"))
				}
			case 2:
				b.nowhere(n)
			case 3:
				delete(b.want.HAVIPs, ip(n))
			case 4:
				k := rapid.SampledFrom(kinds).Draw(rt, "kind")
				b.m.fails[k] = !b.m.fails[k]
			case 5:
				b.m.readFails = !b.m.readFails
			case 6:
				meddle()
			case 7:
				b.m.between = nil
				if rapid.Bool().Draw(rt, "between") {
					b.m.between = meddle
				}
			}
			b.m.now = b.m.now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(rt, "ms")) * time.Millisecond)
			f := b.turn()
			for _, a := range f.Gone {
				gone[a] = true
				if b.m.between == nil && (b.m.managed(a) || b.m.fence[a] == Open || b.m.speaks(a)) && b.want.HAVIPs[a].Index == 0 {
					rt.Errorf("%v is told to be gone: %v, %v", a, b.m.addresses[a], b.m.fence[a])
				}
			}
			if len(b.m.wrong) > 0 || t.Failed() {
				rt.Fatalf("wrong: %v", b.m.wrong)
			}
		}
		clear(b.m.fails)
		b.m.readFails, b.m.between = false, nil
		for range 6 {
			b.later(1100 * time.Millisecond)
		}
		for a, w := range b.want.HAVIPs {
			if (w.Index != 0) != (b.m.fence[a] == Open) || w.Index != 0 && !b.m.has(a, w.Index) {
				rt.Errorf("%v is wanted %+v: %v, %v", a, w, b.m.addresses[a], b.m.fence[a])
			}
			if at := b.m.ports[w.Probe.Port]; w.Probe.Port != 0 && !at.answersFor(a, w, false) || w.Probe.Port == 0 && b.m.speaks(a) {
				rt.Errorf("%v is wanted %+v, and its ports are %+v", a, w, b.m.ports)
			}
		}
	})
}
