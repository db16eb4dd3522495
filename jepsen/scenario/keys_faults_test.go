package scenario

import (
	"encoding/json"
	"os"
	"syscall"
	"testing"
	"time"
)

// keysSeen collects the keys of each kind that a cluster had, by their ids.
type keysSeen struct {
	b                      *Bed
	nodes                  []int
	certs, words           map[string]map[string]bool // by the node's name
	cas, gossip            map[string]bool
	mostCAs                int // CAs that were trusted at one time
	looks, couldNotBeAsked int
}

func (b *Bed) keysSeen(nodes ...int) *keysSeen {
	return &keysSeen{b: b, nodes: nodes, certs: map[string]map[string]bool{}, words: map[string]map[string]bool{}, cas: map[string]bool{}, gossip: map[string]bool{}}
}

// look asks any node that answers. The words' keys follow the certificates: each pair of nodes has new ones with them.
func (k *keysSeen) look() {
	k.looks++
	for _, at := range k.nodes {
		var rows []keyRow
		out, err := k.b.Cluster.CLI(at, "keys", "status", "-o", "json")
		if err != nil || json.Unmarshal(out, &rows) != nil {
			continue
		}
		trusted := 0
		for _, r := range rows {
			switch r.What {
			case "ca":
				k.cas[r.ID] = true
				trusted++
			case "gossip":
				k.gossip[r.ID] = true
			case "certificate":
				note(k.certs, r.Node, r.ID)
			}
		}
		k.mostCAs = max(k.mostCAs, trusted)
		for _, n := range k.b.state(at).Nodes {
			if len(n.Keys) > 0 {
				note(k.words, n.Name, n.Keys[0].Certificate)
			}
		}
		return
	}
	k.couldNotBeAsked++ // no leader, for a moment
}

func note(of map[string]map[string]bool, node, id string) {
	if of[node] == nil {
		of[node] = map[string]bool{}
	}
	of[node][id] = true
}

// ask runs a command at a node until it is done: there may be no leader for a moment.
func (b *Bed) ask(at int, args ...string) {
	b.t.Helper()
	b.Eventually("it does "+args[0], func() bool { _, err := b.Cluster.CLI(at, args...); return err == nil })
}

// under watches the HAVIP while something happens. It must come back, and where the machine gives the processes
// their time, within a budget.
func (b *Bed) under(what string, budget time.Duration, happens func()) {
	b.t.Helper()
	m := b.Watch(happens)
	noDual(b.t, m)
	b.t.Logf("%-46s gap %s", what, m.Gap)
	switch {
	case m.Gap > 20*Lease:
		b.t.Errorf("%s: dark for %s", what, m.Gap)
	case m.Gap > budget:
		timely(b.t, "%s: the HAVIP was silent for %s, at most %s", what, m.Gap, budget)
	}
}

// Certificates of half a minute. In their first life the owner is killed while the CA is replaced and a node
// joins; in the second the leader's link is cut while the gossip key is replaced, and another node joins; in the third a
// voter is cut off while the CA is replaced once more, and a node is removed meanwhile. No gap beyond a
// failover's, nobody restarts but who was killed; then all sleep for two lives, and come back.
func TestThreeLivesOfKeysUnderFaults(t *testing.T) {
	long(t)
	beside(t)
	const life = 30 * time.Second
	const failover = 2 * Lease
	b := newBed(t, 5, 3)
	b.shortLived(3, life)
	pids := map[int]string{}
	for i := 1; i <= 3; i++ {
		pids[i] = b.agentPIDs(i)
	}
	seen := b.keysSeen(1, 2, 3)
	seen.look()
	began := time.Now()
	until := func(lives int) {
		for time.Since(began) < time.Duration(lives)*life {
			seen.look()
			time.Sleep(500 * time.Millisecond)
		}
	}
	ca := only(b.keyRows(1), "ca")

	killed := b.Owner()
	at := b.other(killed)
	b.under("the owner is killed, the CA is replaced", failover, func() {
		b.ask(at, "keys", "rotate", "ca")
		b.must(b.Cluster.Kill(killed, syscall.SIGKILL))
		b.must(b.Cluster.JoinVia(at, 4, "agent"))
		b.must(b.Cluster.Start(killed)) // each phase waits for it
		b.WaitSessions(4)
		b.replaced(at, "ca", ca)
		seen.look()
	})
	delete(pids, killed)
	b.under("nothing more in the first life", Lease/2, func() { until(1) })

	gossip := only(b.keyRows(1), "gossip")
	leader := b.Leader()
	at = b.other(leader)
	b.under("the leader is cut off, the gossip key is replaced", 2*failover, func() {
		b.ask(leader, "keys", "rotate", "gossip")
		b.must(b.Lab.Node(leader).SetLink(0, false))
		b.Eventually("another leader", func() bool { now, err := b.Cluster.Leader(); return err == nil && now != leader })
		time.Sleep(3 * time.Second)
		b.must(b.Lab.Node(leader).SetLink(0, true))
		b.WaitSessions(4)
		b.Eventually("node 5 joins", func() bool { return b.Cluster.JoinVia(at, 5, "agent") == nil })
		b.replaced(at, "gossip", gossip)
		seen.look()
	})
	b.under("nothing more in the second life", Lease/2, func() { until(2) })

	ca, gossip = only(b.keyRows(1), "ca"), only(b.keyRows(1), "gossip")
	follower := b.other(b.Leader())
	at = b.Leader()
	b.under("a voter is cut off, the CA is replaced", failover, func() {
		b.ask(at, "keys", "rotate", "ca")
		b.must(b.Lab.Node(follower).SetLink(0, false))
		b.ask(at, "node", "remove", "node-4", "--force")
		time.Sleep(4 * time.Second)
		seen.look()
		b.must(b.Lab.Node(follower).SetLink(0, true))
		b.WaitSessions(4)
		b.replaced(at, "ca", ca)
		b.replaced(at, "gossip", gossip) // node 4 knew that one
	})
	b.under("nothing more in the third life", Lease/2, func() { until(3) })

	for i, pid := range pids {
		if now := b.agentPIDs(i); now != pid {
			t.Errorf("agent %d is process %s, it was %s: it has restarted", i, now, pid)
		}
	}
	for _, node := range []string{"node-1", "node-2", "node-3"} {
		if len(seen.certs[node]) < 4 || len(seen.words[node]) < 4 {
			t.Errorf("%s had %d certificates and %d keys of words in three lives", node, len(seen.certs[node]), len(seen.words[node]))
		}
	}
	if len(seen.cas) < 3 || len(seen.gossip) < 3 {
		t.Errorf("%d CAs, %d gossip keys: two rotations of each", len(seen.cas), len(seen.gossip))
	}
	t.Logf("certificates %d %d %d, CAs %d (%d at one time), gossip keys %d; %d of %d looks found no leader", len(seen.certs["node-1"]), len(seen.certs["node-2"]), len(seen.certs["node-3"]),
		len(seen.cas), seen.mostCAs, len(seen.gossip), seen.couldNotBeAsked, seen.looks)

	for _, i := range []int{1, 2, 3, 5} {
		b.must(b.Cluster.Stop(i))
	}
	time.Sleep(2 * life)
	for _, i := range []int{1, 2, 3, 5} {
		b.must(b.Cluster.Start(i))
	}
	b.Owner()
	b.fresh(4)
	b.under("after two lives asleep", Lease/2, func() { time.Sleep(2 * time.Second) })
}

// fresh waits until n nodes have certificates that are good.
func (b *Bed) fresh(n int) {
	b.t.Helper()
	b.Eventually("new certificates", func() bool {
		var rows []keyRow
		out, err := b.Cluster.CLI(1, "keys", "status", "-o", "json")
		if err != nil || json.Unmarshal(out, &rows) != nil {
			return false
		}
		good := 0
		for _, r := range rows {
			if r.What == "certificate" && r.State == "ok" {
				good++
			}
		}
		return good == n
	})
}

// The majority is lost for good while the CA is replaced. The one that is left begins a cluster of another id, with a
// CA and a gossip key of its own and nothing of the rotation, and the others join it anew.
func TestRecoverWhileTheCAIsReplaced(t *testing.T) {
	long(t)
	beside(t)
	b := NewBed(t, 3)
	b.shortLived(3, time.Minute)
	before := b.keyRows(1)
	left := b.other(b.Leader())
	lost, also := b.other(left), b.other(left, b.other(left))
	name := b.Cluster.NodeName
	b.must(b.Lab.Node(also).SetLink(0, false)) // so that the phase cannot end
	b.ask(left, "keys", "rotate", "ca")
	b.Eventually("the CA is being replaced", func() bool { return only(b.keyRows(left), "ca") == "" })
	for _, i := range []int{lost, also} {
		b.must(b.Cluster.Kill(i, syscall.SIGKILL))
	}
	_ = b.Cluster.Stop(left) // nobody takes its session
	m := b.Watch(func() {
		if done := b.recover(left, "--off", name(lost)+","+name(also)); !done.Done {
			t.Errorf("recovered: %+v", done)
		}
		b.must(b.Cluster.Start(left))
		b.NewOwner(left, lost)
	})
	noDual(t, m)
	b.must(b.Lab.Node(also).SetLink(0, true))
	for _, i := range []int{lost, also} {
		b.CLI(i, "agent", "--cleanup")
		b.must(os.RemoveAll(b.Cluster.DataDir(i)))
		b.ask(left, "node", "remove", name(i), "--timeout", "20s")
		b.must(b.Cluster.JoinVia(left, i, "voter"))
	}
	b.WaitVoters(3)
	b.Eventually("one CA and one gossip key", func() bool {
		rows := b.keyRows(left)
		ca, gossip := only(rows, "ca"), only(rows, "gossip")
		return ca != "" && gossip != "" && ca != only(before, "ca") && gossip != only(before, "gossip")
	})
	ca := only(b.keyRows(left), "ca")
	b.ask(left, "keys", "rotate", "ca")
	b.replaced(left, "ca", ca)
}
