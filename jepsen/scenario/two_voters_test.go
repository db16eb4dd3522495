package scenario

import (
	"syscall"
	"testing"
	"time"
)

// FIELD A37: of two hosts the one that is stopped in order hands its vote over, with what it owns: the other goes on
// alone, takes changes, and the first votes again when it is back. Then the other way round, leader or not.
func TestTwoVotersOneStops(t *testing.T) {
	long(t)
	b := NewBed(t, 2)
	for round := range 2 {
		stays := 1 + round%2
		stops := 3 - stays
		b.WaitVoters(2)
		b.Place(stops)
		m := b.Watch(func() {
			b.must(b.Cluster.Stop(stops))
			if now := b.NewOwner(stays, stops); now != stays {
				t.Errorf("node-%d owns it, not the one that stays", now)
			}
			time.Sleep(4 * Lease) // by then it would be silent if the other vote counted
			name := map[bool]string{true: "day", false: "night"}[round%2 == 0]
			b.CLI(stays, "havip", "create", name, "--ip", b.Lab.Address(byte(101+round)).String(), "--no-range-limit")
			out, _ := b.Cluster.CLI(stays, "status")
			if text := b.Cluster.NodeName(stops) + " was stopped in order and handed its vote over"; !contains(out, text) {
				t.Errorf("status does not say %q:\n%s", text, out)
			}
			b.CLI(stays, "havip", "delete", name, "--force")
			b.must(b.Cluster.Start(stops))
			b.WaitVoters(2)
			time.Sleep(2 * Lease)
		})
		noDual(t, m)
		t.Logf("node-%d stopped and came back: the longest gap was %v", stops, m.Gap)
		if m.Gap > Lease {
			t.Errorf("a gap of %v; the hand-off is the only one that there should be", m.Gap)
		}
	}
}

// What a stop cannot give: the host that went on alone has what was decided since. While it is off, the other one
// serves nothing and says whom to start; when it is back, all goes on, and the stopped one votes again.
func TestTwoVotersTheOneThatStaysIsLost(t *testing.T) {
	long(t)
	b := NewBed(t, 2)
	b.Place(2)
	b.must(b.Cluster.Stop(2))
	b.NewOwner(1, 2)
	b.CLI(1, "havip", "create", "alone", "--ip", b.Lab.Address(101).String(), "--no-range-limit")
	b.must(b.Cluster.Kill(1, syscall.SIGKILL))
	b.must(b.Cluster.Start(2))
	var status []byte
	b.Eventually("its status", func() bool {
		out, _ := b.Cluster.CLI(2, "status")
		status = out
		return len(out) > 0
	})
	if !contains(status, "10.77.0.11:7401 alone votes: start it") {
		t.Errorf("status does not say whom to start:\n%s", status)
	}
	time.Sleep(3 * Lease)
	if b.has(2) {
		t.Error("node-2 serves, although it cannot know what was decided without it")
	}
	if !b.Cluster.Running(1) {
		b.must(b.Cluster.Start(1))
	}
	b.WaitVoters(2)
	b.WaitSessions(2)
	if out := b.CLI(2, "havip", "list", "-o", "name"); !contains(out, "alone") {
		t.Errorf("what node-1 decided alone is gone:\n%s", out)
	}
}

// Both are stopped at once: whatever the two stops came to, both started again serve again.
func TestTwoVotersBothStop(t *testing.T) {
	long(t)
	b := NewBed(t, 2)
	ended := make(chan error, 2)
	began := time.Now()
	for i := 1; i <= 2; i++ {
		go func() { ended <- b.Cluster.Stop(i) }()
	}
	for range 2 {
		b.must(<-ended)
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("the two stops took %v", took)
	}
	for i := 1; i <= 2; i++ {
		b.must(b.Cluster.Start(i))
	}
	b.WaitVoters(2)
	b.WaitSessions(2)
	b.Eventually("it is served again", func() bool { return b.has(b.Owner()) })
}

// A kill hands nothing over: the other one of two falls silent within a lease, and its status says in red what it can
// know, and who has to be there. When the killed one is back, both serve again (FIELD N5).
func TestTwoVotersOneIsKilled(t *testing.T) {
	long(t)
	b := NewBed(t, 2)
	b.Place(1)
	b.must(b.Cluster.Kill(2, syscall.SIGKILL))
	b.must(b.Lab.Node(2).SetLink(0, false)) // whatever would start it again
	time.Sleep(4 * Lease)
	if b.has(1) {
		t.Error("node-1 goes on without a majority")
	}
	out, _ := b.Cluster.CLI(1, "status")
	for _, text := range []string{"RED", "two vote, this node and node-2, and both have to be there"} {
		if !contains(out, text) {
			t.Errorf("status does not say %q:\n%s", text, out)
		}
	}
	if contains(out, "1 with an owner") || !contains(out, "1 had an owner when this node last heard a leader, ") {
		t.Errorf("nobody serves it, and status does not say how old what it says is:\n%s", out)
	}
	b.must(b.Lab.Node(2).SetLink(0, true))
	if !b.Cluster.Running(2) {
		b.must(b.Cluster.Start(2))
	}
	b.WaitSessions(2)
	b.Eventually("it is served again", func() bool { return b.has(b.Owner()) })
}
