package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"havip-cluster/membership/identity"
	"havip-cluster/netdev"
)

// twinWait is how long another host has to answer for this node's own address. It delays
// each start by as much.
const twinWait = 150 * time.Millisecond

// answeredElsewhere asks the LAN whether another host has this node's own address, and says
// so in a sentence; "" is nobody. It is a warning and no more: some hosts and fabrics answer
// ARP for everybody. That another process runs as this node is proved by the lease alone
// (failover.ErrTwin).
func answeredElsewhere(id *identity.Identity) (string, error) {
	enis, _, err := netdev.Inventory(nil, nil)
	if err != nil {
		return "", err
	}
	for _, e := range enis {
		for _, p := range e.Prefixes {
			if p.Addr() != id.Advertise || !e.Up {
				continue
			}
			answers, err := netdev.Probe(context.Background(), e.Index, id.Advertise, twinWait)
			if err != nil {
				return "", fmt.Errorf("ask whether another host has %s: %w", id.Advertise, err)
			}
			for _, mac := range answers {
				if !ownMAC(mac) {
					return fmt.Sprintf("another host (MAC %s) answers for %s, the address of this node; if that is not the network's own doing, give one of them another address", mac, id.Advertise), nil
				}
			}
		}
	}
	return "", nil
}

// ownMAC: a second interface of this host in the same network may answer, too.
func ownMAC(mac net.HardwareAddr) bool {
	devices, err := net.Interfaces()
	return err == nil && slices.ContainsFunc(devices, func(d net.Interface) bool { return d.HardwareAddr.String() == mac.String() })
}
