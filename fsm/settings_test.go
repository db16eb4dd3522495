package fsm

import (
	"strings"
	"testing"

	"havip-cluster/havip"
)

// settingsStory goes on where keysStory ends: every setting of level 4 comes up.
func settingsStory(t testing.TB) *world {
	w := keysStory(t)
	w.must(CreateHAVIP{Name: "shop", IP: addr("10.0.0.190"), Spec: Spec{Description: "the shop"}})
	w.must(UpdateHAVIP{ID: w.get("shop").ID, Change: Change{Description: ptr("the shop; ask <web> & co")}})
	cfg := w.state.DesiredConfig()
	for i := range cfg.HAVIPs {
		if cfg.HAVIPs[i].Name == "shop" {
			cfg.HAVIPs[i].Description = "the shop, as in the file"
		}
	}
	w.must(ApplyConfig{Config: cfg, Note: "described"})
	return w
}

func TestGoldenSettings(t *testing.T) {
	w := settingsStory(t)
	goldenStory(t, w, "settings", "with settings of that level")
}

// A description is kept as it is, is taken away by an empty one, leaves the other settings alone, and
// is refused where a member could not read it or a line could not show it.
func TestDescription(t *testing.T) {
	w := settingsStory(t)
	id, was := w.get("shop").ID, w.get("shop").Spec
	if was.Description != "the shop, as in the file" {
		t.Errorf("the file left %q", was.Description)
	}
	w.refuses(UpdateHAVIP{ID: id, Change: Change{Description: ptr(strings.Repeat("x", havip.DescriptionMax+1))}}, CodeTooLong, "257 bytes")
	w.refuses(UpdateHAVIP{ID: id, Change: Change{Description: ptr("a\nb")}}, CodeParameter, "control characters")
	w.must(UpdateHAVIP{ID: id, Change: Change{Priority: ptr(4)}})
	if got := w.get("shop"); got.Description != was.Description || got.Priority != 4 {
		t.Errorf("a change of the priority left %+v", got.Spec)
	}
	w.must(UpdateHAVIP{ID: id, Change: Change{Description: ptr("")}})
	if got := w.get("shop"); got.Description != "" {
		t.Errorf("still %q", got.Description)
	}
	old := edgeStory(t)
	old.refuses(CreateHAVIP{Name: "shop", IP: addr("10.0.0.190"), Spec: Spec{Description: "x"}}, CodeLevel, "upgrade it first")
	old.refuses(UpdateHAVIP{ID: old.get("edge").ID, Change: Change{Description: ptr("x")}}, CodeLevel, "upgrade it first")
	old.must(CreateHAVIP{Name: "off", IP: addr("10.0.0.191"), Spec: Spec{Disabled: true}})
}

// A creation that is disabled was not known to level 1, though a change was.
func TestDisabledCreationIsOfLevel2(t *testing.T) {
	w := trio(t)
	w.refuses(CreateHAVIP{Name: "off", IP: addr("10.0.0.190"), Spec: Spec{Disabled: true}}, CodeLevel, "upgrade it first")
	w.havip("web", "10.0.0.100")
	w.must(UpdateHAVIP{ID: w.get("web").ID, Change: Change{Enabled: ptr(false)}})
	if snap := snapshot(t, w.state); snap[9] != 1 || !strings.Contains(string(snap), `"enabled":false`) {
		t.Errorf("a snapshot of version %d, or without the word of version 1", snap[9])
	}
}
