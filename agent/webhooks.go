package agent

import (
	"context"
	"net/netip"

	"havip-cluster/agent/webhook"
	"havip-cluster/fsm"
	"havip-cluster/membership"
)

// newWebhooks makes what sends events to webhooks while this node leads.
func (a *node) newWebhooks() *webhook.Sender {
	return webhook.New(webhook.Config{
		State: a.node.State, Watch: a.node.Watch, Log: a.log,
		Leading: func() bool { _, leads := a.node.Leading(); return leads },
		Propose: func(ctx context.Context, body fsm.Body) (fsm.Result, error) {
			term, leads := a.node.Leading()
			if !leads {
				return fsm.Result{}, membership.ErrNotLeader
			}
			return a.node.Propose(ctx, term, "", body)
		},
		Allowed: func() []netip.Prefix {
			if list := a.webhookAllow.Load(); list != nil {
				return *list
			}
			return nil
		},
	})
}

// chronicleDir is where a node keeps events that the log forgets, below its data directory.
const chronicleDir = "events"
