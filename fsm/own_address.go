package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Own addresses: those that a member needs for itself. They are never a HAVIP's. A node with
// a HAVIP's address is not admitted, a HAVIP with a node's is not made. Only an ENI that gets
// the address later is left, which nobody can refuse: then the HAVIP is placed nowhere, and
// the fence of that node lets the address be. While somebody still has a claim on the HAVIP
// it is his, and the other one stays silent.

// ownIndex is derived from nodes, ENIs and HAVIPs. It is replaced whole, never changed.
type ownIndex struct {
	node  map[netip.Addr]string   // name of the node that needs the address
	clash map[netip.Addr][]string // ids of HAVIPs that have one of them, sorted
}

// OwnAddress returns the name of the node that has an address of its own, with which no HAVIP
// may interfere and which its fence must not guard. Below level 3 there is none.
func (s *State) OwnAddress(ip netip.Addr) (node string, ok bool) {
	if s.own == nil || s.Level() < 3 {
		return "", false
	}
	if node, ok = s.own.node[ip]; !ok {
		return "", false
	}
	for _, id := range s.own.clash[ip] {
		if v := s.HAVIPs[id]; v.Owner != nil || len(v.Draining) > 0 {
			return "", false
		}
	}
	return node, true
}

// Clashes returns the HAVIPs whose address is a node's own, with that node's name, by id;
// also those that somebody still has a claim on.
func (s *State) Clashes() map[string]string {
	out := map[string]string{}
	if s.own == nil || s.Level() < 3 {
		return out
	}
	for ip, ids := range s.own.clash {
		for _, id := range ids {
			if _, there := s.HAVIPs[id]; there {
				out[id] = s.own.node[ip]
			}
		}
	}
	return out
}

// OwnAddressText says what is wrong with a HAVIP that has a node's address, and the way out.
func OwnAddressText(ip netip.Addr, node string) string {
	return fmt.Sprintf("%s is an own address of %s; give the interface there another one", ip, node)
}

// indexOwn reads the own addresses off the nodes and ENIs. Detached ENIs have none.
func (s *State) indexOwn() {
	own := &ownIndex{node: map[netip.Addr]string{}, clash: map[netip.Addr][]string{}}
	for _, e := range s.ENIList() {
		if !e.Detached {
			for _, p := range e.Prefixes {
				own.node[p.Addr()] = s.NodeName(e.Node)
			}
		}
	}
	for _, n := range s.NodeList() {
		if ip, err := netip.ParseAddr(n.Address); err == nil {
			own.node[ip] = n.Name
		}
	}
	for id, v := range s.HAVIPs {
		if _, is := own.node[v.IP]; is {
			own.clash[v.IP] = append(own.clash[v.IP], id)
		}
	}
	for _, ids := range own.clash {
		slices.Sort(ids)
	}
	s.own = own
}

// followOwn follows a change of nodes or ENIs. An address that is a HAVIP's alone again has
// been in no fence of the node that had it, so all have to guard it first.
func (s *State) followOwn(c Command, before *ownIndex) {
	s.indexOwn()
	if s.Level() < 3 || before == nil {
		return
	}
	for _, ip := range addrs(before.clash) {
		for _, id := range before.clash[ip] {
			if v, there := s.HAVIPs[id]; there && !slices.Contains(s.own.clash[ip], id) {
				s.guard(&v)
				s.HAVIPs = maps.Clone(s.HAVIPs)
				s.HAVIPs[id] = v
				s.note(c, "conflict", v.Name, before.node[ip], fmt.Sprintf("%s is no longer an own address of %s: HAVIP %s is placed again", ip, before.node[ip], v.Name))
			}
		}
	}
	for _, ip := range addrs(s.own.clash) {
		for _, id := range s.own.clash[ip] {
			if v := s.HAVIPs[id]; !slices.Contains(before.clash[ip], id) {
				s.note(c, "conflict", v.Name, s.own.node[ip], fmt.Sprintf("HAVIP %s: %s", v.Name, OwnAddressText(ip, s.own.node[ip])))
			}
		}
	}
}

func addrs(m map[netip.Addr][]string) []netip.Addr {
	return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare)
}

// reachable refuses an address that no other member could reach the node at, or that belongs
// to a HAVIP.
func (s *State) reachable(n Node) *Refusal {
	ip, err := netip.ParseAddr(n.Address)
	if err != nil || s.Level() < 3 {
		return nil // said elsewhere
	}
	for _, v := range sorted(s.HAVIPs) {
		if v.IP == ip {
			return Refuse(CodeInUse, "%s is the address of HAVIP %s (%s): node %s needs one of its own; choose it with --advertise, or delete the HAVIP", ip, v.Name, v.ID, n.Name)
		}
	}
	for _, other := range s.NodeList() {
		at, err := netip.ParseAddr(other.Address)
		if err == nil && ip.IsLoopback() && !at.IsLoopback() {
			return Refuse(CodeMalformed, "node %s cannot be reached at %s by node %s (%s): choose an address of the network with --advertise", n.Name, ip, other.Name, at)
		}
	}
	return nil
}

// ENIOf finds the ENI that a node has under a device name now.
func (s *State) ENIOf(node, device string) (ENI, bool) {
	var found ENI
	for _, e := range s.ENIs {
		if e.Node == node && e.Device == device && (found.ID == "" || found.Detached && !e.Detached || found.Detached == e.Detached && e.ID < found.ID) {
			found = e
		}
	}
	return found, found.ID != ""
}

// eniIDs gives each reported device its ENI's id: that of the device's name, else that of the
// device with the same MAC whose name has gone, else NODE/DEVICE. Below level 3 it is always
// NODE/DEVICE.
func (s *State) eniIDs(c Command, n Node, list []ENI) map[string]string {
	out := make(map[string]string, len(list))
	if s.Level() < 3 {
		for _, e := range list {
			out[e.Device] = n.Name + "/" + e.Device
		}
		return out
	}
	macs, gone := map[string]int{}, map[string][]ENI{} // by MAC
	for _, e := range list {
		macs[e.MAC]++
		out[e.Device] = ""
	}
	for _, old := range s.ENIList() {
		if old.Node != n.ID {
			continue
		}
		if _, reported := out[old.Device]; !reported {
			gone[old.MAC] = append(gone[old.MAC], old)
		}
	}
	for mac, was := range gone { // those of the last report before those that went earlier
		if last := slices.DeleteFunc(slices.Clone(was), func(e ENI) bool { return e.Detached }); len(last) > 0 {
			gone[mac] = last
		}
	}
	taken := map[string]bool{}
	for _, e := range list {
		if old, known := s.ENIOf(n.ID, e.Device); known {
			out[e.Device], taken[old.ID] = old.ID, true
		}
	}
	for _, e := range list {
		if out[e.Device] != "" {
			continue
		}
		was := gone[e.MAC]
		if e.MAC != "" && macs[e.MAC] == 1 && len(was) == 1 {
			out[e.Device], taken[was[0].ID] = was[0].ID, true
			s.note(c, "eni", "", n.Name, fmt.Sprintf("ENI %s: its device is called %s now (was %s)", was[0].ID, e.Device, was[0].Device))
			continue
		}
		id := s.freeENI(n.Name+"/"+e.Device, taken)
		out[e.Device], taken[id] = id, true
		if e.MAC != "" && len(was) > 0 {
			s.note(c, "eni", "", n.Name, fmt.Sprintf("ENI %s is new: its MAC %s is not unique on node %s; if it was %s, `havip range add HAVIP %s`", id, e.MAC, n.Name, was[0].ID, id))
		}
	}
	return out
}

// freeENI makes an id that no other ENI has: a renamed one may keep that of this device.
func (s *State) freeENI(id string, taken map[string]bool) string {
	base := id
	for i := 2; i < 2*MaxENIsPerNode+2; i++ {
		if _, there := s.ENIs[id]; !there && !taken[id] {
			break
		}
		id = fmt.Sprintf("%s~%d", base, i)
	}
	return id
}

// cutReport keeps what fits of a report of too many ENIs, and says what was left out.
func (s *State) cutReport(n Node, b *ReportENIs) *Refusal {
	if len(b.ENIs) <= MaxENIsPerNode {
		return nil
	}
	if s.Level() < 3 {
		return Refuse(CodeLimit, "node %s reports %d ENIs, at most %d", n.Name, len(b.ENIs), MaxENIsPerNode)
	}
	var names []string
	for _, e := range b.ENIs[MaxENIsPerNode:] {
		names = append(names, e.Device)
	}
	if b.Leftout == "" {
		b.Leftout = fmt.Sprintf("%d devices beyond the limit of %d: %s", len(names), MaxENIsPerNode, strings.Join(names, ", "))
	}
	b.ENIs = b.ENIs[:MaxENIsPerNode]
	return nil
}
