package agent

import (
	"slices"

	"github.com/hashicorp/raft"
)

// otherVoters are the names, or else the addresses, of the others who vote by the newest configuration in the log
// here; votes says that this node does, too. The state may be empty: after a start it waits for a leader.
func (b *backend) otherVoters() (others []string, votes bool) {
	nodes := b.node.State().Nodes
	for _, s := range b.node.Servers() {
		switch n, known := nodes[string(s.ID)]; {
		case s.Suffrage != raft.Voter:
		case string(s.ID) == b.Self():
			votes = true
		case known:
			others = append(others, n.Name)
		default:
			others = append(others, string(s.Address))
		}
	}
	slices.Sort(others)
	return others, votes
}
