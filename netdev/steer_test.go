package netdev

import (
	"errors"
	"net/netip"
)

// Steer makes answers from ip leave by the ENI, see Steered, and leaves the other HAVIPs as they are.
func Steer(ip netip.Addr, eni ENI) error {
	ip, err := hostIP(ip)
	if err != nil {
		return err
	}
	return steer(ip, func(want []Steered) []Steered {
		for i, s := range want { // the table is shared, and this is the news of it
			if s.ENI.Index == eni.Index && s.IP.Is4() == ip.Is4() {
				want[i].ENI = eni
			}
		}
		return append(want, Steered{IP: ip, ENI: eni})
	})
}

// Unsteer removes the rule for ip, and the table of that ENI when no other rule uses it.
func Unsteer(ip netip.Addr, _ int) error {
	ip, err := hostIP(ip)
	if err != nil {
		return err
	}
	return steer(ip, func(want []Steered) []Steered { return want })
}

// steer changes what belongs to one HAVIP.
func steer(ip netip.Addr, change func([]Steered) []Steered) error {
	r, err := NewRouter()
	if err != nil {
		return err
	}
	defer r.Close()
	now, err := r.Read()
	if err != nil {
		return err
	}
	want := change(now.others(ip))
	return errors.Join(r.Apply(now.Changes(want))...)
}

// others describes what is steered now, without one HAVIP.
func (r Routing) others(ip netip.Addr) []Steered {
	type half struct {
		table int
		v4    bool
	}
	enis := map[half]*ENI{}
	for _, route := range r.Routes {
		k := half{route.Table, route.Dst.Addr().Is4()}
		e := enis[k]
		if e == nil {
			e = &ENI{Index: route.Table - TableBase}
			enis[k] = e
		}
		if route.Gateway.IsValid() {
			e.Gateway = route.Gateway
		} else {
			e.Prefixes = append(e.Prefixes, route.Dst)
		}
	}
	var all []Steered
	for _, rule := range r.Rules {
		e := enis[half{rule.Table, rule.IP.Is4()}]
		if rule.IP == ip {
			continue
		}
		if e == nil {
			e = &ENI{Index: rule.Table - TableBase}
		}
		all = append(all, Steered{IP: rule.IP, ENI: *e})
	}
	return all
}
