package identity

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// FuzzSettings: identity.json is read, or refused as corrupt or of another format. What
// passes its check is the same when written and read again.
func FuzzSettings(f *testing.F) {
	s := settings()
	s.ClusterID, s.NodeID, s.Role, s.Lease, s.Created = clusterA, nodeA, RoleVoter, 500*time.Millisecond, time.Unix(1_700_000_000, 0).UTC()
	good, err := encodeSettings(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, text := range []string{"", "{}", `{"format":1}`, `{"format":2}`, "null", "[", `{"format":1,"lease":"9223372036s"}`, `{"format":1,"lease":"-1ns","advertise":"::ffff:1.2.3.4"}`} {
		f.Add([]byte(text))
	}
	f.Add(bytes.Replace(good, []byte("192.0.2.1"), []byte("fe80::1%eth0"), 1))
	f.Add(bytes.Replace(good, []byte("500ms"), []byte("1e9s"), 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decodeSettings(text)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Errorf("neither corrupt nor of another format: %v", err)
			}
			return
		}
		if s.Check() != nil {
			return
		}
		again, err := encodeSettings(s)
		if err != nil {
			t.Fatalf("%+v passed the check and cannot be written: %v", s, err)
		}
		second, err := decodeSettings(again)
		if err != nil || !second.Created.Equal(s.Created) {
			t.Fatalf("%s: %v", again, err)
		}
		second.Created = s.Created // the same instant, in another zone's words
		if second != s {
			t.Errorf("%+v became %+v", s, second)
		}
	})
}

// FuzzPEM: files of keys and certificates, and certificate requests of strangers, are read
// or refused as corrupt.
func FuzzPEM(f *testing.F) {
	ca, err := NewCA(clusterA, time.Unix(1_700_000_000, 0))
	if err != nil {
		f.Fatal(err)
	}
	key, err := ca.KeyPEM()
	if err != nil {
		f.Fatal(err)
	}
	csr, _, err := NewCSR()
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range [][]byte{nil, ca.CertPEM(), key, csr, append(ca.CertPEM(), 'x'), append(ca.CertPEM(), ca.CertPEM()...), ca.CertPEM()[1:], []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, certErr := ParseCert("x", text)
		_, keyErr := parseKey("x", text)
		_, gossipErr := parseGossipKey(text)
		for _, err := range []error{certErr, keyErr, gossipErr} {
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("not corrupt: %v", err)
			}
		}
		if certErr == nil && keyErr == nil {
			t.Error("both a certificate and a key")
		}
		_, _ = ParseCA(text, text)
	})
}
