package api

import (
	"fmt"
	"slices"

	"havip-cluster/fsm"
)

// wayBack is the command that ends what sets a node aside.
func wayBack(n Node) string {
	switch {
	case n.Removing:
		return ""
	case n.Maintenance:
		return fmt.Sprintf("; `havip-cluster node maintenance %s off`", n.Name)
	}
	return fmt.Sprintf("; `havip-cluster node activate %s`", n.Name)
}

// margins are the sentences about what works and could not lose anything more.
func margins(st *fsm.State) []string {
	out := []string{}
	owners := 0
	for _, sess := range st.SessionList() {
		if n := st.Nodes[sess.Node]; n.Role != fsm.RoleWitness && !n.Standby && !n.Draining && !n.Removing {
			owners++
		}
	}
	if owners == 1 && len(st.HAVIPs) > 0 {
		out = append(out, "only one node can own HAVIPs now: there is no spare; `havip-cluster node add NAME`, or `havip-cluster node activate NAME` for one that is set aside")
	}
	alone, first := 0, ""
	for _, v := range st.HAVIPs {
		if v.Range.Limit && len(v.Range.Members) == 1 && v.Range.Type == fsm.RangeCVM && !v.Disabled && !v.Deleting {
			if alone++; first == "" || v.Name < first {
				first = v.Name
			}
		}
	}
	if alone > 0 {
		more := ""
		if alone > 1 {
			more = fmt.Sprintf(" (and %d more)", alone-1)
		}
		out = append(out, fmt.Sprintf("HAVIP %s%s may be on one node alone, so it has no failover; `havip-cluster havip range add %s node:NODE`", first, more, first))
	}
	for _, h := range st.WebhookList() {
		if h.Failure != "" {
			out = append(out, fmt.Sprintf("webhook %s is not taken: %s; `havip-cluster webhook test %s`", h.Name, h.Failure, h.Name))
		}
	}
	return slices.Clip(out)
}
