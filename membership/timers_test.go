package membership

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestTimersFollow: a running cluster takes longer time-outs, so that the loss of its leader is noticed
// later, and shorter ones, also those whose timers run already.
func TestTimersFollow(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	leader := c.leader()
	others := c.followers()
	for _, m := range c.all() {
		if got := must[time.Duration](t)(m.node.SetTimers(time.Hour, 0)); got != time.Hour {
			t.Fatalf("the time-out is %v", got)
		}
	}
	if got := leader.node.pace.every; got != time.Hour/heartbeatPart {
		t.Errorf("heartbeats leave %v apart", got)
	}
	leader.close()
	leads := func() bool {
		for _, m := range others {
			if m.node.raft.State() != raft.Follower {
				return true
			}
		}
		return false
	}
	throughout(t, 3*testHeartbeat, "nobody stands for election", func() bool { return !leads() })
	for _, m := range others { // below the leader's lease, which cannot change
		if got := must[time.Duration](t)(m.node.SetTimers(time.Millisecond, 0)); got != testHeartbeat {
			t.Fatalf("the time-out is %v", got)
		}
	}
	eventually(t, "another one leads", func() bool {
		for _, m := range others {
			if _, is := m.node.Leading(); is {
				return true
			}
		}
		return false
	})
}
