package edge

import (
	"net/netip"
	"time"

	"havip-cluster/netdev"
)

// OpKind is one kind of change to the kernel.
type OpKind string

// The kinds, in the order in which one round carries them out: what makes silent before what
// makes heard.
const (
	OpAttach   OpKind = "attach"   // put the fence on a device, or put it right there
	OpGuard    OpKind = "guard"    // the fence knows the address, shut
	OpDestroy  OpKind = "destroy"  // end local sockets bound to the address, while their resets may still leave
	OpShut     OpKind = "shut"     // the fence drops its frames
	OpUnlisten OpKind = "unlisten" // end the answers to a probe, and untie its port
	OpRemove   OpKind = "remove"   // take it off a device
	OpFlush    OpKind = "flush"    // forget tracked connections over the address
	OpForget   OpKind = "forget"   // the fence ends to know it: its frames pass
	OpSettle   OpKind = "settle"   // ARP settings of a device
	OpAdd      OpKind = "add"      // put it on a device
	OpExtend   OpKind = "extend"   // renew its lifetime
	OpRoute    OpKind = "route"    // our routing tables and rules
	OpListen   OpKind = "listen"   // answer a probe as far as the fence lets it, which has the port first
	OpOpen     OpKind = "open"     // the fence lets its frames pass before the deadline
	OpAnnounce OpKind = "announce" // tell the neighbours
)

// order is that of a round.
var order = []OpKind{
	OpAttach, OpGuard, OpDestroy, OpShut, OpUnlisten, OpRemove, OpFlush, OpForget, OpSettle, OpAdd, OpExtend, OpRoute, OpListen, OpOpen, OpAnnounce,
}

// Op is one change for many items at once. Routes belongs to OpRoute, Settle to OpSettle;
// the other kinds have Items.
type Op struct {
	Kind   OpKind
	Items  []Item
	Routes []netdev.RouteChange
	Settle []netdev.Change
}

// Len is the number of results that Kernel.Do returns.
func (o Op) Len() int { return len(o.Items) + len(o.Routes) + len(o.Settle) }

// Item is one address, on one device where that matters. OpAttach has only the device.
type Item struct {
	IP       netip.Addr
	Index    int
	Lifetime time.Duration // OpAdd, OpExtend
	Probe    Probe         // OpListen, OpUnlisten
}
