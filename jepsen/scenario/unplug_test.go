package scenario

import (
	"testing"
	"time"
)

// The owner's ENI is unplugged, and comes back with its MAC under the same or another
// device name: the HAVIP moves, the ENI is found and eligible again, the HAVIP can come
// back to it, and the new device has its fence.
func TestUnplugAndReplug(t *testing.T) {
	long(t)
	beside(t)
	b := NewBed(t, 3)
	s := &Series{Name: "the owner's ENI is unplugged"}
	back := &Series{Name: "  and back, with a move to it"}
	for _, device := range []string{"eth0", "ens7"} {
		b.Place(b.other(b.Leader()))
		owner := b.Owner()
		host := b.Lab.Node(owner)
		m := b.Watch(func() {
			b.must(host.Unplug(0))
			b.NewOwner(b.other(owner), owner)
			time.Sleep(2 * Lease)
		})
		noDual(t, m)
		s.Add(m)
		m = b.Watch(func() {
			b.must(host.Plug(0, device))
			b.WaitSessions(3)
			b.moveIsKept(owner)
			// The first report that gets through may still be the one of the empty slot: then
			// the HAVIP leaves once more, and Place asks again.
			b.Place(owner)
		})
		noDual(t, m)
		back.Add(m)
		if !b.has(owner) {
			t.Errorf("the address is not on %s", device)
		}
		m, said, _, _ := b.killAll(owner)
		noDual(t, m)
		quiet(t, said)
		b.restart(owner)
	}
	report(t, s, Lease*12/10)
	report(t, back, 20*time.Millisecond)
}

// moveIsKept moves the HAVIP to a node that has just come back. Its log may end before its own session: such a move is
// refused, or waits, because it would be undone when that session ends.
func (b *Bed) moveIsKept(node int) {
	b.t.Helper()
	_, err := b.Cluster.CLI(node, "havip", "move", "web", "--to", b.Cluster.NodeName(node))
	if err != nil {
		b.t.Logf("not yet: %v", err)
		return
	}
	for end := time.Now().Add(2 * Lease); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b.serves(node) {
			return
		}
	}
	timely(b.t, "the move to node-%d was accepted and not carried out", node)
}
