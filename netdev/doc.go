// Package netdev is the Linux edge of the cluster: network interfaces, addresses, ARP and NDP announcements, sysctls and
// source routes. It does what it is told, on the network namespace of the calling thread, and knows neither leases nor
// Raft: whether an address may be active is the caller's question, and the fence below this folder enforces the answer.
//
// The parts:
//
//	Inventory                      which interfaces (ENIs) there are
//	Watcher                        when to look again
//	Addresses                      put a HAVIP on an interface, take it off, find what a dead process left
//	DestroySockets, FlushConntrack end what still runs over a HAVIP that left
//	Announcer                      tell the neighbours (gratuitous ARP, unsolicited neighbour advertisement)
//	ClaimListener, Probe           hear who else says that the address is his
//	EnsureARP, ReversePath         the sysctls that keep two ENIs of one host from answering for each other
//	Steer, Unsteer, SweepRoutes    answer by the interface that holds the HAVIP
//
// Codecs (frame.go, addrmsg.go) are pure and apart from the sockets that carry their bytes.
//
// All functions need CAP_NET_ADMIN, those with packet sockets CAP_NET_RAW too. Sockets are opened on the goroutine that
// calls the constructor, Run or the function itself, so a caller that locks its thread into a namespace stays in it.
package netdev
