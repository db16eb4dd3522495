package membership

import (
	"fmt"
	"time"
)

// SetTimers makes a running node follow a new lease of the cluster: heartbeat is the heartbeat and the
// election time-out from now on, or what the leader's lease allows, which hashicorp/raft cannot change
// while it runs (v1.8.0, ReloadableConfig): a shorter one counts from the next start on. It returns what
// counts now. With a lease much shorter than that heartbeats come more often (heartbeatEvery). Any goroutine may call it.
func (n *Node) SetTimers(heartbeat, lease time.Duration) (time.Duration, error) {
	heartbeat = max(heartbeat, n.cfg.LeaderLease)
	n.pace.follow(heartbeatEvery(heartbeat, lease))
	c := n.raft.ReloadableConfig()
	if c.HeartbeatTimeout == heartbeat && c.ElectionTimeout == heartbeat {
		return heartbeat, nil
	}
	c.HeartbeatTimeout, c.ElectionTimeout = heartbeat, heartbeat
	if err := n.raft.ReloadConfig(c); err != nil {
		return 0, fmt.Errorf("membership: a heartbeat time-out of %v: %w", heartbeat, err)
	}
	n.patience.follow(heartbeat)
	n.reads.follow(heartbeat)
	return heartbeat, nil
}
