package membership

import (
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"havip-cluster/membership/identity"
)

// TestVotersCostNothing: the list is made anew only when the log has another configuration, on every
// member, and not before Raft counts by it.
func TestVotersCostNothing(t *testing.T) {
	c := startCluster(t, 2)
	agree := func(want int) {
		t.Helper()
		for _, p := range c.all() {
			eventually(t, "it knows all voters", func() bool { ids, _ := p.node.Voters(); return len(ids) == want })
			ids, index := p.node.Voters()
			_, newest := p.node.book.latest()
			n := testing.AllocsPerRun(100, func() { p.node.Voters() })
			for tries := 1; n != 0 && tries < 6; tries++ { // others allocate while a busy host holds this up
				n = testing.AllocsPerRun(100, func() { p.node.Voters() })
			}
			if n != 0 || index != newest {
				t.Errorf("%s: %v allocations, index %d of %d", p.id.Name, n, index, newest)
			}
			for _, s := range p.node.Servers() {
				if slices.Contains(ids, string(s.ID)) != (s.Suffrage == raft.Voter) {
					t.Errorf("%s says of %s: %v", p.id.Name, s.ID, ids)
				}
			}
		}
	}
	agree(2)
	c.join("node-3", identity.RoleVoter)
	agree(3)
	// An entry is in the log, and Raft has not come to it: what it says next needs no change of the log.
	node := c.leader().node
	before, index := node.Voters()
	node.book.stored(&raft.Log{Index: 1 << 40, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{})})
	if ids, at := node.Voters(); !slices.Equal(ids, before) || at != index {
		t.Errorf("voters %v of %d, want %v of %d", ids, at, before, index)
	}
	if node.voters.Load().changes == node.book.changes.Load() {
		t.Error("it remembers what Raft is about to leave")
	}
}
