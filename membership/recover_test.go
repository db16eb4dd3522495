package membership

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

func (p *peer) recover(cluster string) (Survivor, error) {
	return Recover(p.cfg.Dir, p.cfg.Node, RaftAddress(p.asNode()), cluster)
}

// One of three voters goes on alone, with all that its log holds, whether a snapshot has a
// part of it or not; and it goes on after a restart.
func TestRecoverFromOneLog(t *testing.T) {
	t.Parallel()
	for _, compacted := range []bool{false, true} {
		c := startCluster(t, 3)
		c.do(subnet(1))
		last := c.leader()
		if compacted {
			conf := last.node.raft.ReloadableConfig()
			conf.TrailingLogs = 0
			check(t, last.node.raft.ReloadConfig(conf))
			check(t, last.node.raft.Snapshot().Error())
		}
		c.do(subnet(2))
		for _, p := range c.all() {
			if p != last {
				p.close()
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := last.node.Propose(ctx, 0, "", subnet(3))
		if err == nil {
			t.Fatal("acknowledged by one of three")
		}
		logged := !errors.Is(err, ErrNotLeader) // on a busy host it may have stepped down before
		last.close()

		got, err := last.recover("c-00000000000000aa")
		check(t, err)
		if got.Index == 0 || got.Term == 0 || time.Since(got.Written) > time.Minute || got.State.Cluster.ID != last.id.ClusterID || logged && !has(got.State, 3) {
			t.Errorf("compacted %t: survivor %+v", compacted, got)
		}
		for i := range 2 {
			last.open()
			last.reconcile(c.all)
			if c.leader() != last {
				t.Fatal("another node leads")
			}
			s := last.node.State()
			if s.Cluster.ID != "c-00000000000000aa" || !has(s, 1) || !has(s, 2) || logged && !has(s, 3) || len(s.Nodes) != 3 {
				t.Errorf("compacted %t: cluster %s, %d nodes", compacted, s.Cluster.ID, len(s.Nodes))
			}
			if ids, _ := last.node.Voters(); len(ids) != 1 || ids[0] != last.id.NodeID {
				t.Errorf("compacted %t: voters %v", compacted, ids)
			}
			c.do(subnet(4 + i))
			last.close()
		}
	}
}

func TestRecoverRefuses(t *testing.T) {
	t.Parallel()
	t.Run("a log without a member", func(t *testing.T) {
		p := newFounder(t)
		if _, err := p.recover("c-00000000000000aa"); !errors.Is(err, ErrNoSuccessor) {
			t.Error(err)
		}
	})
	t.Run("an agent", func(t *testing.T) {
		c := startCluster(t, 1)
		p := c.join("node-2", identity.RoleAgent)
		eventually(t, "it knows itself", func() bool { return p.node.State().Nodes[p.id.NodeID].Role == fsm.RoleAgent })
		p.close()
		if _, err := p.recover("c-00000000000000aa"); !errors.Is(err, ErrNoSuccessor) {
			t.Error(err)
		}
	})
	t.Run("a snapshot that cannot be read, with the rest of the log", func(t *testing.T) {
		c := startCluster(t, 1)
		p := c.leader()
		check(t, p.node.raft.Snapshot().Error())
		p.close()
		list := must[[]snapshotDir](t)(snapshotDirs(p.cfg.Dir))
		check(t, os.Truncate(filepath.Join(p.cfg.Dir, "snapshots", list[0].name, "state.bin"), 10))
		if got, err := p.recover("c-00000000000000aa"); err == nil {
			t.Errorf("done: %+v", got)
		}
	})
}
