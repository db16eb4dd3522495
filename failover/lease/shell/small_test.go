package shell

import (
	"fmt"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// manyNodes is how many nodes come and go in the life of one process.
const manyNodes = 10_000

// TestAHolderLearnsOfEveryNewVoter: also when more voters than there may be nodes have come and gone.
func TestAHolderLearnsOfEveryNewVoter(t *testing.T) {
	now, log := lease.Instant(time.Hour), &still{state: fsm.New(), set: lease.NewVoterSet([]string{"n-n1", "n-n2", "n-n3"})}
	k := NewRenewer(Config{
		Node: "n-n3", Log: log, Clock: func() lease.Instant { return now },
		Mail: wire.NewMail(wire.Config{Node: "n-n3", Log: log}, func(wire.Message) {}),
	}, nil, &storing{})
	k.holder = lease.NewHolder(lease.Session{Node: "n-n3", Number: 7}, now, time.Second)
	for i := range manyNodes {
		voter := fmt.Sprint("n-x", i)
		k.Corrected(lease.Correction{From: voter, Boot: lease.BootID(i + 1)})
		k.Ack(lease.Ack{From: voter, Session: k.holder.Session()})
	}
	for i, voter := range log.set.Voters {
		k.Corrected(lease.Correction{From: voter, Boot: lease.BootID(100 + i)})
		k.Ack(lease.Ack{From: voter, Session: k.holder.Session()})
		if k.bootOf(voter) != lease.BootID(100+i) || k.lastAck[voter] != now {
			t.Errorf("boot of %s: %d, last acknowledgement %v", voter, k.bootOf(voter), k.lastAck[voter])
		}
	}
	if n, m := len(k.boots), len(k.lastAck); n > lease.NodesMax || m > lease.NodesMax {
		t.Errorf("%d boot ids, acknowledgements of %d voters", n, m)
	}
}
