package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ServerTLS returns the configuration for listening: TLS 1.3, this node's certificate
// with the CA behind it. A certificate that a client presents must be of this cluster;
// without requireClient a client may present none (the API does that for joining nodes
// and must then ask PeerNodeID who is calling). Renewed certificates take effect on the
// next connection.
func (id *Identity) ServerTLS(requireClient bool) *tls.Config {
	conf := baseTLS()
	conf.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.keys.Load().cert, nil }
	// crypto/tls only asks for the certificate here and VerifyConnection judges it, so
	// that a node of another cluster hears which one instead of "unknown authority".
	conf.ClientAuth = tls.RequestClientCert
	if requireClient {
		conf.ClientAuth = tls.RequireAnyClientCert
	}
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			if requireClient { // crypto/tls has refused it already: check on two paths
				return fmt.Errorf("%w: the client presents no certificate", ErrForeign)
			}
			return nil
		}
		return id.keys.Load().verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, time.Now(), Grace)
	}
	return conf
}

// ClientTLS returns the configuration for connecting to any node of this cluster: TLS
// 1.3, this node's certificate, and no look at the peer's name or address. For a
// conversation with one particular node use ClientTLSTo.
func (id *Identity) ClientTLS() *tls.Config { return id.clientTLS("") }

// ClientTLSTo returns the configuration for connecting to node nodeID and no other one,
// whatever its address is at present.
func (id *Identity) ClientTLSTo(nodeID string) *tls.Config { return id.clientTLS(nodeID) }

func (id *Identity) clientTLS(nodeID string) *tls.Config {
	conf := baseTLS()
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return id.keys.Load().cert, nil
	}
	conf.InsecureSkipVerify = true // VerifyConnection below does it, see baseTLS
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		leaf := cs.PeerCertificates[0] // a TLS 1.3 server always has one
		if err := id.keys.Load().verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now(), Grace); err != nil {
			return err
		}
		if nodeID != "" && leaf.Subject.CommonName != nodeID {
			return fmt.Errorf("%w: node %s answers where %s was called", ErrForeign, leaf.Subject.CommonName, nodeID)
		}
		return nil
	}
	return conf
}

// JoinTLS returns the configuration for a node that has nothing but a token. The server
// must show a certificate of the token's cluster together with the CA certificate that
// has the token's fingerprint and signed it; so nobody in between can answer instead.
func JoinTLS(clusterID, fingerprint string) *tls.Config {
	conf := baseTLS()
	conf.InsecureSkipVerify = true // VerifyConnection below does it, see baseTLS
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		leaf := cs.PeerCertificates[0]
		if err := checkCluster(leaf, clusterID); err != nil {
			return err
		}
		for _, ca := range cs.PeerCertificates[1:] {
			if Fingerprint(ca) == fingerprint {
				k := &keySet{anchors: []Anchor{{Cert: ca}}}
				return k.verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now(), strict)
			}
		}
		return fmt.Errorf("%w: the peer does not show the CA certificate with fingerprint %s that the token names; "+
			"ask for a new token, and if that fails too, somebody else answers at this address", ErrForeign, fingerprint)
	}
	return conf
}

// baseTLS is what all configurations share. crypto/tls would match the peer against a
// host name or address, but nodes are known by id and addresses change; so each
// configuration verifies the chain in VerifyConnection. Sessions are not resumed: every
// connection proves anew who is at its end.
func baseTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
}

// PeerNodeID returns the node id of the peer of a connection made with one of the
// configurations above, which have verified it. It returns ErrForeign when the peer
// presented no certificate, or one that names no node.
func PeerNodeID(cs tls.ConnectionState) (string, error) {
	if !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return "", fmt.Errorf("%w: the peer presented no certificate", ErrForeign)
	}
	nodeID := cs.PeerCertificates[0].Subject.CommonName
	if CheckNodeID(nodeID) != nil {
		return "", fmt.Errorf("%w: the peer's certificate is of %q, which is no node", ErrForeign, nodeID)
	}
	return nodeID, nil
}

// Grace is how long after its end a certificate of a node still opens a connection between
// members, so that a cluster whose certificates all ended can elect a leader and renew them.
// Whoever accepts such a connection looks at Ended, and says so loudly.
const Grace = tolerance(90 * 24 * time.Hour)

// tolerance is how long after its end a certificate is accepted.
type tolerance time.Duration

const (
	strict  = tolerance(0)
	forEver = tolerance(100 * 365 * 24 * time.Hour)
)

// Ended reports whether the peer's certificate has run out, and by when: it was accepted
// because that is less than Grace ago.
func Ended(cs tls.ConnectionState, now time.Time) (time.Time, bool) {
	if len(cs.PeerCertificates) == 0 {
		return time.Time{}, false
	}
	end := cs.PeerCertificates[0].NotAfter
	return end, now.After(end)
}

// verify checks a peer's certificates, its own first: signed by a CA that is trusted here, or
// by one that such a CA has endorsed.
func (k *keySet) verify(certs []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time, t tolerance) error {
	leaf := certs[0]
	if a, ok := k.issuer(leaf); ok {
		return verifyNode(leaf, a.Cert, usage, now, t)
	}
	for _, ca := range certs[1:] {
		if leaf.CheckSignatureFrom(ca) == nil && k.endorsed(ca, certs[1:], now, t) {
			return verifyNode(leaf, ca, usage, now, t)
		}
	}
	return verifyNode(leaf, k.anchors[0].Cert, usage, now, t) // which says what is wrong
}

// endorsed reports whether a CA that is trusted here has signed the name and key of ca.
func (k *keySet) endorsed(ca *x509.Certificate, shown []*x509.Certificate, now time.Time, t tolerance) bool {
	for _, cross := range shown {
		if !cross.IsCA || !sameKey(cross, ca) || ClusterOf(cross) != ClusterOf(k.anchors[0].Cert) || checkTime("", cross, now, t) != nil {
			continue
		}
		for _, a := range k.anchors {
			if cross.CheckSignatureFrom(a.Cert) == nil && checkTime("", a.Cert, now, t) == nil {
				return true
			}
		}
	}
	return false
}

// verifyNode checks that leaf is the certificate of a node of ca's cluster, signed by
// ca, valid at now, but for the tolerance, and for usage. It returns ErrForeign or ErrExpired.
func verifyNode(leaf, ca *x509.Certificate, usage x509.ExtKeyUsage, now time.Time, t tolerance) error {
	if err := checkCluster(leaf, ClusterOf(ca)); err != nil {
		return err
	}
	nodeID := leaf.Subject.CommonName
	if leaf.IsCA || CheckNodeID(nodeID) != nil {
		return fmt.Errorf("%w: the certificate of %q is not a node's", ErrForeign, nodeID)
	}
	if err := firstError(checkTime("the certificate of node "+nodeID, leaf, now, t),
		checkTime("the cluster's CA certificate", ca, now, t)); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	// The time was looked at above.
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: earliest(now, leaf.NotAfter, ca.NotAfter), KeyUsages: []x509.ExtKeyUsage{usage}})
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.IncompatibleUsage {
		return fmt.Errorf("%w: the certificate of node %s is not for this end of a connection: %w", ErrForeign, nodeID, err)
	}
	if err != nil {
		return fmt.Errorf("%w: the certificate of node %s is not signed by the CA of cluster %s: %w", ErrForeign, nodeID, ClusterOf(ca), err)
	}
	return nil
}

func earliest(times ...time.Time) time.Time {
	return slices.MinFunc(times, time.Time.Compare)
}

func checkCluster(cert *x509.Certificate, ours string) error {
	switch theirs := ClusterOf(cert); {
	case ours == "":
		return fmt.Errorf("%w: the CA certificate names no cluster", ErrForeign)
	case theirs == "":
		return fmt.Errorf("%w: certificate of no cluster, this is %s", ErrForeign, ours)
	case theirs != ours:
		return fmt.Errorf("%w: certificate of cluster %s, this is %s", ErrForeign, theirs, ours)
	}
	return nil
}

func checkTime(what string, cert *x509.Certificate, now time.Time, t tolerance) error {
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("%w: %s begins at %s, this host's clock says %s; set the clock", ErrExpired,
			what, cert.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if !now.After(cert.NotAfter.Add(time.Duration(t))) {
		return nil
	}
	way := "`havip-cluster keys renew-offline --help` says how it gets a new one"
	if cert.IsCA {
		way = "the cluster needs a new CA"
	}
	return fmt.Errorf("%w: %s expired at %s, this host's clock says %s; if the clock is right, %s", ErrExpired,
		what, cert.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339), way)
}
