package fsm

import (
	"maps"
	"net/netip"
	"testing"
)

// TestAnIDThatIsTaken: of 10,000 HAVIPs made at one time two get the same id once in a hundred times,
// 32 bits being what they are. The second one gets another id; programs of the version before refuse.
func TestAnIDThatIsTaken(t *testing.T) {
	for _, row := range []struct {
		name    string
		level4  bool
		refused bool
	}{{"level 3", false, true}, {"level 4", true, false}} {
		w := &world{t: t, state: newest(t), at: epoch0}
		if row.level4 {
			w.upgrade4()
		}
		create := CreateHAVIP{Name: "fresh", IP: netip.MustParseAddr("10.0.0.201")}
		before := *w.state
		before.HAVIPs = maps.Clone(w.state.HAVIPs)
		id := w.try(create).Object
		taken := before.HAVIPs[w.state.HAVIPList()[0].ID]
		taken.ID, taken.Name, taken.IP = id, "other", netip.MustParseAddr("10.0.0.202")
		before.HAVIPs[id] = taken
		w.state = &before
		res := w.try(create)
		if (res.Refusal != nil) != row.refused || !row.refused && (res.Object == id || len(w.state.HAVIPs) != len(before.HAVIPs)+1) {
			t.Errorf("%s: %+v", row.name, res)
		}
	}
}
