package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/provider"
	"havip-cluster/provider/observer"
	"havip-cluster/testbed/labtest"
)

var (
	eipA = netip.MustParseAddr("198.51.100.1")
	eipB = netip.MustParseAddr("198.51.100.2")
	none netip.Addr
)

// slowCloud binds EIPs, refuses what the vendor refuses, and takes its time.
type slowCloud struct {
	mu     sync.Mutex
	list   []provider.Observed
	at     map[string]int // calls under way, by HAVIP
	worst  int            // of them at one time
	calls  []string
	takes  time.Duration
	refuse error
}

func (s *slowCloud) Kind() string { return provider.KindTencent }
func (s *slowCloud) Caps() provider.Capabilities {
	return provider.Capabilities{Describe: true, EIP: true}
}
func (s *slowCloud) Test(context.Context) (provider.Self, error) { return provider.Self{}, nil }

func (s *slowCloud) Describe(context.Context) ([]provider.Observed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]provider.Observed(nil), s.list...), nil
}

// work is one call that takes its time.
func (s *slowCloud) work(ctx context.Context, id, what string, do func(o *provider.Observed) error) error {
	s.mu.Lock()
	s.calls = append(s.calls, what+" "+id)
	s.at[id]++
	s.worst = max(s.worst, s.at[id])
	s.mu.Unlock()
	ended := wait(ctx, s.takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[id]--
	switch {
	case !ended:
		return ctx.Err()
	case s.refuse != nil:
		return s.refuse
	}
	for i := range s.list {
		if s.list[i].ID == id {
			return do(&s.list[i])
		}
	}
	return errors.New("no such HAVIP")
}

func (s *slowCloud) BindEIP(ctx context.Context, id string, eip netip.Addr, _ string) error {
	return s.work(ctx, id, "bind "+eip.String(), func(o *provider.Observed) error {
		for _, other := range s.list {
			if other.EIP == eip || other.ID == id && other.EIP.IsValid() {
				return fmt.Errorf("%s has EIP %s", other.ID, other.EIP)
			}
		}
		o.EIP = eip
		return nil
	})
}

func (s *slowCloud) UnbindEIP(ctx context.Context, id string, eip netip.Addr, _ string) error {
	return s.work(ctx, id, "unbind "+eip.String(), func(o *provider.Observed) error {
		if o.EIP == eip {
			o.EIP = none
		}
		return nil
	})
}

func (s *slowCloud) has(id string) netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.list {
		if o.ID == id {
			return o.EIP
		}
	}
	return none
}

// eipBed is a node whose cloud has EIP A at the HAVIP web, and none at db.
type eipBed struct {
	*cloud
	s    *slowCloud
	at   atomic.Pointer[fsm.State]
	lead atomic.Bool
	mu   sync.Mutex
	told []string
}

// log has the log change the EIP of a HAVIP, and the cloud follow.
func (b *eipBed) log(id string, eip netip.Addr) {
	old := b.at.Load()
	s := *old
	s.HAVIPs = map[string]fsm.HAVIP{}
	for k, v := range old.HAVIPs {
		s.HAVIPs[k] = v
	}
	v := s.HAVIPs[id]
	was := v.EIP
	v.EIP = eip
	s.HAVIPs[id] = v
	b.at.Store(&s)
	b.FollowEIP(v, was)
}

func (b *eipBed) events() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.told, "\n")
}

func inEIPBed(t *testing.T, f func(b *eipBed)) {
	labtest.Bubble(t, func(t *testing.T) {
		s := fsm.New()
		s.Cluster.Level = 4
		s.HAVIPs["havip-web"] = fsm.HAVIP{ID: "havip-web", Name: "web", IP: netip.MustParseAddr("10.0.0.1"), EIP: eipA}
		s.HAVIPs["havip-db"] = fsm.HAVIP{ID: "havip-db", Name: "db", IP: netip.MustParseAddr("10.0.0.2")}
		b := &eipBed{s: &slowCloud{at: map[string]int{}, takes: 5 * time.Second, list: []provider.Observed{
			{ID: "vip-web", Address: netip.MustParseAddr("10.0.0.1"), EIP: eipA}, {ID: "vip-db", Address: netip.MustParseAddr("10.0.0.2")},
		}}}
		b.at.Store(s)
		b.lead.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		b.cloud = &cloud{log: slog.New(slog.DiscardHandler), state: b.at.Load, leads: b.lead.Load, eips: newEIPs(), provider: b.s, living: ctx,
			report: func(_ context.Context, e fsm.ReportEvent) error {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.told = append(b.told, e.Text)
				return nil
			}}
		b.Observer = observer.New(observer.Config{Provider: b.Provider, State: b.at.Load})
		f(b)
		cancel()
		synctest.Wait()
	})
}

// An EIP is taken away and another one given at once: the newest change of the log is what the cloud
// has in the end, and no two calls for one HAVIP are under way.
func TestTheNewestEIPWins(t *testing.T) {
	inEIPBed(t, func(b *eipBed) {
		b.FollowEIP(b.at.Load().HAVIPs["havip-web"], none) // as it is
		b.log("havip-web", none)
		b.log("havip-web", eipB)
		time.Sleep(time.Minute)
		if got := b.s.has("vip-web"); got != eipB || b.s.worst != 1 || !strings.Contains(b.events(), "was bound to vip-web") {
			t.Errorf("the cloud has %s, %d calls at one time:\n%s", got, b.s.worst, b.events())
		}
	})
}

// What is under way ends when the log wants the EIP back, and when another node leads.
func TestAUselessEIPCallEnds(t *testing.T) {
	inEIPBed(t, func(b *eipBed) {
		b.log("havip-web", none)
		time.Sleep(time.Second)
		b.log("havip-web", eipA)
		time.Sleep(time.Minute)
		if got := b.s.has("vip-web"); got != eipA || len(b.s.calls) != 1 {
			t.Errorf("the cloud has %s after %v", got, b.s.calls)
		}
		b.log("havip-web", none)
		time.Sleep(time.Second)
		b.lead.Store(false)
		time.Sleep(time.Minute)
		if got := b.s.has("vip-web"); got != eipA {
			t.Errorf("the cloud has %s, changed by a node that does not lead", got)
		}
	})
}

// An EIP goes from one HAVIP to another: the second one waits for the first.
func TestAnEIPGoesToAnotherHAVIP(t *testing.T) {
	inEIPBed(t, func(b *eipBed) {
		b.log("havip-web", none)
		b.log("havip-db", eipA)
		b.log("havip-web", eipB)
		time.Sleep(time.Minute)
		if web, db := b.s.has("vip-web"), b.s.has("vip-db"); web != eipB || db != eipA {
			t.Errorf("web has %s, db %s:\n%s", web, db, b.events())
		}
	})
}

// What somebody bound by hand in the cloud stays there; what was refused is told; and so is what
// finds no room.
func TestEIPsThatAreNotFollowedAreTold(t *testing.T) {
	inEIPBed(t, func(b *eipBed) {
		b.s.mu.Lock()
		b.s.list[0].EIP = eipB
		b.s.mu.Unlock()
		b.log("havip-web", none)
		time.Sleep(time.Minute)
		if got := b.s.has("vip-web"); got != eipB || !strings.Contains(b.events(), "--prune") {
			t.Errorf("the cloud has %s:\n%s", got, b.events())
		}
		b.s.mu.Lock()
		b.s.refuse = errors.New("not today")
		b.s.mu.Unlock()
		b.log("havip-db", eipA)
		time.Sleep(time.Minute)
		if !strings.Contains(b.events(), "the EIP of db was not bound to vip-db in the cloud: not today") {
			t.Errorf("a refusal:\n%s", b.events())
		}
		b.eips.mu.Lock()
		for i := range eipsWaiting {
			b.eips.jobs[fmt.Sprint(i)] = &eipJob{}
		}
		b.eips.mu.Unlock()
		b.log("havip-web", eipB)
		time.Sleep(time.Second)
		if !strings.Contains(b.events(), "256 other HAVIPs wait") {
			t.Errorf("no room:\n%s", b.events())
		}
	})
}
