// Package edge makes this node's kernel look as it should: which HAVIPs are on which
// device, what the fence knows of them, and who was told.
//
// The decisions are in Plan, a pure function of what is wanted, what the kernel showed and
// what is remembered. Loop carries them out, and is the only writer to the kernel; only the
// deadline of the lease goes past it, straight into the fence. DESIGN.md has the rules.
package edge
