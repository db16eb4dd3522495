package api

import (
	"strings"
	"time"

	"havip-cluster/fsm"
)

// strangerShown is how long status speaks of a station outside the cluster after a node last saw it claim a HAVIP. While it goes on
// a node tells of it again every few seconds.
const strangerShown = time.Minute

// strangers tells of stations outside the cluster that claim HAVIPs: clients may be talking to them.
func (h *health) strangers(st *fsm.State, at int64) {
	told := map[string]bool{}
	for i := len(st.Events) - 1; i >= 0; i-- { // the newest first
		e := st.Events[i]
		if e.Kind != "conflict" || told[e.HAVIP] || !strings.HasPrefix(e.Text, fsm.StrangerClaims) || time.Duration(at-e.At) > strangerShown {
			continue
		}
		told[e.HAVIP] = true
		h.many("stranger", HealthYellow, "HAVIP %s: %s of %s %s ago; find that station, and take the address off there", e.HAVIP, e.Text, e.Node, max(0, time.Duration(at-e.At)).Round(time.Second))
	}
	h.rest("stranger", HealthYellow, "%d more HAVIPs are claimed by stations outside the cluster; `events --kind conflict`")
}
