package claimer

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"havip-cluster/provider"
	"havip-cluster/testbed/labtest"
)

// cloud is one that takes its time.
type cloud struct {
	mu     sync.Mutex
	slow   map[string]time.Duration // a claim of a HAVIP takes that long
	fail   map[string]bool
	here   map[string]bool
	calls  map[string]int // by kind and HAVIP
	cutoff int            // calls that were cut off
}

func newCloud() *cloud {
	return &cloud{slow: map[string]time.Duration{}, fail: map[string]bool{}, here: map[string]bool{}, calls: map[string]int{}}
}

func (f *cloud) called(kind provider.CallKind, c provider.Claim) (slow time.Duration, fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[string(kind)+" "+c.Name]++
	return f.slow[c.Name], f.fail[c.Name]
}

func (f *cloud) Claim(ctx context.Context, c provider.Claim) error {
	slow, fail := f.called(provider.CallClaim, c)
	select {
	case <-ctx.Done():
		f.mu.Lock()
		defer f.mu.Unlock()
		f.cutoff++
		return ctx.Err()
	case <-time.After(slow):
	}
	if fail {
		return errors.New("throttled")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.here[c.Name] = true
	return nil
}

func (f *cloud) Where(_ context.Context, c provider.Claim) (provider.Place, error) {
	f.called(provider.CallWhere, c)
	f.mu.Lock()
	defer f.mu.Unlock()
	return provider.Place{Here: f.here[c.Name]}, nil
}

func (f *cloud) Release(ctx context.Context, c provider.Claim) error {
	slow, _ := f.called(provider.CallRelease, c)
	select {
	case <-ctx.Done():
		f.mu.Lock()
		defer f.mu.Unlock()
		f.cutoff++
		return ctx.Err()
	case <-time.After(slow):
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.here[c.Name] = false
	return nil
}

func of(name string, epoch uint64) provider.Claim {
	return provider.Claim{HAVIP: "havip-" + name, Name: name, Address: netip.MustParseAddr("10.0.0.1"), Epoch: epoch}
}

// seen counts what was called, and what was cut off.
func (f *cloud) seen() (calls map[string]int, cutoff int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.calls), f.cutoff
}

func (f *cloud) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.here[name]
}

// bed is a Claimer that runs in a bubble.
type bed struct {
	*Claimer
	f       *cloud
	mu      sync.Mutex
	serving []provider.Claim
	stood   []string
	turns   int // looks at what is served
}

// told counts how often it was said that something stands.
func (b *bed) told() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.stood)
}

func (b *bed) serve(list ...provider.Claim) {
	b.mu.Lock()
	b.serving = list
	b.mu.Unlock()
	b.Wake()
}

func inBubble(t *testing.T, f func(b *bed)) {
	labtest.Bubble(t, func(t *testing.T) {
		b := &bed{f: newCloud()}
		b.Claimer = New(Config{
			Claimer: func() provider.Claimer { return b.f },
			Serving: func() []provider.Claim { b.mu.Lock(); defer b.mu.Unlock(); b.turns++; return b.serving },
			Stands:  func(c provider.Claim) { b.mu.Lock(); defer b.mu.Unlock(); b.stood = append(b.stood, c.Name) },
			Log:     slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.Run(ctx) }()
		f(b)
		cancel()
		<-done
	})
}

// A call that hangs delays no other HAVIP, and ends when its HAVIP is not served any more.
func TestASlowCallHoldsUpNobody(t *testing.T) {
	inBubble(t, func(b *bed) {
		b.f.mu.Lock()
		b.f.slow["a"] = time.Hour
		b.f.mu.Unlock()
		b.serve(of("a", 1), of("b", 1))
		time.Sleep(time.Second)
		if stood := b.told(); b.Stands("havip-a", 1) || !b.Stands("havip-b", 1) || stood != 1 {
			t.Errorf("a %v, b %v, %d", b.Stands("havip-a", 1), b.Stands("havip-b", 1), stood)
		}
		b.serve(of("b", 1))
		time.Sleep(100 * time.Millisecond)
		if calls, cutoff := b.f.seen(); cutoff != 1 || calls["release a"] != 1 {
			t.Errorf("%d calls were cut off when the lease was over, calls %v", cutoff, calls)
		}
	})
}

// While as many calls are under way as may be, what is due waits for one to end, and costs nothing.
func TestWhatWaitsForACallCostsNothing(t *testing.T) {
	inBubble(t, func(b *bed) {
		var list []provider.Claim
		b.f.mu.Lock()
		for i := range 3 * provider.CallsMax {
			list = append(list, of(strconv.Itoa(i), 1))
			b.f.slow[strconv.Itoa(i)] = 10 * time.Second
		}
		b.f.mu.Unlock()
		b.serve(list...)
		time.Sleep(9 * time.Second)
		b.mu.Lock()
		turns := b.turns
		b.mu.Unlock()
		if turns > 30 {
			t.Errorf("%d looks in 9 s", turns)
		}
		time.Sleep(30 * time.Second)
		if left := b.Waiting(); len(left) > 0 {
			t.Errorf("%d are not claimed", len(left))
		}
	})
}

// A HAVIP that comes back while the cloud is told that it went: that call is cut off, and the claim
// follows its end, so that its effect is not the last one.
func TestAReleaseEndsBeforeTheNextClaim(t *testing.T) {
	inBubble(t, func(b *bed) {
		b.serve(of("a", 7))
		time.Sleep(time.Second)
		b.f.mu.Lock()
		b.f.slow["a"] = 5 * time.Second
		b.f.mu.Unlock()
		b.serve()
		time.Sleep(time.Second)
		b.f.mu.Lock()
		b.f.slow["a"] = 0
		b.f.mu.Unlock()
		b.serve(of("a", 8))
		time.Sleep(7 * time.Second)
		if calls, cutoff := b.f.seen(); cutoff != 1 || calls["release a"] != 1 || calls["claim a"] != 2 || !b.f.has("a") || !b.Stands("havip-a", 8) {
			t.Errorf("calls %v, %d cut off, here %t", calls, cutoff, b.f.has("a"))
		}
	})
}

// Failures are repeated with a growing pause while the HAVIP is served, and end with it.
func TestFailuresAreRepeated(t *testing.T) {
	inBubble(t, func(b *bed) {
		b.f.mu.Lock()
		b.f.fail["a"] = true
		b.f.mu.Unlock()
		b.serve(of("a", 1))
		time.Sleep(time.Minute)
		if calls, _ := b.f.seen(); calls["claim a"] < 8 || calls["claim a"] > 14 {
			t.Errorf("calls in a minute: %v", calls)
		}
		if w := b.Waiting(); len(w) != 1 || w[0].Failure != "throttled" {
			t.Errorf("%+v", w)
		}
		b.f.mu.Lock()
		b.f.fail["a"] = false
		b.f.mu.Unlock()
		time.Sleep(15 * time.Second)
		if !b.Stands("havip-a", 1) {
			t.Error("it does not stand when the cloud takes calls again")
		}
		calls, failed := b.Counts()
		if failed < 8 || calls <= failed {
			t.Errorf("%d calls, %d failed", calls, failed)
		}
	})
}

// Somebody else takes the address: it is claimed again within a look.
func TestWhatIsTakenIsClaimedAgain(t *testing.T) {
	inBubble(t, func(b *bed) {
		b.serve(of("a", 1))
		time.Sleep(time.Second)
		b.f.mu.Lock()
		b.f.here["a"] = false
		b.f.mu.Unlock()
		time.Sleep(11 * time.Second)
		if calls, _ := b.f.seen(); calls["claim a"] != 2 || !b.Stands("havip-a", 1) || b.told() != 2 {
			t.Errorf("calls %v, told %d times", calls, b.told())
		}
	})
}

func TestWithoutACloudEverythingStands(t *testing.T) {
	c := New(Config{Claimer: func() provider.Claimer { return nil }})
	if !c.Stands("havip-a", 1) {
		t.Error("where announcements move an address, what is served stands")
	}
}
