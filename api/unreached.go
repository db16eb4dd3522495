package api

import (
	"fmt"
	"time"

	"havip-cluster/fsm"
)

// unreachedMax is how many pairs of nodes and ports `status` has; every node may fail to reach every other.
const unreachedMax = 500

// unreached tells which ports of whom a node does not reach, with the way out.
func (h *health) unreached(st *fsm.State, live map[string]Live, now time.Time) {
	more := 0
	for _, from := range st.NodeList() {
		l := live[from.ID]
		more += l.MoreUnreached
		for _, d := range l.Unreached {
			to, member := st.Nodes[d.Node]
			if !member {
				continue
			}
			if len(h.out.Unreached) >= unreachedMax {
				more++
				continue
			}
			u := unreachedView(from, to, d, now)
			h.out.Unreached = append(h.out.Unreached, u)
			h.many("unreached", HealthYellow, "%s", u.text(from, to))
		}
	}
	h.rest("unreached", HealthYellow, "%d more ports of nodes are not reached by others; `status -o json` lists them under unreached")
	if more > 0 {
		h.worse(HealthYellow, "and %d more ports, not listed", more)
	}
}

func unreachedView(from, to fsm.Node, d Door, now time.Time) Unreached {
	u := Unreached{
		From: from.Name, To: to.Name, Port: map[string]int{"api": to.APIPort, "raft": to.RaftPort, "gossip": to.GossipPort, "lease": to.LeasePort}[d.Use],
		Protocol: "tcp", Use: d.Use, Why: d.Why, ForMS: max(0, now.Sub(d.Since).Milliseconds()),
	}
	if d.UDP {
		u.Protocol = "udp"
	}
	return u
}

// text is the problem in one sentence. Of a datagram without an answer nobody knows which way was lost.
func (u Unreached) text(from, to fsm.Node) string {
	cure := fmt.Sprintf("open %d/%s of %s for %s in the firewalls between them", u.Port, u.Protocol, to.Address, from.Address)
	if u.Protocol == "udp" {
		cure = fmt.Sprintf("open %d/%s between %s and %s, both ways", u.Port, u.Protocol, from.Address, to.Address)
	}
	if u.Use == "lease" {
		cure = "so no lease is kept through it; " + cure
	}
	return fmt.Sprintf("node %s does not reach node %s at %d/%s (%s): %s for %s; %s", u.From, u.To,
		u.Port, u.Protocol, u.Use, u.Why, (time.Duration(u.ForMS) * time.Millisecond).Round(time.Second), cure)
}
