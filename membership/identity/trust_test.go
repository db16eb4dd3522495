package identity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// A file with several CAs of one cluster believes the nodes of each, and nobody else.
func TestTrustSeveralCAs(t *testing.T) {
	first, second, third, other := newCA(t, clusterA), newCA(t, clusterA), newCA(t, clusterA), newCA(t, clusterB)
	_, one := member(t, first, nodeA, "node-1", addrA, time.Now())
	_, two := member(t, second, nodeB, "node-2", addrB, time.Now())
	_, three := member(t, third, nodeB, "node-2", addrB, time.Now())
	_, foreign := member(t, other, nodeB, "node-2", addrB, time.Now())
	both := slices.Concat(first.CertPEM(), []byte("\n\n"), second.CertPEM())
	for _, row := range []struct {
		name   string
		trust  []byte
		server *Identity
		ok     bool
	}{
		{"the only one", first.CertPEM(), one, true}, {"another one of the cluster", first.CertPEM(), two, false},
		{"the first of two", both, one, true}, {"the second of two", both, two, true},
		{"a third one", both, three, false}, {"another cluster", both, foreign, false},
	} {
		conf := must[*tls.Config](t)(TrustTLS(row.trust))
		_, _, err, _ := handshake(t, conf, row.server.ServerTLS(false))
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	for name, bad := range map[string]struct {
		pem  []byte
		want error
		says string
	}{
		"empty":            {nil, ErrCorrupt, "certificate 1 is not PEM"},
		"no PEM behind":    {append(first.CertPEM(), "more"...), ErrCorrupt, "certificate 2 is not PEM"},
		"two clusters":     {append(first.CertPEM(), other.CertPEM()...), ErrInvalid, "two clusters"},
		"no CA":            {CertPEM(leafOf(one)), ErrInvalid, "not the certificate of a cluster's CA"},
		"a CA and no CA":   {append(first.CertPEM(), CertPEM(leafOf(one))...), ErrInvalid, "not the certificate of a cluster's CA"},
		"more than anyone": {bytes.Repeat(first.CertPEM(), trustMax+1), ErrInvalid, "more than 8"},
	} {
		if _, err := TrustTLS(bad.pem); !errors.Is(err, bad.want) || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func leafOf(id *Identity) *x509.Certificate {
	leaf, err := x509.ParseCertificate(id.keys.Load().cert.Certificate[0])
	if err != nil {
		panic(err)
	}
	return leaf
}
