package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"slices"
	"testing"
	"time"
)

func TestSignCSRTrustsOnlyTheKey(t *testing.T) {
	ca, now := newCA(t, clusterA), time.Now().Truncate(time.Second)
	key := must[*ecdsa.PrivateKey](t)(newKey())
	der := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: nodeB, Organization: []string{clusterB}},
		DNSNames:    []string{"victim"},
		IPAddresses: []net.IP{addrB.AsSlice()},
		ExtraExtensions: []pkix.Extension{ // basicConstraints CA:TRUE
			{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}},
		},
	}, key))
	csr := pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der})
	cert := must[*x509.Certificate](t)(ParseCert("test", must[[]byte](t)(SignCSR(ca, csr, nodeA, "node-1", addrA, now))))

	if cert.Subject.CommonName != nodeA || ClusterOf(cert) != clusterA || cert.IsCA {
		t.Errorf("subject %v, CA %v", cert.Subject, cert.IsCA)
	}
	if want := []string{"node-1", nodeA + "." + clusterA + ".havip"}; !slices.Equal(cert.DNSNames, want) {
		t.Errorf("DNS names %q, want %q", cert.DNSNames, want)
	}
	if len(cert.IPAddresses) != 1 || !cert.IPAddresses[0].Equal(addrA.AsSlice()) {
		t.Errorf("addresses %v", cert.IPAddresses)
	}
	if !cert.NotBefore.Equal(now.Add(-24*time.Hour)) || !cert.NotAfter.Equal(now.AddDate(2, 0, 0)) {
		t.Errorf("valid from %v to %v, signed at %v", cert.NotBefore, cert.NotAfter, now)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		t.Error("the key is not the one of the request")
	}
}

func TestSignCSRRefuses(t *testing.T) {
	ca, now := newCA(t, clusterA), time.Now()
	good, _, err := NewCSR()
	check(t, err)
	block, _ := pem.Decode(good)
	forged := slices.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	edCSR := must[[]byte](t)(requestFor(edKey))
	p384CSR := must[[]byte](t)(requestFor(must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))))

	for _, row := range []struct {
		csr          []byte
		nodeID, name string
		now          time.Time
		target       error
		fragment     string
	}{
		{good, "node-1", "node-1", now, ErrInvalid, `node id "node-1"`},
		{good, nodeA, "", now, ErrInvalid, "node name"},
		{nil, nodeA, "n", now, ErrInvalid, "no PEM block in 0 bytes"},
		{make([]byte, pemBytesMax+1), nodeA, "n", now, ErrInvalid, "16385 bytes are more than the 16384 allowed"},
		{ca.CertPEM(), nodeA, "n", now, ErrInvalid, `PEM block "CERTIFICATE" where "CERTIFICATE REQUEST" belongs`},
		{append(slices.Clone(good), good...), nodeA, "n", now, ErrInvalid, "more than one"},
		{pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: forged}), nodeA, "n", now, ErrInvalid, "not signed with its own key"},
		{pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: []byte("x")}), nodeA, "n", now, ErrInvalid, "malformed"},
		{edCSR, nodeA, "n", now, ErrInvalid, "another kind than ECDSA P-256"},
		{p384CSR, nodeA, "n", now, ErrInvalid, "another kind than ECDSA P-256"},
		{good, nodeA, "n", now.AddDate(10, 0, 1), ErrExpired, "the cluster needs a new CA"},
		{good, nodeA, "n", now.AddDate(0, 0, -2), ErrExpired, "set the clock"},
	} {
		_, err := SignCSR(ca, row.csr, row.nodeID, row.name, addrA, row.now)
		wantError(t, err, row.target, row.fragment)
	}
}

func TestCertificateNeverOutlivesTheCA(t *testing.T) {
	ca := newCA(t, clusterA)
	csr, _, err := NewCSR()
	check(t, err)
	text := must[[]byte](t)(SignCSR(ca, csr, nodeA, "node-1", addrA, ca.Cert.NotAfter.Add(-time.Hour)))
	if cert := must[*x509.Certificate](t)(ParseCert("test", text)); !cert.NotAfter.Equal(ca.Cert.NotAfter) {
		t.Fatalf("the certificate ends at %v, the CA at %v", cert.NotAfter, ca.Cert.NotAfter)
	}
}

func TestNeedsRenewal(t *testing.T) {
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, before := range []time.Duration{24 * time.Hour, 0} { // the day before it was signed does not count
		cert := &x509.Certificate{NotBefore: begin.Add(-before), NotAfter: begin.Add(15 * time.Hour)}
		if NeedsRenewal(cert, begin.Add(10*time.Hour)) || !NeedsRenewal(cert, begin.Add(10*time.Hour+1)) {
			t.Fatal("renewal is not due with the last third")
		}
	}
}

func TestParseCARefuses(t *testing.T) {
	a, b := newCA(t, clusterA), newCA(t, clusterA)
	keyA, keyB := must[[]byte](t)(a.KeyPEM()), must[[]byte](t)(b.KeyPEM())
	if again := must[*CA](t)(ParseCA(a.CertPEM(), keyA)); Fingerprint(again.Cert) != Fingerprint(a.Cert) {
		t.Fatal("another CA came back")
	}
	for _, row := range []struct {
		cert, key []byte
		fragment  string
	}{
		{keyA, keyA, `ca.crt: PEM block "PRIVATE KEY"`},
		{a.CertPEM(), a.CertPEM(), `ca.key: PEM block "CERTIFICATE"`},
		{a.CertPEM(), keyB, "ca.key is not the key of ca.crt"},
	} {
		_, err := ParseCA(row.cert, row.key)
		wantError(t, err, ErrCorrupt, row.fragment)
	}
}
