// Package acceptor keeps a voter's promises in the kernel: a program at the devices that carry the cluster's
// traffic acknowledges the renewals of sessions that were delegated to it, while the voter's process waits for a
// core, is stopped, or waits for its disk; and it counts the answers to this node's own renewals, and moves the deadline of
// the fence by them. DESIGN.md of the folder says what keeps it safe.
package acceptor
