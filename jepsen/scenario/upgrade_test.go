package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/jepsen/netns"
)

// previous is the commit whose binary the upgrade starts from: the last release, or before
// the first one a commit that users may run.
const previous = "c0790e6"

// upgradeFields of a HAVIP are where it is, not what it is: an upgrade changes them.
var upgradeFields = []string{"eni", "node", "session", "epoch", "since", "index", "reason", "state"}

// git runs a command of git in the tree.
func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// oldCommit is previous, or in a clone that lacks it the oldest commit that it has; "" when
// there is no other than the present one.
func oldCommit(t *testing.T) string {
	t.Helper()
	if commit, err := git("rev-parse", "--verify", previous+"^{commit}"); err == nil {
		return commit
	}
	list, err := git("rev-list", "--topo-order", "--first-parent", "HEAD")
	commits := strings.Fields(list)
	if err != nil || len(commits) < 2 {
		t.Logf("the upgrade starts from the binary of commit %s, which is not here (git fetch --unshallow): only the restarts are tried, with one binary", previous)
		return ""
	}
	t.Logf("this clone lacks %s; its oldest commit %s is taken", previous, commits[len(commits)-1])
	return commits[len(commits)-1]
}

// build makes a binary in a folder of the test.
func build(t *testing.T, in, version string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "havip-cluster")
	args = append([]string{"build", "-trimpath", "-ldflags", "-X main.version=" + version, "-o", path}, args...)
	cmd := exec.Command("go", append(args, "havip-cluster/cmd/havip-cluster")...)
	cmd.Dir, cmd.Env = in, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build of %s: %v: %s", version, err, out)
	}
	return path
}

// oldBinary is built from the files of an earlier commit; other says whether it is another
// program than the present one, which may not read all of its commands.
func oldBinary(t *testing.T) (path string, other bool) {
	t.Helper()
	commit, dir := oldCommit(t), t.TempDir()
	if commit == "" {
		return build(t, ".", "old"), false
	}
	root, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "tree.tar")
	if _, err := git("-C", root, "archive", "--output", archive, commit); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", dir, "-xf", archive).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return build(t, dir, "old"), true
}

// formOf is form, by agents of the given binary.
func formOf(t *testing.T, binary string) *Bed {
	t.Helper()
	b := unformed(t, 3)
	b.Cluster.Binary = binary
	b.Cluster.Environment = netns.InHost // where an older fence's pins outlive it
	b.form(3)
	return b
}

// swap ends a node, starts it with another binary, and waits until it is in service again.
func (b *Bed) swap(node int, binary string, end func(node int) error) {
	b.t.Helper()
	session := b.sessions()[b.Cluster.NodeName(node)]
	b.must(end(node))
	b.Cluster.Binary = binary
	b.must(b.Cluster.Start(node))
	b.Eventually(fmt.Sprintf("a session of node-%d with the other binary", node), func() bool {
		return b.sessions()[b.Cluster.NodeName(node)] > session
	})
	b.WaitVoters(3)
}

// havips is what the cluster was told about each HAVIP.
func (b *Bed) havips(at int) map[string]string {
	b.t.Helper()
	var list []struct {
		Name string `json:"name"`
	}
	b.must(json.Unmarshal(b.CLI(at, "havip", "list", "-o", "json"), &list))
	out := map[string]string{}
	for _, h := range list {
		fields := map[string]any{}
		b.must(json.Unmarshal(b.CLI(at, "havip", "show", h.Name, "-o", "json"), &fields))
		for _, f := range upgradeFields {
			delete(fields, f)
		}
		text, err := json.Marshal(fields)
		b.must(err)
		out[h.Name] = string(text)
	}
	return out
}

// lost are those of before that differ in after; a newer binary may show more fields.
func lost(t *testing.T, before, after map[string]string) []string {
	t.Helper()
	var out []string
	for name, was := range before {
		var old, now map[string]any
		if json.Unmarshal([]byte(was), &old) != nil || json.Unmarshal([]byte(after[name]), &now) != nil {
			out = append(out, fmt.Sprintf("%s: was %s, is %q", name, was, after[name]))
			continue
		}
		for field, value := range old {
			if fmt.Sprint(now[field]) != fmt.Sprint(value) {
				out = append(out, fmt.Sprintf("%s, %s: was %v, is %v", name, field, value, now[field]))
			}
		}
	}
	return out
}

// nothingOld demands that each node has one fence, its own, and nothing of an older one; and that
// each owner serves.
func (b *Bed) nothingOld() {
	b.t.Helper()
	b.Eventually(fmt.Sprintf("level %d", fsm.CommandLevel), func() bool {
		var cluster struct{ Level int }
		out, err := b.Cluster.CLI(3, "cluster", "show", "-o", "json")
		return err == nil && json.Unmarshal(out, &cluster) == nil && cluster.Level == fsm.CommandLevel
	})
	for i := 1; i <= 3; i++ {
		if _, err := os.Stat(filepath.Join(b.Cluster.DataDir(i), "bpf")); !errors.Is(err, os.ErrNotExist) {
			b.t.Errorf("node-%d keeps the pins of the older fence: %v", i, err)
		}
		programs, err := netns.FencePrograms(b.Lab.Node(i), 0)
		b.must(err)
		if len(programs) != 2 {
			b.t.Errorf("node-%d has %d programs on its device, want one in each direction", i, len(programs))
		}
		b.Place(i)
		b.answersFrom(i)
	}
}

// A rolling upgrade, node by node: one owner at every instant, nothing forgotten, and what the
// older program cannot read is refused until the last node runs the newer one (fsm/level.go).
func TestRollingUpgrade(t *testing.T) {
	beside(t)
	newer, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	older, other := oldBinary(t)
	b := formOf(t, older)
	b.CLI(1, "havip", "create", "api", "--ip", b.Lab.Address(101).String(), "--range", "cvm:node-1,node-2", "--prefer", "node-2=7", "--failback", "never", "--priority", "3")
	b.CLI(2, "havip", "create", "off", "--ip", b.Lab.Address(102).String(), "--no-range-limit")
	b.CLI(2, "havip", "disable", "off")
	b.Eventually("two owned", func() bool { return len(b.owners(1)) == 2 })
	before := b.havips(1)
	if len(before) != 3 {
		t.Fatalf("HAVIPs %v, want three", maps.Keys(before))
	}
	s := &Series{Name: "rolling upgrade, node by node, 3 nodes"}
	for i := 1; i <= 3; i++ {
		end := b.Cluster.Stop
		if i == 3 { // it dies, and leaves everything to the newer one
			b.Place(i)
			end = func(i int) error { return b.Cluster.Kill(i, syscall.SIGKILL) }
		}
		m := b.Watch(func() { b.swap(i, newer, end) })
		noDual(t, m)
		if i < 3 {
			s.Add(m)
		}
		if gone := lost(t, before, b.havips(i)); len(gone) > 0 {
			t.Errorf("after the upgrade of node-%d: %s", i, strings.Join(gone, "; "))
		}
		if i < 3 && other { // node-3 would stop at such an entry
			if out, err := b.Cluster.CLI(i, "havip", "ban", "off", "node-1", "--for", "1h"); err == nil {
				t.Errorf("a command was taken that node-3 cannot read: %s", out)
			}
		}
	}
	b.Eventually("what all can read now", func() bool {
		_, err := b.Cluster.CLI(3, "havip", "ban", "off", "node-1", "--for", "1h")
		return err == nil
	})
	b.CLI(3, "havip", "create", "after", "--ip", b.Lab.Address(103).String(), "--no-range-limit")
	b.Eventually("all four enabled owned", func() bool { return len(b.owners(3)) == 3 })
	report(t, s, 20*time.Millisecond)
	b.nothingOld()
	nodes, err := b.Cluster.Nodes()
	b.must(err)
	for _, n := range nodes {
		if n.Version == "old" || n.Version == "" {
			t.Errorf("%s has version %q after the upgrade", n.Name, n.Version)
		}
	}
}
