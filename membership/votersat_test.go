package membership

import (
	"testing"

	"github.com/hashicorp/raft"
)

// Whoever counts voters elsewhere is told when a configuration was stored or cut, or comes with a snapshot,
// before Raft goes on; and in between no configuration is called settled. A slow disk is not waited for.
func TestReconfiguringComesFirst(t *testing.T) {
	b := newBench(t)
	n := &Node{book: b.book}
	told := 0
	n.Reconfiguring(func() {
		told++
		if _, newest := b.book.latest(); n.Settled(newest) {
			t.Error("it is settled while it changes")
		}
	})
	step := func(what string, newest uint64, told0 int, do func()) {
		t.Helper()
		told = 0
		do()
		if told != told0 || !n.Settled(newest) || newest > 0 && n.Settled(newest-1) {
			t.Errorf("%s: told %d times, settled %v", what, told, n.Settled(newest))
		}
	}
	after := func() { // what is stored is on disk when it is told
		n.Reconfiguring(func() {
			told++
			if end := must[uint64](t)(b.disk.LastIndex()); end != 2 {
				t.Errorf("told when the log ended at %d", end)
			}
		})
	}
	step("a configuration", 1, 1, func() { check(t, b.StoreLog(configuration(1, "n-1", "n-2", "n-3"))) })
	after()
	step("another", 2, 1, func() { check(t, b.StoreLogs([]*raft.Log{configuration(2, "n-1", "n-2")})) })
	n.Reconfiguring(func() { told++ })
	step("commands", 2, 0, func() { check(t, b.StoreLogs(commands(3, 5))) })
	step("a cut above it", 2, 0, func() { check(t, b.DeleteRange(4, 5)) })
	step("a cut of it", 1, 1, func() { check(t, b.DeleteRange(2, 3)) })
	step("a snapshot of the same", 1, 0, func() { b.book.snapshot(1, configuredServers("n-1", "n-2", "n-3")) })
	step("a snapshot with another", 9, 1, func() { b.book.snapshot(9, configuredServers("n-1")) })
}

func configuredServers(ids ...string) []raft.Server {
	return raft.DecodeConfiguration(configuration(1, ids...).Data).Servers
}
