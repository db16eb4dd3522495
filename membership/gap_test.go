package membership

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// A snapshot that a disk lost or changed leaves a hole in what the node knows. It must not
// go on with the rest, and not with nothing.
func TestOpenRefusesAHoleInTheLog(t *testing.T) {
	t.Parallel()
	meta := func(dir string) error { return os.Truncate(filepath.Join(dir, "meta.json"), 0) }
	state := func(dir string) error { return os.Truncate(filepath.Join(dir, "state.bin"), 10) }
	for _, tc := range []struct {
		name    string
		entries bool // in the log, behind the snapshot
		spoil   func(dir string) error
		word    string
	}{
		{"no metadata, and no entries", false, meta, "cannot be read"},
		{"no metadata, and entries behind it", true, meta, "cannot be read"},
		{"half a state, and no entries", false, state, "CRC"},
		{"half a state, and entries behind it", true, state, "CRC"},
		{"no snapshot, and entries behind it", true, os.RemoveAll, "log not found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := startCluster(t, 1)
			p := c.leader()
			conf := p.node.raft.ReloadableConfig()
			conf.TrailingLogs = 0
			check(t, p.node.raft.ReloadConfig(conf))
			c.do(subnet(1))
			eventually(t, "a quiet log", func() bool { return p.node.raft.AppliedIndex() == p.node.raft.LastIndex() })
			check(t, p.node.raft.Snapshot().Error())
			if tc.entries {
				c.do(subnet(2))
			}
			p.close()
			if !tc.entries {
				bolt := must[*raftboltdb.BoltStore](t)(openBolt(p.cfg.Dir))
				first, last := must[uint64](t)(bolt.FirstIndex()), must[uint64](t)(bolt.LastIndex())
				check(t, errors.Join(bolt.DeleteRange(first, last), bolt.Close()))
			}
			list := must[[]snapshotDir](t)(snapshotDirs(p.cfg.Dir))
			check(t, tc.spoil(filepath.Join(p.cfg.Dir, "snapshots", list[0].name)))
			_, err := Open(p.cfg)
			if err == nil || !strings.Contains(err.Error(), tc.word) {
				t.Fatalf("got %v", err)
			}
			if !errors.Is(err, ErrLogGap) || !strings.Contains(err.Error(), "join again") {
				t.Errorf("got %v", err)
			}
			if _, err := Open(p.cfg); err == nil {
				t.Error("the second try opens it")
			}
		})
	}
}

// An older snapshot will do where the log goes on from it.
func TestOpenWithAnOlderSnapshot(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	p := c.leader()
	for i := range 2 {
		c.do(subnet(i))
		check(t, p.node.raft.Snapshot().Error())
	}
	c.do(subnet(2))
	p.close()
	list := must[[]snapshotDir](t)(snapshotDirs(p.cfg.Dir))
	if len(list) != 2 || list[0].index <= list[1].index {
		t.Fatalf("snapshots: %v", list)
	}
	check(t, os.Truncate(filepath.Join(p.cfg.Dir, "snapshots", list[0].name, "meta.json"), 0))
	p.open()
	p.reconcile(c.all)
	for i := range 3 {
		eventually(t, "all that was committed", func() bool { return has(p.node.State(), i) })
	}
}
