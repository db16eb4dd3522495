package scenario

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
)

// nodeBehind: the Raft port of a node is blocked.
func (w *watched) nodeBehind() {
	w.t.Helper()
	node := w.other(w.Leader(), 1)
	w.names = map[string]string{"NODE": w.Cluster.NodeName(node)}
	w.must(w.Lab.Node(node).Do(dropRaft))
	for i := range 120 {
		w.CLI(1, "havip", "update", "web", "--description", fmt.Sprint("entry ", i))
	}
	w.raised()
	const says = "NODE keeps its lease but does not apply the log"
	w.sees(1, "havip-cluster status", says)
	w.sees(1, "havip-cluster status", "7401/tcp")
	w.types(1, "havip-cluster node show NODE")
	w.must(w.Lab.Node(node).Do(openRaft))
	w.ended()
	w.Eventually("status does not say it", func() bool { return !w.promised(string(w.CLI(1, "status")), says) })
	w.lacks(1, "havip-cluster status", says)
}

// openRaft takes back dropRaft.
func openRaft() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "blocked"})
	return c.Flush()
}

// leaderChanges: each leader stands still for a while, as with a disk or a host that hangs.
func (w *watched) leaderChanges() {
	w.t.Helper()
	for i := 0; i < 10 && !w.fires(); i++ {
		leader := w.Leader()
		pid, err := w.Cluster.AgentPID(leader)
		w.must(err)
		w.must(syscall.Kill(pid, syscall.SIGSTOP))
		w.Eventually("another leader", func() bool { now := w.leaderAt(w.other(leader)); return now != "" && now != w.Cluster.NodeName(leader) })
		w.must(syscall.Kill(pid, syscall.SIGCONT))
		w.WaitSessions(3)
	}
	w.raised()
	w.types(1, "havip-cluster status", "LEADER")
	w.does("journalctl -u havip-cluster --since -15min")
	w.does("`this node leads the cluster`")
	if log := w.Cluster.Tail(1) + w.Cluster.Tail(2) + w.Cluster.Tail(3); !strings.Contains(log, "this node leads the cluster") {
		w.t.Error("no journal says who began to lead")
	}
	w.ended()
	w.types(1, "havip-cluster status", "LEADER")
}

// marginLow: a host stands still for 280 ms, again and again. What the runbook names last ends the alert although the host stays so.
func (w *watched) marginLow() {
	w.t.Helper()
	node := w.other(w.Leader(), w.Owner())
	w.names = map[string]string{"NODE": w.Cluster.NodeName(node)}
	stop := w.stutters(node, 280*time.Millisecond, 600*time.Millisecond)
	defer stop()
	w.raised()
	w.types(1, "havip-cluster node list", "LEASE")
	w.types(1, "havip-cluster status")
	w.types(1, "havip-cluster cluster show", "LEASE")
	w.types(1, "havip-cluster cluster set lease=1s")
	w.ended()
	if out := w.types(1, "havip-cluster status", "LEASE"); !hasLine(out, "LEASE", "1s") {
		w.t.Errorf("the lease is another one:\n%s", out)
	}
}

// stutters has agent and guard of a node stand still for a while again and again, as a host does whose processor others have, until stop.
func (w *watched) stutters(node int, still, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = w.Cluster.Kill(node, syscall.SIGSTOP)
			time.Sleep(still)
			_ = w.Cluster.Kill(node, syscall.SIGCONT)
			time.Sleep(every)
		}
	}()
	return func() { cancel(); <-done }
}
