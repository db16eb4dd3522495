package api

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// Who was invited and has not joined is removed by making the token void, which the answer says.
func TestRemovalOfWhoWasInvited(t *testing.T) {
	w := newWorld(t)
	if r, body := w.ask(t, 1, http.MethodDelete, "/v1/nodes/node-9", ""); r.StatusCode != http.StatusNotFound {
		t.Errorf("before: %d %s", r.StatusCode, body)
	}
	if r, body := w.ask(t, 0, http.MethodPost, "/v1/tokens", `{"node":"node-9"}`); r.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", r.StatusCode, body)
	}
	r, body := w.ask(t, 1, http.MethodDelete, "/v1/nodes/node-9", "")
	var d Done
	if err := json.Unmarshal(body, &d); err != nil || r.StatusCode != http.StatusOK || d.Object != "node-9" || d.Note != "node node-9 had not joined; its join token is void now" {
		t.Errorf("%d %s", r.StatusCode, body)
	}
	if _, open := w.log.now().OpenToken("node-9", time.Now().UnixNano()); open {
		t.Error("the token is open")
	}
	if r, body := w.ask(t, 0, http.MethodDelete, "/v1/nodes/node-9", ""); r.StatusCode != http.StatusNotFound {
		t.Errorf("a second time: %d %s", r.StatusCode, body)
	}
}

// A HAVIP whose subnet is not known waits while a node has not told of its networks, and no longer.
func TestHAVIPWaitsForItsSubnet(t *testing.T) {
	w := newWorld(t)
	create := func(ip string) (status int, body string, took time.Duration) {
		began := time.Now()
		r, raw := w.ask(t, 1, http.MethodPost, "/v1/havips", `{"name":"far","ip":"`+ip+`"}`)
		return r.StatusCode, string(raw), time.Since(began)
	}
	status, body, took := create("10.88.0.100")
	for range 2 {
		if took < SubnetWait { // else a busy host stood still meanwhile, or it waits each time
			break
		}
		status, body, took = create("10.88.0.100")
	}
	if status != http.StatusBadRequest || took >= SubnetWait {
		t.Errorf("where all nodes have told: %d after %s: %s", status, took, body)
	}
	for i := 3; ; i++ { // where a busy host stands still for as long as it waits, the next node is the one that tells
		node := w.join(t, i, fsm.RoleAgent).NodeID
		told := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(85 + i), 0, 13}), 24)
		go func() {
			time.Sleep(300 * time.Millisecond)
			w.log.apply(t, fsm.ReportENIs{Node: node, ENIs: []fsm.ENI{{Device: "eth0", MAC: "02:00:00:00:00:0" + string(rune('0'+i)), Primary: true, Up: true, Prefixes: []netip.Prefix{told}}}}, "")
		}()
		status, body, took := create(netip.AddrFrom4([4]byte{10, byte(85 + i), 0, 100}).String())
		if status == http.StatusCreated {
			break
		}
		if took < SubnetWait || i == 5 {
			t.Errorf("once the node has told: %d after %s: %s", status, took, body)
			break
		}
	}
	w.join(t, 9, fsm.RoleAgent)
	if status, body, took := create("10.99.0.100"); status != http.StatusBadRequest || took < SubnetWait || !strings.Contains(body, "node-9 has not told of its networks yet") {
		t.Errorf("of a node that does not tell: %d after %s: %s", status, took, body)
	}
}

// Where a node never tells, the refusal still arrives at the command line, which waits before it asks.
func TestWaitsForASubnetFitIntoOneCommand(t *testing.T) {
	if 2*SubnetWait > DefaultTimeout*2/3 {
		t.Errorf("two waits of %v leave a command of %v no time for its answer", SubnetWait, DefaultTimeout)
	}
}

// A join token waits while the CA that it would name is being replaced, and no longer than it may.
func TestTokenWaitsForTheNewCA(t *testing.T) {
	w := newWorld(t)
	w.withKeys(t)
	invite := func() time.Duration {
		began := time.Now()
		if r, body := w.ask(t, 0, http.MethodPost, "/v1/tokens", `{"node":"node-9"}`); r.StatusCode != http.StatusCreated {
			t.Fatalf("%d %s", r.StatusCode, body)
		}
		return time.Since(began)
	}
	w.log.apply(t, fsm.RotateKeys{What: fsm.KeyOfCA, Why: "node node-3, which was removed, was given its key"}, "")
	if took := invite(); took < caWait {
		t.Errorf("the CA is being replaced, and there is a token after %s", took)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for waits := false; !waits; time.Sleep(time.Millisecond) {
			w.log.mu.Lock()
			waits = len(w.log.watchers) > 0
			w.log.mu.Unlock()
		}
		w.log.mu.Lock()
		s := *w.log.state
		s.Cluster.Keys.CA = fsm.Rotation{}
		w.log.state = &s
		w.log.mu.Unlock()
		w.log.apply(t, fsm.CreateToken{Token: fsm.Token{ID: "u", SecretHash: "h", Node: "node-8", Role: fsm.RoleVoter, Expires: time.Now().Add(time.Hour).UnixNano()}}, "")
	}()
	if took := invite(); w.log.now().Cluster.Keys.CA.Runs() {
		t.Errorf("there is a token after %s, before the new CA", took)
	}
	<-ended
}
