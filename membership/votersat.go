package membership

import "github.com/hashicorp/raft"

// votersAt is what Voters returned while the log had a number of changes of its configurations.
type votersAt struct {
	changes uint64
	ids     []string
	index   uint64
}

// Voters returns the ids of those who vote by the latest configuration in the log, and the index of
// that entry. The lease protocol counts by it, as Raft does. Nobody may change the list, which is the
// same one until something changes: each word of the lease is judged by it, so a call costs two loads.
func (n *Node) Voters() (ids []string, index uint64) {
	changes := n.book.changes.Load()
	if known := n.voters.Load(); known != nil && known.changes == changes {
		return known.ids, known.index
	}
	servers := n.Servers()
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	index = n.book.indexOf(servers)
	// Raft takes an entry into force after it was stored, and the one before it after a cut. Until it
	// has come to the newest one, what it says may change without a change of the log.
	if _, newest := n.book.latest(); index == newest && n.book.changes.Load() == changes {
		n.voters.Store(&votersAt{changes, ids, index})
	}
	return ids, index
}

// Reconfiguring has f called at each change of the configurations in the log: of an entry that was stored
// or cut, and of a snapshot that is to be restored, before Raft counts, acknowledges or uses it. f must not
// block.
func (n *Node) Reconfiguring(f func()) { n.book.before.Store(&f) }

// Settled reports whether the entry at index is the newest configuration in the log.
func (n *Node) Settled(index uint64) bool {
	if n.book.writing.Load() > 0 {
		return false
	}
	_, newest := n.book.latest()
	return index == newest
}
