package identity

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"
)

// handshake connects a client and a server and returns what each side says. It uses
// loopback, because both sides write at once when one refuses, which net.Pipe cannot take.
func handshake(t *testing.T, client, server *tls.Config) (clientSide, serverSide tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer listener.Close()
	a := must[net.Conn](t)(net.Dial("tcp", listener.Addr().String()))
	b := must[net.Conn](t)(listener.Accept())
	deadline := time.Now().Add(40 * time.Second)
	check(t, errors.Join(a.SetDeadline(deadline), b.SetDeadline(deadline)))
	clientConn, serverConn := tls.Client(a, client), tls.Server(b, server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if serverErr = serverConn.Handshake(); serverErr == nil {
			_, serverErr = serverConn.Write([]byte("x"))
		}
		serverSide = serverConn.ConnectionState()
		serverConn.Close()
	}()
	// A TLS 1.3 client is done before the server has judged it: one byte tells.
	if clientErr = clientConn.Handshake(); clientErr == nil {
		_, clientErr = clientConn.Read(make([]byte, 1))
	}
	clientSide = clientConn.ConnectionState()
	a.Close()
	<-done
	return clientSide, serverSide, clientErr, serverErr
}

func TestTLSBetweenNodes(t *testing.T) {
	ca := newCA(t, clusterA)
	_, one := member(t, ca, nodeA, "node-1", addrA, time.Now())
	_, two := member(t, ca, nodeB, "node-2", addrB, time.Now())
	for _, client := range []*tls.Config{two.ClientTLS(), two.ClientTLSTo(nodeA)} {
		clientSide, serverSide, clientErr, serverErr := handshake(t, client, one.ServerTLS(true))
		check(t, errors.Join(clientErr, serverErr))
		if peer := must[string](t)(PeerNodeID(clientSide)); peer != nodeA {
			t.Errorf("the client sees %s", peer)
		}
		if peer := must[string](t)(PeerNodeID(serverSide)); peer != nodeB {
			t.Errorf("the server sees %s", peer)
		}
		if clientSide.Version != tls.VersionTLS13 {
			t.Errorf("version %x", clientSide.Version)
		}
	}
}

func TestTLSRefuses(t *testing.T) {
	now, longAgo := time.Now(), time.Now().AddDate(-3, 0, 0)
	caA, caB, impostor := newCA(t, clusterA), newCA(t, clusterB), newCA(t, clusterA)
	caOld := must[*CA](t)(NewCA(clusterA, longAgo))
	_, one := member(t, caA, nodeA, "node-1", addrA, now)
	_, two := member(t, caA, nodeB, "node-2", addrB, now)
	_, other := member(t, caB, nodeB, "node-2", addrB, now)
	_, fake := member(t, impostor, nodeB, "node-2", addrB, now)
	_, current := member(t, caOld, nodeA, "node-1", addrA, now)
	_, expired := member(t, caOld, nodeB, "node-2", addrB, longAgo)
	bare := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	old := two.ClientTLS()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	// A client that is fooled by nobody, for rows where the server is to refuse.
	blind := func(id *Identity) *tls.Config {
		conf := id.ClientTLS()
		conf.VerifyConnection = nil
		return conf
	}

	for _, row := range []struct {
		name           string
		client, server *tls.Config
		serverRefuses  bool
		target         error
		fragment       string
	}{
		{"server of another cluster", one.ClientTLS(), other.ServerTLS(false), false, ErrForeign, "certificate of cluster " + clusterB + ", this is " + clusterA},
		{"client of another cluster", blind(other), one.ServerTLS(true), true, ErrForeign, "certificate of cluster " + clusterB + ", this is " + clusterA},
		{"client of another cluster, optional", blind(other), one.ServerTLS(false), true, ErrForeign, "certificate of cluster " + clusterB},
		{"server of an impostor's CA", one.ClientTLS(), fake.ServerTLS(false), false, ErrForeign, "not signed by the CA of cluster " + clusterA},
		{"client of an impostor's CA", blind(fake), one.ServerTLS(true), true, ErrForeign, "not signed by the CA"},
		{"expired server", current.ClientTLS(), expired.ServerTLS(false), false, ErrExpired, "the certificate of node " + nodeB + " expired at"},
		{"expired client", blind(expired), current.ServerTLS(true), true, ErrExpired, "keys renew-offline"},
		{"another node than called", one.ClientTLSTo(nodeA), two.ServerTLS(true), false, ErrForeign, "node " + nodeB + " answers where " + nodeA + " was called"},
		{"no client certificate", bare, one.ServerTLS(true), true, nil, "tls: client didn't provide a certificate"},
		{"TLS 1.2", old, one.ServerTLS(true), true, nil, "tls: client offered only unsupported versions"},
		{"join, wrong fingerprint", JoinTLS(clusterA, Fingerprint(impostor.Cert)), one.ServerTLS(false), false, ErrForeign, "does not show the CA certificate with fingerprint " + Fingerprint(impostor.Cert)},
		{"join, other cluster", JoinTLS(clusterB, Fingerprint(caA.Cert)), one.ServerTLS(false), false, ErrForeign, "certificate of cluster " + clusterA + ", this is " + clusterB},
		{"join, right CA behind a foreign leaf", JoinTLS(clusterA, Fingerprint(caA.Cert)), showing(fake, caA), false, ErrForeign, "not signed by the CA"},
		{"join, expired", JoinTLS(clusterA, Fingerprint(caOld.Cert)), expired.ServerTLS(false), false, ErrExpired, "expired at"},
		{"join where a certificate is required", JoinTLS(clusterA, Fingerprint(caA.Cert)), one.ServerTLS(true), true, nil, "didn't provide a certificate"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, clientErr, serverErr := handshake(t, row.client, row.server)
			if clientErr == nil || serverErr == nil {
				t.Fatalf("passed: client %v, server %v", clientErr, serverErr)
			}
			err := clientErr
			if row.serverRefuses {
				err = serverErr
			}
			if row.target == nil {
				row.target = err // crypto/tls refuses before we look
			}
			wantError(t, err, row.target, row.fragment)
		})
	}
}

// showing is the server of somebody who has a certificate of id, and sends along a CA
// certificate that he has only seen.
func showing(id *Identity, ca *CA) *tls.Config {
	cert := *id.keys.Load().cert
	cert.Certificate = [][]byte{cert.Leaf.Raw, ca.Cert.Raw}
	return serving(cert)
}

func serving(cert tls.Certificate) *tls.Config {
	conf := baseTLS()
	conf.Certificates = []tls.Certificate{cert}
	return conf
}

func TestJoinTLS(t *testing.T) {
	ca := newCA(t, clusterA)
	_, one := member(t, ca, nodeA, "node-1", addrA, time.Now())
	clientSide, serverSide, clientErr, serverErr := handshake(t, JoinTLS(clusterA, Fingerprint(ca.Cert)), one.ServerTLS(false))
	check(t, errors.Join(clientErr, serverErr))
	if peer := must[string](t)(PeerNodeID(clientSide)); peer != nodeA {
		t.Errorf("the client sees %s", peer)
	}
	_, err := PeerNodeID(serverSide)
	wantError(t, err, ErrForeign, "presented no certificate")
}

func TestCACertificateIsNoNode(t *testing.T) {
	ca := newCA(t, clusterA)
	_, one := member(t, ca, nodeA, "node-1", addrA, time.Now())
	asCA := serving(tls.Certificate{Certificate: [][]byte{ca.Cert.Raw}, PrivateKey: ca.key})
	_, _, clientErr, _ := handshake(t, one.ClientTLS(), asCA)
	wantError(t, clientErr, ErrForeign, "is not a node's")
}

func TestReplacedCertificateIsUsedAtOnce(t *testing.T) {
	dir := newDir(t)
	id := must[*Identity](t)(Load(dir))
	server, now := id.ServerTLS(false), time.Now()
	before := Fingerprint(id.Leaf())
	csr := must[[]byte](t)(id.RenewalCSR())
	renewed := must[[]byte](t)(SignCSR(id.Authority(), csr, id.NodeID, id.Name, id.Advertise, now))
	check(t, id.Renew(renewed, nil, now))
	clientSide, _, clientErr, serverErr := handshake(t, id.ClientTLS(), server)
	check(t, errors.Join(clientErr, serverErr))
	shown := Fingerprint(clientSide.PeerCertificates[0])
	again := must[*Identity](t)(Load(dir))
	if shown == before || shown != Fingerprint(again.Leaf()) {
		t.Fatal("the old certificate is still in use")
	}

	tree := snapshot(t, dir)
	stolen := must[[]byte](t)(SignCSR(id.Authority(), csr, nodeB, id.Name, id.Advertise, now))
	wantError(t, id.Renew(stolen, nil, now), ErrForeign, "node.crt is of node "+nodeB)
	otherCSR, _, err := NewCSR()
	check(t, err)
	otherKey := must[[]byte](t)(SignCSR(id.Authority(), otherCSR, id.NodeID, id.Name, id.Advertise, now))
	wantError(t, id.Renew(otherKey, nil, now), ErrCorrupt, "node.key is not the key of node.crt")
	wantUnchanged(t, dir, tree)
}
