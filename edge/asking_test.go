package edge

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// Whose answer counts: nobody's own, a stranger's always, a member's only once all fences should
// have shut.
func TestWhoseAnswerCounts(t *testing.T) {
	own, member, stranger := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}, net.HardwareAddr{2, 0, 0, 0, 0, 3}
	a := NewAsker(func(mac net.HardwareAddr) (string, bool) {
		switch mac.String() {
		case own.String():
			return "", false
		case member.String():
			return "node n2", true
		}
		return "a station", false
	}, func() {})
	got := map[netip.Addr][]net.HardwareAddr{ip(1): {own}, ip(2): {own, member}, ip(3): {member, stranger}}
	for _, c := range []struct {
		nodes bool
		want  map[netip.Addr]string
	}{
		{false, map[netip.Addr]string{ip(3): "MAC " + stranger.String()}},
		{true, map[netip.Addr]string{ip(2): "node n2, MAC " + member.String(), ip(3): "a station, MAC " + stranger.String()}},
	} {
		taken := a.taken(got, c.nodes)
		if len(taken) != len(c.want) {
			t.Errorf("members count %t: %v", c.nodes, taken)
		}
		for at, words := range c.want {
			if !strings.Contains(taken[at], words) || strings.Contains(taken[at], own.String()) {
				t.Errorf("members count %t: %v: %q", c.nodes, at, taken[at])
			}
		}
	}
}
