package scenario

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recovered is what recover prints.
type recovered struct {
	Done       bool     `json:"done"`
	Cluster    string   `json:"cluster"`
	NewCluster string   `json:"new_cluster"`
	Others     []string `json:"others"`
	HAVIPs     int      `json:"havips"`
	Backup     string   `json:"backup"`
}

func (b *Bed) recover(node int, args ...string) (r recovered) {
	b.t.Helper()
	b.must(json.Unmarshal(b.CLI(node, append([]string{"recover", "-o", "json"}, args...)...), &r))
	return r
}

// Two of three voters never come back. The third goes on with all that was agreed, and the
// cluster grows again from it. An old node that somebody starts after all is not let in.
func TestRecoverFromTheLossOfTheMajority(t *testing.T) {
	long(t)
	beside(t)
	b := NewBed(t, 3)
	left := b.other(b.Leader())
	lost, stray := b.other(left), b.other(left, b.other(left))
	name := b.Cluster.NodeName
	b.Place(lost)
	b.CLI(left, "havip", "update", "web", "--priority", "7")

	b.refused(left, 1, "is held by", "recover")
	for _, i := range []int{lost, stray} {
		b.must(b.Cluster.Kill(i, syscall.SIGKILL))
	}
	_ = b.Cluster.Stop(left) // nobody takes its session
	before, err := os.ReadFile(b.Cluster.DataDir(left) + "/identity.json")
	b.must(err)

	trial := b.recover(left)
	if trial.Done || len(trial.Others) != 2 || trial.HAVIPs != 1 || trial.Backup != "" {
		t.Errorf("trial: %+v", trial)
	}
	b.refused(left, 1, "--off does not name "+name(stray), "recover", "--off", name(lost))
	b.refused(left, 1, "--off names \"node-9\"", "recover", "--off", name(lost)+",node-9")
	after, err := os.ReadFile(b.Cluster.DataDir(left) + "/identity.json")
	b.must(err)
	if string(after) != string(before) {
		t.Error("a trial changed the data directory")
	}

	m := b.Watch(func() {
		done := b.recover(left, "--off", name(lost)+","+name(stray))
		if !done.Done || done.Cluster != trial.Cluster || done.NewCluster == trial.Cluster || !strings.Contains(string(before), done.Cluster) {
			t.Errorf("done: %+v", done)
		}
		if old, err := os.ReadFile(done.Backup + "/identity.json"); err != nil || string(old) != string(before) {
			t.Errorf("the backup: %v, %s", err, old)
		}
		b.must(b.Cluster.Start(left))
		b.NewOwner(left, lost)
		b.must(b.Cluster.Start(stray))
		time.Sleep(4 * Lease)
	})
	noDual(t, m)
	if m.After != name(left) || b.NewOwner(left, lost) != left {
		t.Errorf("%s answers, not %s", m.After, name(left))
	}
	if out := b.CLI(left, "havip", "show", "web", "-o", "json"); !contains(out, `"priority": 7`) {
		t.Errorf("the priority is gone: %s", out)
	}

	b.must(b.Cluster.Kill(stray, syscall.SIGKILL))
	for _, i := range []int{lost, stray} {
		b.CLI(i, "agent", "--cleanup")
		b.must(os.RemoveAll(b.Cluster.DataDir(i)))
		b.CLI(left, "node", "remove", name(i), "--timeout", "20s")
		b.must(b.Cluster.JoinVia(left, i, "voter"))
	}
	b.WaitVoters(3)
	b.WaitSessions(3)
	m = b.Watch(func() {
		b.must(b.Cluster.Kill(left, syscall.SIGKILL))
		b.NewOwner(lost, left)
	})
	noDual(t, m)
}
