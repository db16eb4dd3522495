package edge

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"havip-cluster/netdev"
)

const (
	gatewayEvery  = 2 * time.Second
	gatewayWait   = 400 * time.Millisecond
	gatewayMisses = 3 // in a row, before an ENI is called faulty; one answer makes it sound
)

// Gateways asks the gateway of each ENI by ARP or neighbour discovery. It writes nothing: a
// gateway that does not answer is a fault of the ENI in the inventory.
type Gateways struct {
	// ENIs lists the ENIs that are up and their gateways.
	ENIs func() []netdev.ENI
	// Changed is called when a fault has come or gone.
	Changed func()

	on     atomic.Bool
	mu     sync.Mutex
	faults map[string]string // by device
}

// Switch turns the check on or off.
func (g *Gateways) Switch(on bool) { g.on.Store(on) }

// Fault is why the gateway makes a device one not to be trusted; "" is nothing.
func (g *Gateways) Fault(device string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.faults[device]
}

// Run asks until ctx ends, while it is switched on.
func (g *Gateways) Run(ctx context.Context) {
	misses := map[int]int{}
	tick := time.NewTicker(gatewayEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !g.on.Load() {
			clear(misses)
			g.set(map[string]string{})
			continue
		}
		faults := map[string]string{}
		for _, d := range g.ENIs() {
			if !d.Up || !d.Gateway.IsValid() {
				continue
			}
			if g.answers(ctx, d) {
				misses[d.Index] = 0
			} else {
				misses[d.Index]++
			}
			if misses[d.Index] >= gatewayMisses {
				faults[d.Device] = fmt.Sprintf("gateway %s does not answer", d.Gateway)
			}
		}
		g.set(faults)
	}
}

// answers asks one gateway. An error is of this host, and says nothing about the gateway.
func (g *Gateways) answers(ctx context.Context, d netdev.ENI) bool {
	var senders []netip.Addr
	for _, p := range d.Prefixes {
		senders = append(senders, p.Addr())
	}
	got, err := netdev.AskAll(ctx, d.Index, senders, []netip.Addr{d.Gateway}, gatewayWait)
	return err != nil || len(got[d.Gateway]) > 0
}

// set replaces the faults, and tells of it if that is news.
func (g *Gateways) set(faults map[string]string) {
	g.mu.Lock()
	news := len(faults) != len(g.faults)
	for device, fault := range faults {
		news = news || g.faults[device] != fault
	}
	g.faults = faults
	g.mu.Unlock()
	if news {
		g.Changed()
	}
}

const claimPoll = time.Second // between two looks for ENIs to listen on

// Claims listens on every ENI for frames by which a station outside the cluster claims a
// HAVIP. Such a claim never makes this node take or leave an address.
type Claims struct {
	Indexes func() []int                // of the ENIs
	HAVIP   func(netip.Addr) bool       // a look into an index
	Ours    func(net.HardwareAddr) bool // the MAC of an ENI of the cluster
	Report  func(netdev.Claim)          // must not block
	Failed  func(index int, err error)  // a listener has ended
}

// Run listens until ctx ends.
func (c *Claims) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	listening := map[int]context.CancelFunc{}
	tick := time.NewTicker(claimPoll)
	defer tick.Stop()
	for {
		present := map[int]bool{}
		for _, index := range c.Indexes() {
			present[index] = true
			mu.Lock()
			known := listening[index] != nil
			mu.Unlock()
			if known {
				continue
			}
			sub, stop := context.WithCancel(ctx)
			mu.Lock()
			listening[index] = stop
			mu.Unlock()
			wg.Go(func() {
				err := netdev.NewClaimListener(index, c.HAVIP, c.Ours).Run(sub, c.Report)
				if sub.Err() == nil {
					c.Failed(index, err)
				}
				mu.Lock()
				delete(listening, index) // the next look begins again
				mu.Unlock()
			})
		}
		mu.Lock()
		for index, stop := range listening {
			if !present[index] {
				stop()
			}
		}
		mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
