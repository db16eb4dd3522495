package membership

import (
	"testing"
	"time"
)

// A follower stands in place of a leader that is gone, and leads; while the leader is heard, or for
// another one, it does not.
func TestStand(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	gone := leader.id.NodeID
	var one *peer
	for _, p := range c.followers() {
		one = p
	}
	eventually(t, "the follower knows its leader", func() bool { return one.node.LeaderID() == gone })
	if leader.node.Stand(gone) {
		t.Error("a leader stood for itself")
	}
	if one.node.Stand(gone) {
		t.Error("it stood though it hears the leader")
	}
	if one.node.Stand("n-nobody") {
		t.Error("it stood for a leader that it does not know")
	}
	leader.close()
	for end := time.Now().Add(testHeartbeat * 9 / 10); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if one.node.Stand(gone) {
			break
		}
	}
	eventually(t, "another one leads", func() bool {
		for _, p := range c.followers() {
			if p.node.LeaderID() != "" && p.node.LeaderID() != gone {
				return true
			}
		}
		return false
	})
}

// Leadership goes to the voter that is named, and to nobody else.
func TestYieldTo(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	if err := leader.node.YieldTo("n-nobody"); err == nil {
		t.Error("it was given to nobody")
	}
	to := c.followers()[0]
	eventually(t, "it is handed over", func() bool { return leader.node.YieldTo(to.id.NodeID) == nil || to.node.LeaderID() == to.id.NodeID })
	eventually(t, "the other one leads", func() bool { _, leads := to.node.Leading(); return leads })
}

// A commit is told to all at once, without an entry of its own.
func TestACommitIsTold(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	before, err := leader.node.parts.Store.LastIndex()
	check(t, err)
	const changes = 20
	for i := range changes {
		res := c.do(subnet(i + 1))
		eventually(t, "the followers have applied it", func() bool {
			for _, p := range c.followers() {
				if p.node.State().Index < res.Index {
					return false
				}
			}
			return true
		})
	}
	after, err := leader.node.parts.Store.LastIndex()
	check(t, err)
	if after-before < changes || after-before > changes*3/2 {
		t.Errorf("%d entries for %d changes", after-before, changes)
	}
}
