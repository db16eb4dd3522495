package membership

import (
	"testing"
	"time"

	"havip-cluster/fsm"
)

// A node whose certificate is for an address before gets another one once the state has the new address:
// earlier it would be for the old one again.
func TestCertificateOfANodeThatMoved(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	v := keyView{self: "n", life: 24 * time.Hour, report: fsm.KeyReport{Cert: "c", From: now.Unix(), Until: now.Add(24 * time.Hour).Unix()}}
	for _, c := range []struct {
		movedTo, known string
		due            bool
	}{
		{"", "192.0.2.1", false}, {"192.0.2.2", "192.0.2.1", false}, {"192.0.2.2", "192.0.2.2", true},
	} {
		v.movedTo = c.movedTo
		if got := renewalDue(fsm.Keys{}, fsm.Node{ID: "n", Address: c.known}, v, now); got != c.due {
			t.Errorf("moved to %q, known at %s: %v", c.movedTo, c.known, got)
		}
	}
}
