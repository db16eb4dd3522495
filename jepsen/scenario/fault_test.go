package scenario

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// burn keeps every core busy with ordinary processes until the test ends.
func burn(t *testing.T, n int) {
	t.Helper()
	for range n {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		// The tests themselves run with a raised priority, which is not ordinary.
		if err := unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// Killed and frozen owners on hosts whose cores are all busy: the kernel's fence does not
// wait for a process to be scheduled.
func TestDeathAndFreezeUnderLoad(t *testing.T) {
	b := NewBed(t, 3)
	burn(t, 4)
	s := &Series{Name: "SIGKILL or SIGSTOP of all, cores busy"}
	for i := range Runs(2) {
		owner := b.Owner()
		m := b.Watch(func() {
			time.Sleep(time.Duration(i*37%100) * time.Millisecond) // another moment of the renewal cycle
			if i%2 == 0 {
				b.must(b.Cluster.Kill(owner, syscall.SIGKILL))
				b.NewOwner(b.other(owner), owner)
				return
			}
			b.must(b.Cluster.Kill(owner, syscall.SIGSTOP))
			time.Sleep(3 * Lease)
			b.must(b.Cluster.Kill(owner, syscall.SIGCONT))
			time.Sleep(Lease)
		})
		noDual(t, m)
		s.Add(m)
		if i%2 == 0 {
			b.restart(owner)
		}
		b.WaitSessions(3)
	}
	report(t, s, 3*Lease)
}

// A second host with the identity of the first refuses to start: it has not the address; and
// with the address the first one answers, with a MAC that the copied disk knows for its own.
func TestClonedDisk(t *testing.T) {
	beside(t)
	b := newBed(t, 4, 3)
	clone := b.Lab.Node(4)
	b.must(os.Mkdir(b.Cluster.DataDir(4), 0o700))
	for _, part := range []string{"identity.json", "macs.json", "ca.crt", "ca.key", "node.crt", "node.key", "gossip.key", "raft"} {
		b.must(exec.Command("cp", "-a", filepath.Join(b.Cluster.DataDir(1), part), b.Cluster.DataDir(4)).Run())
	}
	b.refused(4, 1, "no address of this host", "agent")
	twice := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(b.Lab.Node(1).IP(0), 24))}
	m := b.Watch(func() {
		b.must(clone.Do(func() error { return netlink.AddrAdd(eth0(), twice) }))
		b.refused(4, 1, "another host (MAC ", "agent")
		b.refused(4, 1, "another process runs as this node", "agent") // and once more
		b.must(clone.Do(func() error { return netlink.AddrDel(eth0(), twice) }))
	})
	noDual(t, m)
}

// The leader's disk is full: another node leads, and a HAVIP elsewhere notices nothing.
func TestFullDisk(t *testing.T) {
	beside(t)
	b := unformed(t, 3)
	b.smallDisk(1)
	b.form(3)
	b.leads(1)
	if out := b.CLI(1, "status"); !contains(out, "MiB left") {
		t.Errorf("a disk of 4 MiB is not named:\n%s", out)
	}
	b.Place(2)
	m := b.Watch(func() {
		b.fill(1)
		for i := range 400 { // the log's file has free pages to use up first
			if _, err := b.Cluster.CLI(2, "havip", "create", fmt.Sprint("filler-", i), "--subnet", "net-10.77.0.0-24", "--no-range-limit", "--timeout", "10s"); err != nil {
				break
			}
			if leader, err := b.Cluster.Leader(); err == nil && leader != 1 {
				break
			}
		}
		b.Eventually("another leader", func() bool {
			leader, err := b.Cluster.Leader()
			return err == nil && leader != 1
		})
	})
	noDual(t, m)
	if b.Owner() != 2 {
		timely(t, "the HAVIP left its owner")
	}
}
