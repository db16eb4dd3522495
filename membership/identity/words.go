package identity

import (
	"crypto/ecdh"
	"crypto/tls"
	"encoding/base64"
	"fmt"
)

// SpeechKey is a key by which this node proves its words of the lease to another: the key of
// one of its certificates, used for static ECDH.
type SpeechKey struct {
	Certificate string // Fingerprint of the certificate
	Public      string // the point on P-256 as the cluster's state has it: uncompressed, in base64
	Secret      *ecdh.PrivateKey
}

// NewSpeechKey is the key of a certificate with this fingerprint.
func NewSpeechKey(fingerprint string, secret *ecdh.PrivateKey) SpeechKey {
	return SpeechKey{fingerprint, base64.StdEncoding.EncodeToString(secret.PublicKey().Bytes()), secret}
}

// speech is what SpeechKeys made of a certificate: it is asked for with every entry of the log.
type speech struct {
	of   *tls.Certificate
	keys []SpeechKey
}

// SpeechKeys returns the keys of this node that may be in use, the newest first: that of the
// present certificate. Nobody may change the list.
func (id *Identity) SpeechKeys() ([]SpeechKey, error) {
	cert := id.cert.Load()
	if known := id.speech.Load(); known != nil && known.of == cert {
		return known.keys, nil
	}
	secret, err := id.key.ECDH()
	if err != nil {
		return nil, fmt.Errorf("identity: the node's key cannot be used for key agreement: %w", err)
	}
	keys := []SpeechKey{NewSpeechKey(Fingerprint(cert.Leaf), secret)}
	id.speech.Store(&speech{cert, keys})
	return keys, nil
}
