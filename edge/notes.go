package edge

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"havip-cluster/netdev"
)

// interferenceKept is for how long a fence that was put right is a warning: the program that was in
// its way may come back.
const interferenceKept = 5 * time.Minute

// interference is what another program did to the fence on one device.
type interference struct {
	times int
	last  Instant
	what  string
}

// attached notes that the fence was put on a device, and tells of it where it had stood there.
// It is put right at every look, however often that is; only the word of it has a pause.
func (l *Loop) attached(index int, now Instant, facts *Facts) {
	damage := l.seen.Attached[index]
	if damage == nil {
		return
	}
	f := l.mem.interferences[index]
	if f == nil || now.Sub(f.last) > interferenceKept {
		f = &interference{}
		l.mem.interferences[index] = f
	}
	f.times, f.last, f.what = f.times+1, now, damage.Error()
	if l.fresh(fmt.Sprint("fence ", index)) {
		facts.Notes = append(facts.Notes, Note{Repaired: true, Text: fmt.Sprintf("the fence of %s was put right: %v", l.name(index), damage)})
	}
}

// name is what the last reading called a device.
func (l *Loop) name(index int) string {
	for _, list := range l.seen.Addresses {
		for _, a := range list {
			if a.Index == index && a.Device != "" {
				return a.Device
			}
		}
	}
	return fmt.Sprint("device ", index)
}

// tellForeign tells of what other programs put on this host, each once a minute.
func (l *Loop) tellForeign(want *Desired, facts *Facts) {
	for _, s := range foreignAddresses(want, l.seen) {
		s.Removed = s.At.Bits == s.IP.BitLen() && want.Devices[s.At.Index]
		if l.fresh(fmt.Sprintf("foreign %v %s", s.IP, s.At.Device)) {
			facts.Foreign = append(facts.Foreign, s)
		}
	}
}

// tellSources tells of default routes from a HAVIP, each once a minute.
func (l *Loop) tellSources(want *Desired, facts *Facts) {
	for _, d := range sources(want, l.seen) {
		if l.fresh(fmt.Sprintf("source %+v", d)) {
			facts.Notes = append(facts.Notes, Note{IP: d.Source, Text: l.sourceText(d)})
		}
	}
}

// sources lists the default routes of this host that have a HAVIP as their source.
func sources(want *Desired, seen *Reading) []netdev.DefaultRoute {
	return seen.Routing.DefaultSource(func(ip netip.Addr) bool {
		w, havip := want.HAVIPs[ip]
		return havip && !w.Leave && !want.Own[ip]
	})
}

func (l *Loop) sourceText(d netdev.DefaultRoute) string {
	text := fmt.Sprintf("the default route by %s has %v, a HAVIP, as its source: connections of this host's programs leave with it and break when it moves", l.name(d.Index), d.Source)
	if c := sourceCommand(d, l.name(d.Index), l.seen.Routing.Defaults); c != "" {
		text += "; `" + c + "` takes it off"
	}
	return text
}

// sourceCommand is the command that makes a default route one without a source; "" if one
// command cannot, because the route has several next hops.
func sourceCommand(d netdev.DefaultRoute, device string, all []netdev.DefaultRoute) string {
	hops := 0
	for _, o := range all {
		if o.IPv6 == d.IPv6 && o.Metric == d.Metric {
			hops++
		}
	}
	if hops != 1 {
		return ""
	}
	c := "ip"
	if d.IPv6 {
		c += " -6"
	}
	c += " route replace default"
	if d.Gateway.IsValid() {
		c += " via " + d.Gateway.String()
	}
	c += " dev " + device
	if d.Metric != 0 {
		c += fmt.Sprint(" metric ", d.Metric)
	}
	return c
}

// RemoveCommand is the command that takes an address that is no HAVIP's off a device.
func RemoveCommand(prefix netip.Prefix, device string) string {
	return fmt.Sprintf("ip address del %v dev %s", prefix, device)
}

// warnings are what is wrong with this host, in an order that does not change by itself.
func (l *Loop) warnings(want *Desired) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(l.mem.settings)) {
		out = append(out, fmt.Sprintf("net.ipv4.conf of %s cannot be set: %v; two interfaces that share a network may answer for each other", key, l.mem.settings[key].err))
	}
	for _, s := range foreignAddresses(want, l.seen) {
		if s.At.Bits != s.IP.BitLen() || !want.Devices[s.At.Index] {
			prefix := netip.PrefixFrom(s.IP, s.At.Bits)
			out = append(out, fmt.Sprintf("%v of a HAVIP is on %s, put there by another program; it is kept silent; `%s` removes it",
				prefix, s.At.Device, RemoveCommand(prefix, s.At.Device)))
		}
	}
	for _, d := range sources(want, l.seen) {
		out = append(out, l.sourceText(d))
	}
	now := l.clock()
	maps.DeleteFunc(l.mem.interferences, func(_ int, f *interference) bool { return now.Sub(f.last) > interferenceKept })
	for _, index := range slices.Sorted(maps.Keys(l.mem.interferences)) {
		f := l.mem.interferences[index]
		out = append(out, fmt.Sprintf("the fence of %s was put right %s, because of another program: %s", l.name(index), times(f.times), f.what))
	}
	return out
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprint(n, " times")
}
