package scenario

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"havip-cluster/jepsen/netns"
)

// fences are the words of --fence, and what status calls them.
var fences = []struct{ word, kind string }{{"tcx", "ebpf"}, {"clsact", "ebpf"}, {"nftables", "nftables"}}

// always are the pairs that are played in each run; a measuring one plays all of them.
var always = []string{"unshare-m/nftables", "runc/tcx", "unit/clsact"}

// Where the agents live makes no difference to the promise: killed or frozen whole, a node is
// silent at the deadline, and what it leaves is found by the next process, wherever that lives.
func TestEnvironments(t *testing.T) {
	beside(t)
	for _, in := range netns.Environments() {
		for _, fence := range fences {
			name := fmt.Sprintf("%s/%s", in, fence.word)
			if !measuring() && !contains([]byte(strings.Join(always, " ")), name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				b := unformed(t, 3)
				b.Cluster.Environment = in
				b.Cluster.AgentArgs = append(b.Cluster.AgentArgs, "--fence", fence.word)
				b.form(3)
				for i := 1; i <= 3; i++ {
					if out, err := b.Cluster.Status(i); err != nil || !bytes.Contains(out, []byte(`"`+fence.kind)) {
						t.Fatalf("node-%d does not show the fence %s: %v in %s", i, fence.kind, err, out)
					}
					plane := "guard"
					if fence.kind == "nftables" { // a deadline is a transaction there
						plane = "agent"
					}
					if out, err := b.Cluster.Status(i); err != nil || !bytes.Contains(out, []byte(`"process": "`+plane+`"`)) {
						t.Errorf("node-%d does not renew in the %s: %v in %s", i, plane, err, out)
					}
				}
				b.killedIn(name)
				b.frozenIn(name)
				b.cleanedIn(in)
			})
		}
	}
}

// killedIn kills every process of the owner, and starts it again in a new mount namespace.
func (b *Bed) killedIn(name string) {
	b.t.Helper()
	s := &Series{Name: "SIGKILL of all, " + name}
	for range Runs(1) {
		b.Place(b.other(b.Leader()))
		owner := b.Owner()
		before := b.fenceParts(owner)
		m, said, killed, observer := b.killAll(owner)
		noDual(b.t, m)
		quiet(b.t, said)
		s.Add(m)
		b.silentAfter(observer, owner, killed)
		if left := b.fenceParts(owner); left != before {
			b.t.Errorf("%s: of the fence on node-%d's device %d parts are left, of %d", name, owner, left, before)
		}
		b.restart(owner)
		if b.has(owner) {
			b.t.Errorf("%s: the address is still on node-%d after the restart", name, owner)
		}
		if now := b.fenceParts(owner); now != before {
			b.t.Errorf("%s: after the restart the device of node-%d has %d parts of a fence, before it had %d", name, owner, now, before)
		}
		b.Place(owner) // what was adopted opens again
		b.answersFrom(owner)
	}
	report(b.t, s, Lease*12/10)
}

// frozenIn stops every process of the owner for three leases after its successor has begun.
func (b *Bed) frozenIn(name string) {
	b.t.Helper()
	s := &Series{Name: "SIGSTOP of all, " + name}
	for range Runs(1) {
		b.Place(b.other(b.Leader()))
		owner := b.Owner()
		wire, err := b.Lab.Capture(b.Lab.Node(owner), 0)
		b.must(err)
		until, deadline := b.deadline(owner), int64(0)
		m := b.Watch(func() {
			anyMoment()
			b.must(b.Cluster.Kill(owner, syscall.SIGSTOP))
			b.NewOwner(b.other(owner), owner)
			time.Sleep(3 * Lease)
			deadline = until()
			b.must(b.Cluster.Kill(owner, syscall.SIGCONT))
			time.Sleep(2 * Lease)
		})
		noDual(b.t, m)
		quiet(b.t, b.judge(wire, deadline))
		s.Add(m)
		b.WaitSessions(3)
		if b.has(owner) {
			b.t.Errorf("%s: node-%d came back with the address", name, owner)
		}
	}
	report(b.t, s, Lease*12/10)
}

// cleanedIn has the leftovers of a killed node removed from a mount namespace that never was the
// agent's and has no bpffs.
func (b *Bed) cleanedIn(in netns.Environment) {
	b.t.Helper()
	b.Place(b.other(b.Leader()))
	owner := b.Owner()
	b.must(b.Cluster.Kill(owner, syscall.SIGKILL))
	for again := 1; again < attempts && !b.has(owner); again++ { // a busy host may look when the address's life is over
		b.restart(owner)
		b.Place(owner)
		b.must(b.Cluster.Kill(owner, syscall.SIGKILL))
	}
	if !b.has(owner) || b.fenceParts(owner) == 0 {
		b.t.Errorf("after SIGKILL in %s: address %t, parts of the fence %d", in, b.has(owner), b.fenceParts(owner))
	}
	if _, err := b.Cluster.In(netns.InNetnsExec, owner, "agent", "--cleanup"); err != nil {
		b.t.Errorf("cleanup: %v", err)
	}
	if b.has(owner) || b.fenceParts(owner) != 0 {
		b.t.Errorf("after the cleanup: address %t, parts of the fence %d", b.has(owner), b.fenceParts(owner))
	}
	b.restart(owner)
}

// fenceParts counts the eBPF programs on a node's device and its tables of nftables.
func (b *Bed) fenceParts(node int) (n int) {
	b.t.Helper()
	programs, err := netns.FencePrograms(b.Lab.Node(node), 0)
	b.must(err)
	b.must(b.Lab.Node(node).Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
		n = len(programs) + len(tables)
		return err
	}))
	return n
}

// answersFrom demands that a client's question is answered by a node before long.
func (b *Bed) answersFrom(node int) {
	b.t.Helper()
	m := b.Watch(func() { time.Sleep(settleTime) })
	for again := 1; again < attempts && m.After != b.Cluster.NodeName(node); again++ { // on a busy host it may have lost its lease
		b.Place(node)
		m = b.Watch(func() { time.Sleep(settleTime) })
	}
	if m.After != b.Cluster.NodeName(node) {
		b.t.Errorf("%q answers last (%d questions without an answer), not %s", m.After, m.Lost, b.Cluster.NodeName(node))
	}
}

// The unit takes away what the agent does not need.
func TestUnitIsRated(t *testing.T) {
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager", unitFile).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
	if err != nil {
		t.Errorf("rated 4.0 or worse: %v\n%s", err, out)
	}
}

// The rebuilt unit refuses what the real one does: else a run in it would prove nothing.
func TestUnitRefuses(t *testing.T) {
	b := unformed(t, 1)
	data := b.Cluster.DataDir(1)
	for _, c := range []struct {
		ok      bool
		command string
	}{
		{true, "touch " + data + "/mine"},
		{true, "touch /tmp/private"},
		{true, "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_ignore"},
		{true, "ip link add zz0 type veth peer zz1 && ip link del zz0"},
		{false, "touch /etc/not-mine"},
		{false, "touch " + b.Cluster.Dir + "/not-mine"},
		{false, "ls /root/* || ls /home/*"},
		{false, "ls /dev/kmsg"},
		{false, "mount -t tmpfs tmpfs /mnt"},
		{false, "unshare -m true"},
		{false, "unshare -u true"},
		{true, "unshare -n true"},
		{false, "chroot / true"},
		{false, "setpriv --inh-caps=+chown --ambient-caps=+chown true"},
		{true, "grep -q 'NoNewPrivs:.1' /proc/self/status && grep -q 'Seccomp:.2' /proc/self/status"},
		{false, "date -s @0"},
	} {
		if out, err := b.Cluster.RunIn(netns.InUnit, 1, "/bin/sh", "-c", c.command); c.ok != (err == nil) {
			t.Errorf("%s: permitted %t, want %t: %s %v", c.command, err == nil, c.ok, out, err)
		}
	}
}
