package console

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// lab is the real API with the real state machine behind it, without a network: the console is asked over
// what a browser would send.
type lab struct {
	t       *testing.T
	mu      sync.Mutex
	state   *fsm.State
	lost    bool // no majority answers
	changed chan struct{}
	id      *identity.Identity
	server  *api.Server
	handler http.Handler
	heard   func(*http.Request) // what the console asks the API for; nil: nobody wants to know
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) now() *fsm.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *lab) apply(w *fsm.Caller, body fsm.Body, key string) fsm.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	res := l.commit(w, body, key)
	if l.state.GuardedUpTo() < l.state.GuardIndex() { // as the nodes do at once
		for _, sess := range l.state.SessionList() {
			l.commit(nil, fsm.ReportGuarded{Node: sess.Node, Session: sess.Number, Index: l.state.Index}, "")
		}
	}
	return res
}

func (l *lab) commit(w *fsm.Caller, body fsm.Body, key string) fsm.Result {
	cmd, err := fsm.NewCommand(time.Now().UnixNano(), "", key, body)
	l.must(err)
	cmd.Caller = w
	if l.state.Level() < 4 {
		cmd.Caller = nil
	}
	next, res, err := fsm.Apply(l.state, l.state.Index+1, cmd)
	l.must(err)
	l.state = next
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return res
}

// lab is an api.Backend of one node that leads.
func (l *lab) Self() string                     { return l.id.NodeID }
func (l *lab) State() *fsm.State                { return l.now() }
func (l *lab) Watch() (<-chan struct{}, func()) { return l.changed, func() {} }
func (l *lab) IsLeader() bool                   { return !l.isLost() }
func (l *lab) isLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}
func (l *lab) Linearizable(context.Context) (*fsm.State, error) {
	if l.isLost() {
		return nil, api.ErrNoLeader
	}
	return l.now(), nil
}
func (l *lab) ReadIndex(context.Context) (uint64, error) { return l.now().Index, nil }
func (l *lab) Propose(ctx context.Context, body fsm.Body, key string) (fsm.Result, error) {
	w, ok := api.CallerOf(ctx)
	if !ok {
		return fsm.Result{}, errors.New("a change without a caller")
	}
	if refusal := l.now().Permits(w, body); refusal != nil {
		return fsm.Result{Refusal: refusal}, nil
	}
	return l.apply(&w, body, key), nil
}
func (l *lab) ProposeFor(context.Context, string, string, json.RawMessage) (fsm.Result, error) {
	return fsm.Result{}, errors.New("not here")
}
func (l *lab) Leader() (fsm.Node, bool) { return l.now().Nodes[l.id.NodeID], !l.isLost() }
func (l *lab) Live() map[string]api.Live {
	out := map[string]api.Live{}
	for id := range l.now().Nodes {
		out[id] = api.Live{Status: api.StatusAlive, LeaseRemaining: 432 * time.Millisecond, Version: "v1.2.3", Suffrage: "voter"}
	}
	return out
}
func (l *lab) Local() api.Local { return api.Local{Fence: "ebpf", FenceProved: true, Session: 7} }
func (l *lab) Calibration(context.Context, int, bool) []api.NodeCalibration {
	return nil
}
func (l *lab) OwnCalibration(int, bool) api.NodeCalibration { return api.NodeCalibration{} }
func (l *lab) Admit(context.Context, api.JoinRequest) (api.JoinAnswer, error) {
	return api.JoinAnswer{}, errors.New("not here")
}
func (l *lab) Sign(context.Context, string, []byte) ([]byte, error) {
	return nil, errors.New("not here")
}
func (l *lab) RemoveNode(context.Context, string, bool) error { return errors.New("not here") }
func (l *lab) Taken(context.Context, netip.Addr) string       { return "" }
func (l *lab) MoveHAVIP(ctx context.Context, id, to, key string) (fsm.Result, error) {
	st := l.now()
	for _, e := range st.ENIList() {
		if sess, ok := st.SessionOf(e.Node); ok && (e.ID == to || st.NodeName(e.Node) == to) {
			return l.Propose(ctx, fsm.Place{Assignments: []fsm.Assignment{{HAVIP: id, FromEpoch: st.HAVIPs[id].Epoch, Node: e.Node, Session: sess.Number, ENI: e.ID, Reason: "moved by hand"}}}, key)
		}
	}
	return fsm.Result{Refusal: fsm.Refuse(fsm.CodeNotFound, "%q is neither a node nor an ENI", to)}, nil
}

// place carries out what the placement wants.
func (l *lab) place() {
	var all []fsm.Assignment
	for _, d := range l.now().Explain(time.Now().UnixNano()) {
		if d.Moves {
			all = append(all, l.now().Assignment(d))
		}
	}
	if len(all) > 0 {
		l.apply(nil, fsm.Place{Assignments: all}, "")
	}
}

// newLab makes a cluster of two nodes with a session and two ENIs each.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, state: fsm.New(), changed: make(chan struct{}, 1)}
	spec, err := identity.NewCluster(identity.Settings{Name: "node-1", Advertise: netip.MustParseAddr("127.0.0.1"), Ports: identity.DefaultPorts, Profile: identity.ProfileLAN}, time.Now())
	l.must(err)
	dir := filepath.Join(t.TempDir(), "d")
	l.must(identity.Create(dir, spec))
	l.id, err = identity.Load(dir)
	l.must(err)
	member := func(id, name string) fsm.Node {
		return fsm.Node{ID: id, Name: name, Address: "127.0.0." + name[5:], Role: fsm.RoleVoter, Version: fsm.VersionWithLevel("v1.2.3"), APIPort: 7400, RaftPort: 7401, GossipPort: 7402}
	}
	second := identity.NewNodeID()
	steps := []fsm.Body{
		fsm.InitCluster{ID: l.id.ClusterID, Profile: "lan", Lease: 500 * time.Millisecond, Node: member(l.id.NodeID, "node-1")},
		fsm.CreateToken{Token: fsm.Token{ID: "t", SecretHash: "h", Node: "node-2", Role: fsm.RoleVoter, Expires: time.Now().Add(time.Hour).UnixNano()}},
		fsm.AddNode{Token: "t", SecretHash: "h", Node: member(second, "node-2")},
	}
	for i, id := range []string{l.id.NodeID, second} {
		steps = append(steps, fsm.OpenSession{Node: id, Attempt: "a"}, fsm.ReportENIs{Node: id, ENIs: []fsm.ENI{
			{Device: "eth0", MAC: fmt.Sprintf("02:00:00:00:00:0%d", i+1), Primary: true, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", i+11))}},
			{Device: "eth1", MAC: fmt.Sprintf("02:00:00:00:01:0%d", i+1), Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", i+21))}},
		}})
	}
	for _, b := range steps {
		if res := l.apply(nil, b, ""); res.Refusal != nil {
			t.Fatalf("%T: %v", b, res.Refusal)
		}
	}
	l.server = api.New(api.Config{Backend: l, Identity: l.id, Version: "v1.2.3", Console: func(next http.Handler) http.Handler {
		return Mount(nil)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if l.heard != nil {
				l.heard(r)
			}
			next.ServeHTTP(w, r)
		}))
	}})
	l.handler = l.server.Handler()
	return l
}

// token makes a credential and gives its text.
func (l *lab) token(name string, right fsm.Right, group string) string {
	l.t.Helper()
	t := identity.NewAccessToken()
	res := l.apply(nil, fsm.CreateCredential{Credential: fsm.Credential{ID: t.ID, Name: name, SecretHash: identity.SecretHash(t.Secret), Right: right, Group: group}}, "")
	if res.Refusal != nil {
		l.t.Fatal(res.Refusal)
	}
	return t.Text()
}

// browser is one, without scripts.
type browser struct {
	*lab
	cookie string
	source string
}

// answer is what came back.
type answer struct {
	status   int
	header   http.Header
	text     string
	location string
}

// ask sends a request as a browser does from a page of the console. More are pairs of headers.
func (b *browser) ask(method, path string, form url.Values, more ...string) answer {
	b.t.Helper()
	r := httptest.NewRequest(method, "https://node-1:7400"+path, strings.NewReader(form.Encode()))
	r.TLS, r.RemoteAddr = &tls.ConnectionState{HandshakeComplete: true}, b.source+":4711"
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Origin", "https://node-1:7400")
	}
	for i := 0; i+1 < len(more); i += 2 {
		r.Header.Del(more[i])
		if more[i+1] != "" {
			r.Header.Set(more[i], more[i+1])
		}
	}
	if b.cookie != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-havip-console", Value: b.cookie})
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	res := w.Result()
	text, err := io.ReadAll(res.Body)
	b.must(err)
	for _, k := range res.Cookies() {
		b.cookie = k.Value
	}
	return answer{res.StatusCode, res.Header, string(text), res.Header.Get("Location")}
}

func (b *browser) get(path string) answer { b.t.Helper(); return b.ask(http.MethodGet, path, nil) }
func (b *browser) post(path string, form url.Values) answer {
	b.t.Helper()
	return b.ask(http.MethodPost, path, form)
}

// login gives a browser that is logged in with a right.
func (l *lab) login(name string, right fsm.Right) *browser {
	l.t.Helper()
	b := &browser{lab: l, source: "192.0.2.7"}
	if a := b.post("/console/login", url.Values{"token": {l.token(name, right, "")}}); a.status != http.StatusSeeOther || b.cookie == "" {
		l.t.Fatalf("login of %s: %d %s", name, a.status, a.text)
	}
	return b
}

// havip makes one, owned.
func (l *lab) havip(spec fsm.CreateHAVIP) string {
	l.t.Helper()
	spec.Range.Limit = len(spec.Range.Members) > 0
	res := l.apply(nil, spec, "")
	if res.Refusal != nil {
		l.t.Fatal(res.Refusal)
	}
	l.place()
	return res.Object
}

var tags = regexp.MustCompile(`<[^>]*>|\s+`)

// plain is a page without its tags.
func plainText(html string) string {
	return strings.Join(strings.Fields(tags.ReplaceAllString(html, " ")), " ")
}
