package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"havip-cluster/netdev"
)

// settingsEvery is how often the settings of a device with HAVIPs are read. The kernel
// tells nobody when they change (of net.ipv4.conf only rp_filter and a few others are
// announced by netlink), so this is what keeps a repair below 100 ms.
const settingsEvery = 50 * time.Millisecond

// repairsMax bounds the repairs that are remembered for a Keep: there is none while a
// device has no HAVIP.
const repairsMax = 8

// settings is what is known of a device's sysctls.
type settings struct {
	loose   bool // its way back may be through another device
	warned  bool
	fault   string   // why no HAVIP on it is answered, whatever is set
	repairs []string // made since the last Keep
}

// calmFlux watches the devices where two ENIs have addresses of one network: each would
// answer for the addresses of the other (ARP flux, ip-sysctl.rst).
func (e *NetEdge) calmFlux(list []netdev.ENI) {
	shares := func(a, b netdev.ENI) bool {
		for _, p := range a.Prefixes {
			for _, q := range b.Prefixes {
				if a.Index != b.Index && p.Addr().Is4() && p.Overlaps(q) {
					return true
				}
			}
		}
		return false
	}
	for _, a := range list {
		if slices.ContainsFunc(list, func(b netdev.ENI) bool { return shares(a, b) }) {
			e.settle(a.Device, true)
		}
	}
}

// settle makes the settings of a device what a HAVIP on it needs, and has them watched
// from now on. What cannot be set is said once and is no reason not to serve.
func (e *NetEdge) settle(device string, loose bool) {
	e.mu.Lock()
	s := e.settings[device]
	known := s != nil && (s.loose || !loose)
	if s == nil {
		s = &settings{}
		e.settings[device] = s
	}
	s.loose = s.loose || loose
	e.mu.Unlock()
	if known {
		return
	}
	changes, fault, _ := e.ensure(device, s)
	for _, c := range changes {
		e.log.Info("changed a network setting that a HAVIP needs", "device", c.Device, "key", c.Key, "old", c.Old, "new", c.New)
	}
	e.mu.Lock()
	s.fault = fault
	e.mu.Unlock()
}

// ensure sets a device's settings. gone: there is no such device any more.
func (e *NetEdge) ensure(device string, s *settings) (changes []netdev.Change, fault string, gone bool) {
	e.mu.Lock()
	loose := s.loose
	e.mu.Unlock()
	changes, err := netdev.EnsureARP(device)
	if loose {
		more, looseErr := netdev.EnsureLoose(device)
		changes, err = append(changes, more...), errors.Join(err, looseErr)
	}
	if errors.Is(err, netdev.ErrNoDevice) {
		return nil, "", true
	}
	if mute, _ := netdev.Mute(); mute {
		fault = "net.ipv4.conf.all.arp_ignore is 8: this host answers no ARP request; set it to 2 or less"
	}
	if err != nil {
		e.mu.Lock()
		first := !s.warned
		s.warned = true
		e.mu.Unlock()
		if first {
			e.log.Warn("cannot set what a HAVIP needs of the network settings: two ENIs that share a subnet may answer for each other", "device", device, "err", err)
		}
	}
	return changes, fault, false
}

// watchSettings puts back, until ctx ends, what others change.
func (e *NetEdge) watchSettings(ctx context.Context) {
	tick := time.NewTicker(settingsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		e.mu.Lock()
		devices := slices.Sorted(maps.Keys(e.settings))
		e.mu.Unlock()
		news := false
		for _, device := range devices {
			news = e.resettle(device) || news
		}
		if news {
			e.changed()
		}
	}
}

// resettle looks at one device, and reports whether there is news of it.
func (e *NetEdge) resettle(device string) bool {
	e.mu.Lock()
	s := e.settings[device]
	e.mu.Unlock()
	changes, fault, gone := e.ensure(device, s)
	e.mu.Lock()
	defer e.mu.Unlock()
	if gone {
		delete(e.settings, device) // Up or Inventory begins again when it is back
		return false
	}
	for _, c := range changes {
		if len(s.repairs) < repairsMax {
			s.repairs = append(s.repairs, fmt.Sprintf("net.ipv4.conf.%s.%s was %d, needed is %d", c.Device, c.Key, c.Old, c.New))
		}
	}
	news := len(changes) > 0 || fault != s.fault
	s.fault = fault
	return news
}

// resettled returns the repairs of a device's settings since the last call.
func (e *NetEdge) resettled(device string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.settings[device]
	if s == nil {
		return nil
	}
	out := s.repairs
	s.repairs = nil
	return out
}
