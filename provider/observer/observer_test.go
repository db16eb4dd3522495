package observer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/provider"
	"havip-cluster/testbed/labtest"
)

// stub is a cloud that answers what it is told.
type stub struct {
	mu    sync.Mutex
	seen  []provider.Observed
	enis  []provider.ENI
	err   error
	hang  bool
	mute  bool // the question for interfaces fails
	looks int
	lists int
}

func (s *stub) Kind() string                                { return "stub" }
func (s *stub) Caps() provider.Capabilities                 { return provider.Capabilities{Describe: true} }
func (s *stub) Test(context.Context) (provider.Self, error) { return provider.Self{}, nil }
func (s *stub) ENIs(context.Context, []string) ([]provider.ENI, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	if s.mute {
		return nil, errors.New("no answer about interfaces")
	}
	return s.enis, nil
}
func (s *stub) Describe(ctx context.Context) ([]provider.Observed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if s.hang {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return nil, ctx.Err()
	}
	return s.seen, s.err
}

// bed is an Observer on a state of one node and one HAVIP.
type bed struct {
	*stub
	*Observer
	state *fsm.State
	leads bool
	other atomic.Pointer[stub] // configured instead; nil: it is not
}

func newBed() *bed {
	s := fsm.New()
	s.Cluster.Level = 4
	s.Nodes["n-1"] = fsm.Node{ID: "n-1", Name: "node-1", LastSession: 7}
	s.Sessions[7] = fsm.Session{Number: 7, Node: "n-1"}
	s.ENIs["node-1/eth0"] = fsm.ENI{ID: "node-1/eth0", Node: "n-1", Device: "eth0", MAC: "02:00:00:00:00:A1", Subnet: "net", Up: true}
	s.HAVIPs["havip-a"] = fsm.HAVIP{ID: "havip-a", Name: "web", IP: netip.MustParseAddr("10.0.0.100"), Subnet: "net", Epoch: 1, Served: 1, Owner: &fsm.Claim{Epoch: 1, Node: "n-1", Session: 7, ENI: "node-1/eth0"}}
	b := &bed{stub: &stub{
		enis: []provider.ENI{{ID: "eni-1", MAC: "02:00:00:00:00:a1", Instance: "ins-1", VPC: "vpc-1", Subnet: "subnet-a"}},
		seen: []provider.Observed{{ID: "havip-c", Name: "web", Address: netip.MustParseAddr("10.0.0.100"), VPC: "vpc-1", Subnet: "subnet-a", State: provider.Available, ENI: "eni-1", Instance: "ins-1"}},
	}, state: s, leads: true}
	b.Observer = New(Config{
		Provider: func() (provider.Provider, provider.Config) {
			if other := b.other.Load(); other != nil {
				return other, provider.Config{Kind: "stub", Poll: 10 * time.Second}
			}
			return b.stub, provider.Config{Kind: "stub", Poll: 10 * time.Second}
		},
		State:   func() *fsm.State { b.stub.mu.Lock(); defer b.stub.mu.Unlock(); return b.state },
		Leading: func() bool { b.stub.mu.Lock(); defer b.stub.mu.Unlock(); return b.leads },
		Node:    "n-1", Log: slog.New(slog.DiscardHandler),
		Report: func(_ context.Context, e fsm.ReportEvent) error {
			b.stub.mu.Lock()
			defer b.stub.mu.Unlock()
			next := *b.state
			next.Events = append(slices.Clone(b.state.Events), fsm.Event{Kind: e.Kind, HAVIP: e.HAVIP, Node: e.Node, Text: e.Text})
			b.state = &next
			return nil
		},
	})
	return b
}

// texts are the events so far, each cut after its key.
func (b *bed) texts() (out []string) {
	b.stub.mu.Lock()
	defer b.stub.mu.Unlock()
	for _, e := range b.state.Events {
		word, _, _ := strings.Cut(e.Text, "]")
		out = append(out, word+"]")
	}
	return out
}

// set changes the world while the Observer looks at it.
func (b *bed) set(change func()) {
	b.stub.mu.Lock()
	defer b.stub.mu.Unlock()
	change()
}

// counts are the looks, and the lists of interfaces.
func (b *bed) counts() (looks, lists int) {
	b.stub.mu.Lock()
	defer b.stub.mu.Unlock()
	return b.stub.looks, b.stub.lists
}

func (b *bed) run(t *testing.T, play func()) {
	t.Helper()
	labtest.Bubble(t, func(t *testing.T) {
		b.Observer.looks = make(chan struct{}, 1) // of this bubble
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.Run(ctx) }()
		play()
		cancel()
		<-done
	})
}

func TestDriftIsToldOnce(t *testing.T) {
	b := newBed()
	b.run(t, func() {
		time.Sleep(11 * time.Second)
		if got := b.texts(); len(got) != 0 || len(b.Drift()) != 0 {
			t.Errorf("log and cloud agree: %v, %v", got, b.Drift())
		}
		b.set(func() { b.seen = nil }) // somebody deletes it there
		time.Sleep(10 * time.Second)
		want := []string{"begins [vip-missing havip-a]"}
		if got := b.texts(); !slices.Equal(got, want) {
			t.Errorf("within one look: %v, want %v", got, want)
		}
		time.Sleep(time.Minute)
		if got := b.texts(); len(got) != 1 {
			t.Errorf("told again: %v", got)
		}
		b.set(func() { b.err = errors.New("down") })
		time.Sleep(10 * time.Second)
		if got := b.texts(); len(got) != 1 || b.Last().Err == "" {
			t.Errorf("one look in vain: %v", got)
		}
		time.Sleep(30 * time.Second)
		if got := b.texts(); len(got) != 2 || got[1] != "begins [cloud-silent]" {
			t.Errorf("a cloud that is down ends no drift, and is told: %v", got)
		}
		b.set(func() { b.err, b.seen = nil, newBed().seen })
		time.Sleep(10 * time.Second)
		if got := b.texts(); len(got) != 4 || got[2] != "ends [cloud-silent]" || got[3] != "ends [vip-missing havip-a]" {
			t.Errorf("%v", got)
		}
	})
}

// A new leader tells nothing that is told already, and ends what its predecessor began.
func TestNextLeader(t *testing.T) {
	b := newBed()
	seen := b.seen
	b.seen = nil
	b.run(t, func() { time.Sleep(11 * time.Second) })
	next := newBed()
	next.state, next.seen = b.state, nil
	next.run(t, func() {
		time.Sleep(11 * time.Second)
		if got := next.texts(); len(got) != 1 {
			t.Errorf("told again by the next leader: %v", got)
		}
		next.set(func() { next.seen = seen })
		time.Sleep(10 * time.Second)
		if got := next.texts(); len(got) != 2 || got[1] != "ends [vip-missing havip-a]" {
			t.Errorf("%v", got)
		}
	})
}

// Who does not lead does not look, and forgets what it saw.
func TestOnlyTheLeaderLooks(t *testing.T) {
	b := newBed()
	b.leads = false
	b.run(t, func() {
		time.Sleep(time.Minute)
		if looks, _ := b.counts(); looks != 0 {
			t.Errorf("%d looks of a follower", looks)
		}
		b.set(func() { b.leads = true })
		time.Sleep(time.Second)
		if looks, _ := b.counts(); looks != 1 || b.Last().At.IsZero() {
			t.Errorf("%d looks of a new leader within a second", looks)
		}
		b.set(func() { b.leads = false })
		time.Sleep(time.Second)
		if !b.Last().At.IsZero() {
			t.Error("it still knows what the cloud said when it led")
		}
	})
}

// The number of looks is that of the setting, whatever the cloud does; interfaces are asked for seldom.
func TestBounds(t *testing.T) {
	b := newBed()
	b.run(t, func() {
		time.Sleep(5*time.Minute + 5*time.Second)
		if looks, lists := b.counts(); looks > 31 || looks < 28 || lists > 6 {
			t.Errorf("%d looks and %d lists of interfaces in five minutes, every 10 s and 60 s", looks, lists)
		}
		b.set(func() { b.hang = true })
		begun := time.Now()
		if _, err := b.Refresh(context.Background()); err == nil || time.Since(begun) > 2*refreshTimeout {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

// A cloud that lost everything is told of by a bounded number of events.
func TestManyDifferences(t *testing.T) {
	var drift []provider.Warning
	for i := range 500 {
		drift = append(drift, provider.Warning{Code: provider.VIPMissing, ID: fmt.Sprintf("havip-%03d", i), HAVIP: "x", Message: "missing"})
	}
	var journal []fsm.Event
	last := Snapshot{At: time.Now()}
	for range 100 {
		list := due(Outstanding(journal), drift, last, 0)
		if len(list) > eventsMax {
			t.Fatalf("%d events of one look", len(list))
		}
		for _, e := range list {
			journal = append(journal, fsm.Event{Kind: e.Kind, HAVIP: e.HAVIP, Text: e.Text})
		}
	}
	if len(journal) != toldMax {
		t.Errorf("%d events, want %d", len(journal), toldMax)
	}
	for range 100 {
		for _, e := range due(Outstanding(journal), nil, last, 0) {
			journal = append(journal, fsm.Event{Kind: e.Kind, HAVIP: e.HAVIP, Text: e.Text})
		}
	}
	if left := Outstanding(journal); len(left) != 0 {
		t.Errorf("%d are left when all is well", len(left))
	}
}

// Without a block `provider:` it says so, with the way out.
func TestNone(t *testing.T) {
	b := newBed()
	b.cfg.Provider = func() (provider.Provider, provider.Config) { return nil, provider.Config{} }
	if _, err := b.Refresh(t.Context()); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	if b.Drift() != nil {
		t.Error(b.Drift())
	}
}

// A list of interfaces that was asked for in vain is asked for again: the one of before has not the new one.
func TestInterfacesAreAskedForAgain(t *testing.T) {
	b := newBed()
	look := func() error { _, err := b.Refresh(t.Context()); return err }
	if err := look(); err != nil {
		t.Fatal(err)
	}
	b.state.ENIs["node-1/eth1"] = fsm.ENI{ID: "node-1/eth1", Node: "n-1", Device: "eth1", MAC: "02:00:00:00:00:A2", Subnet: "net", Up: true}
	b.mute = true
	if err := look(); err == nil {
		t.Fatal("no question was asked")
	}
	b.mute = false
	b.stub.enis = append(slices.Clone(b.stub.enis), provider.ENI{ID: "eni-2", MAC: "02:00:00:00:00:a2", Instance: "ins-1", VPC: "vpc-1", Subnet: "subnet-a"})
	if err := look(); err != nil || len(b.Last().ENIs) != 2 || len(b.Drift()) != 0 {
		t.Errorf("%v, %+v, %+v", err, b.Last().ENIs, b.Drift())
	}
}

// With another provider, as of another region, nothing is compared with what the one before said, and
// the new one is asked at once.
func TestAnotherProviderIsAskedAnew(t *testing.T) {
	b := newBed()
	b.run(t, func() {
		time.Sleep(5 * time.Second)
		if len(b.Last().ENIs) != 1 {
			t.Fatal("it was not seen")
		}
		b.other.Store(&stub{enis: []provider.ENI{{ID: "eni-9", MAC: "02:00:00:00:00:a1", Instance: "ins-9", VPC: "vpc-9", Subnet: "subnet-z"}},
			seen: []provider.Observed{{ID: "havip-z", Name: "web", Address: netip.MustParseAddr("10.0.0.100"), VPC: "vpc-9", Subnet: "subnet-z", State: provider.Available, ENI: "eni-9", Instance: "ins-9"}}})
		if last, drift := b.Last(), b.Drift(); !last.At.IsZero() || len(drift) != 0 {
			t.Errorf("what the provider before said is shown: %+v, %+v", last, drift)
		}
		time.Sleep(2 * time.Second)
		if last := b.Last(); len(last.ENIs) != 1 || last.ENIs[0].ID != "eni-9" || len(b.texts()) != 0 {
			t.Errorf("%+v, events %q", last, b.texts())
		}
	})
}
