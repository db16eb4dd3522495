package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
)

// packagesEnv names a folder with before.deb, now.deb and root, a clean Debian root: packaging/test.sh makes it.
const packagesEnv = "HAVIP_PACKAGES"

// life is three nodes with a root file system each, into which packages are installed.
type life struct {
	*Bed
	dir string
}

// newLife copies the clean root for each node.
func newLife(t *testing.T) *life {
	t.Helper()
	dir := os.Getenv(packagesEnv)
	if dir == "" {
		t.Skipf("it needs packages and a clean root: make packages-test")
	}
	l := &life{unformed(t, 3), dir}
	roots, err := os.MkdirTemp(dir, "life-")
	l.must(err)
	t.Cleanup(func() { // before the lab's own, so agents may still write there
		if os.Getenv("HAVIP_KEEP") != "" {
			return
		}
		if err := errors.Join(l.Cluster.Close(), os.RemoveAll(roots)); err != nil {
			t.Error(err)
		}
	})
	for i := 1; i <= 3; i++ {
		root := filepath.Join(roots, l.Cluster.NodeName(i))
		if out, err := exec.Command("cp", "-a", filepath.Join(dir, "root")+"/.", root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		l.Cluster.Roots = append(l.Cluster.Roots, root)
	}
	l.Cluster.Environment = netns.InRoot
	return l
}

// say writes what is done into the log of the life.
func (l *life) say(format string, args ...any) {
	l.t.Helper()
	l.t.Logf("== "+format, args...)
}

// dpkg runs it in a node's root, and in its network: what the package's scripts do is done to that host.
func (l *life) dpkg(i int, args ...string) string {
	l.t.Helper()
	out, err := l.Cluster.InsideRoot(i, "/usr/bin/dpkg", args...)
	if err != nil {
		l.t.Fatalf("node-%d: dpkg %s: %v: %s", i, strings.Join(args, " "), err, out)
	}
	for line := range strings.Lines(string(out)) {
		l.t.Logf("   node-%d: %s", i, strings.TrimSpace(line))
	}
	return string(out)
}

// install puts one of the two packages into a root.
func (l *life) install(i int, name string) string {
	l.t.Helper()
	deb, err := os.ReadFile(filepath.Join(l.dir, name))
	l.must(err)
	l.must(os.WriteFile(filepath.Join(l.Cluster.Roots[i-1], "tmp", name), deb, 0o644))
	return l.dpkg(i, "--force-confold", "-i", "/tmp/"+name)
}

// epochs are those of all HAVIPs: each change of owner adds one.
func (l *life) epochs(at int) map[string]uint64 {
	l.t.Helper()
	var list []struct {
		Name  string
		Epoch uint64
	}
	l.must(json.Unmarshal(l.CLI(at, "placement", "-o", "json"), &list))
	out := map[string]uint64{}
	for _, h := range list {
		out[h.Name] = h.Epoch
	}
	return out
}

// upgrade installs the package of now on a node that serves, which changes nothing, and restarts its agent as
// `systemctl restart` does: each HAVIP is handed over once at most. It returns how often each was.
func (l *life) upgrade(i int) (changed map[string]uint64) {
	l.t.Helper()
	at := i%3 + 1
	session := l.sessions()[l.Cluster.NodeName(i)]
	l.Place(i) // the one that is watched is there
	before := l.epochs(at)
	m := l.Watch(func() {
		l.install(i, "now.deb")
		if now := l.sessions()[l.Cluster.NodeName(i)]; now != session {
			l.t.Errorf("the package itself ended session %d of node-%d, which is %d now", session, i, now)
		}
		if now := l.epochs(at); fmt.Sprint(now) != fmt.Sprint(before) {
			l.t.Errorf("the package itself moved something: %v, then %v", before, now)
		}
		l.must(l.Cluster.Restart(i))
		l.Eventually(fmt.Sprintf("node-%d is back", i), func() bool { return l.sessions()[l.Cluster.NodeName(i)] > session })
		l.WaitVoters(3)
	})
	noDual(l.t, m)
	changed = map[string]uint64{}
	for name, epoch := range l.epochs(at) {
		if changed[name] = epoch - before[name]; changed[name] > 1 {
			l.t.Errorf("%s changed hands %d times at the upgrade of node-%d", name, changed[name], i)
		}
	}
	l.say("node-%d is upgraded: changes of owner %v, gap of web %v, two owners %v", i, changed, m.Gap, m.Dual)
	if changed["web"] != 1 || m.Gap > Lease {
		l.t.Errorf("web changed hands %d times with a gap of %v, want one hand-off", changed["web"], m.Gap)
	}
	return changed
}

// versions are those of the running agents, by node.
func (l *life) versions() map[string]string {
	l.t.Helper()
	nodes, err := l.Cluster.Nodes()
	l.must(err)
	out := map[string]string{}
	for _, n := range nodes {
		out[n.Name] = n.Version
	}
	return out
}

// TestLifeOfPackages is the life of three hosts that have the program from packages: installed in clean roots, bootstrap
// and join typed as the package says, each agent started as its unit says and with what that takes from it; then an
// upgrade from the version before, one node at a time; then nodes that go, until nothing is left.
func TestLifeOfPackages(t *testing.T) {
	l := newLife(t)
	for i := 1; i <= 3; i++ {
		l.say("node-%d: install", i)
		if said := l.install(i, "before.deb"); !strings.Contains(said, "havip-cluster bootstrap --node NAME --advertise IP") {
			t.Errorf("the package does not say what to type: %s", said)
		}
	}
	l.say("bootstrap and join")
	l.form(3)
	for n, name := range []string{"api", "db"} {
		l.CLI(1, "havip", "create", name, "--ip", l.Lab.Address(byte(101+n)).String(), "--no-range-limit")
	}
	l.Eventually("all owned", func() bool { return len(l.owners(1)) == 3 })
	old, havips := l.versions(), l.havips(1)
	l.say("versions %v", old)

	total := map[string]uint64{}
	for i := 1; i <= 3; i++ {
		l.say("node-%d: upgrade", i)
		for name, n := range l.upgrade(i) {
			total[name] += n
		}
		if gone := lost(t, havips, l.havips(i)); len(gone) > 0 {
			t.Errorf("after the upgrade of node-%d: %s", i, strings.Join(gone, "; "))
		}
	}
	for node, version := range l.versions() {
		if version == old[node] || version == "" {
			t.Errorf("%s runs %q after the upgrade from %q", node, version, old[node])
		}
	}
	l.say("all are upgraded: changes of owner in all %v; versions %v", total, l.versions())
	out, err := l.Cluster.Status(1)
	l.must(err)
	if !contains(out, `"fence_proved": true`) {
		t.Errorf("the fence is not proved under the unit: %s", out)
	}
	rated, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager", filepath.Join(l.Cluster.Roots[0], "usr/lib/systemd/system/havip-cluster.service")).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(rated)), "\n")
	l.say("the installed unit, under which the fence is proved: %s", strings.TrimSpace(lines[len(lines)-1]))
	if err != nil {
		t.Errorf("it is rated 4.0 or worse: %v\n%s", err, rated)
	}
	l.goes(3, 1)
	l.goes(2, 1)
	l.last()
}

// goes takes a node out of the cluster as the docs say, and its package with it: nothing of it stays.
func (l *life) goes(i, at int) {
	l.t.Helper()
	l.say("node-%d: node remove, remove, purge", i)
	m := l.Watch(func() {
		l.CLI(at, "node", "remove", l.Cluster.NodeName(i))
		_ = l.Cluster.Stop(i) // the agent of a removed node may have ended by itself, with an error
		time.Sleep(2 * Lease)
	})
	noDual(l.t, m)
	l.say("node-%d is removed: gap of web %v", i, m.Gap)
	if m.Gap > Lease {
		l.t.Errorf("a gap of %v, want one hand-off", m.Gap)
	}
	l.cleared(i)
}

// last removes the package of the last node, whose agent is stopped first, as the package's script does where systemd is.
func (l *life) last() {
	l.t.Helper()
	l.say("node-1, the last: remove, purge")
	l.must(l.Cluster.Stop(1))
	l.cleared(1)
}

// cleared removes and purges the package, and demands that nothing is left: no file, no address, no fence.
func (l *life) cleared(i int) {
	l.t.Helper()
	l.dpkg(i, "-r", "havip-cluster")
	if _, err := os.Stat(filepath.Join(l.Cluster.DataDir(i), "identity.json")); err != nil {
		l.t.Errorf("node-%d: remove took its data: %v", i, err)
	}
	if l.has(i) || l.fenceParts(i) != 0 {
		l.t.Errorf("node-%d: address %t and %d parts of a fence are left by remove", i, l.has(i), l.fenceParts(i))
	}
	l.dpkg(i, "-P", "havip-cluster")
	var left []string
	for _, path := range []string{"/var/lib/havip-cluster", "/etc/havip-cluster/agent.yaml", "/usr/bin/havip-cluster", "/usr/lib/systemd/system/havip-cluster.service", "/usr/share/doc/havip-cluster"} {
		if _, err := os.Lstat(filepath.Join(l.Cluster.Roots[i-1], path)); err == nil {
			left = append(left, path)
		}
	}
	if len(left) > 0 {
		l.t.Errorf("node-%d: purge left %v", i, left)
	}
}
