package owner

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"havip-cluster/fsm"
)

// defendPause is DEFEND_INTERVAL of RFC 5227 section 2.4: one defence at most.
const defendPause = 10 * time.Second

// Foreign takes the news that somebody outside the cluster claims a HAVIP. It does not
// block. The owner tells its neighbours once more who it is, once per defendPause.
func (a *Agent) Foreign(ip netip.Addr, mac net.HardwareAddr, device string) {
	for _, v := range a.cfg.Log.State().HAVIPs {
		if v.IP != ip {
			continue
		}
		if a.cfg.Claimed != nil {
			a.cfg.Claimed()
		}
		if a.said.fresh(a.cfg.Clock(), ip.String()+" "+mac.String()) {
			a.cfg.Logger.Warn("a station outside the cluster claims a HAVIP", "havip", v.Name, "ip", ip, "mac", mac.String(), "device", device)
		}
		a.journal.note("conflict", v.Name, fmt.Sprintf("%s, MAC %s, claims %s (seen on %s)", fsm.StrangerClaims, mac, ip, device))
	}
	for _, h := range a.Activations() {
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

// repairsOfAKind is how many repairs of one kind on one ENI a turn tells one by one. A program that
// flushes an interface damages thousands at once, and each would be an entry of the log.
const repairsOfAKind = 8

// tellRepairs tells the cluster what another program had damaged here.
func (a *Agent) tellRepairs(repairs []Trouble) {
	type kind struct{ eni, text string }
	n := map[kind]int{}
	of := func(t Trouble) (kind, *activation) {
		h := a.activations.by[t.HAVIP]
		if h == nil {
			return kind{}, nil
		}
		return kind{h.ENI.ID, t.Text}, h
	}
	for _, t := range repairs {
		if k, h := of(t); h != nil {
			n[k]++
		}
	}
	for _, t := range repairs {
		k, h := of(t)
		switch {
		case h == nil || n[k] == 0: // told with the first of its kind
		case n[k] > repairsOfAKind:
			if a.said.fresh(a.cfg.Clock(), k.eni+" "+t.Text) {
				a.cfg.Logger.Warn("repaired", "havips", n[k], "first", h.HAVIP.Name, "eni", k.eni, "what", t.Text)
			}
			a.journal.note("repaired", "", fmt.Sprintf("%s: %s, of %d HAVIPs, %s is one", k.eni, t.Text, n[k], h.HAVIP.Name))
			n[k] = 0
		default:
			if a.said.fresh(a.cfg.Clock(), h.HAVIP.ID+" "+t.Text) {
				a.cfg.Logger.Warn("repaired", "havip", h.HAVIP.Name, "eni", k.eni, "what", t.Text)
			}
			a.journal.note("repaired", h.HAVIP.Name, k.eni+": "+t.Text)
		}
	}
}

// tellForeign tells the cluster of a HAVIP's address that another program put on this node.
func (a *Agent) tellForeign(s *fsm.State, st ForeignAddress) {
	name, node := s.HAVIPs[st.HAVIP].Name, s.NodeName(a.cfg.Node)
	if st.Removed {
		a.cfg.Logger.Warn("removed a HAVIP that another program added", "havip", name, "address", st.Prefix, "device", st.Device)
		a.journal.note("repaired", name, fmt.Sprintf("%v on %s of node %s was added by another program and is removed", st.Prefix, st.Device, node))
		return
	}
	a.cfg.Logger.Warn("another program has put a HAVIP on this node; it is kept silent", "havip", name, "address", st.Prefix, "device", st.Device)
	a.journal.note("conflict", name, fmt.Sprintf("%v is on %s of node %s, put there by another program; it is kept silent; `ip address del %v dev %s` there removes it", st.Prefix, st.Device, node, st.Prefix, st.Device))
}

// tellNote tells the cluster of something else on this node.
func (a *Agent) tellNote(s *fsm.State, n Note) {
	kind, name := "conflict", s.HAVIPs[n.HAVIP].Name
	if n.Repaired {
		kind = "repaired"
	}
	a.cfg.Logger.Warn(n.Text, "havip", name)
	a.journal.note(kind, name, fmt.Sprintf("node %s: %s", s.NodeName(a.cfg.Node), n.Text))
}
