package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	caYears   = 10
	nodeYears = 2

	// backdate lets a host whose clock is behind the signer's use its certificate at once: also
	// one that was ahead when the cluster was made and has been set right since.
	backdate = 24 * time.Hour

	pemBytesMax = 16 << 10 // a certificate of ours has less than 1 KiB
)

const (
	pemCert = "CERTIFICATE"
	pemKey  = "PRIVATE KEY" // PKCS #8, RFC 5958
	pemCSR  = "CERTIFICATE REQUEST"
)

// CA is a cluster's certificate authority together with its key. Only nodes that may
// let others in have one.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes the CA of a cluster: ECDSA P-256 (Ed25519 would shut out the browsers that
// read the console), valid for 10 years, signing node certificates and nothing below.
func NewCA(clusterID string, now time.Time) (*CA, error) {
	if err := CheckClusterID(clusterID); err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{ // without a serial number: CreateCertificate draws one
		Subject:               pkix.Name{CommonName: "havip-cluster CA", Organization: []string{clusterID}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(caYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err := issue(template, template, &key.PublicKey, key)
	return &CA{Cert: cert, key: key}, err
}

// ParseCA reads a CA from PEM. It returns ErrCorrupt when either half is malformed, or
// they do not belong together.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	cert, err := ParseCert(fileCACert, certPEM)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(fileCAKey, keyPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%w: %s is not the key of %s", ErrCorrupt, fileCAKey, fileCACert)
	}
	return &CA{Cert: cert, key: key}, nil
}

// CertPEM returns the CA's certificate.
func (ca *CA) CertPEM() []byte { return CertPEM(ca.Cert) }

// KeyPEM returns the CA's secret key.
func (ca *CA) KeyPEM() ([]byte, error) { return keyPEM(ca.key) }

// NewCSR makes a node's key, and the request to sign it. The request names nobody: who
// the node is, the signer says.
func NewCSR() (csrPEM, secretKeyPEM []byte, err error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	if secretKeyPEM, err = keyPEM(key); err != nil {
		return nil, nil, err
	}
	csrPEM, err = requestFor(key)
	return csrPEM, secretKeyPEM, err
}

func requestFor(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("identity: certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der}), nil
}

// SignCSR returns the certificate, as PEM, of node nodeID: valid for 2 years from now,
// for both ends of a connection. Of the request it trusts only the public key, and that
// only if the request is signed with it; names, addresses and extensions in it are
// ignored. It returns ErrInvalid for a bad request, id, name or address, and ErrExpired
// when the CA is.
func SignCSR(ca *CA, csrPEM []byte, nodeID, name string, ip netip.Addr, now time.Time) ([]byte, error) {
	return SignCSRFor(ca, csrPEM, nodeID, name, ip, now, 0)
}

// SignCSRFor is SignCSR for a life that begins now; 0 = 2 years.
func SignCSRFor(ca *CA, csrPEM []byte, nodeID, name string, ip netip.Addr, now time.Time, life time.Duration) ([]byte, error) {
	if err := firstError(CheckNodeID(nodeID), CheckNodeName(name), CheckAdvertise(ip)); err != nil {
		return nil, err
	}
	if err := checkTime("the cluster's CA certificate", ca.Cert, now, strict); err != nil {
		return nil, err
	}
	key, err := requestedKey(csrPEM)
	if err != nil {
		return nil, err
	}
	clusterID := ClusterOf(ca.Cert)
	notAfter := now.AddDate(nodeYears, 0, 0)
	if life > 0 {
		notAfter = now.Add(life)
	}
	if notAfter.After(ca.Cert.NotAfter) {
		notAfter = ca.Cert.NotAfter
	}
	cert, err := issue(&x509.Certificate{
		Subject:               pkix.Name{CommonName: nodeID, Organization: []string{clusterID}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{name, NodeDNSName(nodeID, clusterID)},
		IPAddresses:           []net.IP{ip.AsSlice()},
	}, ca.Cert, key, ca.key)
	if err != nil {
		return nil, err
	}
	return CertPEM(cert), nil
}

// requestedKey returns the public key of a request that is signed with it.
func requestedKey(csrPEM []byte) (*ecdsa.PublicKey, error) {
	der, err := parsePEM(pemCSR, csrPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate request: %w", ErrInvalid, err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate request is malformed: %w", ErrInvalid, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: certificate request is not signed with its own key: %w", ErrInvalid, err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: certificate request has a key of another kind than ECDSA P-256", ErrInvalid)
	}
	return key, nil
}

// NodeDNSName is the DNS name in a node's certificate that names it and nobody else.
func NodeDNSName(nodeID, clusterID string) string { return nodeID + "." + clusterID + ".havip" }

// Fingerprint returns the SHA-256 of a certificate as 64 hex digits, as
// `openssl x509 -fingerprint -sha256` does without its colons.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// ClusterOf returns the cluster id that a certificate claims, or "" if none. It proves
// nothing by itself.
func ClusterOf(cert *x509.Certificate) string {
	if org := cert.Subject.Organization; len(org) == 1 && CheckClusterID(org[0]) == nil {
		return org[0]
	}
	return ""
}

// Life is how long a certificate is meant to be used: without the day before it was signed.
func Life(cert *x509.Certificate) time.Duration { return LifeOf(cert.NotBefore, cert.NotAfter) }

// LifeOf is Life of a certificate that is valid between two times.
func LifeOf(notBefore, notAfter time.Time) time.Duration {
	life := notAfter.Sub(notBefore)
	if life > backdate {
		return life - backdate
	}
	return life
}

// NeedsRenewal reports whether the last third of a certificate's life has begun at now.
func NeedsRenewal(cert *x509.Certificate, now time.Time) bool {
	return now.After(cert.NotAfter.Add(-Life(cert) / 3))
}

// Endorse signs another CA's name and key of the same cluster, so that a node that knows only
// this CA accepts that one.
func (ca *CA) Endorse(next *x509.Certificate) (*x509.Certificate, error) {
	key, ok := next.PublicKey.(*ecdsa.PublicKey)
	if !ok || !next.IsCA || ClusterOf(next) != ClusterOf(ca.Cert) {
		return nil, fmt.Errorf("%w: the certificate of %q is not of a CA of this cluster", ErrForeign, next.Subject.CommonName)
	}
	return issue(&x509.Certificate{
		Subject: next.Subject, NotBefore: next.NotBefore, NotAfter: next.NotAfter, SubjectKeyId: next.SubjectKeyId,
		KeyUsage: next.KeyUsage, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}, ca.Cert, key, ca.key)
}

// CertPEM returns a certificate as PEM.
func CertPEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: cert.Raw})
}

// ParseCert reads exactly one certificate from PEM, or returns ErrCorrupt; what names it
// in the error.
func ParseCert(what string, data []byte) (*x509.Certificate, error) {
	der, err := parsePEM(pemCert, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	return cert, nil
}

func parseKey(what string, data []byte) (*ecdsa.PrivateKey, error) {
	der, err := parsePEM(pemKey, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: %s holds a key of another kind than ECDSA P-256", ErrCorrupt, what)
	}
	return key, nil
}

// parsePEM returns the bytes of the one block in data, which must be of type blockType.
func parsePEM(blockType string, data []byte) ([]byte, error) {
	if len(data) > pemBytesMax {
		return nil, fmt.Errorf("%d bytes are more than the %d allowed", len(data), pemBytesMax)
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, fmt.Errorf("no PEM block in %d bytes", len(data))
	case block.Type != blockType:
		return nil, fmt.Errorf("PEM block %q where %q belongs", block.Type, blockType)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, fmt.Errorf("more than one %s, or text after it", blockType)
	}
	return block.Bytes, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: make key: %w", err)
	}
	return key, nil
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("identity: encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

func issue(template, parent *x509.Certificate, key *ecdsa.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, fmt.Errorf("identity: sign certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
