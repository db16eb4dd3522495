package membership

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// A digit of an address flips in the log's file: the node does not start, and says what to do. An
// entry of the version before, without a checksum, is believed.
func TestOpenRefusesADamagedEntry(t *testing.T) {
	t.Parallel()
	spoil := func(change func(l *raft.Log)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			bolt := must[*raftboltdb.BoltStore](t)(openBolt(dir))
			last := must[uint64](t)(bolt.LastIndex())
			for i := must[uint64](t)(bolt.FirstIndex()); i <= last; i++ {
				var l raft.Log
				check(t, bolt.GetLog(i, &l))
				if bytes.Contains(l.Data, []byte(must24(77).String())) {
					change(&l)
					l.Index = i
					check(t, bolt.StoreLog(&l))
				}
			}
			check(t, bolt.Close())
		}
	}
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		fine  bool
	}{
		{"nothing", func(*testing.T, string) {}, true},
		{"a digit in the file", func(t *testing.T, dir string) {
			path := filepath.Join(dir, logFile)
			file := must[[]byte](t)(os.ReadFile(path))
			from, to := []byte(must24(77).String()), []byte(must24(78).String())
			if !bytes.Contains(file, from) {
				t.Fatal("the subnet is not in the file")
			}
			check(t, os.WriteFile(path, bytes.ReplaceAll(file, from, to), 0o600))
		}, false},
		{"the term", spoil(func(l *raft.Log) { l.Term++ }), false},
		{"the kind", spoil(func(l *raft.Log) { l.Type = raft.LogNoop }), false},
		{"the checksum", spoil(func(l *raft.Log) { l.Extensions[2] ^= 1 }), false},
		{"the checksum's form", spoil(func(l *raft.Log) { l.Extensions[0]++ }), false},
		{"a version without checksums", spoil(func(l *raft.Log) { l.Extensions = nil }), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := startCluster(t, 1)
			p := c.leader()
			c.do(subnet(77))
			eventually(t, "a quiet log", func() bool { return p.node.raft.AppliedIndex() == p.node.raft.LastIndex() })
			p.close()
			tc.spoil(t, p.cfg.Dir)
			if tc.fine {
				p.open()
				eventually(t, "the entry is there", func() bool { return has(p.node.State(), 77) })
				return
			}
			node, err := Open(p.cfg)
			if err == nil {
				_ = node.Close()
			}
			if !errors.Is(err, ErrDamagedEntry) || !strings.Contains(err.Error(), "join again") {
				t.Errorf("got %v", err)
			}
			if _, err := Recover(p.cfg.Dir, p.cfg.Node, RaftAddress(p.asNode()), "c-other"); !errors.Is(err, ErrDamagedEntry) || !strings.Contains(err.Error(), "another voter") {
				t.Errorf("recover: %v", err)
			}
		})
	}
}

// An entry that goes bad while the node runs stops it: it is not served, and not sent to others.
func TestADamagedEntryHalts(t *testing.T) {
	b := newBench(t)
	inner := b.disk.LogStore
	b.guardedLog.LogStore = summedLog{b.disk}
	check(t, b.StoreLogs(commands(1, 3)))
	var l raft.Log
	check(t, b.GetLog(2, &l))
	check(t, inner.GetLog(2, &l))
	l.Data = []byte{77}
	check(t, inner.StoreLog(&l))
	if err := b.GetLog(2, &l); !errors.Is(err, ErrDamagedEntry) || !errors.Is(b.halted, ErrDamagedEntry) {
		t.Errorf("read %v, halted by %v", err, b.halted)
	}
	if err := b.GetLog(3, &l); err != nil {
		t.Errorf("the next one: %v", err)
	}
	check(t, inner.GetLog(3, &l))
	l.Index = 2 // one entry in the place of another
	inner2 := misplaced{inner, l}
	if err := (summedLog{inner2}).GetLog(3, &l); !errors.Is(err, ErrDamagedEntry) {
		t.Errorf("one in the place of another: %v", err)
	}
}

// misplaced gives the same entry for every index.
type misplaced struct {
	raft.LogStore
	entry raft.Log
}

func (m misplaced) GetLog(_ uint64, l *raft.Log) error { *l = m.entry; return nil }
