package main

import (
	"context"
	"fmt"
	"time"

	"havip-cluster/membership/identity"
	"havip-cluster/netdev"
)

// twinWait is how long another host has to answer for this node's own address. It delays
// each start by as much.
const twinWait = 150 * time.Millisecond

// refuseTwin asks the LAN whether another host has this node's own address: then this may
// be a copy of its disk, and two processes with one identity would take each other's
// sessions away. Nothing is said to the cluster before.
func refuseTwin(id *identity.Identity) error {
	enis, _, err := netdev.Inventory(nil, nil)
	if err != nil {
		return err
	}
	for _, e := range enis {
		for _, p := range e.Prefixes {
			if p.Addr() != id.Advertise || !e.Up || !p.Addr().Is4() {
				continue
			}
			answers, err := netdev.Probe(context.Background(), e.Index, id.Advertise, twinWait)
			if err != nil {
				return fmt.Errorf("ask whether another host has %s: %w", id.Advertise, err)
			}
			for _, mac := range answers {
				if mac.String() != e.MAC.String() {
					return fmt.Errorf("another host (MAC %s) answers for %s, the address of this node: if this disk is a copy of that host's, wipe the data directory and join as a new node; else give one of them another address", mac, id.Advertise)
				}
			}
		}
	}
	return nil
}
