// Package observer keeps what a cloud says of the cluster's HAVIPs, at the node that leads. It looks, compares and
// tells; it changes neither the log's HAVIPs nor the cloud. Nothing that owns, renews or fails over waits for it.
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
	"time"

	"havip-cluster/fsm"
	"havip-cluster/provider"
)

// Limits of an Observer.
const (
	// refreshTimeout bounds one look at the cloud.
	refreshTimeout = 20 * time.Second
	// leadPoll is how often a node looks whether it leads.
	leadPoll = 500 * time.Millisecond
	nonePoll = 5 * time.Second // and whether it has a provider, while it has none
	// eniEvery is how long the cloud's answer about network interfaces is good, unless a MAC is new.
	eniEvery = time.Minute
	// eventsMax bounds the events of one look, and toldMax the differences that events tell of at one time: a
	// journal of a thousand lines is not for ten thousand HAVIPs that the cloud has lost.
	eventsMax = 20
	toldMax   = 100
	// silentAfter looks in vain in a row are an event.
	silentAfter = 3
	// reportTimeout bounds the proposal of one event.
	reportTimeout = 5 * time.Second
)

// Config is what an Observer needs.
type Config struct {
	// Provider is the present one, nil without; its settings go with it.
	Provider func() (provider.Provider, provider.Config)
	State    func() *fsm.State
	Leading  func() bool
	// Report has an event written; leader only.
	Report func(ctx context.Context, e fsm.ReportEvent) error
	Node   string // id of this node
	Log    *slog.Logger
}

// Snapshot is the last look at the cloud.
type Snapshot struct {
	// At is when the look began that brought Observed; zero: there was none.
	At       time.Time
	Observed []provider.Observed
	ENIs     []provider.ENI
	// Err is why the newest look failed, "" if it did not; Failing is since when.
	Err     string
	Failing time.Time
}

// Observer is one node's. The zero value is not usable; New makes one.
type Observer struct {
	cfg Config

	looks chan struct{} // one look at a time

	mu     sync.Mutex
	of     provider.Provider // whose answers all this is
	last   Snapshot
	eniAt  time.Time
	asked  []string // MACs, of the newest answer about interfaces
	inVain int
	rounds uint64
	failed uint64
}

// New makes an Observer. It does nothing before Run.
func New(cfg Config) *Observer {
	return &Observer{cfg: cfg, looks: make(chan struct{}, 1)}
}

// Last is the newest that is known of the present provider; at a node that does not lead it is empty.
func (o *Observer) Last() Snapshot {
	p, _ := o.cfg.Provider()
	return o.lastOf(p)
}

func (o *Observer) lastOf(p provider.Provider) Snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of != p {
		return Snapshot{}
	}
	return o.last
}

// Counts are the looks that were made, and those of them that failed.
func (o *Observer) Counts() (looks, failed uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rounds, o.failed
}

// Run looks at the cloud while this node leads, until ctx ends.
func (o *Observer) Run(ctx context.Context) {
	next := time.Time{}
	var of provider.Provider
	for pause := leadPoll; wait(ctx, pause); {
		p, cfg := o.cfg.Provider()
		pause = leadPoll
		if p == nil {
			pause = nonePoll
		}
		if p == nil || !p.Caps().Describe || !o.cfg.Leading() {
			o.forget()
			next = time.Time{}
			continue
		}
		if of == p && time.Now().Before(next) {
			continue
		}
		of, next = p, time.Now().Add(cfg.PollEvery())
		if _, err := o.Refresh(ctx); err != nil && ctx.Err() == nil {
			o.cfg.Log.Debug("the cloud was not seen", "provider", p.Kind(), "reason", err)
		}
		o.tell(ctx)
	}
}

// forget drops what was seen: another node looks now.
func (o *Observer) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last, o.eniAt, o.inVain = Snapshot{}, time.Time{}, 0
}

// begin drops what another provider has said: another region, VPC or cloud is compared from now on.
func (o *Observer) begin(p provider.Provider) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of != p {
		o.of, o.last, o.eniAt, o.inVain = p, Snapshot{}, time.Time{}, 0
	}
}

// errOther is why a look does not count.
var errOther = errors.New("another provider was configured during the look")

// ErrNone is returned where there is no provider.
var ErrNone = errors.New("this node has no provider: put a block `provider:` with `kind: tencent` into its configuration file (`agent --config FILE`) and send SIGHUP; docs/clouds.md")

// Refresh asks the cloud now. It takes refreshTimeout at most.
func (o *Observer) Refresh(ctx context.Context) (Snapshot, error) {
	select {
	case o.looks <- struct{}{}:
		defer func() { <-o.looks }()
	case <-ctx.Done():
		return o.Last(), ctx.Err()
	}
	p, _ := o.cfg.Provider()
	if p == nil {
		return Snapshot{}, ErrNone
	}
	describe := o.describe(p)
	if describe == nil {
		return Snapshot{}, fmt.Errorf("provider %s cannot say who owns a HAVIP", p.Kind())
	}
	o.begin(p)
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	began := time.Now()
	seen, err := describe(ctx)
	var enis []provider.ENI
	var asked []string
	fresh := false
	if err == nil {
		enis, asked, fresh, err = o.enis(ctx, p, began)
	}
	if now, _ := o.cfg.Provider(); now != p {
		return Snapshot{}, errOther
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rounds++
	if err != nil {
		o.failed++
		o.inVain++
		if o.last.Failing.IsZero() {
			o.last.Failing = began
		}
		o.last.Err = err.Error()
		return o.last, err
	}
	if fresh {
		o.eniAt, o.asked = began, asked
	}
	o.inVain = 0
	o.last = Snapshot{At: began, Observed: seen, ENIs: enis}
	return o.last, nil
}

// describe is how a provider says who owns the HAVIPs, nil if it cannot.
func (o *Observer) describe(p provider.Provider) func(context.Context) ([]provider.Observed, error) {
	if !p.Caps().Describe {
		return nil
	}
	switch p := p.(type) {
	case provider.Describer:
		return p.Describe
	case provider.Finder:
		return func(ctx context.Context) ([]provider.Observed, error) {
			var addresses []netip.Addr
			for _, v := range o.cfg.State().HAVIPList() {
				if !v.Deleting {
					addresses = append(addresses, v.IP)
				}
			}
			return p.Find(ctx, addresses)
		}
	}
	return nil
}

// enis are the cloud's interfaces of the cluster's nodes; fresh says that it was asked now, for these MACs.
func (o *Observer) enis(ctx context.Context, p provider.Provider, now time.Time) (list []provider.ENI, macs []string, fresh bool, err error) {
	inventory, ok := p.(provider.Inventory)
	if !ok {
		return nil, nil, false, nil
	}
	for _, e := range o.cfg.State().ENIList() {
		if !e.Detached {
			macs = append(macs, strings.ToLower(e.MAC))
		}
	}
	slices.Sort(macs)
	macs = slices.Compact(macs)
	o.mu.Lock()
	known, at, asked := o.last.ENIs, o.eniAt, o.asked
	o.mu.Unlock()
	if now.Sub(at) < eniEvery && slices.Equal(asked, macs) {
		return known, macs, false, nil
	}
	if len(macs) == 0 {
		return nil, nil, true, nil
	}
	list, err = inventory.ENIs(ctx, macs)
	return list, macs, true, err
}

// Drift is how the log, as it is now, differs from the last look.
func (o *Observer) Drift() []provider.Warning {
	p, cfg := o.cfg.Provider()
	last := o.lastOf(p)
	if p == nil || last.At.IsZero() {
		return nil
	}
	cluster := provider.ClusterOf(o.cfg.State(), last.ENIs)
	cluster.Caps = p.Caps()
	return provider.Compare(cluster, last.Observed, last.At, cfg.SettleFor())
}

// tell has events written for what began and ended.
func (o *Observer) tell(ctx context.Context) {
	s := o.cfg.State()
	if s.Level() < 4 {
		return
	}
	o.mu.Lock()
	last, inVain := o.last, o.inVain // of the look that has just ended
	o.mu.Unlock()
	for _, e := range due(Outstanding(s.Events), o.Drift(), last, inVain) {
		e.Node = o.cfg.Node
		call, cancel := context.WithTimeout(ctx, reportTimeout)
		err := o.cfg.Report(call, e)
		cancel()
		if err != nil {
			o.cfg.Log.Debug("an event of the cloud was not written; it is tried again at the next look", "reason", err)
			return
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
