package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// caNumber is some CA: the state only looks at the bytes.
func caNumber(n int) CA {
	raw := fmt.Appendf(nil, "certificate %d", n)
	sum := sha256.Sum256(raw)
	return CA{ID: hex.EncodeToString(sum[:]), Cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))}
}

func keyID(what string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", what, n))
	return hex.EncodeToString(sum[:])[:16]
}

// keyReport is that of a node with certificate n of a CA.
func keyReport(n int, issuer CA, trusts ...CA) KeyReport {
	r := KeyReport{Cert: keyID("certificate", n), Issuer: issuer.ID, From: 1, Until: 1_800_000_000, Gossip: []string{keyID("gossip", 1)}}
	for _, ca := range append(trusts, issuer) {
		r.Trusts = append(r.Trusts, ca.ID)
	}
	slices.Sort(r.Trusts)
	return r
}

// keyed is the trio at level 4, with its keys in the state: n1 and w have the CA's key.
func keyed(t testing.TB) *world {
	w := trio(t)
	w.upgrade4()
	giveKeys(w)
	return w
}

func giveKeys(w *world) {
	w.must(OfferKey{What: KeyOfCA, Node: nodeID("n1"), ID: caNumber(1).ID, CA: caNumber(1)})
	w.must(OfferKey{What: KeyOfGossip, Node: nodeID("n1"), ID: keyID("gossip", 1)})
	for i, n := range w.state.NodeList() {
		r := keyReport(i, caNumber(1))
		if n.ID == nodeID("n1") || n.Role == RoleWitness {
			r.Holds = []string{caNumber(1).ID}
		}
		w.must(ReportKeys{n.ID, r})
	}
}

// tell changes what a node reports.
func (w *world) tell(name string, change func(r *KeyReport)) {
	w.t.Helper()
	r := w.state.Nodes[nodeID(name)].KeyReport
	change(&r)
	w.must(ReportKeys{nodeID(name), r})
}

func (w *world) awaited(what string) string {
	var names []string
	for _, n := range w.state.Awaited(what) {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

func TestTheCAIsReplaced(t *testing.T) {
	w := keyed(t)
	old, next := caNumber(1), caNumber(2)
	w.must(RotateKeys{What: KeyOfCA, Why: "a test"})
	if w.state.MayMakeCA(nodeID("n2")) || !w.state.MayMakeCA(nodeID("n1")) || !w.state.MayMakeCA("n-w") {
		t.Error("the wrong nodes may make the new CA")
	}
	w.must(OfferKey{What: KeyOfCA, Node: nodeID("n1"), ID: next.ID, CA: next})
	k := w.state.Cluster.Keys
	if k.Issuer != old.ID || len(k.CAs) != 2 || !slices.Equal(k.CA.Holders, []string{"n-n1", "n-n2"}) {
		t.Fatalf("after the offer: %+v", k)
	}
	if w.state.MayHold(nodeID("n3"), next.ID) || w.state.MayHold(nodeID("n1"), old.ID) || !w.state.MayHold(nodeID("n2"), next.ID) {
		t.Error("the wrong nodes get the new key")
	}
	advance := func(phase string) AdvanceKeys { return AdvanceKeys{What: KeyOfCA, Phase: phase, New: next.ID} }
	w.refuses(advance(PhaseSpread), CodeNotReady, "no node says that it has the key")
	w.tell("n1", func(r *KeyReport) { r.Holds = append(r.Holds, next.ID) })
	for _, name := range []string{"n1", "n2", "n3", "w"} {
		w.refuses(advance(PhaseSpread), CodeNotReady, name)
		w.tell(name, func(r *KeyReport) { r.Trusts = append(r.Trusts, next.ID); slices.Sort(r.Trusts) })
	}
	w.refuses(advance(PhaseUse), CodeStale, "not in phase")
	w.must(advance(PhaseSpread))
	if w.state.Cluster.Keys.Issuer != next.ID || w.awaited(KeyOfCA) != "n1 n2 n3 w" {
		t.Fatalf("issuer %s, awaited %s", w.state.Cluster.Keys.Issuer, w.awaited(KeyOfCA))
	}
	for i, name := range []string{"n1", "n2", "n3", "w"} {
		// While one node still shows a certificate of the old CA, that one is trusted.
		w.refuses(advance(PhaseUse), CodeNotReady, name)
		w.tell(name, func(r *KeyReport) { r.Cert, r.Issuer = keyID("certificate", 10+i), next.ID })
	}
	w.refuses(advance(PhaseUse), CodeNotReady, "n2") // it shall have the key, and has not
	w.tell("n2", func(r *KeyReport) { r.Holds = []string{next.ID} })
	w.must(advance(PhaseUse))
	if k := w.state.Cluster.Keys; len(k.CAs) != 1 || k.CAs[0].ID != next.ID || k.CA.Runs() {
		t.Fatalf("at the end: %+v", k)
	}
	for _, n := range w.state.NodeList() {
		if n.HoldsCA != (n.Name == "n1" || n.Name == "n2") {
			t.Errorf("node %s holds the key: %t", n.Name, n.HoldsCA)
		}
	}
}

// An operator leaves a node behind; never so many that there is no majority left.
func TestANodeIsLeftBehind(t *testing.T) {
	w := keyed(t)
	next := caNumber(2)
	w.must(RotateKeys{What: KeyOfCA})
	w.must(OfferKey{What: KeyOfCA, Node: nodeID("n1"), ID: next.ID, CA: next})
	force := AdvanceKeys{What: KeyOfCA, Phase: PhaseSpread, New: next.ID, Force: true}
	w.tell("n1", func(r *KeyReport) { r.Trusts, r.Holds = []string{next.ID}, []string{next.ID} })
	w.refuses(force, CodeUnsupported, "only 1 of 3 nodes that vote")
	w.tell("n2", func(r *KeyReport) { r.Trusts = []string{next.ID} })
	w.must(force) // without n3, an agent, and w
	force.Phase = PhaseUse
	w.refuses(AdvanceKeys{What: KeyOfCA, Phase: PhaseUse, New: next.ID, Without: []string{"n-n3"}}, CodeNotReady, "n3")
	// A node that is being removed is not waited for.
	w.must(UpdateNode{ID: "n-w", Removing: ptr(true), KeepCA: ptr(true)})
	for _, name := range []string{"n1", "n2"} {
		w.tell(name, func(r *KeyReport) { r.Issuer, r.Holds = next.ID, []string{next.ID} })
	}
	if w.awaited(KeyOfCA) != "n3" {
		t.Fatalf("awaited: %s", w.awaited(KeyOfCA))
	}
	w.must(force)
	w.must(RemoveNode{"n-w"})
	if k := w.state.Cluster.Keys; k.CA.Runs() || k.GossipTurn.Phase != PhaseMake {
		t.Errorf("after a removal with --keep-ca: %+v", k)
	}
}

func TestTheGossipKeyIsReplaced(t *testing.T) {
	w := keyed(t)
	old, next := keyID("gossip", 1), keyID("gossip", 2)
	w.must(RotateKeys{What: KeyOfGossip})
	w.must(OfferKey{What: KeyOfGossip, Node: nodeID("n2"), ID: next})
	advance := func(phase string) AdvanceKeys {
		return AdvanceKeys{What: KeyOfGossip, Phase: phase, New: next, Without: []string{"n-w", "n-n3"}}
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		w.refuses(advance(PhaseSpread), CodeNotReady, name) // n3 has a session: it is waited for
		w.tell(name, func(r *KeyReport) { r.Gossip = []string{old, next} })
	}
	w.must(advance(PhaseSpread)) // w has no session and is not heard
	if k := w.state.Cluster.Keys; k.GossipUse != next || len(k.Gossip) != 2 {
		t.Fatalf("after the first phase: %+v", k)
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		w.refuses(advance(PhaseUse), CodeNotReady, name)
		w.tell(name, func(r *KeyReport) { r.Gossip = []string{next, old} })
	}
	// Somebody asks again meanwhile: another one follows.
	w.must(RotateKeys{What: KeyOfGossip, Why: "once more"})
	w.must(advance(PhaseUse))
	if k := w.state.Cluster.Keys; !slices.Equal(k.Gossip, []string{next}) || k.GossipTurn.Phase != PhaseMake || k.GossipTurn.Why != "once more" {
		t.Fatalf("at the end: %+v", k)
	}
}

// Whoever is removed knows the gossip key, and one that has the CA's key may have kept it.
func TestARemovalReplacesKeys(t *testing.T) {
	w := keyed(t)
	w.must(CloseSession{Session: w.session("n3"), Released: true})
	w.must(RemoveNode{"n-n3"})
	k := w.state.Cluster.Keys
	if k.GossipTurn.Phase != PhaseMake || k.CA.Runs() {
		t.Fatalf("an agent was removed: %+v", k)
	}
	w.must(OfferKey{What: KeyOfGossip, Node: nodeID("n1"), ID: keyID("gossip", 2)})
	w.must(RemoveNode{"n-w"}) // it has the CA's key, and knows the new gossip key perhaps
	k = w.state.Cluster.Keys
	if k.GossipTurn.Phase != PhaseMake || len(k.Gossip) != 1 || k.CA.Phase != PhaseMake || !strings.Contains(k.CA.Why, "was given its key") {
		t.Fatalf("a holder was removed: %+v", k)
	}
	// When nobody is left who has the key, any voter makes the next.
	w.tell("n1", func(r *KeyReport) { r.Holds = nil })
	next := caNumber(2)
	w.must(OfferKey{What: KeyOfCA, Node: nodeID("n2"), ID: next.ID, CA: next})
	// And when the only one that has the new key goes while nothing is signed with it, it is given up.
	w.must(RotateKeys{What: KeyOfCA})
	if k := w.state.Cluster.Keys; len(k.CAs) != 1 || k.CA.Phase != PhaseMake {
		t.Fatalf("begun anew: %+v", k)
	}
}

func TestCertificatesAreAskedFor(t *testing.T) {
	w := keyed(t)
	w.must(RotateKeys{What: KeyOfNode, Node: nodeID("n2")})
	if from := w.state.Nodes[nodeID("n2")].RenewFrom; from != w.state.Nodes[nodeID("n2")].KeyReport.Cert || w.state.Nodes[nodeID("n1")].RenewFrom != "" {
		t.Fatal("the wrong one is asked for")
	}
	w.tell("n2", func(r *KeyReport) { r.Until++ })
	w.must(RotateKeys{What: KeyOfNode})
	w.tell("n2", func(r *KeyReport) { r.Cert = keyID("certificate", 77) })
	if w.state.Nodes[nodeID("n2")].RenewFrom != "" || w.state.Nodes[nodeID("n1")].RenewFrom == "" {
		t.Error("done is not done, or what is not counts as done")
	}
	w.must(SetCluster{CertificateLife: ptr(time.Minute)})
	if w.state.Cluster.Keys.CertificateLife != time.Minute {
		t.Error("the life is not set")
	}
}

var keyRefusals = []refusal{
	{"report of nobody", nil, does(ReportKeys{"n-none", keyReport(1, caNumber(1))}), CodeNotFound, "n-none is not a member"},
	{"report without ids", nil, does(ReportKeys{"n-n1", KeyReport{}}), CodeMalformed, `"" is not the id of a key`},
	{"report too long", nil, does(ReportKeys{"n-n1", KeyReport{Cert: "aa", Issuer: "aa", Trusts: make([]string, MaxKeyIDs+1)}}), CodeTooLong, "9 CAs"},
	{"report of an id that is none", nil, does(ReportKeys{"n-n1", KeyReport{Cert: "aa", Issuer: "x y"}}), CodeMalformed, `"x y"`},
	{"an agent with the CA's key", nil, does(ReportKeys{"n-n3", KeyReport{Cert: "aa", Issuer: "aa", Holds: []string{"aa"}}}), CodeUnsupported, "may not have a CA's key"},
	{"rotate what there is not", nil, does(RotateKeys{What: "door"}), CodeParameter, `"door"`},
	{"rotate the CA of a node", nil, does(RotateKeys{What: KeyOfCA, Node: "n-n1"}), CodeParameter, "keys rotate node"},
	{"rotate nobody", nil, does(RotateKeys{What: KeyOfNode, Node: "n-none"}), CodeNotFound, "n-none"},
	{"offer what there is not", nil, does(OfferKey{What: "node", Node: "n-n1"}), CodeParameter, `"node"`},
	{"offer of an agent", nil, does(OfferKey{What: KeyOfGossip, Node: "n-n3", ID: "aa"}), CodeUnsupported, "n3 makes no keys"},
	{"offer without an id", nil, does(OfferKey{What: KeyOfGossip, Node: "n-n1"}), CodeMalformed, "id of a key"},
	{"offer that nobody waits for", nil, does(OfferKey{What: KeyOfGossip, Node: "n-n1", ID: "aa"}), CodeStale, "nobody waits"},
	{"offer of the present key", rotating(KeyOfGossip), does(OfferKey{What: KeyOfGossip, Node: "n-n1", ID: keyID("gossip", 1)}), CodeDuplicate, "known already"},
	{"offer of the present CA", rotating(KeyOfCA), does(OfferKey{What: KeyOfCA, Node: "n-n1", ID: caNumber(1).ID, CA: caNumber(1)}), CodeDuplicate, "trusted already"},
	{"offer of no certificate", rotating(KeyOfCA), does(OfferKey{What: KeyOfCA, Node: "n-n1", ID: "aa", CA: CA{ID: "aa", Cert: "x"}}), CodeMalformed, "not PEM"},
	{"offer under another id", rotating(KeyOfCA), does(OfferKey{What: KeyOfCA, Node: "n-n1", ID: "aa", CA: caNumber(2)}), CodeMalformed, "does not have the id"},
	{"offer of one that has not the key", rotating(KeyOfCA), does(OfferKey{What: KeyOfCA, Node: "n-n2", ID: caNumber(2).ID, CA: caNumber(2)}), CodeUnsupported, "others have"},
	{"advance nothing", nil, does(AdvanceKeys{What: KeyOfCA, Phase: PhaseUse}), CodeStale, "not in phase"},
	{"advance what there is not", nil, does(AdvanceKeys{What: "x"}), CodeStale, "not in phase"},
	{"a life too short", nil, does(SetCluster{CertificateLife: ptr(time.Second)}), CodeRange, "1s"},
	{"a life too long", nil, does(SetCluster{CertificateLife: ptr(CertificateLifeMax + 1)}), CodeRange, "20s to"},
}

func rotating(what string) func(*world) { return func(w *world) { w.must(RotateKeys{What: what}) } }

func TestKeyRefusals(t *testing.T) {
	for _, tc := range keyRefusals {
		t.Run(tc.name, func(t *testing.T) {
			w := keyed(t)
			if tc.given != nil {
				tc.given(w)
			}
			w.refuses(tc.body(w), tc.code, tc.says)
		})
	}
	w := trio(t)
	w.upgrade3()
	w.refuses(RotateKeys{What: KeyOfCA}, CodeLevel, "upgrade it first")
	w.upgrade4()
	w.refuses(RotateKeys{What: KeyOfCA}, CodeNotReady, "have not reported")
	w.refuses(RotateKeys{What: KeyOfNode}, CodeNotReady, "has not reported")
	if refusal := w.try(RemoveNode{"n-w"}).Refusal; refusal != nil || w.state.Cluster.Keys.GossipTurn.Runs() {
		t.Errorf("a removal before there are keys: %v, %+v", refusal, w.state.Cluster.Keys)
	}
}

// A node speaks of its own keys, and asks for nothing in the name of others.
func TestOwnCommandsAboutKeys(t *testing.T) {
	w := keyed(t)
	for _, body := range []Body{ReportKeys{nodeID("n1"), keyReport(5, caNumber(1))}, OfferKey{What: KeyOfGossip, Node: nodeID("n1"), ID: "aa"}} {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		for node, may := range map[string]bool{"n-n1": true, "n-n2": false, "": false} {
			if _, refusal := OwnCommand(w.state, node, body.kind(), raw); (refusal == nil) != may {
				t.Errorf("%s by node %q: %v", body.kind(), node, refusal)
			}
		}
	}
	for _, kind := range []string{"rotate-keys", "advance-keys"} {
		if _, refusal := OwnCommand(w.state, "n-n1", kind, json.RawMessage(`{"what":"ca"}`)); refusal == nil {
			t.Errorf("%s by a node's own word", kind)
		}
	}
}

// A cluster that one node begins again knows none of the keys of before, and goes on.
func TestWithoutKeys(t *testing.T) {
	w := keyed(t)
	w.must(SetCluster{CertificateLife: ptr(time.Hour)})
	w.must(RotateKeys{What: KeyOfCA})
	before := snapshot(t, w.state)
	s := w.state.WithoutKeys(nodeID("n2"))
	if k := s.Cluster.Keys; len(k.CAs)+len(k.Gossip) != 0 || k.CA.Runs() || k.CertificateLife != time.Hour {
		t.Errorf("keys: %+v", k)
	}
	for _, n := range s.NodeList() {
		if n.KeyReport.Cert != "" || n.HoldsCA != (n.Name == "n2") {
			t.Errorf("node %s: %+v, holds %t", n.Name, n.KeyReport, n.HoldsCA)
		}
	}
	if err := checkInvariants(s); err != nil {
		t.Error(err)
	}
	if string(snapshot(t, w.state)) != string(before) {
		t.Error("the state of before has changed")
	}
}
