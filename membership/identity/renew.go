package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Leaf returns the node's present certificate.
func (id *Identity) Leaf() *x509.Certificate { return id.keys.Load().cert.Leaf }

// Issuer returns the CA certificate that signed the node's present certificate.
func (id *Identity) Issuer() *x509.Certificate {
	k := id.keys.Load()
	a, _ := k.issuer(k.cert.Leaf) // accept has verified it
	return a.Cert
}

// IssuerOf returns the CA that signed a certificate, or ErrForeign when none does that is
// trusted here.
func (id *Identity) IssuerOf(certPEM []byte) (*x509.Certificate, error) {
	leaf, err := ParseCert("a certificate", certPEM)
	if err != nil {
		return nil, err
	}
	a, ok := id.keys.Load().issuer(leaf)
	if !ok {
		return nil, fmt.Errorf("%w: it is of no CA that is trusted here", ErrForeign)
	}
	return a.Cert, nil
}

// Authority returns the CA that signed the node's present certificate, with its key, or nil
// on a node that has not got that key.
func (id *Identity) Authority() *CA { return id.Held(Fingerprint(id.Issuer())) }

// Held returns the CA of a fingerprint with its key, or nil.
func (id *Identity) Held(fingerprint string) *CA { return id.keys.Load().holds(fingerprint) }

// HeldIDs returns the fingerprints of the CAs whose keys this node has, sorted.
func (id *Identity) HeldIDs() []string {
	var out []string
	for _, ca := range id.keys.Load().held {
		out = append(out, Fingerprint(ca.Cert))
	}
	slices.Sort(out)
	return out
}

// Anchors returns the CAs whose certificates this node accepts.
func (id *Identity) Anchors() []Anchor { return slices.Clone(id.keys.Load().anchors) }

// AnchorIDs returns their fingerprints, sorted.
func (id *Identity) AnchorIDs() []string {
	var out []string
	for _, a := range id.keys.Load().anchors {
		out = append(out, a.ID())
	}
	slices.Sort(out)
	return out
}

// GossipKeys returns the gossip keys, 32 bytes each; the first one encrypts.
func (id *Identity) GossipKeys() [][]byte { return slices.Clone(id.keys.Load().gossip) }

// GossipIDs returns the names of the gossip keys in that order.
func (id *Identity) GossipIDs() []string {
	var out []string
	for _, key := range id.keys.Load().gossip {
		out = append(out, GossipKeyID(key))
	}
	return out
}

// RenewalCSR returns the request for a new certificate with the present key, for when a person
// carries request and answer between two hosts.
func (id *Identity) RenewalCSR() ([]byte, error) { return requestFor(id.keys.Load().key) }

// Renew stores a new certificate with its key and uses it from the next connection on; an
// empty key is the present one. The pair before is kept beside it. It returns ErrCorrupt,
// ErrForeign or ErrExpired, and changes nothing, when the certificate is not one for this node.
func (id *Identity) Renew(certPEM, secretKeyPEM []byte, now time.Time) error {
	return id.change(func(k *keySet) (*keySet, error) {
		if len(secretKeyPEM) == 0 {
			var err error
			if secretKeyPEM, err = keyPEM(k.key); err != nil {
				return nil, err
			}
		}
		n, err := k.accept(id.Settings, certPEM, secretKeyPEM, now, strict)
		if err != nil {
			return nil, err
		}
		n.before = &pair{k.cert.Leaf, k.key}
		return n, nil
	})
}

// Trust makes these the CAs whose certificates this node accepts. It returns ErrForeign, and
// changes nothing, when the node's own certificate is of none of them.
func (id *Identity) Trust(anchors []Anchor) error {
	if len(anchors) > anchorsMax {
		return fmt.Errorf("%w: %d CAs, at most %d are trusted at one time", ErrInvalid, len(anchors), anchorsMax)
	}
	return id.change(func(k *keySet) (*keySet, error) {
		n := *k
		n.anchors = slices.Clone(anchors)
		if _, ok := n.issuer(k.cert.Leaf); !ok {
			return nil, fmt.Errorf("%w: this node's own certificate is of none of the %d CAs that are to be trusted", ErrForeign, len(anchors))
		}
		if n.before != nil {
			if _, ok := n.issuer(n.before.leaf); !ok {
				n.before = nil
			}
		}
		return n.with(k.cert.Leaf, k.key), nil
	})
}

// Hold keeps the key of a CA on this node. It returns ErrInvalid when there are too many.
func (id *Identity) Hold(ca *CA) error {
	return id.change(func(k *keySet) (*keySet, error) {
		if k.holds(Fingerprint(ca.Cert)) != nil {
			return k, nil
		}
		return k.holding(ca)
	})
}

func (k *keySet) holding(ca *CA) (*keySet, error) {
	if len(k.held) >= heldMax {
		return nil, fmt.Errorf("%w: this node has the keys of %d CAs already", ErrInvalid, len(k.held))
	}
	n := *k
	n.held = append(slices.Clone(k.held), ca)
	return &n, nil
}

// HoldMade is Hold for a CA that was made here just now, for the rotation that began at an index
// of the log.
func (id *Identity) HoldMade(ca *CA, rotation uint64) error {
	return id.change(func(k *keySet) (*keySet, error) {
		n, err := k.holding(ca)
		if err == nil {
			n.madeCA = origin{Fingerprint(ca.Cert), rotation}
		}
		return n, err
	})
}

// MadeCA returns the CA with its key that was made here for a rotation, or nil.
func (id *Identity) MadeCA(rotation uint64) *CA {
	k := id.keys.Load()
	if k.madeCA.ID == "" || k.madeCA.Rotation != rotation {
		return nil
	}
	return k.holds(k.madeCA.ID)
}

// Forget erases the keys of all CAs but those whose fingerprints are kept.
func (id *Identity) Forget(kept []string) error {
	return id.change(func(k *keySet) (*keySet, error) {
		n := *k
		n.held = slices.DeleteFunc(slices.Clone(k.held), func(ca *CA) bool { return !slices.Contains(kept, Fingerprint(ca.Cert)) })
		if len(n.held) == len(k.held) {
			return k, nil
		}
		return &n, nil
	})
}

// SetGossipKeys makes these the gossip keys; the first one encrypts.
func (id *Identity) SetGossipKeys(keys [][]byte) error {
	return id.setGossip(keys, func(*keySet) {})
}

// AddGossipMade adds a gossip key that was made here just now, for the rotation that began at an
// index of the log. It encrypts nothing yet.
func (id *Identity) AddGossipMade(key []byte, rotation uint64) error {
	return id.setGossip(append(id.GossipKeys(), key), func(k *keySet) { k.madeGossip = origin{GossipKeyID(key), rotation} })
}

// MadeGossip returns the id of the gossip key that was made here for a rotation and is still
// known, or "".
func (id *Identity) MadeGossip(rotation uint64) string {
	k := id.keys.Load()
	known := slices.ContainsFunc(k.gossip, func(key []byte) bool { return GossipKeyID(key) == k.madeGossip.ID })
	if k.madeGossip.Rotation != rotation || !known {
		return ""
	}
	return k.madeGossip.ID
}

func (id *Identity) setGossip(keys [][]byte, mark func(*keySet)) error {
	if len(keys) < 1 || len(keys) > ringMax {
		return fmt.Errorf("%w: %d gossip keys, 1 to %d are possible", ErrInvalid, len(keys), ringMax)
	}
	for _, key := range keys {
		if len(key) != gossipKeyBytes {
			return fmt.Errorf("%w: a gossip key of %d bytes, it has %d", ErrInvalid, len(key), gossipKeyBytes)
		}
	}
	return id.change(func(k *keySet) (*keySet, error) {
		n := *k
		n.gossip = slices.Clone(keys)
		mark(&n)
		return &n, nil
	})
}

// change replaces the set, on the disk first. Without a data directory there is no disk.
func (id *Identity) change(make func(*keySet) (*keySet, error)) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	old := id.keys.Load()
	k, err := make(old)
	if err != nil || k == old {
		return err
	}
	if id.Dir != "" {
		text, err := k.encode()
		if err != nil {
			return err
		}
		if err := ReplaceFile(filepath.Join(id.Dir, fileKeys), modeSecret, text); err != nil {
			return fmt.Errorf("identity: write %s: %w", fileKeys, err)
		}
		if err := writeCopies(id.Dir, k); err != nil {
			return err
		}
	}
	id.keys.Store(k)
	return nil
}

// writeCopies brings the files of the first day up to date. They count no more; other programs
// may read them, and no key that was replaced stays in them.
func writeCopies(dir string, k *keySet) error {
	key, err := keyPEM(k.key)
	if err != nil {
		return err
	}
	first, _ := k.issuer(k.cert.Leaf)
	spec := Spec{CACert: CertPEM(first.Cert), Cert: CertPEM(k.cert.Leaf), Key: key, GossipKey: gossipText(k.gossip[0])}
	if ca := k.holds(first.ID()); ca != nil {
		if spec.CAKey, err = ca.KeyPEM(); err != nil {
			return err
		}
	}
	for _, p := range spec.parts() {
		path := filepath.Join(dir, p.name)
		if p.name == fileKeys {
			continue
		}
		if len(*p.text) == 0 {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("identity: remove %s: %w", p.name, err)
			}
			continue
		}
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, *p.text) {
			continue
		}
		if err := ReplaceFile(path, p.mode, *p.text); err != nil {
			return fmt.Errorf("identity: write %s: %w", p.name, err)
		}
	}
	return nil
}

// Pair is a node's certificate with its key.
type Pair struct {
	Leaf *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Pairs returns the present certificate and key, and those before when they are still there.
func (id *Identity) Pairs() []Pair { return id.keys.Load().pairs() }

func (k *keySet) pairs() []Pair {
	out := []Pair{{k.cert.Leaf, k.key}}
	if k.before != nil {
		out = append(out, Pair{k.before.leaf, k.before.key})
	}
	return out
}
