package scenario

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/jepsen/netns"
)

const composeFile = "../../docs/deploy/compose.yaml"

// imaged is a lab whose agents run from the image that `make image` makes, as docs/deploy/compose.yaml says.
func imaged(t *testing.T) *Bed {
	t.Helper()
	b := unformed(t, 3)
	archive, root := filepath.Join(b.Cluster.Dir, "image.tar"), filepath.Join(b.Cluster.Dir, "image")
	if out, err := exec.Command("go", "run", "havip-cluster/packaging/oci", "-binary", b.Cluster.Binary, "-out", archive).CombinedOutput(); err != nil {
		t.Fatalf("image: %v: %s", err, out)
	}
	image, err := netns.ReadImage(archive, composeFile, root)
	b.must(err)
	b.Cluster.Image, b.Cluster.Environment = image, netns.InImage
	return b
}

// The image as it is shipped, run as the compose file says: host network, read-only root, no other capabilities than those
// named, processes of its own. The fence is proved there, and killed or frozen whole a node is silent at its deadline.
func TestImage(t *testing.T) {
	long(t)
	beside(t)
	b := imaged(t)
	b.form(3)
	for i := 1; i <= 3; i++ {
		out, err := b.Cluster.Status(i)
		b.must(err)
		for _, want := range []string{`"fence": "ebpf"`, `"fence_hook": "tcx"`, `"fence_proved": true`, `"process": "guard"`} {
			if !bytes.Contains(out, []byte(want)) {
				t.Errorf("node-%d: no %s in its status", i, want)
			}
		}
		_, plane, _ := bytes.Cut(out, []byte(`"lease_plane": {`)) // what this host refuses, as a budget for real time in the container's group
		plane, _, _ = bytes.Cut(plane, []byte("}"))
		t.Logf("node-%d, lease plane: %s", i, bytes.Join(bytes.Fields(plane), []byte(" ")))
	}
	b.confined(1)
	b.killedIn("image")
	b.frozenIn("image")
	b.cleanedIn(netns.InImage)
	b.Place(2)
	m := b.Watch(func() {
		b.must(b.Cluster.Stop(2))
		b.NewOwner(b.other(2), 2)
		b.must(b.Cluster.Start(2))
		b.WaitSessions(3)
	})
	noDual(t, m)
	if m.Gap > Lease {
		t.Errorf("a stop of the container cost %v: it hands over", m.Gap)
	}
}

// confined demands of a node's agent what the compose file says of it.
func (b *Bed) confined(node int) {
	b.t.Helper()
	pid, err := b.Cluster.AgentPID(node)
	b.must(err)
	proc := fmt.Sprintf("/proc/%d/", pid)
	status, err := os.ReadFile(proc + "status")
	b.must(err)
	var want, mine uint64
	b.must(capabilities("self", "CapPrm", &mine))
	for _, name := range b.Cluster.Image.Service.CapAdd {
		want |= 1 << map[string]int{
			"NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW, "BPF": unix.CAP_BPF, "SYS_ADMIN": unix.CAP_SYS_ADMIN, "SYS_NICE": unix.CAP_SYS_NICE, "SYS_RESOURCE": unix.CAP_SYS_RESOURCE,
		}[name]
	}
	want &= mine // nobody can give more than he has
	for _, line := range []string{fmt.Sprintf("CapBnd:\t%016x", want), fmt.Sprintf("CapEff:\t%016x", want), "NoNewPrivs:\t1"} {
		if !contains(status, line) {
			b.t.Errorf("no %q in the status of node-%d's agent:\n%s", line, node, status)
		}
	}
	if err := os.WriteFile(proc+"root/written", nil, 0o600); err == nil {
		b.t.Error("the root can be written to") // the machine's own root could
	}
	if entries, err := os.ReadDir(proc + "root/usr/bin"); err != nil || len(entries) != 1 {
		b.t.Errorf("the image has %d programs: %v", len(entries), err)
	}
	if _, err := os.Stat(proc + "root/bin/sh"); err == nil {
		b.t.Error("the image has a shell")
	}
}

// capabilities reads one set of a process, as proc_pid_status(5) names it.
func capabilities(pid, set string, into *uint64) error {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), set+":")
	_, err = fmt.Sscanf(strings.TrimSpace(rest), "%x", into)
	return err
}

// FIELD part 3: the guard is the first process of its container, so what hooks leave behind comes to it, and it waits for
// it: no zombie stays.
func TestImageReapsWhatHooksLeave(t *testing.T) {
	long(t)
	beside(t)
	b := imaged(t)
	for _, folder := range []string{"/bin", "/lib", "/lib64"} {
		if _, err := os.Stat(folder); err == nil {
			b.Cluster.Image.Folders = append(b.Cluster.Image.Folders, folder)
		}
	}
	b.form(3)
	for i := 1; i <= 3; i++ {
		at := func(name string) string { return filepath.Join(b.Cluster.DataDir(i), name) }
		b.must(os.WriteFile(at("hook"), []byte("#!/bin/sh\nfor i in 1 2 3; do setsid sleep 0.3 >/dev/null 2>&1 & done\necho . >> /var/lib/havip-cluster/said\n"), 0o700))
		b.must(os.WriteFile(at("agent.yaml"), []byte("hooks: {on-acquire: [/var/lib/havip-cluster/hook], on-release: [/var/lib/havip-cluster/hook]}\n"), 0o600))
	}
	b.Cluster.AgentArgs = append(b.Cluster.AgentArgs, "--config", "/var/lib/havip-cluster/agent.yaml")
	for i := 1; i <= 3; i++ {
		b.must(b.Cluster.Restart(i))
		b.WaitSessions(3)
	}
	first := b.Owner()
	for range 3 {
		b.Place(first%3 + 1)
		b.Place(first)
	}
	said := func(i int) int {
		raw, err := os.ReadFile(filepath.Join(b.Cluster.DataDir(i), "said"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(raw), "\n")
	}
	b.Eventually("the hooks of six moves have run", func() bool { return said(first) >= 6 && said(first%3+1) >= 6 })
	for i := 1; i <= 3; i++ {
		b.Eventually(fmt.Sprintf("nothing but the agent is left to the guard of node-%d", i), func() bool {
			guard, err := b.Cluster.GuardPID(i)
			b.must(err)
			left, err := netns.Children(guard)
			b.must(err)
			return len(left) == 1
		})
		if n := b.zombies(i); n > 0 {
			t.Errorf("node-%d has %d zombies", i, n)
		}
	}
	time.Sleep(settleTime)
}

// zombies counts those among the guard's and the agent's children at a node.
func (b *Bed) zombies(node int) (n int) {
	b.t.Helper()
	guard, err := b.Cluster.GuardPID(node)
	b.must(err)
	agent, err := b.Cluster.AgentPID(node)
	b.must(err)
	for _, parent := range []int{guard, agent} {
		list, err := netns.Children(parent)
		b.must(err)
		for _, pid := range list {
			text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			if _, rest, _ := strings.Cut(string(text), ") "); err == nil && strings.HasPrefix(rest, "Z") {
				n++
			}
		}
	}
	return n
}
