package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	keysFormat  = 1 // of keys.json
	anchorsMax  = 4 // CAs that are trusted at one time; the replacement of one needs two
	heldMax     = 4 // keys of CAs on one node
	ringMax     = 4 // gossip keys at one time
	gossipIDLen = 16
)

// Anchor is a CA whose certificates are accepted.
type Anchor struct {
	Cert *x509.Certificate
	// Cross is the same CA's name and key in a certificate that the CA before it signed: by it a
	// node that was away, and knows only the CA before, accepts the new one. nil: none.
	Cross *x509.Certificate
}

// ParseAnchor reads an anchor of a cluster from PEM; cross may be empty. It returns
// ErrCorrupt or ErrForeign.
func ParseAnchor(cluster string, cert, cross []byte) (Anchor, error) {
	var a Anchor
	var err error
	if a.Cert, err = ParseCert("a CA certificate", cert); err != nil {
		return a, err
	}
	if err := checkCluster(a.Cert, cluster); err != nil {
		return a, err
	}
	if !a.Cert.IsCA || a.Cert.CheckSignatureFrom(a.Cert) != nil {
		return a, fmt.Errorf("%w: the certificate %.16s is not a CA's own certificate", ErrCorrupt, Fingerprint(a.Cert))
	}
	if len(cross) == 0 {
		return a, nil
	}
	if a.Cross, err = ParseCert("a cross certificate", cross); err != nil {
		return a, err
	}
	if !sameKey(a.Cross, a.Cert) || !a.Cross.IsCA {
		return a, fmt.Errorf("%w: the cross certificate is not of the CA %.16s", ErrCorrupt, Fingerprint(a.Cert))
	}
	return a, checkCluster(a.Cross, cluster)
}

// ID is the fingerprint of the CA's certificate.
func (a Anchor) ID() string { return Fingerprint(a.Cert) }

func sameKey(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// keySet is everything of a node that may be replaced while it runs. It never changes: a
// change makes another one.
type keySet struct {
	anchors []Anchor
	held    []*CA    // whose keys this node has
	gossip  [][]byte // the first one encrypts
	key     *ecdsa.PrivateKey
	cert    *tls.Certificate
	// before is the pair that cert and key have replaced; nil: none.
	before *pair
	// madeCA and madeGossip are the keys that this node made last for a rotation.
	madeCA, madeGossip origin
}

// origin says which key was made for which rotation, by the log index at which that one began.
type origin struct {
	ID       string `json:"id"`
	Rotation uint64 `json:"rotation"`
}

// pair is a certificate with its key.
type pair struct {
	leaf *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issuer is the anchor that signed a certificate.
func (k *keySet) issuer(leaf *x509.Certificate) (Anchor, bool) {
	for _, a := range k.anchors {
		if leaf.CheckSignatureFrom(a.Cert) == nil {
			return a, true
		}
	}
	return Anchor{}, false
}

// holds returns the CA with a fingerprint and its key, or nil.
func (k *keySet) holds(id string) *CA {
	for _, ca := range k.held {
		if Fingerprint(ca.Cert) == id {
			return ca
		}
	}
	return nil
}

// chain is what this node shows: its certificate, the CA that signed it with its cross
// certificate, and the other CAs, one of which an older token may name.
func (k *keySet) chain(leaf *x509.Certificate) [][]byte {
	out := [][]byte{leaf.Raw}
	first, ok := k.issuer(leaf)
	if ok {
		out = append(out, first.Cert.Raw)
		if first.Cross != nil {
			out = append(out, first.Cross.Raw)
		}
	}
	for _, a := range k.anchors {
		if !ok || a.ID() != first.ID() {
			out = append(out, a.Cert.Raw)
		}
	}
	return out
}

// with returns a copy that has another certificate and key.
func (k *keySet) with(leaf *x509.Certificate, key *ecdsa.PrivateKey) *keySet {
	n := *k
	n.key = key
	n.cert = &tls.Certificate{Certificate: n.chain(leaf), PrivateKey: key, Leaf: leaf}
	return &n
}

// GossipKeyID names a gossip key and tells nothing of it: 16 hex digits.
func GossipKeyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("havip-cluster gossip key "), key...))
	return hex.EncodeToString(sum[:])[:gossipIDLen]
}

// keysFile is keys.json: what counts from the first renewal on. The files of the first day
// are kept as copies of it, for other programs.
type keysFile struct {
	Format   int          `json:"format"`
	Current  pairText     `json:"current"`
	Previous *pairText    `json:"previous,omitempty"` // taken when the current one cannot be used
	Anchors  []anchorText `json:"anchors"`
	Held     []pairText   `json:"held,omitempty"`
	Gossip   []string     `json:"gossip"` // base64; the first one encrypts
	// MadeCA and MadeGossip are absent before this node has made such a key, and after another version wrote the file.
	MadeCA     origin `json:"made_ca,omitzero"`
	MadeGossip origin `json:"made_gossip,omitzero"`
}

type pairText struct {
	Cert string `json:"certificate"`
	Key  string `json:"key"`
}

type anchorText struct {
	Cert  string `json:"certificate"`
	Cross string `json:"cross,omitempty"`
}

func (k *keySet) encode() ([]byte, error) {
	current, err := pairOf(k.cert.Leaf, k.key)
	if err != nil {
		return nil, err
	}
	f := keysFile{Format: keysFormat, Current: current, MadeCA: k.madeCA, MadeGossip: k.madeGossip}
	if k.before != nil {
		p, err := pairOf(k.before.leaf, k.before.key)
		if err != nil {
			return nil, err
		}
		f.Previous = &p
	}
	for _, a := range k.anchors {
		t := anchorText{Cert: string(CertPEM(a.Cert))}
		if a.Cross != nil {
			t.Cross = string(CertPEM(a.Cross))
		}
		f.Anchors = append(f.Anchors, t)
	}
	for _, ca := range k.held {
		p, err := pairOf(ca.Cert, ca.key)
		if err != nil {
			return nil, err
		}
		f.Held = append(f.Held, p)
	}
	for _, g := range k.gossip {
		f.Gossip = append(f.Gossip, base64.StdEncoding.EncodeToString(g))
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("identity: encode %s: %w", fileKeys, err)
	}
	return append(text, '\n'), nil
}

func pairOf(cert *x509.Certificate, key *ecdsa.PrivateKey) (pairText, error) {
	text, err := keyPEM(key)
	return pairText{string(CertPEM(cert)), string(text)}, err
}

// parseKeys reads keys.json, without a look at whose certificates these are.
func parseKeys(cluster string, text []byte) (k *keySet, current, previous pairText, err error) {
	var f keysFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, current, previous, fmt.Errorf("%w: %s: %w", ErrCorrupt, fileKeys, err)
	}
	if f.Format != keysFormat {
		return nil, current, previous, fmt.Errorf("%w: %s has format %d, this version of havip-cluster reads format %d; use the version that wrote it, or a newer one",
			ErrFormat, fileKeys, f.Format, keysFormat)
	}
	if len(f.Anchors) < 1 || len(f.Anchors) > anchorsMax || len(f.Held) > heldMax || len(f.Gossip) < 1 || len(f.Gossip) > ringMax {
		return nil, current, previous, fmt.Errorf("%w: %s has %d CAs, %d of their keys and %d gossip keys", ErrCorrupt, fileKeys, len(f.Anchors), len(f.Held), len(f.Gossip))
	}
	k = &keySet{madeCA: f.MadeCA, madeGossip: f.MadeGossip}
	for _, t := range f.Anchors {
		a, err := ParseAnchor(cluster, []byte(t.Cert), []byte(t.Cross))
		if err != nil {
			return nil, current, previous, fmt.Errorf("%s: %w", fileKeys, err)
		}
		k.anchors = append(k.anchors, a)
	}
	for _, p := range f.Held {
		ca, err := ParseCA([]byte(p.Cert), []byte(p.Key))
		if err != nil {
			return nil, current, previous, fmt.Errorf("%s: %w", fileKeys, err)
		}
		k.held = append(k.held, ca)
	}
	for _, g := range f.Gossip {
		key, err := parseGossipKey([]byte(g))
		if err != nil {
			return nil, current, previous, err
		}
		k.gossip = append(k.gossip, key)
	}
	if f.Previous != nil {
		previous = *f.Previous
	}
	return k, f.Current, previous, nil
}

// firstDay makes the set of the files that Create writes.
func firstDay(s Spec) (*keySet, error) {
	ca, err := ParseCert(fileCACert, s.CACert)
	if err != nil {
		return nil, err
	}
	if err := checkCluster(ca, s.ClusterID); err != nil {
		return nil, fmt.Errorf("%s: %w", fileCACert, err)
	}
	if ca.CheckSignatureFrom(ca) != nil {
		return nil, fmt.Errorf("%w: %s is not a CA's own certificate", ErrCorrupt, fileCACert)
	}
	k := &keySet{anchors: []Anchor{{Cert: ca}}}
	if len(s.CAKey) > 0 {
		held, err := ParseCA(s.CACert, s.CAKey)
		if err != nil {
			return nil, err
		}
		k.held = []*CA{held}
	}
	gossip, err := parseGossipKey(s.GossipKey)
	if err != nil {
		return nil, err
	}
	k.gossip = [][]byte{gossip}
	return k, nil
}

// keySetOf verifies the parts of a spec that may be replaced, and that they are the node's. A certificate in
// keys.json that cannot be used gives way to the one before.
func keySetOf(s Spec, now time.Time, t tolerance) (*keySet, error) {
	if len(s.Keys) == 0 {
		k, err := firstDay(s)
		if err != nil {
			return nil, err
		}
		return k.accept(s.Settings, s.Cert, s.Key, now, t)
	}
	k, current, previous, err := parseKeys(s.ClusterID, s.Keys)
	if err != nil {
		return nil, err
	}
	out, err := k.accept(s.Settings, []byte(current.Cert), []byte(current.Key), now, t)
	if previous == (pairText{}) {
		return out, err
	}
	old, oldErr := k.accept(s.Settings, []byte(previous.Cert), []byte(previous.Key), now, t)
	switch {
	case err != nil && oldErr == nil:
		return old, nil
	case err == nil && oldErr == nil:
		out.before = &pair{old.cert.Leaf, old.key}
	}
	return out, err
}

// accept verifies that a certificate is a node's: its key, its CA, its id, name and address,
// its time. It returns the set with it.
func (k *keySet) accept(s Settings, certPEM, secretKeyPEM []byte, now time.Time, t tolerance) (*keySet, error) {
	key, err := parseKey(fileKey, secretKeyPEM)
	if err != nil {
		return nil, err
	}
	leaf, err := ParseCert(fileCert, certPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("%w: %s is not the key of %s", ErrCorrupt, fileKey, fileCert)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := k.verify([]*x509.Certificate{leaf}, usage, now, t); err != nil {
			return nil, fmt.Errorf("%s: %w", fileCert, err)
		}
	}
	if leaf.Subject.CommonName != s.NodeID {
		return nil, fmt.Errorf("%w: %s is of node %s, %s says %s",
			ErrForeign, fileCert, leaf.Subject.CommonName, fileIdentity, s.NodeID)
	}
	if !slices.Contains(leaf.DNSNames, s.Name) {
		return nil, fmt.Errorf("%w: %s is for the names %q, %s says %s", ErrForeign, fileCert, leaf.DNSNames, fileIdentity, s.Name)
	}
	if !isFor(leaf, s.Advertise) && !isFor(leaf, s.Was) {
		return nil, fmt.Errorf("%w: %s is for the address %v, %s says %s", ErrForeign, fileCert, leaf.IPAddresses, fileIdentity, s.Advertise)
	}
	return k.with(leaf, key), nil
}
