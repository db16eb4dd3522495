package identity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// trustMax is how many CA certificates one file has at most.
const trustMax = 8

// TrustTLS returns the configuration for whoever has nothing but the CA's certificate, in PEM: the server must show a
// node's certificate of its cluster. There may be several, up to eight, of one cluster: then a node of any of them is believed,
// so that a file outlives the replacement of the CA. Who calls says a token. The error wraps ErrCorrupt or ErrInvalid.
func TrustTLS(caPEM []byte) (*tls.Config, error) {
	k := &keySet{}
	for rest := bytes.TrimSpace(caPEM); len(rest) > 0 || len(k.anchors) == 0; rest = bytes.TrimSpace(rest) {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, fmt.Errorf("%w: %s: certificate %d is not PEM", ErrCorrupt, fileCACert, len(k.anchors)+1)
		}
		ca, err := ParseCert(fileCACert, pem.EncodeToMemory(block))
		if err != nil {
			return nil, err
		}
		if !ca.IsCA || ClusterOf(ca) == "" {
			return nil, fmt.Errorf("%w: it is not the certificate of a cluster's CA; ca.crt of a node's data directory is", ErrInvalid)
		}
		if len(k.anchors) > 0 && ClusterOf(ca) != ClusterOf(k.anchors[0].Cert) {
			return nil, fmt.Errorf("%w: it has CAs of two clusters, %s and %s; use a file for each", ErrInvalid, ClusterOf(k.anchors[0].Cert), ClusterOf(ca))
		}
		if len(k.anchors) == trustMax {
			return nil, fmt.Errorf("%w: it has more than %d CA certificates; keep those that are in force (`keys status`)", ErrInvalid, trustMax)
		}
		k.anchors = append(k.anchors, Anchor{Cert: ca})
		rest = after
	}
	conf := baseTLS()
	conf.InsecureSkipVerify = true // VerifyConnection below does it, see baseTLS
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		return k.verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now(), strict)
	}
	return conf, nil
}
