package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"havip-cluster/api"
	"havip-cluster/fsm"
)

// What is kept from one scrape to the next follows the log, the rules that end with time, and what is held.
func TestSeriesOfHAVIPsFollow(t *testing.T) {
	var m havipMetrics
	now := time.Now()
	one := &fsm.State{HAVIPs: map[string]fsm.HAVIP{"h-1": {ID: "h-1", Name: "web"}}}
	two := &fsm.State{HAVIPs: map[string]fsm.HAVIP{"h-1": one.HAVIPs["h-1"], "h-2": {ID: "h-2", Name: "web"}}}
	held := []api.Observation{{ID: "h-1", HAVIP: "web", ENI: "n1/eth0", Present: true, Open: true}}
	shut := []api.Observation{{ID: "h-1", HAVIP: "web", ENI: "n1/eth0", Present: true}}
	says := func(state *fsm.State, observed []api.Observation, want string) {
		t.Helper()
		families, err := m.gather(state, observed, now)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, f := range families {
			if name := f.GetName(); name == "havip_unserved" || name == "havip_holding" {
				for _, metric := range f.GetMetric() {
					for _, l := range metric.GetLabel() {
						name += " " + l.GetName() + "=" + l.GetValue()
					}
					lines, name = append(lines, fmt.Sprint(name, ": ", metric.GetGauge().GetValue())), f.GetName()
				}
			}
		}
		if got := strings.Join(lines, "; "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	web, open := "havip_unserved havip=web: 1", "havip_holding eni=n1/eth0 havip=web id=h-1: 1"
	says(one, nil, web)
	says(one, nil, web)
	says(one, held, open+"; "+web)
	says(one, shut, "havip_holding eni=n1/eth0 havip=web id=h-1: 0; "+web)
	says(two, held, open+"; havip_unserved havip=web (h-1): 1; havip_unserved havip=web (h-2): 1")
	says(two, nil, "havip_unserved havip=web (h-1): 1; havip_unserved havip=web (h-2): 1")
}
