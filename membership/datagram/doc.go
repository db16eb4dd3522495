// Package datagram carries the messages of the lease between the members of a cluster: datagrams on
// a UDP socket of their own, each bound to its sender.
//
// What proves a sender is the key of its certificate. Two nodes agree on keys by static ECDH
// over P-256, without a message: each has its own secret key, and the other's public key is in
// the cluster's replicated state (fsm.Node.Keys). So who is not in the state, or not any more,
// has no key here, and every datagram in its name is dropped. No member can speak for another.
//
// DESIGN.md of package membership has the layout of a frame (frame.go), what each theft costs, and why a
// replayed datagram never counts (channel.go).
package datagram
