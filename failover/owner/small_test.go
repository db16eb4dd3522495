package owner

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// manyNodes is how many nodes come and go in the life of one process.
const manyNodes = 10_000

// TestAnOwnersMemoryStaysSmall: 10,000 HAVIPs are here and go.
func TestAnOwnersMemoryStaysSmall(t *testing.T) {
	now, log := lease.Instant(time.Hour), &wordLog{state: newStage(1).head()}
	h := NewHandoff(7, time.Second)
	for i := range manyNodes {
		s, id := *log.state, fmt.Sprint("h", i)
		claim := fsm.Claim{Epoch: 1, Node: "n-n1", Session: 7, ENI: "n1/eth0"}
		v := fsm.HAVIP{ID: id, IP: netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), Epoch: 1, Owner: &claim}
		s.HAVIPs = map[string]fsm.HAVIP{id: v}
		h.Decide(now, &s)
		h.Activated(id, claim)
		h.HeardReleased("n-n2", id, 1, 5)
		h.HeardReady(now, "n-n2", id, 2)
		v.Owner, v.Draining, v.Epoch = &fsm.Claim{Epoch: 2, Node: "n-n2"}, []fsm.Claim{claim}, 2
		s.HAVIPs = map[string]fsm.HAVIP{id: v}
		h.Decide(now, &s)
		h.Deactivated(id, claim)
		s.HAVIPs = map[string]fsm.HAVIP{}
		h.Forget(&s)
	}
	if n := len(h.active) + len(h.released) + len(h.heard) + len(h.ready) + len(h.draining) + len(h.coming); n > 0 {
		t.Errorf("%d entries", n)
	}
	sized := newOutbox(mailOf("A", log, postman{}))
	for i := range 4 * manyNodes {
		now = now.Add(time.Millisecond)
		sized.said[messageKey{wire.KindReady, fmt.Sprint(i), 1, "n-n1"}] = sentMessage{now, 1}
		sized.flush(now, log.state)
	}
	if n := len(sized.said); n > 2*saidMax {
		t.Errorf("%d words", n)
	}
}
