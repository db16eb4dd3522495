package api

import (
	"fmt"
	"slices"

	"havip-cluster/fsm"
)

// noMajority says of a plan what no placement can: without a majority of the voters nothing is served, wherever it would
// go. Those of down are supposed to be down, those of up to be back; the others are as they are. "" where a majority is left.
func noMajority(st *fsm.State, live map[string]Live, down, up []string) string {
	voters, there := 0, 0
	for id, l := range live {
		n, member := st.Nodes[id]
		if !member || l.Suffrage != "voter" {
			continue
		}
		voters++
		if !slices.Contains(down, n.Name) && (l.Status == StatusAlive || slices.Contains(up, n.Name)) {
			there++
		}
	}
	if voters == 0 || there > voters/2 {
		return ""
	}
	return fmt.Sprintf("no majority: %d of %d voters would be there, so everything falls silent within one lease, wherever it is placed", there, voters)
}

// planMajority adds to a plan of the running cluster what follows for the majority of its voters.
func planMajority(out *Plan, st *fsm.State, live map[string]Live, spec PlanSpec) {
	out.NoMajority = noMajority(st, live, spec.Down, spec.Up)
	if !spec.NMinusOne {
		return
	}
	for _, n := range st.NodeList() {
		if live[n.ID].Suffrage == "voter" && out.NoMajority == "" && noMajority(st, live, append(slices.Clone(spec.Down), n.Name), spec.Up) != "" {
			out.LastVoters = append(out.LastVoters, n.Name)
		}
	}
}
