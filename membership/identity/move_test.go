package identity

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A data directory that moves keeps everything but its address; its certificate counts until it has one
// for the new address, however often it moves before.
func TestMove(t *testing.T) {
	dir := newDir(t)
	before := must[*Identity](t)(Load(dir))
	third := netip.MustParseAddr("192.0.2.77")
	for _, to := range []netip.Addr{addrB, addrB, third} {
		check(t, Move(dir, to))
		id := must[*Identity](t)(Load(dir))
		if !id.Misplaced() || id.Was != before.Advertise || Fingerprint(id.Leaf()) != Fingerprint(before.Leaf()) {
			t.Errorf("at %s: was %s, misplaced %v", to, id.Was, id.Misplaced())
		}
		same := id.Settings
		if same.Advertise != to {
			t.Errorf("it is at %s, want %s", same.Advertise, to)
		}
		if same.Advertise, same.Was = before.Advertise, before.Was; same != before.Settings {
			t.Errorf("more has changed: %+v", same)
		}
	}
	id := must[*Identity](t)(Load(dir))
	csr := must[[]byte](t)(id.RenewalCSR())
	cert := must[[]byte](t)(SignCSR(id.Authority(), csr, id.NodeID, id.Name, id.Advertise, time.Now()))
	check(t, id.Renew(cert, nil, time.Now()))
	if id = must[*Identity](t)(Load(dir)); id.Misplaced() {
		t.Error("its certificate is not for its address")
	}
	check(t, Move(dir, addrB)) // back and forth goes on
	if id = must[*Identity](t)(Load(dir)); id.Was != third || !id.Misplaced() {
		t.Errorf("was %s", id.Was)
	}
}

func TestMoveRefuses(t *testing.T) {
	dir := newDir(t)
	wantError(t, Move(dir, netip.MustParseAddr("0.0.0.0")), ErrInvalid, "0.0.0.0")
	wantError(t, Move(dir, netip.Addr{}), ErrInvalid, "")
	wantError(t, Move(filepath.Join(dir, "none"), addrB), ErrNoState, "")
	// A certificate for a third address is still a foreign one.
	check(t, Move(dir, addrB))
	check(t, os.WriteFile(filepath.Join(dir, fileMoved), []byte("192.0.2.99\n"), 0o644))
	_, err := Load(dir)
	wantError(t, err, ErrForeign, "node.crt is for the address")
	check(t, os.WriteFile(filepath.Join(dir, fileMoved), []byte("somewhere\n"), 0o644))
	_, err = Load(dir)
	wantError(t, err, ErrCorrupt, fileMoved)
}
