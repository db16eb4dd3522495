package console

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"havip-cluster/api"
)

// A form is shown at one time and sent at another, and somebody else may change the same thing between. So it carries
// what it was shown with, in the field "was": what its user left as it was is not sent, and stays as the other made it.
// What both changed is refused, with the other's value in sight.

// shownHAVIP is what the form of a HAVIP was made from: it shows some of the settings. The names are those of
// api.HAVIPChange.
type shownHAVIP struct {
	Name  string    `json:"name"`
	Range api.Range `json:"range"`
	api.View
	// Description is that of View, which is left out of JSON where it is empty: a form that showed none says so.
	Description string `json:"description"`
}

func shownOf(h api.HAVIP) shownHAVIP { return shownHAVIP{h.Name, h.Range, h.View, h.Description} }

// over is a HAVIP as the form showed it.
func (s shownHAVIP) over(h api.HAVIP) api.HAVIP {
	h.Name, h.Range, h.View = s.Name, s.Range, s.View
	h.Description = s.Description
	return h
}

// shownCluster is what the form of the cluster's rules shows; the names are those of api.ClusterChange.
type shownCluster struct {
	PerENI           int    `json:"per_eni"`
	PerNode          int    `json:"per_node"`
	Rebalance        string `json:"rebalance"`
	Provider         string `json:"provider"`
	CAHolders        int    `json:"ca_holders"`
	CertificateLifeS int64  `json:"certificate_life_seconds"`
	SnapshotEveryS   int64  `json:"snapshot_every_seconds"`
	SnapshotKeep     int    `json:"snapshot_keep"`
}

func shownClusterOf(c api.Cluster) shownCluster {
	return shownCluster{c.Limits.PerENI, c.Limits.PerNode, c.Rebalance, c.Provider.Name, c.CAHolders, c.CertificateLifeS, c.SnapshotEveryS, c.SnapshotKeep}
}

func (s shownCluster) over(c api.Cluster) api.Cluster {
	c.Limits.PerENI, c.Limits.PerNode, c.Rebalance, c.Provider.Name = s.PerENI, s.PerNode, s.Rebalance, s.Provider
	c.CAHolders, c.CertificateLifeS, c.SnapshotEveryS, c.SnapshotKeep = s.CAHolders, s.CertificateLifeS, s.SnapshotEveryS, s.SnapshotKeep
	return c
}

// asText is what the field "was" holds.
func asText(shown any) string {
	text, _ := json.Marshal(shown) // of plain structs: it cannot fail
	return string(text)
}

// was reads the field. What it does not have, or all of it if it cannot be read, was shown as things are now.
func was[T any](text string, now T) T {
	shown, all := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if json.Unmarshal([]byte(text), &shown) != nil || json.Unmarshal([]byte(asText(now)), &all) != nil {
		return now
	}
	maps.Copy(all, shown)
	var out T // not now: maps and lists would be read into those of now, and change it
	if json.Unmarshal([]byte(asText(all)), &out) != nil {
		return now
	}
	return out
}

// contested refuses a change of what somebody else has changed since the form was shown.
func contested(was, now, mine any) error {
	old, is, want := fields(was), fields(now), fields(mine)
	var both []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if _, shown := old[k]; shown && !reflect.DeepEqual(old[k], is[k]) && !reflect.DeepEqual(want[k], is[k]) {
			both = append(both, k+", which is "+clip(asText(is[k]))+" now")
		}
	}
	if len(both) == 0 {
		return nil
	}
	return problemf(http.StatusConflict, "Somebody else has changed it since this form was opened: %s. Open it again to see how it is now; nothing was changed.", strings.Join(both, "; "))
}

func fields(v any) map[string]any {
	out := map[string]any{}
	_ = json.Unmarshal([]byte(asText(v)), &out) // an object, as above
	return out
}
