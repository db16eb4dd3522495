package agent

import (
	"context"
	"errors"

	"havip-cluster/fsm"
)

var errStopping = errors.New("this node stops")

// takeVoteBack says that the node is back, where the log has that its vote rests, until the node stops.
func (a *node) takeVoteBack(ctx context.Context) error {
	a.node.TakeVoteBack(ctx, func(ctx context.Context, body fsm.Body) (fsm.Result, error) {
		if a.stopping.Load() {
			return fsm.Result{}, errStopping
		}
		return a.backend.submit(ctx, body)
	})
	return nil
}

// handOverVote gives the vote away where two have one, then leadership if it is still here. It says what the
// cluster can do without this node.
func (a *node) handOverVote(ctx context.Context) {
	a.stopping.Store(true)
	switch to, err := a.node.HandOverVote(ctx, a.backend.submit, a.gossip.Alive); {
	case err != nil:
		a.log.Warn("this node stops with its vote", "err", err)
	case to != "":
		a.log.Info("this node has handed its vote over, and the other one goes on alone; start this one again and it votes again after about a lease", "to", to)
	}
	if voters, _ := a.node.Voters(); len(voters) < 2 {
		return
	}
	if _, leads := a.node.Leading(); leads {
		if err := a.node.TransferLeadership(); err != nil {
			a.log.Warn("leadership could not be handed over", "err", err)
		}
	}
}
