package membership

import (
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

// What a node reads again at its start is bounded: by snapshotEvery entries, and by those of two intervals.
func TestASnapshotIsTakenSoon(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		v := newVirtual(t, 3)
		defer v.close()
		leader, _ := v.leader()
		node := v.nodes[leader].raft
		snapshots := func() int {
			list, err := v.nodes[leader].parts.Snapshots.List()
			check(t, err)
			return len(list)
		}
		for node.LastIndex() < snapshotEvery-1 {
			v.write(leader)
		}
		time.Sleep(3 * snapshotInterval)
		if n := snapshots(); n != 0 {
			t.Fatalf("%d snapshots after %d entries: each costs a write of the whole state", n, node.LastIndex())
		}
		v.write(leader)
		took := v.until("a snapshot", func() bool { return snapshots() == 1 })
		if took > 2*snapshotInterval+time.Second {
			t.Errorf("it came after %v", took)
		}
	})
}
