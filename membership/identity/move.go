package identity

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fileMoved holds the address before the present one, until a third one takes its place.
const fileMoved = "moved-from"

// readMoved is the address before the present one, the zero value for a node that never moved.
func readMoved(dir string) (netip.Addr, error) {
	text, err := os.ReadFile(filepath.Join(dir, fileMoved))
	if errors.Is(err, fs.ErrNotExist) {
		return netip.Addr{}, nil
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("identity: %w", err)
	}
	was, err := netip.ParseAddr(strings.TrimSpace(string(text)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %s: %w", ErrCorrupt, fileMoved, err)
	}
	return was, nil
}

// Move gives a data directory, whose agent does not run, another address of its node; everything else
// stays. The certificate is for the address before, which is accepted here until the node has another one;
// no other node looks at it. It returns ErrInvalid for what is no address, and the errors of Load.
func Move(dir string, to netip.Addr) error {
	if err := CheckAdvertise(to); err != nil {
		return err
	}
	id, err := load(dir, time.Now(), forEver)
	if err != nil {
		return err
	}
	if id.Advertise == to {
		return nil
	}
	was := id.Advertise
	if !isFor(id.Leaf(), was) && isFor(id.Leaf(), id.Was) { // it moved before, and had no time for a certificate
		was = id.Was
	}
	path := filepath.Join(dir, fileIdentity)
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	var f identityFile
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, fileIdentity, err)
	}
	f.Advertise = to
	if text, err = json.MarshalIndent(f, "", "  "); err != nil {
		return fmt.Errorf("identity: encode %s: %w", fileIdentity, err)
	}
	// In this order: after the first alone nothing has changed.
	if err := ReplaceFile(filepath.Join(dir, fileMoved), modePublic, []byte(was.String()+"\n")); err != nil {
		return fmt.Errorf("identity: write %s: %w", fileMoved, err)
	}
	if err := ReplaceFile(path, modePublic, append(text, '\n')); err != nil {
		return fmt.Errorf("identity: write %s: %w", fileIdentity, err)
	}
	return nil
}

// isFor reports whether a certificate is for an address.
func isFor(leaf *x509.Certificate, addr netip.Addr) bool {
	return addr.IsValid() && leaf.VerifyHostname(addr.String()) == nil
}

// Misplaced reports whether the present certificate is for another address than the node's.
func (id *Identity) Misplaced() bool { return !isFor(id.Leaf(), id.Advertise) }
