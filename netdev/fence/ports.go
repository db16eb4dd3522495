package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/limits"
)

// The ports of probes. Such a port is on the node's own addresses, which the fence does not
// guard, and answers there for a HAVIP: what leaves from it leaves only while that HAVIP is
// open and the deadline lies ahead. So the handshake that the kernel completes for a stopped
// process, and what it repeats later, stay on the host.

// tieable returns the address in the fence's form, or why the pair cannot be.
func tieable(port uint16, ip netip.Addr) (netip.Addr, error) {
	ip, err := checked(ip)
	if port == 0 {
		err = errors.Join(err, errors.New("there is no port 0"))
	}
	if err != nil {
		return ip, fmt.Errorf("fence: tie port %d: %w", port, err)
	}
	return ip, nil
}

func (f *bpfFence) Tie(port uint16, ip netip.Addr) error {
	ip, err := tieable(port, ip)
	if err != nil {
		return err
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	err = f.maps.Ports.Update(uint32(port), ip.As16(), ebpf.UpdateAny)
	switch {
	case errors.Is(err, unix.E2BIG):
		return fmt.Errorf("fence: tie port %d: %w: %d ports", port, ErrFull, limits.Probes)
	case err != nil:
		return fmt.Errorf("fence: tie port %d: %w", port, err)
	}
	return nil
}

func (f *bpfFence) Untie(port uint16) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	if err := f.maps.Ports.Delete(uint32(port)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("fence: untie port %d: %w", port, err)
	}
	return nil
}

// tied reads the ports back; none in a fence of a version that had none.
func (f *bpfFence) tied() (map[uint16]netip.Addr, error) {
	ports := map[uint16]netip.Addr{}
	if f.maps.Ports == nil {
		return ports, nil
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	var port uint32
	var ip [16]byte
	for all := f.maps.Ports.Iterate(); ; {
		if !all.Next(&port, &ip) {
			if err := all.Err(); err != nil {
				return nil, fmt.Errorf("fence: read ports: %w", err)
			}
			return ports, nil
		}
		ports[uint16(port)] = netip.AddrFrom16(ip).Unmap()
	}
}

// portMap is the map of the ports that answer for the HAVIPs of one address family.
func (r *ruleset) portMap(ip netip.Addr) *nftables.Set {
	if ip.Is4() {
		return r.ports4
	}
	return r.ports6
}

// guardPorts queues the rules for what leaves from the tied ports: the map gives the HAVIP,
// and its sets say the rest. Only frames without a tag in them are looked at: a responder
// speaks through the device that it is bound to, behind which nobody has put a tag yet.
func (r *ruleset) guardPorts(c *nftables.Conn, chain *nftables.Chain) {
	tcp := equal(unix.IPPROTO_TCP)
	first := []expr.Any{ // no later fragment, which begins with something else than a port
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0x1f, 0xff}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0}},
	}
	ip4 := join(metaProtocol(unix.ETH_P_IP), load(layerIP, 9, 1, 1), tcp, load(layerIP, 6, 2, 1), first,
		load(expr.PayloadBaseTransportHeader, 0, 2, 1))
	ip6 := join(metaProtocol(unix.ETH_P_IPV6), load(layerIP, 6, 1, 1), tcp, load(layerIP, 40, 2, 1))
	for _, port := range [][]expr.Any{ip4, ip6} {
		for _, at := range []struct{ ports, open *nftables.Set }{{r.ports4, r.ip4.open}, {r.ports6, r.ip6.open}} {
			whose := join(port, []expr.Any{&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: at.ports.Name, SetID: at.ports.ID}})
			r.add(c, chain, whose, inSet(at.open, true), r.count(egress, "shut"), verdict(expr.VerdictDrop))
			r.add(c, chain, whose, r.gateShut(), r.count(egress, "expired"), verdict(expr.VerdictDrop))
		}
	}
}

func portKey(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }

func (f *nftFence) Tie(port uint16, ip netip.Addr) error {
	ip, err := tieable(port, ip)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, known := f.ports[port]
	if !known && len(f.ports) >= limits.Probes {
		return fmt.Errorf("fence: tie port %d: %w: %d ports", port, ErrFull, limits.Probes)
	}
	err = f.commit(func(c *nftables.Conn) error {
		var errs error
		if known {
			errs = c.SetDeleteElements(f.rules.portMap(old), []nftables.SetElement{{Key: portKey(port), Val: old.AsSlice()}})
		}
		return errors.Join(errs, c.SetAddElements(f.rules.portMap(ip), []nftables.SetElement{{Key: portKey(port), Val: ip.AsSlice()}}))
	})
	if err != nil {
		return errors.Join(fmt.Errorf("fence: tie port %d: %w", port, err), f.reload())
	}
	f.ports[port] = ip
	return nil
}

func (f *nftFence) Untie(port uint16) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.reload(); err != nil { // what has gone already cannot be deleted
		return fmt.Errorf("fence: untie port %d: %w", port, err)
	}
	ip, known := f.ports[port]
	if !known {
		return nil
	}
	err := f.commit(func(c *nftables.Conn) error {
		return c.SetDeleteElements(f.rules.portMap(ip), []nftables.SetElement{{Key: portKey(port), Val: ip.AsSlice()}})
	})
	if err != nil {
		return errors.Join(fmt.Errorf("fence: untie port %d: %w", port, err), f.reload())
	}
	delete(f.ports, port)
	return nil
}

// readPorts reads the tied ports; none in a table of a version that had none.
func (f *nftFence) readPorts(c *nftables.Conn) (map[uint16]netip.Addr, error) {
	ports := map[uint16]netip.Addr{}
	sets, err := c.GetSets(f.rules.table)
	if err != nil {
		return nil, fmt.Errorf("fence: read ports: %w", err)
	}
	for _, s := range []*nftables.Set{f.rules.ports4, f.rules.ports6} {
		if !slices.ContainsFunc(sets, func(has *nftables.Set) bool { return has.Name == s.Name }) {
			continue
		}
		elements, err := c.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("fence: read set %s: %w", s.Name, err)
		}
		for _, e := range elements {
			if ip, ok := netip.AddrFromSlice(e.Val); ok && len(e.Key) == 2 {
				ports[binary.BigEndian.Uint16(e.Key)] = ip
			}
		}
	}
	return ports, nil
}

func (f *nftFence) tied() (map[uint16]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.reload()
	return maps.Clone(f.ports), err
}

// tieAgain puts back the ports that the kernel has lost. The caller holds mu.
func (f *nftFence) tieAgain(ports map[uint16]netip.Addr) error {
	lost := map[uint16]netip.Addr{}
	for port, ip := range ports {
		if _, there := f.ports[port]; !there {
			lost[port] = ip
		}
	}
	if len(lost) == 0 {
		return nil
	}
	err := f.commit(func(c *nftables.Conn) error {
		var errs error
		for _, port := range slices.Sorted(maps.Keys(lost)) {
			ip := lost[port]
			errs = errors.Join(errs, c.SetAddElements(f.rules.portMap(ip), []nftables.SetElement{{Key: portKey(port), Val: ip.AsSlice()}}))
		}
		return errs
	})
	if err != nil {
		return fmt.Errorf("fence: tie ports again: %w", err)
	}
	maps.Copy(f.ports, lost)
	return nil
}

// moveTies takes the ties of a fence to another one.
func moveTies(from, to kernelSide) error {
	ports, err := from.tied()
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		err = errors.Join(err, to.Tie(port, ports[port]))
	}
	return err
}
