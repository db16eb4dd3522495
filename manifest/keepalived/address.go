package keepalived

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"havip-cluster/manifest"
)

// address reads an address with or without a prefix length; bits is -1 without one. ok is
// false for what is none, bad names what is wrong with the length.
func address(text string) (a netip.Addr, bits int, bad string, ok bool) {
	host, mask, slash := strings.Cut(text, "/")
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return a, -1, "", false
	}
	if !slash {
		return a, -1, "", true
	}
	bits, err = strconv.Atoi(mask)
	if err != nil || bits < 0 || bits > a.BitLen() {
		return a, -1, "has no prefix length from 0 to " + strconv.Itoa(a.BitLen()) + "; keepalived takes " + strconv.Itoa(a.BitLen()), true
	}
	return a, bits, "", true
}

// same says whether an address is of the family of the instance's adverts, which the first
// one settles.
func (i *instance) same(a netip.Addr) bool {
	if i.family == 0 {
		i.family = a.BitLen()
	}
	return i.family == a.BitLen()
}

// sourceOf reads the address that adverts come from.
func (c *config) sourceOf(i *instance, o *statement) bool {
	a, _, _, ok := address(o.arg(0))
	switch {
	case !ok:
		c.wrong(o, "%q is not an IP address; keepalived ignores it", o.arg(0))
	case a.IsMulticast():
		c.wrong(o, "%s is a multicast address and can be no source; mcast_dst_ip is the word for where adverts go", a)
	case a.IsUnspecified():
		c.wrong(o, "%s is no host's address", a)
	case !i.same(a):
		c.wrong(o, "%s is not of the address family of this instance; keepalived ignores it", a)
	default:
		i.source, i.sourceAt = a, o
		return true
	}
	return false
}

func (c *config) peers(i *instance, o *statement) {
	i.unicast = o
	for _, p := range o.block {
		for n, w := range p.words {
			if w.text == "min_ttl" || w.text == "max_ttl" {
				c.add(manifest.LeftOut, p.place, p.String(), "%s", noAdverts)
				break
			}
			a, _, _, ok := address(strings.TrimSuffix(w.text, ","))
			if !ok {
				c.add(manifest.Wrong, p.place, "unicast_peer "+w.text, "is not an IP address; keepalived ignores it")
				continue
			}
			if n > 0 || strings.HasSuffix(w.text, ",") {
				c.add(manifest.Wrong, p.place, "unicast_peer", "each peer belongs on a line of its own, without commas; keepalived reads one a line")
			}
			if !i.same(a) {
				c.add(manifest.Wrong, p.place, "unicast_peer "+a.String(), "is not of the address family of this instance; keepalived ignores it")
				continue
			}
			i.peers = append(i.peers, a)
		}
	}
}

// addresses reads virtual_ipaddress and virtual_ipaddress_excluded.
func (c *config) addresses(i *instance, o *statement) {
	for _, s := range o.block {
		a, bits, bad, ok := address(s.key())
		why := ""
		switch {
		case !ok:
			c.lose(s.place, s.key(), "is not an IP address; keepalived skips it, and so it is left out")
			continue
		case o.key() == "virtual_ipaddress" && !i.same(a):
			c.add(manifest.Wrong, s.place, s.key(), "is not of the address family of this instance, which its first address or peer settles; keepalived says \"address family must match VRRP instance\" and ignores it, and so it is left out. virtual_ipaddress_excluded takes both families")
			continue
		case bad != "":
			c.add(manifest.Wrong, s.place, s.key(), "%s", bad)
		}
		v := vip{place: s.place, addr: a, bits: bits}
		found := c.addressWords(&v, s)
		if why = manifest.NoHAVIP(a, bits); why != "" {
			c.noHAVIP(s, a, why)
			continue
		}
		c.report.Findings = append(c.report.Findings, found...)
		i.vips = append(i.vips, v)
	}
	if len(o.words) > 1 {
		c.add(manifest.Wrong, o.place, o.key(), "addresses belong in braces; %q is not read", o.arg(0))
	}
}

// noHAVIP reports an address that keepalived put on the device and that can be no HAVIP.
func (c *config) noHAVIP(s *statement, a netip.Addr, why string) {
	if a.IsLinkLocalUnicast() {
		c.add(manifest.LeftOut, s.place, s.key(), "%s, which no client can be told: VRRP for IPv6 demands one as first address, and others use one for the adverts alone. There are no adverts here", why)
		return
	}
	c.lose(s.place, s.key(), "can be no HAVIP; left out: %s", why)
}

// addressWords reads the words after an address and returns their findings.
func (c *config) addressWords(v *vip, s *statement) []manifest.Finding {
	var found manifest.Import
	for n := 1; n < len(s.words); n++ {
		text := s.words[n].text
		w, known := addressWords[text]
		if !known {
			found.Add(manifest.Wrong, s.file, s.line, s.String(), "the word %q after the address is not one that keepalived knows; it ignores it", text)
			if _, _, _, another := address(text); another {
				found.Lose(s.file, s.line, text, "keepalived reads one address a line, and ignores this one; left out")
			}
			continue
		}
		if text == "dev" && n+1 < len(s.words) {
			v.dev = s.words[n+1].text
		}
		found.Add(w.kind, s.file, s.line, text+" of "+s.key(), "%s", w.text)
		n += w.values
	}
	return found.Findings
}

// doubleRouters reports a virtual_router_id that one node has twice on one interface and for
// one family, for which keepalived does not start.
func (c *config) doubleRouters() {
	for n, i := range c.instances {
		at := slices.IndexFunc(c.instances[:n], func(o *instance) bool {
			return i.vrid != 0 && o.vrid == i.vrid && o.iface == i.iface && o.family == i.family
		})
		if at >= 0 {
			c.add(manifest.Wrong, i.place, "virtual_router_id", "%d is that of %s on the same interface as well; keepalived does not start so", i.vrid, c.instances[at].name)
		}
	}
}
