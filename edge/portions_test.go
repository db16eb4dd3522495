package edge

import (
	"testing"
	"time"
)

// Who waits for a turn does not wait for what has time: it is left off between two portions, for a
// while at most, and newcomers are announced all the same.
func TestWhatHasTimeIsPutOff(t *testing.T) {
	const here = 3 * portion
	b := newBed(t, here+2)
	for n := range here {
		b.want.HAVIPs[ip(n)] = Want{Index: 1, Lifetime: announceSlow + 3*time.Second} // due with the announcements
	}
	b.turn()
	b.later(announceNext) // the second announcements
	waits := false
	b.want.Awaited = func() bool { return waits }
	said, renewed := b.m.items[OpAnnounce], b.m.items[OpExtend]

	b.m.now = b.m.now.Add(announceSlow) // announcements and lifetimes are due
	waits = true
	b.here(here, 1)
	f := b.loop.Turn(b.want)
	if len(f.Serving) != 1 || b.m.items[OpAnnounce] != said+1 || b.m.items[OpExtend] != renewed {
		t.Fatalf("serving %v, %d announced and %d renewed while others wait, want the newcomer alone", f.Serving, b.m.items[OpAnnounce]-said, b.m.items[OpExtend]-renewed)
	}
	if f.Next > b.m.now {
		t.Errorf("what was put off comes back after %v, want at once", f.Next.Sub(b.m.now))
	}
	said++

	waits = false
	done := 0
	b.want.Awaited = func() bool { done++; return done > 4 } // in the midst of it
	if b.loop.Turn(b.want); b.m.items[OpAnnounce] != said+portion || b.m.items[OpExtend] != renewed+here {
		t.Errorf("%d announced and %d renewed before others wait, want %d and %d", b.m.items[OpAnnounce]-said, b.m.items[OpExtend]-renewed, portion, here)
	}
	b.loop.Turn(b.want)
	b.m.now = b.m.now.Add(putOffMax - time.Millisecond)
	if b.loop.Turn(b.want); b.m.items[OpAnnounce] != said+portion {
		t.Errorf("%d announced before the longest pause is over", b.m.items[OpAnnounce]-said)
	}
	b.m.now = b.m.now.Add(time.Millisecond)
	if b.loop.Turn(b.want); b.m.items[OpAnnounce] != said+here {
		t.Errorf("%d announced when the longest pause is over, want %d", b.m.items[OpAnnounce]-said, here)
	}
	if b.turn(); b.loop.awaited != 0 {
		t.Error("the pause goes on, although nothing is left")
	}
}
