package api

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/manifest"
)

// measure is what an arrangement comes to.
type measure struct {
	placed int
	moves  int // owners that lose what they have
	score  int // preferences, and the stickiness of what stays
	spread int // widest difference of HAVIPs between two usable nodes
}

// measured judges a plan by what the file says.
func measured(m manifest.Manifest, p Plan) measure {
	node, on := map[string]string{}, map[string]int{}
	for _, n := range m.Nodes {
		if !n.Standby && n.Status == "alive" {
			on[n.Name] = 0
		}
	}
	for _, e := range m.ENIs {
		node[e.ID] = e.Node
	}
	var out measure
	for _, h := range m.HAVIPs {
		to := p.Owners[h.Name]
		if to == nil || *to != h.Owner {
			out.moves += map[bool]int{true: 1}[h.Owner != ""]
		}
		if to == nil {
			continue
		}
		out.placed++
		on[node[*to]]++
		if out.score += h.Prefer[node[*to]] + h.Prefer[*to]; *to == h.Owner {
			out.score += h.Stickiness
		}
	}
	least, most := len(m.HAVIPs), 0
	for _, count := range on {
		least, most = min(least, count), max(most, count)
	}
	out.spread = most - least
	return out
}

// Problems for which another scheduler found a better answer than this one did once. Found is
// its answer, want is ours, which has to be as good by the order of goals in
// fsm/placement/DESIGN.md.
func TestKnownPlacements(t *testing.T) {
	for _, tc := range []struct {
		file        string
		found, want measure
		owners      string
		because     string // where a figure of ours is the worse one
	}{
		{"p01", measure{7, 1, 700, 1}, measure{7, 2, 700, 1}, "vip001=host03 vip002=host01 vip003=host03 vip004=host02 vip005=host01 vip006=host03 vip007=host02",
			"the gain of vip001 equals its stickiness, which is worth a move here; Pacemaker stays at a tie"},
		{"p02", measure{5, 2, 650, 3}, measure{5, 3, 650, 1}, "vip001=host01 vip002=host04 vip003=host01 vip004=host05 vip005=host02",
			"the gain of vip003 equals its stickiness"},
		{"p03", measure{5, 1, 950, 2}, measure{5, 2, 950, 2}, "vip001=host01 vip002=host02 vip003=host04 vip004=host02 vip005=host02",
			"the gain of vip005 equals its stickiness"},
		{"p04", measure{3, 4, 400, 1}, measure{3, 4, 400, 1}, "vip001=host01 vip002=- vip003=host04 vip004=host03 vip005=-", ""},
		{"p05", measure{5, 1, 450, 1}, measure{5, 1, 450, 1}, "vip001=host02 vip002=host01 vip003=host01 vip004=host01 vip005=host02", ""},
	} {
		t.Run(tc.file, func(t *testing.T) {
			raw, err := os.ReadFile("testdata/placement/" + tc.file + ".json")
			must(t, err)
			m, _, err := manifest.Decode(raw)
			must(t, err)
			p, err := PlanOffline(m, nil, PlanSpec{}, time.Unix(1_800_000_000, 0))
			must(t, err)
			got := measured(m, p)
			var owners []string
			for _, h := range m.HAVIPs {
				to := "-"
				if e := p.Owners[h.Name]; e != nil {
					to, _, _ = strings.Cut(*e, "/")
				}
				owners = append(owners, h.Name+"="+to)
			}
			if slices.Sort(owners); strings.Join(owners, " ") != tc.owners || got != tc.want {
				t.Errorf("%+v, want %+v\n%s\nwant\n%s", got, tc.want, strings.Join(owners, " "), tc.owners)
			}
			if got.placed < tc.found.placed || got.score < tc.found.score || got.spread > tc.found.spread || got.moves > tc.found.moves && tc.because == "" {
				t.Errorf("%+v is worse than what another scheduler found: %+v", got, tc.found)
			}
			if got.moves <= tc.found.moves {
				return
			}
			// With one more of stickiness, as `import pacemaker` writes it, a tie stays.
			for i := range m.HAVIPs {
				m.HAVIPs[i].Stickiness++
			}
			p, err = PlanOffline(m, nil, PlanSpec{}, time.Unix(1_800_000_000, 0))
			must(t, err)
			if got := measured(m, p); got.moves > tc.found.moves || got.placed < tc.found.placed || got.spread > tc.found.spread {
				t.Errorf("with ties that stay: %+v, found %+v; %s", got, tc.found, tc.because)
			}
		})
	}
}
