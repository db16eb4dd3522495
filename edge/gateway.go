package failover

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"havip-cluster/netdev"
)

const (
	gatewayEvery  = 2 * time.Second
	gatewayWait   = 400 * time.Millisecond
	gatewayMisses = 3 // in a row, before an ENI is called faulty; one answer makes it sound
)

// WatchGateways asks each ENI's gateway by ARP, until ctx ends, while CheckGateways says so. An ENI whose gateway does
// not answer is reported with a fault: its HAVIPs leave for an ENI without one, and stay
// where no other is better.
func (e *NetEdge) WatchGateways(ctx context.Context) {
	misses := map[int]int{}
	tick := time.NewTicker(gatewayEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !e.gateways.Load() {
			clear(misses)
			e.clearFaults()
			continue
		}
		for _, d := range e.withGateway() {
			answers, err := netdev.Probe(ctx, d.Index, d.Gateway, gatewayWait)
			if err != nil || len(answers) > 0 {
				misses[d.Index] = 0 // an error is of this host, and says nothing about the gateway
			} else {
				misses[d.Index]++
			}
			fault := ""
			if misses[d.Index] >= gatewayMisses {
				fault = fmt.Sprintf("gateway %s does not answer", d.Gateway)
			}
			e.setFault(d.Device, fault)
		}
	}
}

// CheckGateways switches WatchGateways on or off.
func (e *NetEdge) CheckGateways(on bool) { e.gateways.Store(on) }

func (e *NetEdge) clearFaults() {
	e.mu.Lock()
	devices := slices.Collect(maps.Keys(e.faults))
	e.mu.Unlock()
	for _, device := range devices {
		e.setFault(device, "")
	}
}

// withGateway lists the devices that are up and have an IPv4 gateway: that of the default
// route, else of the subnet.
func (e *NetEdge) withGateway() []netdev.ENI {
	subnets := e.state().SubnetList()
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []netdev.ENI
	for _, d := range e.devices {
		for _, sub := range subnets {
			for _, p := range d.Prefixes {
				if !d.Gateway.IsValid() && sub.CIDR.Contains(p.Addr()) {
					d.Gateway = sub.Gateway
				}
			}
		}
		if d.Up && d.Gateway != (netip.Addr{}) && d.Gateway.Is4() {
			out = append(out, d)
		}
	}
	return out
}

// setFault notes a device's fault, and has the inventory reported if that is news.
func (e *NetEdge) setFault(device, fault string) {
	e.mu.Lock()
	news := e.faults[device] != fault
	if fault == "" {
		delete(e.faults, device)
	} else {
		e.faults[device] = fault
	}
	e.mu.Unlock()
	if news {
		e.changed()
	}
}
