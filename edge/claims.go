package failover

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"havip-cluster/netdev"
)

const (
	claimLook = time.Second // between two looks for ENIs to listen on
	// defendPause is DEFEND_INTERVAL of RFC 5227 section 2.4: one defence at most.
	defendPause = 10 * time.Second
)

// WatchClaims listens on every ENI for ARP by which a station outside the cluster claims a
// HAVIP, until ctx ends. Such a claim never makes this node take or leave an address.
func (e *NetEdge) WatchClaims(ctx context.Context, foreign func(netip.Addr, net.HardwareAddr, string)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	listening := map[int]context.CancelFunc{}
	defer func() {
		for _, stop := range listening {
			stop()
		}
	}()
	tick := time.NewTicker(claimLook)
	defer tick.Stop()
	for {
		present := e.indices()
		for index, stop := range listening {
			if !present[index] {
				stop()
				delete(listening, index)
			}
		}
		for index := range present {
			if listening[index] != nil {
				continue
			}
			sub, stop := context.WithCancel(ctx)
			listening[index] = stop
			l := netdev.NewClaimListener(index, e.managed, e.ofCluster)
			wg.Go(func() {
				err := l.Run(sub, func(c netdev.Claim) { foreign(c.IP, c.MAC, c.Device) })
				if err != nil && sub.Err() == nil {
					e.log.Debug("no longer listening for foreign claims", "index", index, "err", err)
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (e *NetEdge) indices() map[int]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[int]bool{}
	for _, d := range e.devices {
		out[d.Index] = true
	}
	return out
}

// ofCluster reports whether a MAC belongs to an ENI of the cluster.
func (e *NetEdge) ofCluster(mac net.HardwareAddr) bool {
	text := mac.String()
	for _, eni := range e.state().ENIs {
		if strings.EqualFold(eni.MAC, text) {
			return true
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.devices { // one that the log does not know yet
		if strings.EqualFold(d.MAC.String(), text) {
			return true
		}
	}
	return false
}

// Foreign takes the news that somebody outside the cluster claims a HAVIP. It does not
// block. The owner tells its neighbours once more who it is, once per defendPause.
func (a *Agent) Foreign(ip netip.Addr, mac net.HardwareAddr, device string) {
	for _, v := range a.cfg.Log.State().HAVIPs {
		if v.IP != ip {
			continue
		}
		a.cfg.Logger.Warn("a station outside the cluster claims a HAVIP", "havip", v.Name, "ip", ip, "mac", mac.String(), "device", device)
		a.journal.note("conflict", v.Name, fmt.Sprintf("a station outside the cluster, MAC %s, claims %s (seen on %s)", mac, ip, device))
	}
	for _, h := range a.Holdings() {
		if h.HAVIP.IP != ip {
			continue
		}
		now := int64(a.cfg.Clock())
		last := a.defended.Load()
		if (last == 0 || now-last >= int64(defendPause)) && a.defended.CompareAndSwap(last, now) {
			a.AnnounceAgain("a foreign claim")
		}
	}
}
