// Package membership is the replicated log and who takes part in it: the Raft node with
// its stores and transports, bootstrap, the reconciliation of Raft's servers with the
// cluster's nodes, and gossip.
//
// Raft decides, gossip hints. Nothing in here gives anybody the right to own a HAVIP: a
// Raft leader's own lease is no exclusion lease, and a gossip state is an opinion.
//
// Reading order: node.go (the running node), machine.go (the FSM behind Raft), store.go
// (disk, and the guard against a stalled one), voters.go (who should vote), gossip.go.
package membership
