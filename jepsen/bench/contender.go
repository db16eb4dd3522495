package bench

import (
	"net/netip"
	"syscall"

	"havip-cluster/jepsen/netns"
)

// contender is a way to keep addresses on the lab's nodes, which count from 1. Of many addresses every
// second one belongs to node 2, the others to node 3; a single one may be anywhere.
type contender interface {
	// Start starts every node and returns when it has done so.
	Start(havips []netip.Addr) error
	// Owner is the node that the contender itself believes to own the first address; an error while
	// there is none, or more than one, or while a node is not in service.
	Owner() (int, error)
	// Stop ends the daemon of a node in the orderly way and waits for its end.
	Stop(node int) error
	// Signal sends one to all processes of a node's daemon.
	Signal(node int, sig syscall.Signal) error
	// Restart starts the daemon of a node that has ended.
	Restart(node int) error
	// Processes are those of a node's daemon.
	Processes(node int) ([]int, error)
	// Tail is what the daemons said last.
	Tail() string
	// Close kills what still runs.
	Close() error
}

// leading is what a contender with a leader has beside it.
type leading interface {
	// Lead is the node that leads now.
	Lead() (int, error)
	// Move brings the single address to a node by plan, and returns when that has been decided.
	Move(to int) error
}

// kind is a contender before it runs.
type kind struct {
	name string
	// patience is longer than it ever needs to notice a lost host.
	patience int // seconds
	make     func(l *netns.Lab, dir string) (contender, error)
}

// The contenders. A lease is that of profile lan but for its length.
var (
	vrrpDefaults = kind{"Keepalived, 1 s (VRRPv2, defaults)", 6, newKeepalived(vrrpSettings{version: 2, advert: "1"})}
	vrrpTuned    = kind{"Keepalived, 100 ms", 2, newKeepalived(vrrpSettings{version: 3, advert: "0.1", global: "  vrrp_priority -15\n"})}
	vrrpFast     = kind{"Keepalived, 10 ms", 2, newKeepalived(vrrpSettings{version: 3, advert: "0.01", global: "  vrrp_priority -15\n"})}
	vrrpRealTime = kind{"Keepalived, 10 ms, real-time", 2, newKeepalived(vrrpSettings{version: 3, advert: "0.01", global: "  vrrp_rt_priority 50\n  vrrp_no_swap\n"})}

	lease500 = kind{"havip-cluster, lease 500 ms", 3, newHAVIP("500ms")}
	lease150 = kind{"havip-cluster, lease 150 ms", 2, newHAVIP("150ms")}
	lease50  = kind{"havip-cluster, lease 50 ms", 2, newHAVIP("50ms")}
	lease30  = kind{"havip-cluster, lease 30 ms", 2, newHAVIP("30ms")}
	lease20  = kind{"havip-cluster, lease 20 ms", 2, newHAVIP("20ms")}
	lease10  = kind{"havip-cluster, lease 10 ms", 2, newHAVIP("10ms")}
)
