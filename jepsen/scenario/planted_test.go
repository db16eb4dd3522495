package scenario

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// The instruments must see two owners when there are two: the real binary, built with
// planted bugs, is caught by the observer. The bugs whose window is shorter than what an
// observer can resolve are caught in netdev/fence, failover and failover/lease.
func TestObserverSeesPlantedBugs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "havip-cluster")
	cmd := exec.Command("go", "build", "-tags", "mutants", "-o", path, "havip-cluster/cmd/havip-cluster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	move := func(b *Bed) (from, to int) {
		from = b.Owner()
		to = b.other(from)
		b.CLI(to, "havip", "move", "web", "--to", b.Cluster.NodeName(to))
		b.NewOwner(to, from)
		time.Sleep(Lease)
		return from, to
	}
	for _, bug := range []struct {
		mutant string
		fault  func(b *Bed)
	}{
		{"handoff-early", func(b *Bed) { move(b) }},
		{"fence-not-shut", func(b *Bed) {
			from, _ := move(b)
			b.must(b.Lab.Node(from).Do(func() error { return netlink.AddrAdd(eth0(), hostAddr(b.HAVIP)) }))
			time.Sleep(Lease)
		}},
	} {
		for _, planted := range []bool{true, false} {
			b := unformed(t, 3)
			b.Cluster.Binary = path
			if planted {
				b.Cluster.Env = []string{"HAVIP_MUTANT=" + bug.mutant}
			}
			b.form(3)
			if m := b.Watch(func() { bug.fault(b) }); planted != (m.Dual.Certain > 0) {
				t.Errorf("%s planted %t: the observer saw two owners for %s", bug.mutant, planted, m.Dual.Certain)
			}
		}
	}
}
