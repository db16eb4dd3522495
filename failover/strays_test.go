package failover

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"havip-cluster/fsm"
	"havip-cluster/netdev"
	"havip-cluster/netdev/fence"
)

// Another program's HAVIPs go; what is none of ours, frozen, or on no ENI stays.
func TestRemoveStrays(t *testing.T) {
	onOneHost(t, func(eni netdev.ENI, dir string) {
		r, end := newRenewing(t, fence.EBPF, 1, eni, dir)
		defer end()
		own := r.held[0].HAVIP.IP
		s := r.edge.state()
		add := func(i byte, on string, change func(*fsm.HAVIP)) netip.Addr {
			v := fsm.HAVIP{ID: string('a' + rune(i)), Name: string('a' + rune(i)), IP: netip.AddrFrom4([4]byte{10, 9, 9, i}), Enabled: true}
			if change != nil {
				change(&v)
				s.HAVIPs[v.ID] = v
			}
			link, err := netlink.LinkByName(on)
			if err == nil {
				err = netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: v.IP.AsSlice(), Mask: net.CIDRMask(32, 32)}})
			}
			if err != nil {
				t.Fatal(err)
			}
			return v.IP
		}
		add(0, eni.Device, func(*fsm.HAVIP) {})
		add(1, eni.Device, func(v *fsm.HAVIP) { v.Owner = &fsm.Claim{Node: "n-2"} })
		stay := []netip.Addr{
			own,
			add(2, eni.Device, nil), // no HAVIP
			add(3, "lo", func(*fsm.HAVIP) {}),
			add(4, eni.Device, func(v *fsm.HAVIP) { v.Enabled = false }),
			add(5, eni.Device, func(v *fsm.HAVIP) { v.Unmanaged = true }),
			add(6, eni.Device, func(v *fsm.HAVIP) { v.Maintenance = true }),
		}
		removed, err := r.edge.RemoveStrays()
		if err != nil || len(removed) != 2 || removed[0].HAVIP != "a" || removed[1].HAVIP != "b" || removed[0].Device != eni.Device {
			t.Errorf("removed %v, %v", removed, err)
		}
		if again, err := r.edge.RemoveStrays(); err != nil || len(again) > 0 {
			t.Errorf("and then %v, %v", again, err)
		}
		list, err := netlink.AddrList(nil, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		for _, ip := range stay {
			if !slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(ip.AsSlice()) }) {
				t.Errorf("%v is gone", ip)
			}
		}
		s.Cluster.Maintenance = true
		add(7, eni.Device, func(*fsm.HAVIP) {})
		if removed, err := r.edge.RemoveStrays(); err != nil || len(removed) > 0 {
			t.Errorf("in maintenance of the cluster: %v, %v", removed, err)
		}
	})
}

// A burst of changes is one look each straysApart, and a quiet node looks now and then.
func TestStraysAreLookedForAtAPace(t *testing.T) {
	a := &Agent{cfg: Config{Edge: &process{}}}
	now := Boot()
	if next := a.strays(now); next != straysEvery {
		t.Errorf("after a look: again in %v", next)
	}
	a.straysSoon()
	if next := a.strays(now.Add(time.Millisecond)); next != straysApart-time.Millisecond {
		t.Errorf("after a change: in %v", next)
	}
	if next := a.strays(now.Add(straysApart)); next != straysEvery {
		t.Errorf("when it is due: %v", next)
	}
}
