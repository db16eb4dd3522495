package fsm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"havip-cluster/internal/limits"
)

// asks applies a command as a caller asks for it.
func (w *world) asks(c Caller, key string, body Body) Result {
	w.t.Helper()
	cmd, err := NewCommand(w.at, "", key, body)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Caller = &c
	raw, err := cmd.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	if raw[0] != 4 {
		w.t.Errorf("a command with a caller is written with level %d", raw[0])
	}
	if cmd, err = DecodeCommand(raw); err != nil {
		w.t.Fatal(err)
	}
	next, res, err := Apply(w.state, w.state.Index+1, cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	w.state, w.log = next, append(w.log, raw)
	return res
}

var (
	root     = Caller{Principal: "root@n1", Right: RightAdmin, Node: "n-n1"}
	operator = Caller{Principal: "token:ops", Right: RightOperator}
	viewer   = Caller{Principal: "token:see", Right: RightViewer}
	agentOwn = Caller{Principal: "root@n3", Right: RightViewer, Node: "n-n3"}
)

func TestRightsCover(t *testing.T) {
	all := []Right{"", RightViewer, RightOperator, RightAdmin}
	for i, have := range all {
		for j, need := range all {
			if have.Covers(need) != (i >= j) {
				t.Errorf("%q covers %q: %t", have, need, have.Covers(need))
			}
		}
	}
	if Right("root").Covers("") || RightAdmin.Covers("root") {
		t.Error("a role that is none")
	}
}

// Each kind of command takes a right, and no new kind is forgotten: what has no row here takes
// role admin.
func TestPermits(t *testing.T) {
	w := trio(t)
	on := true
	for _, row := range []struct {
		caller Caller
		body   Body
		may    bool
	}{
		{viewer, Place{}, false}, {operator, Place{}, true}, {operator, DrainNode{ID: "n-n1"}, true}, {operator, ActivateNode{ID: "n-n1"}, true},
		{operator, UpdateNode{ID: "n-n1", Standby: &on, Maintenance: &on}, true}, {operator, UpdateNode{ID: "n-n1", Removing: &on}, false},
		{operator, UpdateNode{ID: "n-n1", Version: ptr("v")}, false}, {operator, UpdateNode{ID: "n-n1", NoCapacity: true}, false},
		{operator, UpdateHAVIP{ID: "h", Change: Change{Enabled: &on}}, true}, {operator, UpdateHAVIP{ID: "h", Change: Change{Maintenance: &on}}, true}, {operator, UpdateHAVIP{ID: "h"}, false},
		{operator, UpdateHAVIP{ID: "h", Change: Change{Enabled: &on}, Evict: true}, false}, {operator, SetCluster{Maintenance: &on}, true},
		{operator, SetCluster{}, false}, {operator, SetCluster{Maintenance: &on, CAHolders: ptr(1)}, false},
		{agentOwn, UpdateNode{ID: "n-n3", Standby: &on}, true}, {agentOwn, UpdateNode{ID: "n-n1", Standby: &on}, false}, {agentOwn, UpdateNode{ID: "n-n3", Score: ptr(1)}, false},
		{agentOwn, DrainNode{ID: "n-n3"}, true}, {agentOwn, DrainNode{ID: "n-n2"}, false}, {agentOwn, ActivateNode{ID: "n-n3"}, true},
		{agentOwn, Place{}, false}, {agentOwn, CreateHAVIP{}, false}, {agentOwn, CreateToken{}, false}, {agentOwn, ReportHealth{Node: "n-n3"}, false},
		{Caller{Principal: "join:n4"}, AddNode{}, true}, {Caller{Principal: "join:n4"}, Place{}, false},
	} {
		if refusal := w.state.Permits(row.caller, row.body); (refusal == nil) != row.may || refusal != nil && refusal.Code != CodeDenied {
			t.Errorf("%s, %#v: %v", row.caller.Principal, row.body, refusal)
		}
	}
	own := []string{"open-session", "drain-session", "close-session", "close-sessions", "release", "report-enis", "report-event", "report-guarded", "confirm",
		"record-failover", "record-failovers", "record-failure", "end-drain", "settle-lease", "init-cluster", "remove-node", "register-key", "report-behind", "rest-vote", "report-keys", "offer-key", "advance-webhook", "report-checks"}
	for _, b := range everyBody() {
		if refusal := w.state.Permits(root, b); (refusal != nil) != strings.Contains(strings.Join(own, " ")+" ", b.kind()+" ") {
			t.Errorf("%s by an admin: %v", b.kind(), refusal)
		}
		if refusal := w.state.Permits(viewer, b); refusal == nil && b.kind() != "add-node" {
			t.Errorf("a viewer may %s", b.kind())
		}
	}
}

func TestScope(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	web(w)
	w.guarded()
	w.place("web", "n1/eth0")
	w.havip("db", "10.0.0.101")
	w.havip("api", "10.0.0.102")
	w.must(CreateGroup{Group{Name: "g", Kind: Apart, HAVIPs: []string{"web", "db"}}})
	mine, other := w.get("web").ID, w.get("api").ID
	of := Caller{Principal: "token:g", Right: RightAdmin, Group: "g"}
	on := true
	for _, row := range []struct {
		body Body
		may  bool
	}{
		{UpdateHAVIP{ID: mine, Change: Change{Enabled: &on}}, true}, {UpdateHAVIP{ID: other, Change: Change{Enabled: &on}}, false},
		{Place{[]Assignment{{HAVIP: mine}}}, true}, {Place{[]Assignment{{HAVIP: mine}, {HAVIP: other}}}, false}, {Place{}, false},
		{BanHAVIP{ID: mine, Target: "n1"}, true}, {UnbanHAVIP{ID: other}, false}, {ChangeRange{ID: mine}, true}, {DeleteHAVIP{ID: other}, false},
		{BindEIP{ID: mine}, true}, {UnbindEIP{ID: other}, false}, {ResetFailures{HAVIP: mine}, true}, {ResetFailures{}, false}, {ResetFailures{Node: "n-n1"}, false},
		{CreateHAVIP{Name: "x"}, false}, {CreateCredential{}, false}, {CreateToken{}, false}, {ApplyConfig{}, false}, {SetCluster{Maintenance: &on}, false}, {DeleteGroup{"g"}, false},
	} {
		if refusal := w.state.Permits(of, row.body); (refusal == nil) != row.may {
			t.Errorf("%#v: %v", row.body, refusal)
		}
		// Apply asks again: the group may have changed since the leader asked.
		if res := w.asks(of, "", row.body); !row.may && (res.Refusal == nil || res.Refusal.Code != CodeDenied) {
			t.Errorf("Apply of %#v: %+v", row.body, res)
		}
	}
	w.must(DeleteGroup{"g"})
	if refusal := w.state.Permits(of, UpdateHAVIP{ID: mine, Change: Change{Enabled: &on}}); refusal == nil || !strings.Contains(refusal.Message, "is no more") {
		t.Errorf("without its group: %v", refusal)
	}
}

// credential is a token as it is made.
func credential(name string, right Right, expires int64) Credential {
	return Credential{ID: "a-" + name, Name: name, SecretHash: strings.Repeat("a", 64), Right: right, Expires: expires}
}

// The log's order decides: what comes after a token's end, or after its rights changed, is refused.
func TestTokensInTheLog(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	on := true
	do := func(c Credential) Result {
		return w.asks(c.Caller(), "", SetCluster{Maintenance: &on})
	}
	ops := credential("ops", RightAdmin, 0)
	if res := do(ops); res.Refusal == nil || !strings.Contains(res.Refusal.Message, "revoked") {
		t.Errorf("a token that is not there: %+v", res)
	}
	w.asks(root, "", CreateCredential{ops})
	if res := do(ops); res.Refusal != nil {
		t.Errorf("%+v", res)
	}
	more := ops
	more.Group = "g"
	if res := do(more); res.Refusal == nil {
		t.Error("a caller with other rights than its token")
	}
	short := credential("short", RightAdmin, w.at+10)
	w.asks(root, "", CreateCredential{short})
	w.at += 10
	if res := do(short); res.Refusal == nil || !strings.Contains(res.Refusal.Message, "expired") {
		t.Errorf("an expired token: %+v", res)
	}
	w.asks(root, "", RevokeCredential{"ops"})
	if res := do(ops); res.Refusal == nil || res.Refusal.Code != CodeDenied {
		t.Errorf("after its revocation: %+v", res)
	}
	for _, bad := range []Credential{
		credential("Ops", RightAdmin, 0), credential("x", "root", 0), credential("x", "", 0), credential("x", RightViewer, w.at), {ID: "a", Name: "x", Right: RightViewer, SecretHash: "short"},
		{ID: "a", Name: "x", Right: RightViewer, SecretHash: strings.Repeat("a", 64), Group: "none"}, {Name: "x", Right: RightViewer, SecretHash: strings.Repeat("a", 64)},
	} {
		if res := w.asks(root, "", CreateCredential{bad}); res.Refusal == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	for i := range MaxCredentials {
		w.asks(root, "", CreateCredential{credential(fmt.Sprint("c", i), RightViewer, 0)})
	}
	if res := w.asks(root, "", CreateCredential{credential("more", RightViewer, 0)}); len(w.state.Credentials) != MaxCredentials || res.Refusal == nil || res.Refusal.Code != CodeLimit {
		t.Errorf("%d tokens, %+v", len(w.state.Credentials), res)
	}
}

// An invitation is taken back while nobody has used it, once.
func TestVoidToken(t *testing.T) {
	w := &world{t: t, state: newest(t), at: epoch0}
	w.upgrade4()
	invite := func() { w.must(CreateToken{w.token("n9", RoleVoter)}) }
	void := VoidToken{Node: "n9"}
	w.refuses(void, CodeNotFound, "no join token")
	invite()
	if _, open := w.state.OpenToken("n9", w.at); !open {
		t.Fatal("no token is open")
	}
	w.must(void)
	w.refuses(void, CodeNotFound, "no join token")
	n := newNode("n9", 9)
	n.Version, n.LeasePort, n.Keys = "v4+level.4", 7403, []NodeKey{nodeKey(9)}
	w.refuses(AddNode{Token: "t-n9", SecretHash: "secret-n9", Node: n}, CodeTokenRefused, "made void by `node remove`")
	invite()
	w.must(AddNode{Token: "t-n9", SecretHash: "secret-n9", Node: n})
	w.refuses(void, CodeNotFound, "no join token") // it was used
}

// A key belongs to its principal; root of any voter is one.
func TestKeysOfPrincipals(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	ops := credential("ops", RightAdmin, 0)
	w.asks(root, "", CreateCredential{ops})
	first := w.asks(root, "k", CreateHAVIP{Name: "web", IP: addr("10.0.0.100")})
	if res := w.asks(ops.Caller(), "k", CreateHAVIP{Name: "web", IP: addr("10.0.0.100")}); res.Repeated || res.Refusal == nil {
		t.Errorf("the answer of another principal: %+v", res)
	}
	if res := w.asks(ops.Caller(), "k", CreateHAVIP{Name: "db", IP: addr("10.0.0.101")}); res.Refusal != nil {
		t.Errorf("its own request under that key: %+v", res)
	}
	elsewhere := Caller{Principal: "root@n2", Right: RightAdmin, Node: "n-n2"}
	if res := w.asks(elsewhere, "k", CreateHAVIP{Name: "web", IP: addr("10.0.0.100")}); !res.Repeated || res.Object != first.Object {
		t.Errorf("root at another voter: %+v", res)
	}
	if res := w.asks(agentOwn, "k", CreateHAVIP{Name: "web", IP: addr("10.0.0.100")}); res.Repeated {
		t.Errorf("root at an agent: %+v", res)
	}
	if res := w.asks(elsewhere, "k", CreateHAVIP{Name: "x", IP: addr("10.0.0.109")}); res.Refusal == nil || res.Refusal.Code != CodeKeyMismatch {
		t.Errorf("another request: %+v", res)
	}
}

// What was done is on record with who asked; refusals, repeats and the nodes' own commands are not.
func TestAuditRing(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	w.asks(root, "k", CreateHAVIP{Name: "web", IP: addr("10.0.0.100")})
	w.asks(root, "k", CreateHAVIP{Name: "web", IP: addr("10.0.0.100")})
	w.asks(root, "", CreateHAVIP{Name: "web2", IP: addr("10.0.0.100")})
	w.guarded()
	w.place("web", "n1/eth0")
	from := operator
	from.Source, from.Request = "10.0.0.9", "move-havip"
	w.asks(from, "", Place{[]Assignment{w.to("web", "n2/eth0")}})
	if len(w.state.Audit) != 2 {
		t.Fatalf("%+v", w.state.Audit)
	}
	a, b := w.state.Audit[0], w.state.Audit[1]
	if a.Caller != root || a.Key != "k" || a.Kind != "create-havip" || a.Object != w.get("web").ID || b.Caller != from || b.Object != a.Object || b.Kind != "place" || b.Index <= a.Index {
		t.Errorf("%+v", w.state.Audit)
	}
	on := true
	for range MaxAudited + 10 {
		w.asks(root, "", SetCluster{Maintenance: &on})
	}
	if len(w.state.Audit) != MaxAudited {
		t.Errorf("%d entries", len(w.state.Audit))
	}
	back, err := ReadSnapshot(bytes.NewReader(snapshot(t, w.state)))
	if err != nil || len(back.Audit) != MaxAudited || back.Audit[0] != w.state.Audit[0] {
		t.Errorf("in the snapshot: %d, %v", len(back.Audit), err)
	}
	if res := w.asks(Caller{Principal: strings.Repeat("x", MaxCallerText+1), Right: RightAdmin}, "", SetCluster{Maintenance: &on}); res.Refusal == nil {
		t.Error("a caller of any length")
	}
}

// The CA's key goes to the founder, to so many voters, and to nobody else.
func TestWhoHoldsTheCA(t *testing.T) {
	w := empty(t)
	n := newNode("n1", 1)
	n.Version = VersionWithLevel("v")
	w.must(InitCluster{ID: "c-1", Lease: limits.LeaseLongest, Node: n})
	if !w.state.Nodes["n-n1"].HoldsCA {
		t.Fatal("the founder has no key")
	}
	join := func(i int, role Role, by *Caller, withCA bool) bool {
		t.Helper()
		name := fmt.Sprint("n", i)
		token := w.token(name, role)
		if by == nil {
			w.must(CreateToken{token})
		} else {
			w.asks(*by, "", CreateToken{token})
		}
		n := newNode(name, i)
		n.Version, n.HoldsCA = VersionWithLevel("v"), true // what it says of itself counts nothing
		w.must(AddNode{Token: token.ID, SecretHash: token.SecretHash, Node: n, WithCA: withCA})
		return w.state.Nodes["n-"+name].HoldsCA
	}
	for i, row := range []struct {
		role   Role
		by     *Caller
		withCA bool
		holds  bool
	}{
		{RoleAgent, &root, true, false}, {RoleWitness, &root, true, false}, {RoleVoter, nil, true, false}, {RoleVoter, &root, false, false},
		{RoleVoter, &root, true, true}, {RoleVoter, &root, true, true}, {RoleVoter, &root, true, false},
	} {
		if got := join(i+2, row.role, row.by, row.withCA); got != row.holds {
			t.Errorf("join %d: holds the key: %t", i+2, got)
		}
	}
	w.must(SetCluster{CAHolders: ptr(4)})
	if !join(20, RoleVoter, &root, true) || w.state.CAHolders() != 4 {
		t.Errorf("after ca-holders=4: %d", w.state.CAHolders())
	}
	w.refuses(SetCluster{CAHolders: ptr(0)}, CodeRange, "1 to 5")
	// A cluster of a version before gave it to all that vote.
	old := trio(t)
	old.upgrade4()
	for _, n := range old.state.NodeList() {
		if n.HoldsCA != (n.Role != RoleAgent) {
			t.Errorf("after the upgrade %s (%s): %t", n.Name, n.Role, n.HoldsCA)
		}
	}
}

// Below level 4 nothing of all that is written.
func TestRightsNeedLevel4(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	w.refuses(CreateCredential{credential("x", RightViewer, 0)}, CodeLevel, "upgrade it first")
	c, err := NewCommand(w.at, "", "", DeleteSubnet{"x"})
	if err != nil {
		t.Fatal(err)
	}
	c.Caller = &root
	if refusal := w.state.Admits(c); refusal == nil || refusal.Code != CodeLevel {
		t.Errorf("a command with a caller at level 3: %v", refusal)
	}
	for _, word := range []string{"credentials", "audit", "holds_ca", "ca_holders"} {
		if bytes.Contains(snapshot(t, w.state), []byte(word)) {
			t.Errorf("%s in a snapshot of level 3", word)
		}
	}
}

// rightsDraws are the commands about who may do what.
func (c chooser) rightsDraws() map[string]func() Body {
	name := func() string { return pick(c, "token", []string{"ops", "see", "Bad Name", ""}) }
	return map[string]func() Body{
		"create-credential": func() Body {
			n := name()
			return CreateCredential{Credential{
				ID: "a-" + n, Name: n, SecretHash: strings.Repeat("a", 63+c.number("hash", 0, 1)), Right: pick(c, "right", append(rights, "root")),
				Group: pick(c, "scope", []string{"", "", "g"}), Expires: pick(c, "end", []int64{0, c.at + 1, c.at}),
			}}
		},
		"revoke-credential": func() Body { return RevokeCredential{name()} },
		"void-token":        func() Body { return VoidToken{pick(c, "invited", []string{"n1", "n8", "n9", ""})} },
	}
}

// maybeCaller draws who asks for a command, nil for nobody.
func (c chooser) maybeCaller() *Caller {
	if c.s.Level() < 4 || c.flag() {
		return nil
	}
	callers := []Caller{root, operator, viewer, agentOwn}
	for _, t := range c.s.CredentialList() {
		callers = append(callers, t.Caller())
	}
	return ptr(pick(c, "caller", callers))
}

// rightful is the newest stage where all nodes read commands of level 4, and there is a token.
func rightful(t testing.TB) *State {
	w := &world{t: t, state: newest(t), at: epoch0}
	w.upgrade4()
	w.must(CreateCredential{credential("ops", RightOperator, 0)})
	return w.state
}

// rightsStory goes on where edgeStory ends: every command and field about rights comes up.
func rightsStory(t testing.TB) *world {
	w := edgeStory(t)
	w.upgrade4()
	w.asks(root, "", CreateCredential{credential("ops", RightOperator, w.at+1000)})
	scoped := credential("fronts", RightAdmin, 0)
	scoped.Group = "fronts"
	w.asks(root, "", CreateCredential{scoped})
	on := true
	w.asks(scoped.Caller(), "request-9", UpdateHAVIP{ID: w.get("api").ID, Change: Change{Enabled: &on}})
	w.asks(root, "", SetCluster{CAHolders: ptr(4)})
	w.asks(root, "", CreateToken{w.token("n7", RoleVoter)})
	n := newNode("n7", 7)
	n.Version = "v4+level.4"
	w.asks(Caller{Principal: "join:n7", Source: "10.0.0.17", Request: "join"}, "", AddNode{Token: "t-n7", SecretHash: "secret-n7", Node: n, WithCA: true})
	w.asks(root, "", RevokeCredential{"ops"})
	return w
}

func TestGoldenRights(t *testing.T) {
	w := rightsStory(t)
	goldenStory(t, w, "rights", "about rights", kindsOfRights...)
}
