package scenario

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
)

// plane is what a node's status says of what renews and answers.
type plane struct {
	Acceptor string `json:"acceptor"`
	Devices  string `json:"acceptor_devices"`
	Refused  string `json:"acceptor_refused"`
	Acked    uint64 `json:"acceptor_acked"`
	Counted  uint64 `json:"acceptor_counted"`
}

// plane asks a node itself; false: it does not answer.
func (b *Bed) plane(node int) (plane, bool) {
	b.t.Helper()
	var st struct {
		Local struct {
			Plane plane `json:"lease_plane"`
		} `json:"local"`
	}
	out, err := b.Cluster.CLI(node, "status", "-o", "json")
	if err != nil || json.Unmarshal(out, &st) != nil {
		return plane{}, false
	}
	return st.Local.Plane, true
}

// answersInKernel waits until a node's kernel answers renewals.
func (b *Bed) answersInKernel(node int) {
	b.t.Helper()
	first, known := b.plane(node)
	// "Nowhere" is what a node says that has not looked at the others' addresses yet: no reason to skip.
	if known && first.Refused != "" && !strings.Contains(first.Refused, "no Ethernet device leads") {
		b.t.Skipf("this host has no acceptor in the kernel: %s", first.Refused)
	}
	b.Eventually("renewals that the kernel of "+b.Cluster.NodeName(node)+" answers", func() bool {
		now, known := b.plane(node)
		return known && now.Acceptor == "kernel" && now.Devices != "" && now.Acked > first.Acked+3
	})
}

// countsInKernel waits until a node's kernel extends its lease.
func (b *Bed) countsInKernel(node int) {
	b.t.Helper()
	first, _ := b.plane(node)
	b.Eventually("a lease that the kernel of "+b.Cluster.NodeName(node)+" extends", func() bool {
		now, known := b.plane(node)
		return known && now.Counted > first.Counted+3
	})
}

// The kernel of a voter promises while all its processes are stopped, so an owner keeps its lease with a majority
// of which one is alive only there. The HAVIP answers all the time, at one place.
func TestVoterThatIsStoppedPromises(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	owner := b.Owner()
	stopped := b.other(owner)
	dead := b.other(owner, stopped)
	b.answersInKernel(stopped)
	b.countsInKernel(owner)
	session := b.session(owner)
	m := b.Watch(func() {
		b.must(b.Cluster.Kill(dead, syscall.SIGKILL))
		b.must(b.Cluster.Kill(stopped, syscall.SIGSTOP))
		time.Sleep(6 * Lease)
		b.must(b.Cluster.Kill(stopped, syscall.SIGCONT))
		time.Sleep(2 * Lease)
	})
	noDual(t, m)
	s := &Series{Name: "one voter dead, one stopped for six leases"}
	s.Add(m)
	report(t, s, 50*time.Millisecond)
	b.must(b.Cluster.Start(dead))
	b.WaitSessions(3)
	if now := b.session(owner); now != session {
		timely(t, "session %d became %d", session, now)
	}
}

// The owner's process hears no answer to its renewals for four leases, because the host drops them: as if it had no
// core for so long, but for what it sends. The kernel has counted them before, so the lease goes on. A busy machine may end
// it all the same, so there are a few attempts; without the count none comes through.
func TestTheKernelCountsForAProcessThatHearsNothing(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	s := &Series{Name: "an owner whose process hears no answer for four leases"}
	kept := false
	for attempt := 0; attempt < 3 && !kept; attempt++ {
		owner := b.Owner()
		b.answersInKernel(owner)
		b.countsInKernel(owner)
		session := b.session(owner)
		m := b.Watch(func() {
			undo, err := netns.DropUDP(b.Lab.Node(owner), leasePort)
			b.must(err)
			time.Sleep(4 * Lease)
			b.must(undo())
			time.Sleep(2 * Lease)
		})
		noDual(t, m)
		s.Add(m)
		now := b.session(owner)
		if kept = now == session; !kept {
			t.Logf("session %d became %d", session, now)
			b.WaitSessions(3)
		}
	}
	report(t, s, 50*time.Millisecond)
	if !kept {
		t.Error("no lease lived on by what the kernel has counted")
	}
}
