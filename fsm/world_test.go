package fsm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A world is a cluster as a test sees it: a state, the next log index and a clock that
// only moves when the test says so.
type world struct {
	t     testing.TB
	state *State
	at    int64
	log   [][]byte // every entry so far, encoded
	term  uint64   // that the commands are bound to, 0 for none
}

// epoch0 is when every test begins, in unix nanoseconds.
const epoch0 = int64(1_700_000_000) * int64(time.Second)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ptr[T any](v T) *T            { return &v }

func nodeID(name string) string { return "n-" + name }

func newNode(name string, i int) Node {
	return Node{
		ID: nodeID(name), Name: name, Address: fmt.Sprintf("192.0.2.%d", i),
		APIPort: 7400, RaftPort: 7401, GossipPort: 7402, Role: RoleVoter, KeyHash: "key-" + name,
	}
}

// empty is a world before its first command.
func empty(t testing.TB) *world { return &world{t: t, state: New(), at: epoch0} }

// cluster is a world with one node, n1, and nothing else.
func cluster(t testing.TB) *world {
	w := empty(t)
	w.must(InitCluster{ID: "c-0123456789abcdef", Profile: "lan", Lease: 500 * time.Millisecond, Node: newNode("n1", 1)})
	return w
}

// trio is the usual world: nodes n1, n2 and n3 with eth0 (primary) and eth1 in subnet
// net, all up and with an open session, and the witness w without ENIs.
func trio(t testing.TB) *world {
	w := cluster(t)
	w.must(CreateSubnet{Subnet{Name: "net", CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1")}})
	w.join("n2", RoleVoter, 2)
	w.join("n3", RoleAgent, 3)
	w.join("w", RoleWitness, 4)
	for i, name := range []string{"n1", "n2", "n3"} {
		w.report(name, eniAt("eth0", fmt.Sprintf("10.0.0.%d/24", 11+i), true), eniAt("eth1", fmt.Sprintf("10.0.0.%d/24", 21+i), false))
		w.open(name)
	}
	return w
}

// upgrade lets every node say that it reads level 2.
func (w *world) upgrade() {
	w.t.Helper()
	for _, n := range w.state.NodeList() {
		w.must(UpdateNode{ID: n.ID, Version: ptr("v2+level.2")})
	}
}

// upgrade3 lets every node say that it reads level 3, and that its fence knows all HAVIPs.
func (w *world) upgrade3() {
	w.t.Helper()
	for _, n := range w.state.NodeList() {
		w.must(UpdateNode{ID: n.ID, Version: ptr("v3+level.3")})
	}
	w.guarded()
}

// upgrade4 lets every node say that it reads level 4, and that its fence knows all HAVIPs.
func (w *world) upgrade4() {
	w.t.Helper()
	for _, n := range w.state.NodeList() {
		w.must(UpdateNode{ID: n.ID, Version: ptr("v4+level.4")})
	}
	w.guarded()
}

// nodeKey is a key for tests, the same for the same number.
func nodeKey(n byte) NodeKey {
	secret, err := ecdh.P256().NewPrivateKey(append(make([]byte, 31), n))
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256([]byte{n})
	return NodeKey{Certificate: hex.EncodeToString(sum[:]), Public: base64.StdEncoding.EncodeToString(secret.PublicKey().Bytes())}
}

// guarded lets every node with a session say that its fence knows all HAVIPs.
func (w *world) guarded() {
	w.t.Helper()
	for _, sess := range w.state.SessionList() {
		w.must(ReportGuarded{Node: sess.Node, Session: sess.Number, Index: w.state.Index})
	}
}

func eniAt(device, cidr string, primary bool) ENI {
	e := ENI{Device: device, MAC: "02:00:00:00:00:01", Up: true, Primary: primary}
	if cidr != "" {
		e.Prefixes = []netip.Prefix{prefix(cidr)}
	}
	return e
}

// command makes the command that the next entry of the log carries.
func (w *world) command(key string, body Body) Command {
	w.t.Helper()
	c, err := NewCommand(w.at, "n-n1", key, body)
	if err != nil {
		w.t.Fatal(err)
	}
	c.Term = w.term
	return c
}

// try applies a command and checks what holds for every one: the invariants of the next
// state, an untouched earlier state, and after a refusal nothing but a new index.
func (w *world) try(body Body) Result { w.t.Helper(); return w.tryKey("", body) }

func (w *world) tryKey(key string, body Body) Result {
	w.t.Helper()
	before := w.state
	image := snapshot(w.t, before)
	c := w.command(key, body)
	entry, err := c.Encode()
	if err != nil {
		w.t.Fatalf("%s: %v", body.kind(), err)
	}
	w.log = append(w.log, entry)
	next, res, err := Apply(before, before.Index+1, c)
	if err != nil {
		w.t.Fatalf("%s: %v", body.kind(), err)
	}
	if !bytes.Equal(snapshot(w.t, before), image) {
		w.t.Fatalf("%s changed the state it was applied to", body.kind())
	}
	if err := checkInvariants(next); err != nil {
		w.t.Fatalf("after %s: %v", body.kind(), err)
	}
	if res.Refusal != nil && !bytes.Equal(snapshot(w.t, atIndex(next, before.Index)), image) {
		w.t.Fatalf("%s was refused (%s) and changed the state", body.kind(), res.Refusal)
	}
	if next.Index != before.Index+1 {
		w.t.Fatalf("after %s the index is %d, want %d", body.kind(), next.Index, before.Index+1)
	}
	w.state = next
	return res
}

// must applies a command that has to be done.
func (w *world) must(body Body) Result {
	w.t.Helper()
	res := w.try(body)
	if res.Refusal != nil {
		w.t.Fatalf("%s was refused: %s (%s)", body.kind(), res.Refusal, res.Refusal.Code)
	}
	return res
}

// refuses applies a command that has to be refused.
func (w *world) refuses(body Body, code Code, fragment string) {
	w.t.Helper()
	wantRefusal(w.t, w.try(body), code, fragment)
}

func wantRefusal(t testing.TB, res Result, code Code, fragment string) {
	t.Helper()
	switch {
	case res.Refusal == nil:
		t.Fatalf("it was done, want a refusal with %s", code)
	case res.Refusal.Code != code || !strings.Contains(res.Refusal.Message, fragment):
		t.Fatalf("refused with %s: %s\nwant %s and %q in it", res.Refusal.Code, res.Refusal.Message, code, fragment)
	}
}

func (w *world) token(name string, role Role) Token {
	return Token{ID: "t-" + name, SecretHash: "secret-" + name, Node: name, Role: role, Expires: w.at + int64(time.Hour)}
}

// join admits a node by a token, with address 192.0.2.I.
func (w *world) join(name string, role Role, i int) {
	w.t.Helper()
	w.must(CreateToken{w.token(name, role)})
	w.must(AddNode{Token: "t-" + name, SecretHash: "secret-" + name, Node: newNode(name, i)})
}

func (w *world) report(name string, enis ...ENI) {
	w.t.Helper()
	w.must(ReportENIs{Node: nodeID(name), ENIs: enis})
}

func (w *world) node(name string) Node { return w.state.Nodes[nodeID(name)] }

// session is the number of the node's newest session.
func (w *world) session(name string) uint64 { return w.node(name).LastSession }

func (w *world) open(name string) {
	w.t.Helper()
	b := OpenSession{Node: nodeID(name), Last: w.session(name), Attempt: "attempt-" + name}
	if w.state.Level() >= 3 {
		b.Guarded = w.state.Index
	}
	w.must(b)
}

// havip makes a HAVIP without a limited range.
func (w *world) havip(name, ip string) HAVIP {
	w.t.Helper()
	return w.state.HAVIPs[w.must(CreateHAVIP{Name: name, IP: addr(ip)}).Object]
}

// get is the HAVIP as it is now.
func (w *world) get(name string) HAVIP {
	w.t.Helper()
	v, refusal := w.state.HAVIPNamed(name)
	if refusal != nil {
		w.t.Fatal(refusal)
	}
	return v
}

// to is the assignment of a HAVIP to an ENI, as a leader on this state computes it.
func (w *world) to(name, eni string) Assignment {
	w.t.Helper()
	v := w.get(name)
	node, _, _ := strings.Cut(eni, "/")
	return Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Node: nodeID(node), Session: w.session(node), ENI: eni, Reason: "test"}
}

func (w *world) place(name, eni string) {
	w.t.Helper()
	w.must(Place{[]Assignment{w.to(name, eni)}})
}

func snapshot(t testing.TB, s *State) []byte {
	t.Helper()
	b, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// atIndex is the state as if it were at another index.
func atIndex(s *State, index uint64) *State {
	n := *s
	n.Index = index
	return &n
}
