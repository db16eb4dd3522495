package scenario

import (
	"slices"
	"strings"
	"syscall"
	"time"
)

// noSpare: of two nodes that may own a HAVIP one is set aside, then taken out of the range, then banned.
func (w *watched) noSpare() {
	w.t.Helper()
	w.names = map[string]string{"HAVIP": "solo", "NODE": "node-2"}
	w.CLI(1, "havip", "create", "solo", "--ip", w.Lab.Address(101).String(), "--range", "cvm:node-2,node-3")
	w.CLI(1, "wait", "havip", "solo", "--owned", "--timeout", "20s")
	w.CLI(1, "havip", "move", "solo", "--to", "node-3")
	w.CLI(1, "wait", "havip", "solo", "--owned", "--timeout", "20s")
	w.types(1, "havip-cluster explain HAVIP", "next; score")
	for _, way := range []struct {
		take               []string
		why, back, printed string
	}{
		{[]string{"node", "standby", "node-2"}, "NODE is in standby", "havip-cluster node activate NODE", ""},
		{[]string{"havip", "range", "remove", "solo", "node-2"}, "NODE is not in the range", "havip-cluster havip range add HAVIP NODE", ""},
		{[]string{"havip", "ban", "solo", "node-2"}, "it is banned", "havip-cluster havip unban HAVIP NODE", ""},
	} {
		w.CLI(1, way.take...)
		w.raised()
		w.types(1, "havip-cluster explain HAVIP", "is the only one eligible", way.why)
		w.types(1, "havip-cluster node list")
		if out := w.types(1, "havip-cluster plan --n-1", "WITHOUT AN OWNER"); !hasLine(out, "node-3", "solo") {
			w.t.Errorf("plan --n-1 does not name the HAVIP beside its owner:\n%s", out)
		}
		w.types(1, way.back)
		w.types(1, "havip-cluster explain HAVIP", "next; score")
		w.ended()
	}
	w.does("silence this alert")
	w.CLI(1, "havip", "delete", "solo", "--force")
}

// unserved: the only node of a HAVIP's range is set aside, then its owner dies while the cluster is in maintenance.
func (w *watched) unserved() {
	w.t.Helper()
	w.names = map[string]string{"HAVIP": "alone", "NODE": "node-3"}
	w.CLI(1, "havip", "create", "alone", "--ip", w.Lab.Address(102).String(), "--range", "cvm:node-3")
	w.CLI(1, "wait", "havip", "alone", "--owned", "--timeout", "20s")
	w.CLI(1, "node", "standby", "node-3")
	w.raised()
	w.types(1, "havip-cluster status", "HAVIP NAME has no owner")
	out := w.types(1, "havip-cluster explain HAVIP")
	w.types(1, "havip-cluster events --havip HAVIP --since 1h", "HAVIP NAME goes to nobody")
	if !strings.Contains(out, "`node activate node-3`") {
		w.t.Errorf("explain does not say what would change it:\n%s", out)
	}
	w.CLI(1, "node", "activate", "node-3")
	w.types(1, "havip-cluster wait havip HAVIP --owned --timeout 30s", "HAVIP NAME is served")
	w.ended()

	w.CLI(1, "havip", "range", "add", "alone", "node-2")
	w.CLI(1, "cluster", "maintenance", "on") // nobody takes over
	w.must(w.Cluster.Kill(3, syscall.SIGKILL))
	w.must(w.Cluster.AwaitEnd(3))
	w.raised()
	w.types(1, "havip-cluster status", "the cluster is in maintenance")
	w.types(1, "havip-cluster cluster maintenance off")
	w.types(1, "havip-cluster wait havip HAVIP --owned --timeout 30s", "HAVIP NAME is served")
	w.ended()
	w.must(w.Cluster.Start(3))
	w.WaitSessions(3)
	w.does("`HAVIP NAME is pending`") // TestPending... of api has the line; no owner stays silent about its own here
	w.types(1, "havip-cluster events --kind fault --since 1h")
	w.types(1, "havip-cluster havip clear-failures HAVIP")
	w.types(1, "havip-cluster havip move HAVIP --to NODE")
	w.CLI(1, "havip", "delete", "alone", "--force")
}

// nodeDown: a host dies, then Prometheus alone loses its right.
func (w *watched) nodeDown() {
	w.t.Helper()
	w.names = map[string]string{"NODE": "node-3"}
	w.must(w.Cluster.Kill(3, syscall.SIGKILL))
	w.must(w.Cluster.AwaitEnd(3))
	w.raised()
	w.sees(1, "havip-cluster node list", "lost")
	if out := w.types(1, "havip-cluster placement"); strings.Contains(out, "node-3") || !strings.Contains(out, "AVAILABLE") {
		w.t.Errorf("its HAVIPs are not with others:\n%s", out)
	}
	w.does("look at the host")
	w.must(w.Cluster.Start(3))
	w.types(1, "havip-cluster wait node NODE --alive --timeout 1m", "NODE is alive")
	w.ended()

	w.CLI(1, "token", "revoke", "prometheus")
	w.raised()
	w.WaitSessions(3)
	w.types(1, "havip-cluster node list", "alive")
	if out := w.types(1, "havip-cluster token list"); strings.Contains(out, "prometheus") {
		w.t.Errorf("a token that was revoked:\n%s", out)
	}
	w.does("make one as [monitoring]")
	w.token("prometheus")
	w.reload()
	w.ended()
	w.types(1, "havip-cluster token list")
	w.passes("havip-cluster node replace NODE --by NEW", "TestReplaceOfADeadVoter types it")
	w.passes("havip-cluster node remove NODE", "TestKeysLiveOnARunningCluster types it")
}

// fenceMissing: an agent runs with --no-fence.
func (w *watched) fenceMissing() {
	w.t.Helper()
	w.names = map[string]string{"NODE": "node-3"}
	before := w.Cluster.AgentArgs
	w.Cluster.AgentArgs = append(slices.Clone(before), "--no-fence")
	w.must(w.Cluster.Restart(3))
	w.WaitSessions(3)
	w.raised()
	w.types(3, "havip-cluster status", "it has no fence")
	w.types(1, "havip-cluster node standby NODE")
	w.types(3, "havip-cluster preflight", "silence outlives its process")
	w.does("take `--no-fence` out of the unit")
	w.Cluster.AgentArgs = before
	w.must(w.Cluster.Restart(3))
	w.Eventually("it is back", func() bool {
		_, err := w.Cluster.CLI(1, "node", "activate", "node-3")
		return err == nil
	})
	w.types(1, "havip-cluster node activate NODE")
	w.WaitSessions(3)
	w.types(3, "havip-cluster status", "(proved)")
	w.ended()
}

// noLeader: two of three voters die.
func (w *watched) noLeader() {
	w.t.Helper()
	for _, i := range []int{2, 3} {
		w.must(w.Cluster.Kill(i, syscall.SIGKILL))
		w.must(w.Cluster.AwaitEnd(i))
	}
	w.raised()
	w.sees(1, "havip-cluster status", "no leader is known")
	w.sees(1, "havip-cluster status", "lost")
	w.does("`no leader could be reached`")
	if _, err := w.Cluster.CLI(1, "node", "list"); err == nil || !strings.Contains(err.Error(), "no leader could be reached") {
		w.t.Errorf("node list without a leader: %v", err)
	}
	w.does("A majority is off: start them")
	w.passes("havip-cluster recover", "recover_test.go types it; the nodes that it leaves behind have to be erased")
	for _, i := range []int{2, 3} {
		w.must(w.Cluster.Start(i))
	}
	w.WaitSessions(3)
	w.sees(1, "havip-cluster node list", "alive")
	w.ended()
}

// versionsDiffer: one node runs a program of another version.
func (w *watched) versionsDiffer() {
	w.t.Helper()
	w.names = map[string]string{"NODE": "node-3"}
	now := w.Cluster.Binary
	w.Cluster.Binary = build(w.t, ".", "other")
	w.must(w.Cluster.Restart(3))
	w.Cluster.Binary = now
	w.WaitSessions(3)
	w.raised()
	w.Eventually("its version is heard of", func() bool { return contains(w.CLI(1, "node", "list"), "other") }) // by gossip
	w.types(1, "havip-cluster node list", "VERSION")
	w.does("Upgrade the ones that are behind")
	w.must(w.Cluster.Restart(3))
	w.types(1, "havip-cluster wait node NODE --alive")
	w.ended()
	w.Eventually("one version", func() bool { return !contains(w.CLI(1, "node", "list"), "other") })
	time.Sleep(settleTime)
}
