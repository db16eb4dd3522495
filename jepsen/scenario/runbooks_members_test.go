package scenario

import (
	"slices"
	"syscall"
	"time"
)

func (w *watched) noSpare() {
	w.t.Helper()
	w.names = map[string]string{"HAVIP": "solo", "NODE": "node-2"}
	w.CLI(1, "havip", "create", "solo", "--ip", w.Lab.Address(101).String(), "--range", "cvm:node-2,node-3")
	w.CLI(1, "node", "standby", "node-2")
	w.raised()
	w.types(1, "havip-cluster explain HAVIP")
	w.types(1, "havip-cluster node list")
	w.types(1, "havip-cluster plan --n-1")
	w.types(1, "havip-cluster node activate NODE")
	w.ended()
	w.CLI(1, "havip", "range", "remove", "solo", "node-2")
	w.raised()
	w.types(1, "havip-cluster explain HAVIP")
	w.types(1, "havip-cluster havip range add HAVIP NODE")
	w.ended()
	w.CLI(1, "havip", "ban", "solo", "node-2")
	w.raised()
	w.types(1, "havip-cluster explain HAVIP")
	w.types(1, "havip-cluster havip unban HAVIP NODE")
	w.types(1, "havip-cluster explain HAVIP")
	w.does("silence this alert")
	w.ended()
	w.CLI(1, "havip", "delete", "solo", "--force")
}

func (w *watched) unserved() {
	w.t.Helper()
	w.names = map[string]string{"HAVIP": "solo", "NODE": "node-3"}
	w.CLI(1, "havip", "create", "solo", "--ip", w.Lab.Address(101).String(), "--range", "cvm:node-3")
	w.CLI(1, "node", "standby", "node-3")
	w.raised()
	w.types(1, "havip-cluster status")
	w.types(1, "havip-cluster explain HAVIP")
	w.types(1, "havip-cluster events --havip HAVIP --since 1h")
	w.CLI(1, "node", "activate", "node-3") // what explain says would change it
	w.types(1, "havip-cluster wait havip HAVIP --owned --timeout 30s")
	w.ended()

	w.CLI(1, "cluster", "maintenance", "on") // nobody takes over
	w.must(w.Cluster.Kill(3, syscall.SIGKILL))
	w.must(w.Cluster.AwaitEnd(3))
	w.raised()
	w.types(1, "havip-cluster explain HAVIP")
	w.must(w.Cluster.Start(3))
	w.WaitSessions(3)
	w.types(1, "havip-cluster cluster maintenance off")
	w.ended()
	w.types(1, "havip-cluster events --kind fault --since 1h")
	w.types(1, "havip-cluster havip clear-failures HAVIP")
	w.CLI(1, "havip", "range", "add", "solo", "node-2")
	w.names["NODE"] = "node-2"
	w.types(1, "havip-cluster havip move HAVIP --to NODE")
	w.types(1, "havip-cluster wait havip HAVIP --owned --timeout 30s")
	w.CLI(1, "havip", "delete", "solo", "--force")
}

func (w *watched) nodeDown() {
	w.t.Helper()
	w.names = map[string]string{"NODE": "node-3"}
	w.must(w.Cluster.Kill(3, syscall.SIGKILL))
	w.must(w.Cluster.AwaitEnd(3))
	w.raised()
	w.sees(1, "havip-cluster node list", "lost")
	w.types(1, "havip-cluster placement")
	w.does("look at the host")
	w.must(w.Cluster.Start(3))
	w.types(1, "havip-cluster wait node NODE --alive --timeout 1m")
	w.ended()

	w.CLI(1, "token", "revoke", "prometheus")
	w.raised()
	w.types(1, "havip-cluster node list")
	w.types(1, "havip-cluster token list")
	w.token("prometheus")
	w.reload()
	w.ended()
	w.passes("havip-cluster node replace NODE --by NEW", "TestReplaceOfADeadVoter types it")
	w.passes("havip-cluster node remove NODE", "TestKeysLiveOnARunningCluster and TestThreeLivesOfKeysUnderFaults type it")
}

func (w *watched) fenceMissing() {
	w.t.Helper()
	w.names = map[string]string{"NODE": "node-3"}
	before := w.Cluster.AgentArgs
	w.Cluster.AgentArgs = append(slices.Clone(before), "--no-fence")
	w.must(w.Cluster.Restart(3))
	w.WaitSessions(3)
	w.raised()
	w.types(3, "havip-cluster status")
	w.types(1, "havip-cluster node standby NODE")
	w.types(3, "havip-cluster preflight")
	w.does("Take `--no-fence` out of the unit")
	w.Cluster.AgentArgs = before
	w.must(w.Cluster.Restart(3))
	w.Eventually("it is back", func() bool {
		_, err := w.Cluster.CLI(1, "node", "activate", "node-3")
		return err == nil
	})
	w.types(1, "havip-cluster node activate NODE")
	w.WaitSessions(3)
	w.types(3, "havip-cluster status")
	w.ended()
}

func (w *watched) noLeader() {
	w.t.Helper()
	for _, i := range []int{2, 3} {
		w.must(w.Cluster.Kill(i, syscall.SIGKILL))
		w.must(w.Cluster.AwaitEnd(i))
	}
	w.raised()
	w.types(1, "havip-cluster status")
	w.types(1, "havip-cluster node list")
	w.types(1, "havip-cluster keys status")
	w.does("A majority is off: start them")
	w.passes("havip-cluster recover", "TestRecover types it: after it the other data directories must be wiped")
	for _, i := range []int{2, 3} {
		w.must(w.Cluster.Start(i))
	}
	w.WaitSessions(3)
	w.types(1, "havip-cluster status")
	w.ended()
}

func (w *watched) versionsDiffer() {
	w.t.Helper()
	w.names = map[string]string{"NODE": "node-3"}
	now := w.Cluster.Binary
	w.Cluster.Binary = build(w.t, ".", "other")
	w.must(w.Cluster.Restart(3))
	w.Cluster.Binary = now
	w.WaitSessions(3)
	w.raised()
	w.sees(1, "havip-cluster node list", "other")
	w.does("Upgrade the ones that are behind")
	w.must(w.Cluster.Restart(3))
	w.types(1, "havip-cluster wait node NODE --alive")
	w.ended()
	w.types(1, "havip-cluster node list")
	time.Sleep(settleTime)
}
