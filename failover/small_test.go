package failover

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// manyNodes is how many nodes come and go in the life of one process.
const manyNodes = 10_000

// TestTheLeadersMemoryStaysSmall: nodes and sessions come and go; what is known of those that are gone
// goes too.
func TestTheLeadersMemoryStaysSmall(t *testing.T) {
	b := newBench(t, 6)
	b.turn()
	for i := range manyNodes {
		s := *b.state
		node := fmt.Sprint("n-x", i)
		s.Nodes = map[string]fsm.Node{"n-n1": {}, "n-n2": {}, "n-n3": {}, node: {}}
		b.c.heard(b.now, &s, node, 1)
	}
	if n := len(b.c.applied); n > 8 {
		t.Errorf("applied has %d nodes", n)
	}
	for i := range manyNodes { // a majority endorsed their end, and they ended by their own word
		s := lease.Session{Node: "n-n1", Number: uint64(1_000_000 + i)}
		b.c.reign.asking[s] = &inquiry{dead: true}
		b.c.reign.timeline.dead(b.now, s.Number, b.now, b.now)
		if i%100 == 0 {
			b.turn()
		}
	}
	b.turn()
	if n, m := len(b.c.reign.timeline.sessions), len(b.c.reign.asking); n+m > 0 {
		t.Errorf("the timeline has %d sessions, %d are asked about", n, m)
	}
}

// TestAHolderLearnsOfEveryNewVoter: also when more voters than there may be nodes have come and gone.
func TestAHolderLearnsOfEveryNewVoter(t *testing.T) {
	b := newBench(t, 1)
	k := newKeeper(b.c.cfg, b.c.mail)
	k.holder = lease.NewHolder(lease.Session{Node: "n-n3", Number: 7}, b.now, time.Second)
	for i := range manyNodes {
		voter := fmt.Sprint("n-x", i)
		k.corrected(lease.Correction{From: voter, Boot: lease.BootID(i + 1)})
		k.ack(lease.Ack{From: voter, Session: k.holder.Session()})
	}
	for i, voter := range b.VoterSet().Voters {
		k.corrected(lease.Correction{From: voter, Boot: lease.BootID(100 + i)})
		k.ack(lease.Ack{From: voter, Session: k.holder.Session()})
		if k.bootOf(voter) != lease.BootID(100+i) || k.lastAck[voter] != b.now {
			t.Errorf("boot of %s: %d, last acknowledgement %v", voter, k.bootOf(voter), k.lastAck[voter])
		}
	}
	if n, m := len(k.boots), len(k.lastAck); n > lease.NodesMax || m > lease.NodesMax {
		t.Errorf("%d boot ids, acknowledgements of %d voters", n, m)
	}
}

// TestAnOwnersMemoryStaysSmall: 10,000 HAVIPs are here and go.
func TestAnOwnersMemoryStaysSmall(t *testing.T) {
	b := newBench(t, 1)
	h := NewHandoff(b.session("n1"), time.Second)
	for i := range manyNodes {
		s, id := *b.state, fmt.Sprint("h", i)
		claim := fsm.Claim{Epoch: 1, Node: "n-n1", Session: b.session("n1"), ENI: "n1/eth0"}
		v := fsm.HAVIP{ID: id, IP: netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), Epoch: 1, Owner: &claim, Enabled: true}
		s.HAVIPs = map[string]fsm.HAVIP{id: v}
		h.Decide(b.now, &s)
		h.Activated(id, claim)
		h.HeardReleased("n-n2", id, 1, 5)
		h.HeardReady("n-n2", id, 2)
		v.Owner, v.Draining, v.Epoch = &fsm.Claim{Epoch: 2, Node: "n-n2"}, []fsm.Claim{claim}, 2
		s.HAVIPs = map[string]fsm.HAVIP{id: v}
		h.Decide(b.now, &s)
		h.Deactivated(id, claim)
		s.HAVIPs = map[string]fsm.HAVIP{}
		h.Forget(&s)
	}
	if n := len(h.active) + len(h.released) + len(h.heard) + len(h.ready) + len(h.draining); n > 0 {
		t.Errorf("%d entries", n)
	}
	sized := newSaying(b.c.mail)
	for i := range 4 * manyNodes {
		b.now = b.now.Add(time.Millisecond)
		sized.said[wordKey{kindReady, fmt.Sprint(i), 1, "n-n1"}] = saidWord{b.now, 1}
		sized.flush(b.now, b.state)
	}
	if n := len(sized.said); n > 2*saidMax {
		t.Errorf("%d words", n)
	}
}
