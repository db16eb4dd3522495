package edge

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"havip-cluster/netdev"
)

// count plays turns for a while, each when the one before wants it, and counts them.
func (b *bed) count(during time.Duration, between func()) (turns int) {
	b.t.Helper()
	for end := b.m.now.Add(during); b.m.now < end; turns++ {
		if between != nil {
			between()
		}
		f := b.loop.Turn(b.want)
		if turns > 100000 {
			b.t.Fatal("it turns without end")
		}
		// A turn takes its time.
		b.m.now = max(f.Next, b.m.now.Add(20*time.Microsecond))
	}
	return turns
}

// An operation that failed, and that nobody needs any more, is no reason to turn.
func TestRestIsQuiet(t *testing.T) {
	b := newBed(t, 3)
	b.turn()
	b.m.fails["remove"] = true
	b.m.set(ip(0), []At{{Index: 1, Device: "eth1", Bits: 32}}) // by another program
	b.m.changed = Addresses
	b.count(100*time.Millisecond, nil)
	if b.m.tries["remove "+ip(0).String()] == 0 {
		t.Fatal("nobody tried to remove it")
	}
	delete(b.m.addresses, ip(0))
	b.m.changed = Addresses
	if n := b.count(10*time.Second, nil); n > 15 {
		t.Errorf("%d turns in 10 s of rest", n)
	}
}

// Whatever others change, and however often, it is read once in readAgain at most, and the
// turns between are not more than that.
func TestAStormOfChanges(t *testing.T) {
	b := newBed(t, 3)
	b.here(0, 1)
	b.turn()
	reads := b.m.reads
	turns := b.count(time.Second, func() { b.m.changed = Addresses | Routing })
	if limit := int(time.Second/readAgain) + 10; b.m.reads-reads > limit || turns > limit {
		t.Errorf("%d readings in %d turns within 1 s, want at most %d", b.m.reads-reads, turns, limit)
	}
}

// The settings of a device are right before anything of it is opened, and put right again.
func TestSettings(t *testing.T) {
	wrong := func(b *bed) {
		b.m.loose["eth1"] = []netdev.Change{{Device: "eth1", Key: "arp_ignore", Old: 8, New: 1}}
	}
	b := newBed(t, 1)
	wrong(b)
	b.turn()
	b.want.Settled = map[string]bool{"eth1": false}
	b.here(0, 1)
	if f := b.turn(); len(f.Serving) != 1 || len(f.Repairs) != 0 {
		t.Errorf("serving %v, repairs %v", f.Serving, f.Repairs)
	}
	said := b.m.items[OpAnnounce]
	wrong(b)
	b.m.changed = Settings
	f := b.later(20 * time.Millisecond)
	if len(b.m.loose["eth1"]) > 0 || len(f.Repairs) != 1 || f.Repairs[0].What != "arp_ignore was 8" || b.m.items[OpAnnounce] != said+1 {
		t.Errorf("then %v, repairs %v, %d announcements", b.m.loose, f.Repairs, b.m.items[OpAnnounce]-said)
	}
	if f := b.later(500 * time.Millisecond); len(f.Repairs) != 0 {
		t.Errorf("told again: %v", f.Repairs)
	}
}

// What a dead process left is removed, and told.
func TestLeftoversAreTold(t *testing.T) {
	b := newBed(t, 1)
	for _, n := range []netip.Addr{ip(0), ip(5)} { // a HAVIP, and one that is deleted by now
		b.m.addresses[n] = []At{{Index: 1, Device: "eth1", Bits: 32, Managed: true}}
		b.m.fence[n] = Open
	}
	f := b.turn()
	if n := strings.Count(b.logs.String(), "removed a leftover address"); n != 2 || !f.Clean || len(b.m.addresses) > 0 {
		t.Errorf("told %d times, clean %v, left %v", n, f.Clean, b.m.addresses)
	}
	b.here(0, 1)
	b.turn()
	b.nowhere(0)
	b.turn()
	if n := strings.Count(b.logs.String(), "removed a leftover address"); n != 2 {
		t.Errorf("told %d times: what was served here is no leftover", n)
	}
}
