package edge

import (
	"net/netip"
	"time"

	"havip-cluster/netdev"
)

// Instant is a time on CLOCK_BOOTTIME in nanoseconds.
type Instant int64

// Add returns the instant d later.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns the time from u to t.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// Want says where one HAVIP's address belongs on this host.
type Want struct {
	// Index is the device (kernel ifindex) that shall answer for it; 0: none.
	Index int
	// Lifetime is how long the kernel keeps the address by itself: the backstop when the
	// process is gone and so is the fence. At least one second when Index is set.
	Lifetime time.Duration
	// Steer says by which ENI's own routing table the answers leave; nil: by the main table.
	Steer *netdev.Steered
	// Leave: an address of it that another program put on this host stays where it is.
	Leave bool
	// Asking: the neighbours are still being asked whether one of them has the address, which
	// nobody here has ever served (RFC 5227 section 2.1.1). It is not put up before.
	Asking bool
	// Probe is answered while the address is: for load balancers, which ask the node.
	Probe Probe
	// Barred is why it must not be put up, as when somebody outside the cluster answers for it.
	Barred string
}

// Desired is what this node's kernel should look like.
type Desired struct {
	// HAVIPs has an entry for each HAVIP of the cluster: the fence knows them all, wherever
	// they are.
	HAVIPs map[netip.Addr]Want
	// Index is the log index up to which HAVIPs is complete.
	Index uint64
	// Complete: HAVIPs was made from a log that has come up to date. What is not in it may be
	// forgotten then.
	Complete bool
	// Devices are the ENIs on which the fence shall stand, by ifindex.
	Devices map[int]bool
	// Settled are the names of the devices whose ARP settings must be right before anything
	// is announced; true: its way back may be another device.
	Settled map[string]bool
	// Own are the node's own addresses: never guarded, whatever the log says.
	Own map[netip.Addr]bool
	// AnnounceEvery is the shortest time between two claims of one device that the network
	// takes; 0: no limit.
	AnnounceEvery time.Duration
	// Deadline is that of the lease: nothing is put up or announced after it.
	Deadline Instant
	// Awaited reports whether somebody waits for the turn to end; nil: nobody does. It may be
	// asked at any time during the turn.
	Awaited func() bool
}
