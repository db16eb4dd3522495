package membership

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/membership/identity"
)

// A disk that hangs takes the leader down, and what it wrote late has never been there.
func TestALeaderWithAStalledDiskStepsDown(t *testing.T) {
	t.Parallel()
	p := newFounder(t)
	disk := stall(p)
	c := &cluster{t: t}
	c.add(p.open())
	c.leader()
	c.do(subnet(1))
	release := disk.hold()
	start := time.Now()
	// Not committed; if a no-op before it hangs already, it does not even get to the log.
	if _, err := p.node.Propose(soon(t), 0, "", subnet(2)); !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("propose: %v", err)
	}
	eventually(t, "it steps down", func() bool { _, ok := p.node.Leading(); return !ok })
	t.Logf("stepped down after %v, the guard's limit is %v", time.Since(start), p.node.guard.limit())
	if !p.node.Disk().Stalled {
		t.Error("the disk is not called stalled")
	}
	release()
	c.do(subnet(3))
	if s := p.node.State(); has(s, 2) || !has(s, 3) {
		t.Errorf("the late write is there: %v, the new one: %v", has(s, 2), has(s, 3))
	}
	p.close()
	p.open()
	p.reconcile(c.all)
	eventually(t, "the same after a restart", func() bool { return has(p.node.State(), 3) && !has(p.node.State(), 2) })
	if p.node.Halted() != nil {
		t.Error(p.node.Halted())
	}
}

// The two others go on while the disk of the leader hangs.
func TestAStalledLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	p := newFounder(t)
	disk := stall(p)
	c := &cluster{t: t}
	c.add(p.open())
	c.join("node-2", identity.RoleVoter)
	c.join("node-3", identity.RoleVoter)
	eventually(t, "three voters", func() bool { ids, _ := p.node.Voters(); return len(ids) == 3 })
	eventually(t, "the founder leads", func() bool {
		if l := c.leader(); l != p {
			_ = l.node.TransferLeadership()
			return false
		}
		return true
	})
	release := disk.hold()
	defer func() {
		release()
		eventually(t, "it follows again", func() bool { return has(p.node.State(), 2) })
	}()
	start := time.Now()
	_, _ = p.node.Propose(soon(t), 0, "", subnet(1))
	eventually(t, "another leader commits", func() bool {
		l := c.leader()
		if l == p {
			return false
		}
		_, err := l.node.Propose(soon(t), 0, "", subnet(2))
		return err == nil
	})
	// The others did not have to wait for their heartbeat timeouts.
	t.Logf("another one committed %v after the write, the heartbeat timeout is %v", time.Since(start), p.cfg.Heartbeat)
	eventually(t, "the stalled leader has asked another one", func() bool { return p.log.says("another voter was asked to lead") })
}

// Raft counts by the configuration of an entry that it could not write. Such a node must
// not go on.
func TestANodeHaltsWhenItsConfigurationIsNotWritten(t *testing.T) {
	t.Parallel()
	p := newFounder(t)
	disk := stall(p)
	c := &cluster{t: t}
	c.add(p.open())
	c.leader()
	release := disk.hold()
	if err := p.node.Change(soon(t), Change{Kind: AddReplica, Node: "n-x", Address: "127.0.0.1:1"}); err == nil {
		t.Fatal("it was committed")
	}
	eventually(t, "it halts", func() bool { return errors.Is(p.node.Halted(), ErrContradiction) })
	release()
	p.close()
	p.open()
	p.reconcile(c.all)
	if n := len(p.node.Servers()); n != 1 {
		t.Errorf("after a restart it has %d servers, want 1", n)
	}
	c.do(subnet(1))
}

// A hanging disk does not hold Close for ever.
func TestCloseGivesUpOnAHangingDisk(t *testing.T) {
	t.Parallel()
	p := newFounder(t)
	disk := stall(p)
	c := &cluster{t: t}
	c.add(p.open())
	c.leader()
	release := disk.hold()
	_, _ = p.node.Propose(soon(t), 0, "", subnet(1))
	p.stop()
	p.stop = func() {}
	node := p.node
	p.node = nil
	node.closeWait = 100 * time.Millisecond
	if err := node.Close(); !errors.Is(err, ErrDiskStalled) {
		t.Errorf("got %v", err)
	}
	release()
	eventually(t, "the file is free", func() bool {
		s, err := openBolt(p.cfg.Dir)
		return err == nil && s.Close() == nil
	})
}

// stall puts a bad disk under a node.
func stall(p *peer) *badDisk {
	d := &badDisk{}
	p.cfg.wrap = func(s raft.LogStore) raft.LogStore {
		d.set(func(d *badDisk) { d.LogStore = s })
		return d
	}
	return d
}
