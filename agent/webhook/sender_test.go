package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"havip-cluster/fsm"
)

const secret = "0123456789abcdef"

// bench is a log with a real state machine, and senders of two nodes on it.
type bench struct {
	t        *testing.T
	mu       sync.Mutex
	state    *fsm.State
	leader   int
	watchers []chan struct{}
	every    time.Duration // of senders that begin from now on
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, state: fsm.New(), every: advanceEvery}
	b.apply(fsm.InitCluster{ID: "c-1", Profile: "lan", Lease: 500 * time.Millisecond, Node: fsm.Node{
		ID: "n-1", Name: "n1", Address: "10.0.0.1", APIPort: 1, RaftPort: 2, GossipPort: 3, Role: fsm.RoleVoter, Version: fsm.VersionWithLevel(""),
	}})
	return b
}

func (b *bench) apply(body fsm.Body) fsm.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	cmd, err := fsm.NewCommand(time.Now().UnixNano(), "n-1", "", body)
	if err != nil {
		b.t.Fatal(err)
	}
	next, res, err := fsm.Apply(b.state, b.state.Index+1, cmd)
	if err != nil {
		b.t.Fatal(err)
	}
	b.state = next
	for _, w := range b.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return res
}

func (b *bench) now() *fsm.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *bench) lead(n int) {
	b.mu.Lock()
	b.leader = n
	b.mu.Unlock()
	b.event("the leader changed")
}

func (b *bench) event(text string) {
	b.apply(fsm.ReportEvent{Node: "n-1", Kind: "fault", Text: text})
}

// sender runs the sender of node n, until the test ends.
func (b *bench) sender(n int, roots *x509.CertPool, allowed ...string) *Sender {
	s := New(Config{
		State: b.now, Roots: roots, Log: slog.New(slog.DiscardHandler),
		Watch: func() (<-chan struct{}, func()) {
			b.mu.Lock()
			defer b.mu.Unlock()
			w := make(chan struct{}, 1)
			b.watchers = append(b.watchers, w)
			return w, func() {}
		},
		Leading: func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.leader == n },
		Propose: func(_ context.Context, body fsm.Body) (fsm.Result, error) { return b.apply(body), nil },
		Allowed: func() (out []netip.Prefix) {
			for _, p := range allowed {
				out = append(out, netip.MustParsePrefix(p))
			}
			return out
		},
	})
	s.first, s.every = 10*time.Millisecond, b.every
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	b.t.Cleanup(func() { cancel(); <-done })
	return s
}

// receiver is a real HTTPS server on loopback that checks signatures and remembers what it took.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(n int) int // status of the n-th request, from 1; nil = 200
	asked  int
	taken  []Message
	faults []string
}

func newReceiver(t *testing.T, answer func(int) int) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked++
		want := "sha256=" + Sign(secret, req.Header.Get(HeaderTimestamp), body)
		var m Message
		if err := json.Unmarshal(body, &m); err != nil || m.ID != req.Header.Get(HeaderEvent) || !hmac.Equal([]byte(want), []byte(req.Header.Get(HeaderSignature))) || strings.Contains(string(body), secret) {
			r.faults = append(r.faults, fmt.Sprintf("%v: %v %s", err, req.Header, body))
		}
		if r.answer != nil {
			if status := r.answer(r.asked); status != http.StatusOK {
				w.Header().Set("Location", "https://elsewhere.example/")
				w.WriteHeader(status)
				return
			}
		}
		r.taken = append(r.taken, m)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	return pool
}

func (r *receiver) texts() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.taken {
		if m.Kind == "fault" {
			out = append(out, m.Text)
		}
	}
	return out
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func (b *bench) hook(url string, events ...string) fsm.Webhook {
	if res := b.apply(fsm.CreateWebhook{Name: "ops", URL: url, Secret: secret, Events: events}); res.Refusal != nil {
		b.t.Fatal(res.Refusal)
	}
	return b.now().Webhooks["ops"]
}

// TestTenThousandEvents: the receiver is slow at first and answers 500 now and then; every event arrives,
// signed, in order, and the log knows how far it came.
func TestTenThousandEvents(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	r := newReceiver(t, func(asked int) int {
		switch {
		case asked <= 3:
			time.Sleep(50 * time.Millisecond)
		case asked%2500 == 0:
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	b := newBench(t)
	b.hook(r.URL, "fault")
	b.sender(0, r.roots(), "127.0.0.0/8")
	for i := range n {
		b.event(fmt.Sprint(i))
		if i%500 == 499 { // no faster than the journal can be read
			await(t, "most arrive", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.taken) > i-fsm.MaxEvents/4 })
		}
	}
	await(t, "all arrive", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.taken) >= n })
	got := r.texts()
	for i := range n {
		if got[i] != fmt.Sprint(i) {
			t.Fatalf("event %d is %q", i, got[i])
		}
	}
	if len(r.faults) > 0 {
		t.Errorf("%d bad requests, the first %s", len(r.faults), r.faults[0])
	}
	await(t, "the position is in the log", func() bool {
		h := b.now().Webhooks["ops"]
		return h.Failure == "" && h.Sent >= b.now().Events[len(b.now().Events)-1].Index-1
	})
	if h := b.now().Webhooks["ops"]; h.Lost != 0 {
		t.Errorf("%d were lost", h.Lost)
	}
}

// TestDeadReceiver: nobody listens; the log says so once, events wait, and go out when somebody does.
func TestDeadReceiver(t *testing.T) {
	down := true
	var mu sync.Mutex
	r := newReceiver(t, func(int) int {
		mu.Lock()
		defer mu.Unlock()
		if down {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	b := newBench(t)
	b.hook(r.URL, "fault")
	b.sender(0, r.roots(), "127.0.0.0/8")
	for i := range 5 {
		b.event(fmt.Sprint(i))
	}
	await(t, "the log says that it fails", func() bool { return strings.Contains(b.now().Webhooks["ops"].Failure, "503") })
	failing := func() (n int) {
		for _, e := range b.now().Events {
			if e.Kind == "webhook" {
				n++
			}
		}
		return n
	}
	await(t, "some tries", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.asked > 4 })
	if n := failing(); n != 1 {
		t.Errorf("%d events tell of it", n)
	}
	mu.Lock()
	down = false
	mu.Unlock()
	await(t, "all arrive", func() bool { return slices.Equal(r.texts(), []string{"0", "1", "2", "3", "4"}) })
	await(t, "the log says that it is taken", func() bool { return b.now().Webhooks["ops"].Failure == "" })
}

// TestAFailureIsToldOnce: a webhook that is down is told to fail once, and not to be taken again before
// it took something, however much time lies between two tries.
func TestAFailureIsToldOnce(t *testing.T) {
	var up atomic.Bool
	r := newReceiver(t, func(int) int {
		if up.Load() {
			return http.StatusOK
		}
		return http.StatusServiceUnavailable
	})
	b := newBench(t)
	b.every = time.Microsecond // shorter than the pause after a failure, as in a cluster
	b.hook(r.URL, "fault")
	b.sender(0, r.roots(), "127.0.0.0/8")
	b.event("one")
	told := func() (out []string) {
		for _, e := range b.now().Events {
			if e.Kind == "webhook" {
				out = append(out, e.Text)
			}
		}
		return out
	}
	await(t, "some tries", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.asked > 4 })
	if got := told(); len(got) != 1 || !strings.Contains(got[0], "fails") {
		t.Errorf("while it is down: %q", got)
	}
	up.Store(true)
	await(t, "it arrives", func() bool { return slices.Equal(r.texts(), []string{"one"}) })
	await(t, "the log says that it is taken", func() bool { return b.now().Webhooks["ops"].Failure == "" })
	if got := told(); len(got) != 2 || !strings.Contains(got[1], "taken again") {
		t.Errorf("when it is up: %q", got)
	}
}

// TestNoGapOfWhatIsNotWanted: the next leader does not take for lost what the webhook's filter left out.
func TestNoGapOfWhatIsNotWanted(t *testing.T) {
	r := newReceiver(t, nil)
	b := newBench(t)
	b.hook(r.URL, "webhook-created")
	b.sender(0, r.roots(), "127.0.0.0/8")
	b.sender(1, r.roots(), "127.0.0.0/8")
	for i := range fsm.MaxEvents + 100 {
		b.event(fmt.Sprint(i))
		if i%(fsm.MaxEvents/4) == 0 || i == fsm.MaxEvents+99 { // no faster than the journal can be read
			await(t, "the log knows that they are behind it", func() bool { st := b.now(); return st.Index-st.Webhooks["ops"].Sent < fsm.MaxEvents/2 })
		}
	}
	b.lead(1)
	if res := b.apply(fsm.CreateWebhook{Name: "other", URL: r.URL, Secret: secret, Events: []string{"no-such"}}); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	taken := func() []Message { r.mu.Lock(); defer r.mu.Unlock(); return slices.Clone(r.taken) }
	await(t, "what is wanted arrives", func() bool { return len(taken()) > 0 })
	if got := taken(); got[0].Kind != "webhook-created" || got[0].Lost != 0 || b.now().Webhooks["ops"].Lost != 0 {
		t.Errorf("the first is %+v", got[0])
	}
}

// A webhook that a configuration changes sends to its new receiver, for the new kinds, at once, and goes
// on behind what was taken.
func TestAChangedWebhook(t *testing.T) {
	first, second := newReceiver(t, nil), newReceiver(t, nil)
	b := newBench(t)
	b.hook(first.URL, "fault")
	pool := first.roots()
	pool.AddCert(second.Certificate())
	b.sender(0, pool, "127.0.0.0/8")
	b.event("one")
	await(t, "the first receiver has it", func() bool { return slices.Equal(first.texts(), []string{"one"}) })
	await(t, "the log knows", func() bool { st := b.now(); return st.Webhooks["ops"].Sent >= st.Events[len(st.Events)-1].Index })
	spec := fsm.WebhookSpec{Name: "ops", URL: second.URL, Events: []string{"fault"}}
	if res := b.apply(fsm.ApplyConfig{Config: fsm.Config{Webhooks: []fsm.WebhookSpec{spec}}}); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	b.event("two")
	await(t, "the second receiver has it, signed as before", func() bool { return slices.Equal(second.texts(), []string{"two"}) })
	if got := first.texts(); len(got) != 1 || len(second.faults) != 0 {
		t.Errorf("the first got %q; faults %q", got, second.faults)
	}
}

// TestTheNextLeaderGoesOn: what the first leader's receiver took is not lost by its end; each event comes
// at least once, under one id.
func TestTheNextLeaderGoesOn(t *testing.T) {
	r := newReceiver(t, nil)
	b := newBench(t)
	b.hook(r.URL, "fault")
	b.sender(0, r.roots(), "127.0.0.0/8")
	b.sender(1, r.roots(), "127.0.0.0/8")
	want := []string{}
	for i := range 30 {
		if i == 10 || i == 20 {
			b.lead(i / 10 % 2)
			want = append(want, "the leader changed")
		}
		b.event(fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
	}
	ids := map[string]string{}
	var got []string
	await(t, "all arrive", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		got = nil
		for _, m := range r.taken {
			if text, again := ids[m.ID]; again && text != m.Text {
				t.Fatalf("id %s is of %q and of %q", m.ID, text, m.Text)
			}
			ids[m.ID] = m.Text
		}
		seen := map[string]bool{}
		for _, m := range r.taken {
			if !seen[m.ID] {
				seen[m.ID] = true
				got = append(got, m.Text)
			}
		}
		return len(got) == len(want)
	})
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestRefusedAddresses: through the leader nobody reaches what only that host reaches, by name either.
func TestRefusedAddresses(t *testing.T) {
	for text, ok := range map[string]bool{
		"127.0.0.1": false, "::1": false, "::ffff:127.0.0.1": false, "0.0.0.0": false, "::": false, "169.254.169.254": false, "::ffff:169.254.169.254": false,
		"fe80::1": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "100.100.100.200": false, "fd00:ec2::254": false, "168.63.129.16": false,
		"10.0.0.1": true, "192.0.2.1": true, "2001:db8::1": true,
	} {
		if err := Refuse(netip.MustParseAddr(text), nil); (err == nil) != ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", text, err)
		}
	}
	r := newReceiver(t, nil)
	b := newBench(t)
	b.hook(strings.Replace(r.URL, "127.0.0.1", "localhost", 1))
	if err := b.sender(0, r.roots()).Test(t.Context(), "ops"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "webhook_allow") {
		t.Errorf("loopback by its name: %v", err)
	}
	if r.asked != 0 {
		t.Errorf("the receiver was reached %d times", r.asked)
	}
}

// TestAnswers: a test message goes out at once, a redirect is not followed, a foreign certificate is none.
func TestAnswers(t *testing.T) {
	status := http.StatusOK
	r := newReceiver(t, func(int) int { return status })
	b := newBench(t)
	b.hook(r.URL, "no-such")
	s := b.sender(1, r.roots(), "127.0.0.0/8")
	if err := s.Test(t.Context(), "ops"); err != nil || len(r.taken) != 1 || r.taken[0].Kind != "test" || len(r.faults) > 0 {
		t.Errorf("%v, %+v, %v", err, r.taken, r.faults)
	}
	status = http.StatusFound
	if err := s.Test(t.Context(), "ops"); err == nil || !strings.Contains(err.Error(), "not followed") {
		t.Errorf("a redirect: %v", err)
	}
	if err := s.Test(t.Context(), "other"); err == nil {
		t.Error("a test of no webhook")
	}
	if err := b.sender(2, x509.NewCertPool(), "127.0.0.0/8").Test(t.Context(), "ops"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody: %v", err)
	}
}

// TestQueueBound: a webhook that takes nothing costs a bounded number of events, and counts the others.
func TestQueueBound(t *testing.T) {
	var q queue
	for i := range QueueMax + 10 {
		q.add(waiting{fsm.Event{Index: uint64(i + 1)}, 1})
	}
	if len(q.list) != QueueMax || q.lost != 10 || q.list[0].Index != 11 || q.sent() != 10 {
		t.Errorf("%d wait, %d lost, sent %d", len(q.list), q.lost, q.sent())
	}
	b := newBench(t)
	for range fsm.MaxEvents + 10 {
		b.event("x")
	}
	late := queue{read: 1}
	late.feed(fsm.Webhook{}, b.now())
	if late.list[0].Kind != "gap" || late.lost == 0 || len(late.list) != fsm.MaxEvents+1 {
		t.Errorf("%d events, the first %+v", len(late.list), late.list[0])
	}
}

func TestBackOff(t *testing.T) {
	for fails, most := range map[int]time.Duration{1: 2 * time.Second, 4: 10 * time.Second, 100: retryLast * 6 / 5} {
		if d := backOff(retryFirst, fails); d > most || d < retryFirst*4/5 {
			t.Errorf("after %d failures %v", fails, d)
		}
	}
}
