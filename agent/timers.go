package agent

import (
	"context"
	"fmt"
	"time"

	"havip-cluster/membership/identity"
)

// timersAgain is how long a node waits after it could not keep its timers, as on a full disk.
const timersAgain = 30 * time.Second

// followLease keeps Raft's timers, and those of the next start, those of the longest lease in force: a
// shorter one counts when every voter knows of it, so that no leader's heartbeats are too slow for
// anybody. What cannot be done is tried again.
func (a *node) followLease(ctx context.Context) error {
	watch, stop := a.node.Watch()
	defer stop()
	kept, late := time.Duration(0), (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch:
		case <-late:
			kept = 0
		}
		c := a.node.State().Cluster
		lease := c.LeaseMax
		switch {
		case lease == 0 || lease == kept:
			continue
		case kept == c.Lease: // LeaseMax is a first lease that is longer (fsm.OpenSession): nobody renews by that
			continue
		case !a.node.CaughtUp(): // an old lease may stand in the old log that is read again
			continue
		}
		if err := a.setTimers(lease); err != nil {
			a.log.Warn("the timers do not follow the lease of the cluster", "lease", lease, "err", err, "again_in", timersAgain.String())
			late = time.After(timersAgain)
		} else {
			late = nil
		}
		kept = lease
	}
}

// setTimers makes this node run, and start again, with the timers of a lease.
func (a *node) setTimers(lease time.Duration) error {
	timers, err := identity.TimersFor(identity.Profile(a.node.State().Cluster.Profile), lease)
	if err != nil {
		return err
	}
	now, err := a.node.SetTimers(timers.RaftHeartbeat, timers.Lease)
	if err != nil {
		return err
	}
	if lease != a.id.Lease {
		a.log.Info("the timers follow the lease of the cluster", "lease", lease, "raft_heartbeat", now, "at_next_start", timers.RaftHeartbeat)
	}
	if err := identity.SetLease(a.id.Dir, lease); err != nil {
		return fmt.Errorf("keep the lease for the next start: %w", err)
	}
	return nil
}
