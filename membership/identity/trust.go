package identity

import (
	"crypto/tls"
	"fmt"
)

// TrustTLS returns the configuration for whoever has nothing but the CA's certificate, in PEM:
// the server must show a node's certificate of its cluster. Who calls says a token. The error
// wraps ErrCorrupt or ErrInvalid.
func TrustTLS(caPEM []byte) (*tls.Config, error) {
	ca, err := ParseCert(fileCACert, caPEM)
	if err != nil {
		return nil, err
	}
	if !ca.IsCA || ClusterOf(ca) == "" {
		return nil, fmt.Errorf("%w: it is not the certificate of a cluster's CA; ca.crt of a node's data directory is", ErrInvalid)
	}
	return JoinTLS(ClusterOf(ca), Fingerprint(ca)), nil
}
