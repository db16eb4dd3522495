package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"syscall"

	"havip-cluster/agent/guard"
	"havip-cluster/agent/hooks"
)

// close stops in the reverse order of open: gossip first, so that the others hear a
// good-bye; Raft after it; the edge last, because until then something may still have to
// be taken down.
func (a *node) close() {
	var errs []error
	if a.gossip != nil {
		errs = append(errs, a.gossip.Close())
	}
	if a.datagrams != nil {
		errs = append(errs, a.datagrams.Close())
	}
	if a.node != nil {
		errs = append(errs, a.node.Close())
	}
	for _, l := range []net.Listener{a.public, a.local} {
		if l != nil {
			_ = l.Close() // closed already if the server ran
		}
	}
	clean := false
	if a.edge != nil {
		err := a.edge.Clean()
		clean = err == nil
		errs = append(errs, err, a.edge.Close())
	}
	switch {
	case a.fence == nil:
	case clean:
		errs = append(errs, a.fence.Uninstall())
	default: // an address may be left: the fence keeps it silent
		errs = append(errs, a.fence.Close())
	}
	if err := errors.Join(errs...); err != nil {
		a.log.Warn("stopped, with errors", "err", err)
		return
	}
	a.log.Info("stopped")
}

// finishHooks gives hooks a limited time when nothing else is left to do. There is none
// while the session is open: the guard reports it released when this process has ended.
func (a *node) finishHooks() {
	ctx, cancel := context.WithTimeout(context.Background(), hooks.EndWait)
	defer cancel()
	if a.node != nil && !a.handedOver.Load() {
		if _, open := a.node.State().SessionOf(a.id.NodeID); open {
			cancel()
		}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, guard.StopNow)
	go func() {
		for sig := range signals {
			if a.atOnce(sig) {
				cancel()
			}
		}
	}()
	a.hooks.Finish(ctx)
}
