package fsm

// RestVote is a node's word about its own vote: it stops in order and hands its vote over, or it runs again
// and takes it back. It changes nothing of Raft: the leader does (membership.NextChange), and only where two
// vote, because only there the one that is left goes on alone by it. Of level 4.
type RestVote struct {
	Node string `json:"node"` // id
	// Back: it runs again.
	Back bool `json:"back,omitempty"`
}

func (RestVote) kind() string { return "rest-vote" }

// voteBodies are the kinds of level 4 about who votes.
func voteBodies() []Body { return []Body{&RestVote{}} }
