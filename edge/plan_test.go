package edge

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func ip(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n / 256), byte(n % 256)}) }

// bed is a loop on a model kernel.
type bed struct {
	t    *testing.T
	m    *model
	loop *Loop
	want *Desired
	logs bytes.Buffer
}

func newBed(t *testing.T, havips int) *bed {
	b := &bed{t: t, m: newModel()}
	b.loop = NewLoop(slog.New(slog.NewTextHandler(&b.logs, nil)), b.m, b.m.clock)
	b.want = &Desired{HAVIPs: map[netip.Addr]Want{}, Index: 7, Complete: true, Devices: map[int]bool{1: true, 2: true}, Deadline: 1 << 62}
	for n := range havips {
		b.want.HAVIPs[ip(n)] = Want{}
	}
	return b
}

func (b *bed) here(n, index int) {
	b.want.HAVIPs[ip(n)] = Want{Index: index, Lifetime: 2 * time.Second}
}
func (b *bed) nowhere(n int) { b.want.HAVIPs[ip(n)] = Want{} }

// turn plays turns until nothing is due at once, and returns their facts together.
func (b *bed) turn() Facts {
	b.t.Helper()
	var all Facts
	for range 50 {
		f := b.loop.Turn(b.want)
		all.Serving, all.Gone = append(all.Serving, f.Serving...), append(all.Gone, f.Gone...)
		all.Faults, all.Repairs, all.Foreign = append(all.Faults, f.Faults...), append(all.Repairs, f.Repairs...), append(all.Foreign, f.Foreign...)
		all.Notes = append(all.Notes, f.Notes...)
		all.Guarded, all.Unguarded, all.Clean, all.Err, all.Warnings, all.Next = f.Guarded, f.Unguarded, f.Clean, f.Err, f.Warnings, f.Next
		if f.Err != nil || f.Next > b.m.now {
			break
		}
	}
	for _, w := range b.m.wrong {
		b.t.Error(w)
	}
	b.m.wrong = nil
	return all
}

func (b *bed) later(d time.Duration) Facts {
	b.t.Helper()
	b.m.now = b.m.now.Add(d)
	return b.turn()
}

func TestActivationAndRelease(t *testing.T) {
	b := newBed(t, 3)
	if f := b.turn(); f.Guarded != 7 || !f.Clean || len(b.m.fence) != 3 {
		t.Fatalf("at the beginning: %+v, the fence knows %v", f, b.m.fence)
	}
	b.here(1, 1)
	if f := b.turn(); !slices.Equal(f.Serving, []netip.Addr{ip(1)}) || b.m.fence[ip(1)] != Open || b.m.announced[ip(1)] != 1 {
		t.Fatalf("after the activation: %+v", f)
	}
	if f := b.turn(); len(f.Serving) > 0 {
		t.Errorf("told again: %+v", f)
	}
	b.nowhere(1)
	if f := b.turn(); !slices.Equal(f.Gone, []netip.Addr{ip(1)}) || !f.Clean || b.m.fence[ip(1)] != Shut || b.m.managed(ip(1)) {
		t.Fatalf("after the release: %+v", f)
	}
	if b.later(flushQuiet); b.m.did[OpDestroy] != 1 || b.m.did[OpFlush] != 1 {
		t.Errorf("sockets were ended %d times, connections %d times", b.m.did[OpDestroy], b.m.did[OpFlush])
	}
}

// Between two devices of one host it is off before on, also when it will not go.
func TestBetweenTwoDevices(t *testing.T) {
	b := newBed(t, 1)
	b.here(0, 1)
	b.turn()
	b.m.fails["remove"] = true
	b.here(0, 2)
	for range 20 {
		b.later(100 * time.Millisecond)
		if b.m.has(ip(0), 2) || b.m.fence[ip(0)] == Open {
			t.Fatalf("on %v, fence %v, while device 1 will not let go", b.m.addresses[ip(0)], b.m.fence[ip(0)])
		}
	}
	b.m.fails["remove"] = false
	b.later(time.Second)
	b.later(time.Second)
	if !b.m.has(ip(0), 2) || b.m.has(ip(0), 1) || b.m.fence[ip(0)] != Open {
		t.Errorf("in the end: %v, %v", b.m.addresses[ip(0)], b.m.fence[ip(0)])
	}
}

// Rule 1: what the log does not know any more stays silent until a reading shows it nowhere.
func TestForgottenOnlyWhenItIsNowhere(t *testing.T) {
	b := newBed(t, 2)
	b.here(0, 1)
	b.turn()
	b.m.fails["remove"] = true
	delete(b.want.HAVIPs, ip(0))
	b.later(time.Second)
	if b.m.fence[ip(0)] != Shut {
		t.Fatalf("deleted, still on a device: fence %v", b.m.fence[ip(0)])
	}
	b.m.fails["remove"] = false
	b.later(time.Second)
	if _, known := b.m.fence[ip(0)]; known {
		t.Errorf("deleted and gone: the fence still knows it")
	}
	b.m.addresses[ip(1)] = []At{{Index: 9, Device: "lo", Bits: 32}} // another program's
	delete(b.want.HAVIPs, ip(1))
	b.later(2 * time.Second)
	if b.m.fence[ip(1)] != Shut {
		t.Errorf("deleted while another program has it on lo: fence %v", b.m.fence[ip(1)])
	}
	b.want.Complete = false
	delete(b.m.addresses, ip(1))
	b.later(2 * time.Second)
	if b.m.fence[ip(1)] != Shut {
		t.Errorf("the log is not read yet: fence %v", b.m.fence[ip(1)])
	}
}

// Rule 2: leftovers of an earlier life are open, and are not trusted.
func TestLeftoversAreNotTrusted(t *testing.T) {
	b := newBed(t, 1)
	b.m.addresses[ip(0)] = []At{{Index: 1, Device: "eth1", Bits: 32, Managed: true}}
	b.m.fence[ip(0)] = Open
	shut := false
	b.m.between = func() { shut = shut || b.m.fence[ip(0)] == Shut }
	b.here(0, 1)
	if b.turn(); !shut || b.m.fence[ip(0)] != Open {
		t.Errorf("it was shut in between: %v; in the end %v", shut, b.m.fence[ip(0)])
	}
}

// Rule 3: what cannot be read is not absent.
func TestWhatCannotBeReadIsNotAbsent(t *testing.T) {
	b := newBed(t, 2)
	b.here(0, 1)
	b.turn()
	before := b.m.items[OpAdd] + b.m.items[OpRemove] + b.m.items[OpGuard]
	b.m.readFails = true
	b.nowhere(0)
	for range 10 {
		if f := b.later(time.Second); f.Err == nil || len(f.Gone)+len(f.Serving) > 0 || f.Clean || f.Guarded != 0 {
			t.Fatalf("unread: %+v", f)
		}
	}
	if after := b.m.items[OpAdd] + b.m.items[OpRemove] + b.m.items[OpGuard]; after != before {
		t.Errorf("%d operations without a reading", after-before)
	}
}

// Rule 3: what fails is tried again at a growing distance, and said once a minute.
func TestFailuresBackOffAndAreSaidOnce(t *testing.T) {
	b := newBed(t, 50)
	for n := range 50 {
		b.want.HAVIPs[ip(n)] = Want{Index: 1, Lifetime: time.Hour}
	}
	b.turn()
	for n := range 50 {
		b.nowhere(n)
	}
	b.m.fails["remove"] = true
	began := b.logs.Len()
	tries := func() int { return b.m.tries["remove "+ip(0).String()] }
	for n := 0; n < 3000 && tries() <= 60; n++ { // an edge that spins is seen at once
		b.later(10 * time.Millisecond)
	}
	if n := tries(); n < 10 || n > 60 {
		t.Errorf("tried %d times in 30 s", n)
	}
	if lines := strings.Count(b.logs.String()[began:], "\n"); lines != 1 {
		t.Errorf("%d lines in 30 s:\n%s", lines, b.logs.String()[began:])
	}
	f := b.turn()
	if f.Clean || len(f.Gone) > 0 {
		t.Errorf("what will not go is told to be gone: %+v", f)
	}
}

// Rule 4: the same number of readings and operations for 1 as for 1000; nothing when nothing changed.
func TestCostDoesNotGrowWithTheNumber(t *testing.T) {
	count := func(havips int) (reads, ops int) {
		b := newBed(t, havips)
		b.turn()
		for n := range min(havips, addsMax) {
			b.here(n, 1)
		}
		r := b.m.reads
		b.turn()
		for _, n := range b.m.did {
			ops += n
		}
		reads = b.m.reads - r
		r, o := b.m.reads, b.m.items[OpExtend]
		b.m.now = b.m.now.Add(time.Millisecond)
		if f := b.loop.Turn(b.want); b.m.reads != r || b.m.items[OpExtend] != o || f.Next <= b.m.now {
			t.Errorf("%d HAVIPs, nothing changed: %d readings", havips, b.m.reads-r)
		}
		return reads, ops
	}
	reads, ops := count(1)
	manyReads, manyOps := count(5000)
	if manyReads != reads || manyOps != ops {
		t.Errorf("1 HAVIP: %d readings, %d operations; of 5000: %d and %d", reads, ops, manyReads, manyOps)
	}
}

// Half of very many come up within one turn: each round costs in proportion to all, and the agent has its
// share to do between two turns.
func TestVeryManyComeUpInOneTurn(t *testing.T) {
	const havips = 10_000
	b := newBed(t, havips)
	b.turn()
	for n := range havips / 2 {
		b.here(n, 1)
	}
	if f := b.loop.Turn(b.want); len(f.Serving) != havips/2 || b.m.did[OpAdd] > addsPart/2 {
		t.Errorf("%d of %d are served after one turn with %d batches", len(f.Serving), havips/2, b.m.did[OpAdd])
	}
}

// Another program's bare address goes from an ENI; one with a subnet's prefix, or elsewhere, is told.
func TestForeignAddresses(t *testing.T) {
	b := newBed(t, 4)
	b.want.HAVIPs[ip(3)] = Want{Leave: true}
	b.m.addresses[ip(0)] = []At{{Index: 1, Device: "eth1", Bits: 32}}
	b.m.addresses[ip(1)] = []At{{Index: 1, Device: "eth1", Bits: 16}}
	b.m.addresses[ip(2)] = []At{{Index: 9, Device: "lo", Bits: 32}}
	b.m.addresses[ip(3)] = []At{{Index: 1, Device: "eth1", Bits: 32}}
	f := b.turn()
	if len(f.Foreign) != 3 || !f.Foreign[0].Removed || f.Foreign[1].Removed || f.Foreign[2].Removed || len(f.Warnings) != 2 {
		t.Errorf("told %+v, warnings %q", f.Foreign, f.Warnings)
	}
	if len(b.m.addresses[ip(0)]) > 0 || len(b.m.addresses) != 3 {
		t.Errorf("left: %v", b.m.addresses)
	}
	if f := b.later(2 * time.Second); len(f.Foreign) > 0 || len(f.Warnings) != 2 {
		t.Errorf("told again %+v, warnings %q", f.Foreign, f.Warnings)
	}
}

func TestOwnAddressIsNeverSilenced(t *testing.T) {
	b := newBed(t, 1)
	b.turn()
	b.want.Own = map[netip.Addr]bool{ip(0): true}
	f := b.later(time.Second)
	if _, known := b.m.fence[ip(0)]; known || f.Guarded != 7 {
		t.Errorf("the fence knows the node's own address: %v; %+v", b.m.fence, f)
	}
	b.here(0, 1)
	if f := b.turn(); len(f.Faults) != 1 || b.m.managed(ip(0)) {
		t.Errorf("a HAVIP that is an own address: %+v", f)
	}
	b.nowhere(0)
	if f := b.turn(); len(f.Gone) != 1 {
		t.Errorf("and given up: %+v", f)
	}
}

// An address that the node gets while its agent runs, such as by DHCP, and that is a HAVIP's: it counts as put there by
// another program, because the HAVIP may be served elsewhere. With a prefix of its subnet it stays and is kept
// silent; as a bare one it is removed. Once the log calls it the node's own, it is let be and no longer told.
func TestAnOwnAddressThatComesLater(t *testing.T) {
	b := newBed(t, 2)
	b.turn()
	b.m.addresses[ip(0)] = []At{{Index: 1, Device: "eth1", Bits: 24}}
	b.m.addresses[ip(1)] = []At{{Index: 1, Device: "eth1", Bits: 32}}
	f := b.later(time.Second)
	if len(f.Foreign) != 2 || f.Foreign[0].Removed || !f.Foreign[1].Removed {
		t.Errorf("told %+v", f.Foreign)
	}
	if len(b.m.addresses[ip(0)]) != 1 || len(b.m.addresses[ip(1)]) != 0 || b.m.fence[ip(0)] != Shut {
		t.Errorf("left: %v, fence %v", b.m.addresses, b.m.fence)
	}
	b.want.Own = map[netip.Addr]bool{ip(0): true}
	b.m.own = b.want.Own
	f = b.later(2 * time.Minute) // what is told once a minute would be told again
	if _, known := b.m.fence[ip(0)]; known || len(f.Foreign) > 0 || len(b.m.addresses[ip(0)]) != 1 {
		t.Errorf("the node's own: told %+v, fence %v, left %v", f.Foreign, b.m.fence, b.m.addresses)
	}
}

func TestNothingIsPutUpAfterTheDeadline(t *testing.T) {
	b := newBed(t, 1)
	b.turn()
	b.here(0, 1)
	b.want.Deadline = b.m.now
	if b.turn(); b.m.managed(ip(0)) || b.m.did[OpAnnounce] > 0 {
		t.Errorf("put up %v, announced %d times", b.m.managed(ip(0)), b.m.did[OpAnnounce])
	}
}

// A network that takes one claim in some seconds gets one, newcomers first.
func TestClaimsKeepTheInterval(t *testing.T) {
	b := newBed(t, 3)
	b.want.AnnounceEvery = 5 * time.Second
	for n := range 3 {
		b.here(n, 1)
	}
	b.turn()
	if b.m.items[OpAnnounce] != 1 || b.m.announced[ip(0)] != 1 {
		t.Fatalf("%d claims at once", b.m.items[OpAnnounce])
	}
	var serving []netip.Addr
	for range 11 {
		serving = append(serving, b.later(time.Second).Serving...)
	}
	if b.m.items[OpAnnounce] != 3 || len(serving) != 2 {
		t.Errorf("%d claims in 11 s, %v came to serve", b.m.items[OpAnnounce], serving)
	}
}

// Announcements that are due within a while of each other leave together, in one turn; the second
// of a burst never early, because neighbours would not take it.
func TestAnnouncementsGoTogether(t *testing.T) {
	const n, step = 20, 50 * time.Millisecond
	b := newBed(t, n)
	for i := range n {
		b.here(i, 1)
		b.later(step)
	}
	for range (announceSlow + announceNext) / step {
		b.later(step)
	}
	turns, said := 0, b.m.items[OpAnnounce]
	for range 2 * announceSlow / step {
		before := b.m.items[OpAnnounce]
		if b.later(step); b.m.items[OpAnnounce] != before {
			turns++
		}
	}
	if got := b.m.items[OpAnnounce] - said; turns > 3 || got < 2*n || got > 3*n {
		t.Errorf("%d announcements of %d addresses in %d turns of 10s", got, n, turns)
	}
}

// Whatever another program damages is put right, told once, and announced again.
func TestRepairs(t *testing.T) {
	for name, damage := range map[string]func(m *model){
		"the address was gone":              func(m *model) { delete(m.addresses, ip(0)); m.changed = Addresses },
		"the fence did not know it":         func(m *model) { clear(m.fence); m.changed = Fence },
		"the fence was shut":                func(m *model) { m.fence[ip(0)] = Shut; m.changed = Fence },
		"the fence did not stand on the":    func(m *model) { delete(m.attached, 1); m.changed = Fence },
		"the fence was damaged: it is gone": func(m *model) { m.attached[1] = fmt.Errorf("it is gone"); m.changed = Fence },
	} {
		b := newBed(t, 2)
		b.here(0, 1)
		b.turn()
		said := b.m.items[OpAnnounce]
		damage(b.m)
		f := b.later(20 * time.Millisecond)
		if len(f.Repairs) != 1 || !strings.HasPrefix(f.Repairs[0].What, name) {
			t.Errorf("%s: told %+v", name, f.Repairs)
		}
		if !b.m.has(ip(0), 1) || b.m.fence[ip(0)] != Open || b.m.attached[1] != nil || b.m.items[OpAnnounce] != said+1 {
			t.Errorf("%s: then %v, %v, %d announcements", name, b.m.addresses, b.m.fence, b.m.items[OpAnnounce]-said)
		}
		if f := b.later(20 * time.Millisecond); len(f.Repairs) > 0 {
			t.Errorf("%s: told again %+v", name, f.Repairs)
		}
	}
}

// An address is extended in time, and never lost, whatever the rest is that the kernel tells in
// whole seconds; those that came up at different times are soon extended together.
func TestLifetimesAreExtended(t *testing.T) {
	const n = 5
	b := newBed(t, n)
	var f Facts
	for i := range n {
		b.here(i, 1)
		b.want.HAVIPs[ip(i)] = Want{Index: 1, Lifetime: 1500 * time.Millisecond}
		f = b.later(130 * time.Millisecond)
	}
	for late := time.Duration(0); b.m.now < Instant(time.Hour+time.Minute); late = (late + 37*time.Millisecond) % (100 * time.Millisecond) {
		b.m.now = max(f.Next, b.m.now.Add(time.Millisecond)).Add(late)
		f = b.turn()
		for i := range n {
			if !b.m.has(ip(i), 1) || len(f.Repairs) > 0 {
				t.Fatalf("at %v: %v, %+v", b.m.now, b.m.addresses, f)
			}
		}
	}
	if items, calls := b.m.items[OpExtend], b.m.did[OpExtend]; items < 50*n || items > 90*n || calls > 90 {
		t.Errorf("extended %d times in %d calls in a minute", items, calls)
	}
}

// Another program gives an address a short lifetime: it gets its own again in time.
func TestAShortenedLifetimeIsExtended(t *testing.T) {
	b := newBed(t, 1)
	b.here(0, 1)
	b.want.HAVIPs[ip(0)] = Want{Index: 1, Lifetime: time.Hour}
	b.turn()
	b.m.set(ip(0), []At{{1, "eth1", 32, true, b.m.now.Add(time.Minute)}})
	b.m.changed |= Addresses
	if b.later(20 * time.Millisecond); b.m.addresses[ip(0)][0].Until.Sub(b.m.now) < 59*time.Minute {
		t.Errorf("%v", b.m.addresses)
	}
}
