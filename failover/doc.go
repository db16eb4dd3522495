// Package failover keeps every HAVIP on exactly one node. It is the shell around two
// pure cores: failover/lease (who still has a right) and Handoff in this package (what
// this node may therefore do).
//
// Four parts run in each node, joined in a Member:
//
//   - Voter answers renewals and questions for the acceptor; its promises make a lease.
//   - Keeper opens a session, renews it, and knows its deadline.
//   - Agent is the only writer to the node's interfaces.
//   - Controller acts only in the leader: it closes dead sessions and places HAVIPs.
//
// They talk by datagrams (wire.go), each of which may be lost, repeated or late, and by
// the log. Reading order: ports.go, handoff.go, agent.go, keeper.go, voter.go,
// controller.go, closing.go.
package failover
