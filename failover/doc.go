// Package failover keeps every HAVIP on exactly one node. It joins rooms that know nothing of
// each other into a Member, one for each node:
//
//   - lease is the pure core: who still has a right.
//   - lease/shell runs it: the Voter answers renewals and questions, and its promises make a lease;
//     the SessionClient opens a session, the Renewer renews it, and knows its deadline.
//   - owner is what this node may answer for. Its Agent is the only writer to the interfaces.
//   - leader is what the leader decides: it closes dead sessions and places HAVIPs.
//   - wire is the datagrams by which they talk, each of which may be lost, repeated or late.
//   - ports is what all of them need of the rest of the program: the log, above all.
package failover
