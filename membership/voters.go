package membership

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

// ChangeKind is one step that brings Raft's servers nearer to the cluster's nodes.
type ChangeKind string

const (
	AddReplica ChangeKind = "add as non-voter"
	Promote    ChangeKind = "make a voter"
	Demote     ChangeKind = "take the vote of"
	Readdress  ChangeKind = "correct the address"
	Remove     ChangeKind = "remove from Raft"
)

// Change is one step for one server.
type Change struct {
	Kind    ChangeKind
	Node    string // id
	Address raft.ServerAddress
	Why     string
}

// RaftAddress is where a node's Raft listens.
func RaftAddress(n fsm.Node) raft.ServerAddress {
	return raft.ServerAddress(hostPort(n.Address, n.RaftPort))
}

// APIAddress is where a node's API listens, host:port.
func APIAddress(n fsm.Node) string { return hostPort(n.Address, n.APIPort) }

// NextChange compares Raft's servers with the nodes of the state and returns the one
// change that is due first, or false. One at a time, so that two configurations in
// sequence always share a majority (lease protocol, rule 9; Raft dissertation 4.1).
//
// ready says that a node is alive and holds about the whole log: only then may its vote
// count, because a voter that is not there raises the majority for nothing.
//
// Nothing is ever removed because it looks dead: only a node that an operator removed,
// and only after its session is closed (consul#5922, consul#6793).
func NextChange(s *fsm.State, servers []raft.Server, ready func(node string) bool) (Change, bool) {
	have := map[string]raft.Server{}
	voters := 0
	for _, srv := range servers {
		have[string(srv.ID)] = srv
		if srv.Suffrage == raft.Voter {
			voters++
		}
	}
	for _, srv := range servers {
		id := string(srv.ID)
		n, member := s.Nodes[id]
		_, open := s.SessionOf(id)
		switch {
		case member && (!n.Removing || open):
			continue
		case s.Cluster.ID == "":
			continue // the state is not there yet
		case srv.Suffrage == raft.Voter && voters == 1:
			continue // the last voter stays, whatever anybody asked for
		}
		return Change{Remove, id, srv.Address, "an operator removed the node and its session is closed"}, true
	}
	for _, n := range s.NodeList() {
		srv, known := have[n.ID]
		if n.Removing {
			continue
		}
		switch address := RaftAddress(n); {
		case !known:
			return Change{AddReplica, n.ID, address, "it joined"}, true
		case srv.Address != address:
			return Change{Readdress, n.ID, address, "its address changed"}, true
		}
	}
	if change, due := resting(s, servers); due {
		return change, true
	}
	return promotion(s, have, voters, ready)
}

// resting takes the vote of the one of two voters that stops in order, so that the other goes on alone. Nobody's
// vote is taken for being away: only who said so itself, while it was there. When both stop, both keep their votes.
func resting(s *fsm.State, servers []raft.Server) (Change, bool) {
	var rests, stays []raft.Server
	for _, srv := range servers {
		switch n, member := s.Nodes[string(srv.ID)]; {
		case srv.Suffrage != raft.Voter:
		case member && n.Resting:
			rests = append(rests, srv)
		case member && !n.Removing:
			stays = append(stays, srv)
		default:
			return Change{}, false
		}
	}
	if len(rests) != 1 || len(stays) != 1 {
		return Change{}, false
	}
	return Change{Demote, string(rests[0].ID), rests[0].Address, "it stops in order, and of two voters the other one goes on alone until it is back"}, true
}

// promotion picks the next voter: the node that has been a member for the longest time.
func promotion(s *fsm.State, have map[string]raft.Server, voters int, ready func(string) bool) (Change, bool) {
	if voters >= fsm.MaxVoters {
		return Change{}, false
	}
	nodes := slices.DeleteFunc(s.NodeList(), func(n fsm.Node) bool {
		srv, known := have[n.ID]
		return !known || srv.Suffrage == raft.Voter || n.Role == fsm.RoleAgent || n.Removing || n.Resting || !ready(n.ID)
	})
	if len(nodes) == 0 {
		return Change{}, false
	}
	slices.SortStableFunc(nodes, func(a, b fsm.Node) int { return cmp.Compare(a.Joined, b.Joined) })
	n := nodes[0]
	return Change{Promote, n.ID, RaftAddress(n), fmt.Sprintf("%d of at most %d voters so far", voters, fsm.MaxVoters)}, true
}
