package identity

import (
	"crypto/ecdh"
	"encoding/base64"
	"fmt"
)

// DatagramKey is a key by which this node proves its messages of the lease to another: the key of
// one of its certificates, used for static ECDH.
type DatagramKey struct {
	Certificate string // Fingerprint of the certificate
	Public      string // the point on P-256 as the cluster's state has it: uncompressed, in base64
	Secret      *ecdh.PrivateKey
}

// NewDatagramKey is the key of a certificate with this fingerprint.
func NewDatagramKey(fingerprint string, secret *ecdh.PrivateKey) DatagramKey {
	return DatagramKey{fingerprint, base64.StdEncoding.EncodeToString(secret.PublicKey().Bytes()), secret}
}

// datagramKeys is what DatagramKeys made of a set of keys: it is asked for with every entry of the log.
type datagramKeys struct {
	of   *keySet
	keys []DatagramKey
}

// DatagramKeys returns the keys of this node that may be in use, the newest first: that of the
// present certificate, and that of the one before, which counts until every member knows the
// new one. Nobody may change the list.
func (id *Identity) DatagramKeys() ([]DatagramKey, error) {
	k := id.keys.Load()
	if known := id.made.Load(); known != nil && known.of == k {
		return known.keys, nil
	}
	var keys []DatagramKey
	for _, p := range k.pairs() {
		secret, err := p.Key.ECDH()
		if err != nil {
			return nil, fmt.Errorf("identity: the node's key cannot be used for key agreement: %w", err)
		}
		keys = append(keys, NewDatagramKey(Fingerprint(p.Leaf), secret))
	}
	id.made.Store(&datagramKeys{k, keys})
	return keys, nil
}
