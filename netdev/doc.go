// Package netdev is the Linux edge of the cluster: network interfaces, addresses, ARP and NDP announcements, sysctls and
// source routes. It does what it is told, on the network namespace of the calling thread, and knows neither leases nor
// Raft: whether an address may be active is the caller's question, and the fence below this folder enforces the answer.
//
// Reading is one look for all, deciding is pure or the caller's, changing takes many at once and says of each what became
// of it:
//
//	Inventory                       which interfaces (ENIs) there are, and what is over a limit
//	Watcher                         when to look again, and at what
//	Addresses                       Read, AddAll, ExtendAll, RemoveAll
//	DestroySockets, FlushConntrack  end what still runs over HAVIPs that left
//	Announcer                       tell the neighbours (gratuitous ARP, unsolicited neighbour advertisement)
//	ClaimListener                   hear who else says that an address is his
//	ProbeAll, AskAll                ask who has an address
//	Settings, Want, Apply           the sysctls that keep two ENIs of one host from answering for each other
//	Router, Routing, Steered        answer by the interface that holds the HAVIP
//
// Codecs (addrmsg.go, link.go, routemsg.go, frame.go, station.go) are pure and apart
// from the sockets that carry their bytes.
//
// All functions need CAP_NET_ADMIN, those with packet sockets CAP_NET_RAW too. Sockets are opened on the goroutine that
// calls the constructor, Run or the function itself, and sysctls are read and written there, so a caller that locks its
// thread into a namespace stays in it.
package netdev
