package identity

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// made is a node of a cluster on the disk.
func made(t *testing.T, spec Spec) *Identity {
	t.Helper()
	dir := filepath.Join(tempDir(t), "data")
	check(t, Create(dir, spec))
	return must[*Identity](t)(Load(dir))
}

// meet fails unless two nodes open a connection in both directions.
func meet(t *testing.T, a, b *Identity) {
	t.Helper()
	for _, way := range [][2]*Identity{{a, b}, {b, a}} {
		_, _, clientErr, serverErr := handshake(t, way[0].ClientTLSTo(way[1].NodeID), way[1].ServerTLS(true))
		check(t, errors.Join(clientErr, serverErr))
	}
}

// renewed gives a node a new key, and a certificate of a CA for it.
func renewed(t *testing.T, id *Identity, ca *CA, now time.Time, life time.Duration) {
	t.Helper()
	csr, key, err := NewCSR()
	check(t, err)
	check(t, id.Renew(must[[]byte](t)(SignCSRFor(ca, csr, id.NodeID, id.Name, id.Advertise, now, life)), key, now))
}

// heir is a CA that another one endorses.
func heir(t *testing.T, ca *CA) (*CA, Anchor) {
	t.Helper()
	next := newCA(t, ClusterOf(ca.Cert))
	cross := CertPEM(must[*x509.Certificate](t)(ca.Endorse(next.Cert)))
	return next, must[Anchor](t)(ParseAnchor(ClusterOf(ca.Cert), next.CertPEM(), cross))
}

// A certificate that has run out still opens a connection for 90 days, and not one longer.
func TestGraceHasAnEnd(t *testing.T) {
	now := time.Now()
	ca := must[*CA](t)(NewCA(clusterA, now.AddDate(-1, 0, 0)))
	_, one := member(t, ca, nodeA, "node-1", addrA, now)
	ended := func(ago time.Duration) *Identity {
		spec, _ := member(t, ca, nodeB, "node-2", addrB, now)
		csr := must[[]byte](t)(requestFor(must[*ecdsa.PrivateKey](t)(parseKey("k", spec.Key))))
		spec.Cert = must[[]byte](t)(SignCSRFor(ca, csr, nodeB, "node-2", addrB, now.Add(-ago-time.Minute), time.Minute))
		return must[*Identity](t)(assemble(spec, now, forEver))
	}
	late := ended(89 * 24 * time.Hour)
	clientSide, serverSide, clientErr, serverErr := handshake(t, late.ClientTLS(), one.ServerTLS(true))
	check(t, errors.Join(clientErr, serverErr))
	end, over := Ended(serverSide, now)
	if _, fresh := Ended(clientSide, now); !over || !end.Equal(late.Leaf().NotAfter) || fresh {
		t.Errorf("ended %t at %s, the other one %t", over, end, fresh)
	}
	meet(t, late, one)
	tooLate := ended(91 * 24 * time.Hour)
	_, _, _, serverErr = handshake(t, tooLate.ClientTLS(), one.ServerTLS(true))
	wantError(t, serverErr, ErrExpired, "keys renew-offline")
	_, _, clientErr, _ = handshake(t, one.ClientTLS(), tooLate.ServerTLS(true))
	wantError(t, clientErr, ErrExpired, "expired at")
}

func TestANewCAIsBelievedByItsCross(t *testing.T) {
	now := time.Now()
	old := newCA(t, clusterA)
	_, absent := member(t, old, nodeA, "node-1", addrA, now)
	_, present := member(t, old, nodeB, "node-2", addrB, now)
	next, anchor := heir(t, old)
	first := present.Anchors()[0]

	check(t, present.Trust([]Anchor{first, anchor}))
	meet(t, absent, present)
	renewed(t, present, next, now, 0)
	meet(t, absent, present) // absent has not heard of the new CA
	if got := Fingerprint(present.Issuer()); got != anchor.ID() {
		t.Errorf("the certificate is of %s", got)
	}
	// A token that was made before still lets a node in.
	_, _, clientErr, serverErr := handshake(t, JoinTLS(clusterA, first.ID()), present.ServerTLS(false))
	check(t, errors.Join(clientErr, serverErr))

	// The old one is dropped: what it signed opens nothing any more.
	check(t, present.Trust([]Anchor{anchor}))
	_, _, _, serverErr = handshake(t, absent.ClientTLS(), present.ServerTLS(true))
	wantError(t, serverErr, ErrForeign, "not signed by the CA")
	wantError(t, absent.Trust([]Anchor{anchor}), ErrForeign, "own certificate is of none of the 1")
	renewed(t, must[*Identity](t)(absent, absent.Trust([]Anchor{first, anchor})), next, now, 0)
	check(t, absent.Trust([]Anchor{anchor}))
	meet(t, absent, present)
	if pairs := absent.Pairs(); len(pairs) != 1 {
		t.Error("a certificate of a CA that is not trusted any more is kept")
	}
}

func TestACrossOfAStrangerIsNothing(t *testing.T) {
	now := time.Now()
	old, stranger := newCA(t, clusterA), newCA(t, clusterA)
	_, one := member(t, old, nodeA, "node-1", addrA, now)
	next, anchor := heir(t, stranger)
	spec, _ := member(t, next, nodeB, "node-2", addrB, now)
	two := must[*Identity](t)(assemble(spec, now, strict))
	check(t, two.Trust([]Anchor{anchor, {Cert: old.Cert}}))
	for _, other := range []*tls.Config{two.ServerTLS(true), showing(two, old), showing(two, next)} {
		_, _, clientErr, _ := handshake(t, one.ClientTLS(), other)
		wantError(t, clientErr, ErrForeign, "not signed by the CA")
	}
	if _, err := old.Endorse(newCA(t, clusterB).Cert); !errors.Is(err, ErrForeign) {
		t.Errorf("a CA of another cluster was endorsed: %v", err)
	}
	if _, err := ParseAnchor(clusterA, next.CertPEM(), stranger.CertPEM()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a cross certificate of another key: %v", err)
	}
}

func TestRenewalOnTheDisk(t *testing.T) {
	id := made(t, newSpec(t))
	now := time.Now()
	first := id.Leaf()
	server, client := id.ServerTLS(true), id.ClientTLS() // made before, they show what is there then
	renewed(t, id, id.Authority(), now, time.Hour)
	clientSide, _, clientErr, serverErr := handshake(t, client, server)
	check(t, errors.Join(clientErr, serverErr))
	if got := clientSide.PeerCertificates[0]; !got.Equal(id.Leaf()) || got.Equal(first) {
		t.Error("the old certificate is shown")
	}
	again := must[*Identity](t)(Load(id.Dir))
	if !again.Leaf().Equal(id.Leaf()) || len(again.Pairs()) != 2 || !again.Pairs()[1].Leaf.Equal(first) {
		t.Errorf("loaded: %d pairs", len(again.Pairs()))
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(id.Dir, fileCert), filepath.Join(id.Dir, fileKey)); err != nil {
		t.Errorf("the copies do not go together: %v", err)
	}
	// A crash between keys.json and the copies: keys.json counts.
	check(t, errors.Join(os.Remove(filepath.Join(id.Dir, fileCert)), os.WriteFile(filepath.Join(id.Dir, fileKey), []byte("x"), 0o600)))
	if again = must[*Identity](t)(Load(id.Dir)); !again.Leaf().Equal(id.Leaf()) {
		t.Error("a copy counts")
	}
	// What cannot be used gives way to what was used before.
	path := filepath.Join(id.Dir, fileKeys)
	text := string(must[[]byte](t)(os.ReadFile(path)))
	broken := strings.Replace(text, "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEYS-----", 1)
	check(t, os.WriteFile(path, []byte(broken), 0o600))
	if again = must[*Identity](t)(Load(id.Dir)); !again.Leaf().Equal(first) {
		t.Error("the pair before was not taken")
	}
	for fragment, text := range map[string]string{
		"format 9": strings.Replace(text, `"format": 1`, `"format": 9`, 1), "0 CAs": `{"format":1}`, "unexpected end": text[:len(text)/2],
	} {
		check(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := Load(id.Dir); err == nil || !strings.Contains(err.Error(), fragment) {
			t.Errorf("want %q, got %v", fragment, err)
		}
	}
	check(t, os.Chmod(path, 0o644))
	_, err := Load(id.Dir)
	wantError(t, err, ErrExposed, "keys.json")
}

func TestKeysOfCAsAndOfGossip(t *testing.T) {
	id := made(t, newSpec(t))
	old := id.Authority()
	next, anchor := heir(t, old)
	check(t, errors.Join(id.Trust(append(id.Anchors(), anchor)), id.Hold(next), id.Hold(next)))
	if want := []string{Fingerprint(old.Cert), Fingerprint(next.Cert)}; len(id.HeldIDs()) != 2 || !slices.Contains(want, id.HeldIDs()[0]) {
		t.Errorf("held: %v", id.HeldIDs())
	}
	renewed(t, id, next, time.Now(), 0)
	check(t, id.Forget([]string{Fingerprint(next.Cert)}))
	check(t, id.Trust([]Anchor{anchor}))
	again := must[*Identity](t)(Load(id.Dir))
	if again.Authority() == nil || Fingerprint(again.Authority().Cert) != Fingerprint(next.Cert) || len(again.HeldIDs()) != 1 {
		t.Errorf("held after a start: %v", again.HeldIDs())
	}
	secret := must[[]byte](t)(old.KeyPEM())
	for path, text := range snapshot(t, id.Dir) {
		if strings.Contains(text, strings.Split(string(secret), "\n")[1]) {
			t.Errorf("%s has the key of the CA that was replaced", path)
		}
	}

	first, second := again.GossipKeys()[0], must[[]byte](t)(parseGossipKey(NewGossipKey()))
	check(t, again.SetGossipKeys([][]byte{second, first}))
	third := must[*Identity](t)(Load(id.Dir))
	if got := third.GossipIDs(); !slices.Equal(got, []string{GossipKeyID(second), GossipKeyID(first)}) {
		t.Errorf("gossip keys %v", got)
	}
	wantError(t, third.SetGossipKeys(nil), ErrInvalid, "0 gossip keys")
	wantError(t, third.SetGossipKeys([][]byte{{1}}), ErrInvalid, "1 bytes")
}

// A key that was made here is known as such to the next process, for its rotation alone.
func TestWhatAKeyWasMadeFor(t *testing.T) {
	id := made(t, newSpec(t))
	ca, key := newCA(t, id.ClusterID), make([]byte, gossipKeyBytes)
	check(t, id.HoldMade(ca, 7))
	check(t, id.AddGossipMade(key, 8))
	for _, got := range []*Identity{id, must[*Identity](t)(Load(id.Dir))} {
		if got.MadeCA(7) == nil || got.MadeCA(8) != nil || got.MadeCA(0) != nil {
			t.Error("the CA is not known as that of rotation 7")
		}
		if got.MadeGossip(8) != GossipKeyID(key) || got.MadeGossip(7) != "" || got.MadeGossip(0) != "" {
			t.Error("the gossip key is not known as that of rotation 8")
		}
	}
	check(t, id.Forget([]string{Fingerprint(id.Issuer())}))
	check(t, id.SetGossipKeys(id.GossipKeys()[:1]))
	if id.MadeCA(7) != nil || id.MadeGossip(8) != "" {
		t.Error("what was erased is offered")
	}
}
