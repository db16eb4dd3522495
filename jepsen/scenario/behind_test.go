package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const raftPort = 7401

// FIELD S4: a node keeps its lease and does not apply the log any more, because its disk is full or its
// Raft port is blocked. It is not chosen, not even if all prefer it; and if it was chosen before the
// leader knew, the HAVIP does not wait for it.
func TestANodeThatDoesNotApplyIsNoOwner(t *testing.T) {
	for _, way := range []struct {
		name  string
		stop  func(b *Bed)
		known bool // the leader finds it before the owner is lost
	}{
		{"full disk", fillDisk, true},
		{"variant: Raft port blocked", blockRaft, true},
		{"variant: blocked as the owner is lost", blockRaft, false},
	} {
		t.Run(way.name, func(t *testing.T) {
			beside(t)
			b := unformed(t, 4)
			b.smallDisk(3)
			b.must(b.Cluster.Bootstrap())
			b.must(b.Cluster.Join(2, "voter"))
			b.must(b.Cluster.Join(3, "voter"))
			b.must(b.Cluster.Join(4, "agent"))
			b.WaitVoters(3)
			b.WaitSessions(4)
			for _, h := range b.Lab.Nodes() {
				_, err := h.Respond(port)
				b.must(err)
			}
			b.CLI(1, "havip", "create", "web", "--ip", b.HAVIP.String(), "--no-range-limit", "--failback", "never")
			if b.Owner() != 4 {
				b.CLI(1, "havip", "move", "web", "--to", "node-4")
			}
			b.Eventually("the move", func() bool { return b.has(4) })
			b.CLI(1, "havip", "update", "web", "--prefer", "node-3=500") // failback never: it stays
			if b.Leader() == 3 {
				b.must(b.Cluster.Kill(3, syscall.SIGSTOP))
				b.Eventually("another leader", func() bool { leader, err := b.Cluster.Leader(); return err == nil && leader != 3 })
				b.must(b.Cluster.Kill(3, syscall.SIGCONT))
				b.WaitSessions(4)
			}
			m := b.Watch(func() {
				way.stop(b)
				if way.known {
					b.Eventually("the leader to find it", func() bool {
						out, _ := b.Cluster.CLI(1, "status")
						return strings.Contains(string(out), "node node-3 keeps its lease but does not apply the log")
					})
				}
				b.must(b.Cluster.Kill(4, syscall.SIGKILL))
				b.must(b.Lab.Node(4).SetLink(0, false))
				if owner := b.NewOwner(1, 4); owner == 3 {
					b.Eventually("the one that stands still to lose it", func() bool { owner = b.NewOwner(1, 4); return owner != 3 })
				}
				b.Eventually("its new owner to serve", func() bool { return b.has(1) || b.has(2) })
			})
			noDual(t, m)
			t.Logf("gap %s", m.Gap)
			if limit := 4 * Lease; !way.known && m.Gap > 2*limit || way.known && m.Gap > limit {
				timely(t, "gap %s", m.Gap)
			}
			if out := string(b.CLI(1, "explain", "web")); !strings.Contains(out, "does not apply the log since entry") {
				t.Errorf("explain does not say why node-3 has nothing:\n%s", out)
			}
		})
	}
}

// smallDisk puts the data of a node, which does not run yet, on a file system of few megabytes.
func (b *Bed) smallDisk(node int) {
	b.t.Helper()
	dir := b.Cluster.DataDir(node)
	b.must(os.MkdirAll(dir, 0o700))
	b.must(unix.Mount("havip-test", dir, "tmpfs", 0, "size=4m,mode=0700"))
	b.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// fill leaves no room on a small disk.
func (b *Bed) fill(node int) {
	b.t.Helper()
	f, err := os.Create(filepath.Join(b.Cluster.DataDir(node), "fill"))
	b.must(err)
	for buf := make([]byte, 4096); err == nil; {
		_, err = f.Write(buf)
	}
	b.must(f.Close())
}

// fillDisk fills that of node 3, and writes to the log until it cannot follow.
func fillDisk(b *Bed) {
	b.fill(3)
	b.writes(400) // the log's file has free pages to use up first
}

// blockRaft drops what comes to the Raft port of node 3, and has something written.
func blockRaft(b *Bed) {
	b.must(b.Lab.Node(3).Do(dropRaft))
	b.writes(1)
}

func dropRaft() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "blocked"})
	chain := c.AddChain(&nftables.Chain{Name: "in", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{raftPort >> 8, raftPort & 0xff}},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return c.Flush()
}

// writes puts up to n entries into the log, until the leader finds that node 3 does not follow.
func (b *Bed) writes(n int) {
	for i := range n {
		if _, err := b.Cluster.CLI(1, "havip", "create", fmt.Sprint("filler-", i), "--subnet", "net-10.77.0.0-24", "--no-range-limit", "--timeout", "10s"); err != nil {
			b.t.Logf("filler %d: %v", i, err)
			time.Sleep(100 * time.Millisecond)
		}
		if i%20 == 19 {
			if out, _ := b.Cluster.CLI(1, "status"); strings.Contains(string(out), "does not apply the log") {
				return
			}
		}
	}
}
