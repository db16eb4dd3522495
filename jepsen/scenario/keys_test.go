package scenario

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// keyRow is a line of `keys status -o json`, as far as these tests look.
type keyRow struct {
	What     string     `json:"what"`
	Node     string     `json:"node"`
	ID       string     `json:"id"`
	Issuer   string     `json:"issuer"`
	NotAfter *time.Time `json:"not_after"`
	State    string     `json:"state"`
	Phase    string     `json:"phase"`
	Holders  []string   `json:"holders"`
	Awaited  []string   `json:"awaited"`
}

// keyRows are the keys of the cluster as a node says.
func (b *Bed) keyRows(at int) (rows []keyRow) {
	b.t.Helper()
	b.must(json.Unmarshal(b.CLI(at, "keys", "status", "-o", "json"), &rows))
	return rows
}

// certificates are the ids of the nodes' certificates, by the node's name.
func certificates(rows []keyRow) map[string]string {
	out := map[string]string{}
	for _, r := range rows {
		if r.What == "certificate" {
			out[r.Node] = r.ID
		}
	}
	return out
}

// only returns the id of the one key of a kind, or "" while there are several.
func only(rows []keyRow, what string) string {
	id := ""
	for _, r := range rows {
		if r.What == what {
			if id != "" || r.Phase != "" {
				return ""
			}
			id = r.ID
		}
	}
	return id
}

// shortLived gives all n nodes certificates of a life.
func (b *Bed) shortLived(n int, life time.Duration) {
	b.t.Helper()
	b.Eventually("all nodes have reported their keys", func() bool {
		certs := certificates(b.keyRows(1))
		return len(certs) == n && !slices.Contains(slices.Collect(maps.Values(certs)), "") && only(b.keyRows(1), "ca") != ""
	})
	b.CLI(1, "cluster", "set", "certificate-life="+life.String())
	b.CLI(1, "keys", "rotate", "node")
	b.Eventually("certificates are short", func() bool {
		for _, r := range b.keyRows(1) {
			if r.What == "certificate" && (r.NotAfter == nil || time.Until(*r.NotAfter) > life) {
				return false
			}
		}
		return true
	})
}

// replaced waits for another key of a kind than before.
func (b *Bed) replaced(at int, what, before string) {
	b.t.Helper()
	b.Eventually("another key of "+what, func() bool {
		now := only(b.keyRows(at), what)
		return now != "" && now != before
	})
}

func (b *Bed) agentPIDs(nodes ...int) string {
	b.t.Helper()
	var out []string
	for _, i := range nodes {
		pid, err := b.Cluster.AgentPID(i)
		b.must(err)
		out = append(out, fmt.Sprint(pid))
	}
	return strings.Join(out, " ")
}

// Three lives of node certificates, and meanwhile another CA and another gossip key, a node that
// joins while the CA is replaced and is removed again: no gap of the HAVIP, no restart.
func TestKeysLiveOnARunningCluster(t *testing.T) {
	long(t)
	beside(t)
	const life = 30 * time.Second
	b := newBed(t, 4, 3)
	b.shortLived(3, life)
	pids := b.agentPIDs(1, 2, 3)
	before := b.keyRows(1)
	ca, gossip := only(before, "ca"), only(before, "gossip")
	seen := map[string]map[string]bool{}
	look := func() {
		for node, id := range certificates(b.keyRows(1)) {
			if seen[node] == nil {
				seen[node] = map[string]bool{}
			}
			seen[node][id] = true
		}
	}
	began := time.Now()
	m := b.Watch(func() {
		b.CLI(1, "keys", "rotate", "ca")
		b.must(b.Cluster.Join(4, "agent"))
		b.replaced(1, "ca", ca)
		look()
		b.CLI(2, "keys", "rotate", "gossip")
		b.replaced(1, "gossip", gossip)
		gossip = only(b.keyRows(1), "gossip")
		b.CLI(1, "node", "remove", "node-4")
		b.removed(1, 4)
		b.replaced(1, "gossip", gossip) // it knew that one
		for time.Since(began) < 3*life {
			look()
			time.Sleep(time.Second)
		}
	})
	noDual(t, m)
	if m.Gap > Lease/2 {
		timely(t, "the HAVIP was silent for %s", m.Gap)
	}
	if now := b.agentPIDs(1, 2, 3); now != pids {
		t.Errorf("agents %s, they were %s: one has restarted", now, pids)
	}
	for _, node := range []string{"node-1", "node-2", "node-3"} {
		if len(seen[node]) < 4 {
			t.Errorf("%s had %d certificates in three lives", node, len(seen[node]))
		}
	}
	for _, r := range b.keyRows(1) {
		if r.What == "certificate" && r.State != "ok" {
			t.Errorf("at the end: %+v", r)
		}
	}
}

// All agents are off for two lives of their certificates. They elect a leader among themselves,
// say why, and have new certificates at once.
func TestAsleepForTwoLives(t *testing.T) {
	long(t)
	beside(t)
	const life = 20 * time.Second
	b := NewBed(t, 3)
	b.shortLived(3, life)
	for i := range b.Lab.Nodes() {
		b.must(b.Cluster.Stop(i + 1))
	}
	time.Sleep(2 * life)
	for i := range b.Lab.Nodes() {
		b.must(b.Cluster.Start(i + 1))
	}
	b.Owner()
	b.Eventually("new certificates", func() bool {
		rows := []keyRow{}
		out, err := b.Cluster.CLI(1, "keys", "status", "-o", "json")
		if err != nil || json.Unmarshal(out, &rows) != nil {
			return false
		}
		for _, r := range rows {
			if r.What == "certificate" && r.State != "ok" {
				return false
			}
		}
		return len(rows) == 5
	})
	loud := ""
	for i := range b.Lab.Nodes() {
		loud += b.logged(i + 1)
	}
	if !strings.Contains(loud, "has ended") {
		t.Error("no log says that certificates had ended")
	}
}

// Certificates of a minute are warned of when they are not renewed, and the leader's link is cut
// for 3 s when they have ended: with the CA's keys out of reach nothing can be renewed, and the
// cluster goes on all the same.
func TestTheLeaderIsCutWhenAllCertificatesHaveEnded(t *testing.T) {
	long(t)
	beside(t)
	const life = 30 * time.Second
	b := NewBed(t, 3)
	b.shortLived(3, life)
	for i := range b.Lab.Nodes() {
		b.withoutCA(i + 1)
	}
	b.Owner()
	b.Eventually("a warning", func() bool {
		return slices.ContainsFunc(b.keyRows(1), func(r keyRow) bool { return r.State == "warning" })
	})
	b.tells("the certificate of node", "has not been renewed")
	b.Eventually("all certificates have ended", func() bool {
		for _, r := range b.keyRows(1) {
			if r.What == "certificate" && r.State != "ended" {
				return false
			}
		}
		return true
	})
	b.tells("the certificate of this node ended at")
	m := b.cutFor(b.Leader(), 3*time.Second)
	noDual(t, m)
	if m.Gap > 10*Lease {
		timely(t, "dark for %s", m.Gap)
	}
	b.Eventually("a leader after the cut", func() bool { return b.Owner() != 0 && b.Leader() != 0 })
	b.CLI(b.Leader(), "cluster", "set", "per-eni=7") // and it commits
}

// withoutCA restarts a node without the CA's key, as when the disks that have it are gone.
func (b *Bed) withoutCA(node int) {
	b.t.Helper()
	b.must(b.Cluster.Stop(node))
	path := filepath.Join(b.Cluster.DataDir(node), "keys.json")
	text, err := os.ReadFile(path)
	b.must(err)
	var keys map[string]json.RawMessage
	b.must(json.Unmarshal(text, &keys))
	delete(keys, "held")
	text, err = json.Marshal(keys)
	b.must(err)
	b.must(os.WriteFile(path, text, 0o600))
	b.must(b.Cluster.Start(node))
	b.WaitSessions(3)
}

// cutFor takes the link of a node away for a time.
func (b *Bed) cutFor(node int, d time.Duration) Measured {
	b.t.Helper()
	m := b.Watch(func() {
		b.must(b.Lab.Node(node).SetLink(0, false))
		time.Sleep(d)
		b.must(b.Lab.Node(node).SetLink(0, true))
		b.Eventually("the others go on", func() bool { _, err := b.Cluster.Leader(); return err == nil })
		time.Sleep(time.Second)
	})
	return m
}
