package api

import (
	"slices"

	"havip-cluster/fsm"
)

// leaderless says who has to be there for a leader, as far as this node knows.
func (h *health) leaderless(l Local) {
	switch {
	case len(l.Voters) == 1 && !l.Votes:
		h.worse(HealthRed, "no leader is known, and by the log of this node %s alone votes: start it, for nothing else can lead; it has what was decided last", l.Voters[0])
	case len(l.Voters) == 1:
		h.worse(HealthRed, "no leader is known: two vote, this node and %s, and both have to be there; nothing is served or changed until then; is the other one's agent running, and does 7401/tcp reach it?", l.Voters[0])
	default:
		h.worse(HealthRed, "no leader is known; running HAVIPs keep running while a majority of the voters answers, and nothing can be changed")
	}
}

// fewVoters says what clusters of one and two voters lack.
func (h *health) fewVoters(st *fsm.State) {
	if h.out.Voters == 1 {
		for _, n := range st.NodeList() {
			// One that votes stopped last and is just back: nothing went to another one.
			if n.Resting && n.Role != fsm.RoleAgent && !h.votes(n.Name) {
				h.worse(HealthYellow, "node %s was stopped in order and handed its vote over: one node decides alone, and without it everything falls silent; start %[1]s again, and it votes again by itself", n.Name)
				return
			}
		}
	}
	if h.out.Voters > 0 && h.out.Voters < 3 {
		h.worse(HealthYellow, "%d voters: the loss of one stops the cluster; add nodes until there are 3 (`havip-cluster node add NAME`, `--role witness` for one that owns nothing)", h.out.Voters)
	}
}

// votes reports whether a node votes, as the views of the members say.
func (h *health) votes(name string) bool {
	return slices.ContainsFunc(h.out.Members, func(m Node) bool { return m.Name == name && m.Suffrage == "voter" })
}
