package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/membership"
	"havip-cluster/provider"
	"havip-cluster/provider/aws"
	"havip-cluster/provider/exec"
	"havip-cluster/provider/observer"
	"havip-cluster/provider/tencent"
)

const (
	// nameEvery is how often a node asks the cloud what it calls its interfaces, nameRetry after it asked in vain,
	// nameTimeout how long one question may take.
	nameEvery   = 10 * time.Minute
	nameRetry   = 15 * time.Second
	nameTimeout = 30 * time.Second
	// nameLook is how often a node looks whether it has a new MAC.
	nameLook = 2 * time.Second
	// eventTimeout bounds the writing of one event.
	eventTimeout = 5 * time.Second
)

// errEarlier is why an event of level 4 is not written.
var errEarlier = errors.New("agent: a node runs an earlier program")

// newProvider makes the provider of a configuration; nil for none.
func newProvider(c provider.Config) (provider.Provider, error) {
	switch c.Kind {
	case "":
		return nil, nil
	case provider.KindTencent:
		return tencent.New(c.Tencent)
	case provider.KindAWS:
		return aws.New(c.AWS)
	case provider.KindExec:
		return exec.New(c.Exec)
	}
	return nil, fmt.Errorf("provider: kind: this program has no provider %q", c.Kind)
}

// cloud is the provider of a node, and what the node does with it. It owns and renews nothing.
type cloud struct {
	*observer.Observer
	log     *slog.Logger
	state   func() *fsm.State
	report  func(ctx context.Context, e fsm.ReportEvent) error
	node    string
	macs    func() []string // of this node's interfaces
	renamed func()          // the inventory is to be reported anew
	leads   func() bool
	eips    *eips

	mu       sync.Mutex
	provider provider.Provider // nil: none
	config   provider.Config
	names    map[string]fsm.CloudENI // by MAC, in lower case
	living   context.Context         // of run; nil before
}

var _ api.Cloud = (*cloud)(nil)

// newCloud makes it; it does nothing before run.
func (a *node) newCloud() *cloud {
	c := &cloud{
		log: a.log, node: a.id.NodeID, state: a.node.State, eips: newEIPs(), renamed: func() {}, macs: func() []string { return nil },
		report: func(ctx context.Context, e fsm.ReportEvent) error {
			term, leads := a.node.Leading()
			if !leads {
				return membership.ErrNotLeader
			}
			res, err := a.node.Propose(ctx, term, "", e)
			if err == nil && res.Refusal != nil {
				err = res.Refusal
			}
			return err
		},
	}
	c.leads = func() bool { _, leads := a.node.Leading(); return leads }
	c.Observer = observer.New(observer.Config{
		Provider: c.Provider, State: a.node.State, Leading: c.leads, Report: c.report, Node: a.id.NodeID, Log: a.log,
	})
	if a.edge != nil {
		c.macs = func() (macs []string) {
			for _, d := range a.edge.Devices() {
				macs = append(macs, strings.ToLower(d.MAC.String()))
			}
			slices.Sort(macs)
			return slices.Compact(macs)
		}
		c.renamed = func() { a.member.Agent.Report() }
		a.edge.named = c.name
	}
	return c
}

// configure takes a configuration; one of which no provider can be made leaves what there is.
func (c *cloud) configure(cfg provider.Config) {
	c.mu.Lock()
	same := reflect.DeepEqual(c.config, cfg)
	c.mu.Unlock()
	if same {
		return
	}
	p, err := newProvider(cfg)
	if err != nil {
		c.log.Error("the provider was not changed", "err", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.provider, c.config, c.names = p, cfg, nil
}

// Provider implements api.Cloud.
func (c *cloud) Provider() (provider.Provider, provider.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.provider, c.config
}

// run looks at the cloud while this node leads, and asks what it calls this node's interfaces.
func (c *cloud) run(ctx context.Context) {
	c.mu.Lock()
	c.living = ctx
	c.mu.Unlock()
	var parts sync.WaitGroup
	parts.Go(func() { c.Run(ctx) })
	parts.Go(func() { c.keepNames(ctx) })
	parts.Wait()
}

// name is what the cloud calls the interface with a MAC; not ok: it was not asked yet, or does not answer.
func (c *cloud) name(mac string) (fsm.CloudENI, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names == nil {
		return fsm.CloudENI{}, false
	}
	return c.names[strings.ToLower(mac)], true
}

// keepNames asks when there is a provider, when a MAC is new, and every nameEvery.
func (c *cloud) keepNames(ctx context.Context) {
	var asked []string
	var next time.Time
	var of provider.Provider
	for wait(ctx, nameLook) {
		p, _ := c.Provider()
		inventory, ok := p.(provider.Inventory)
		macs := c.macs()
		if !ok || len(macs) == 0 || of == p && time.Now().Before(next) && slices.Equal(macs, asked) {
			continue
		}
		of, asked, next = p, macs, time.Now().Add(nameEvery)
		if err := c.askNames(ctx, p, inventory, macs); err != nil {
			next = time.Now().Add(nameRetry)
			c.log.Debug("the cloud does not say what it calls this node's interfaces; what it said before stands", "reason", err)
		}
	}
}

func (c *cloud) askNames(ctx context.Context, p provider.Provider, inventory provider.Inventory, macs []string) error {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	list, err := inventory.ENIs(ctx, macs)
	if err != nil {
		return err
	}
	names := map[string]fsm.CloudENI{}
	for _, e := range list {
		names[e.MAC] = fsm.CloudENI{ID: e.ID, Instance: e.Instance, VPC: e.VPC, Subnet: e.Subnet}
	}
	c.mu.Lock()
	changed := c.provider == p && !maps.Equal(c.names, names)
	if c.provider == p {
		c.names = names
	}
	c.mu.Unlock()
	if changed {
		c.renamed()
	}
	return nil
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

// Tell implements api.Cloud. What cannot be written is in this node's log.
func (c *cloud) Tell(ctx context.Context, havip, text string) {
	err := errEarlier
	if c.state().Level() >= 4 {
		call, done := context.WithTimeout(ctx, eventTimeout)
		defer done()
		err = c.report(call, fsm.ReportEvent{Node: c.node, Kind: "cloud", HAVIP: havip, Text: text})
	}
	if err != nil {
		c.log.Warn("a change in the cloud is not in the journal", "havip", havip, "what", text, "err", err)
	}
}
