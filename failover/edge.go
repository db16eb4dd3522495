package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/netdev"
	"havip-cluster/netdev/fence"
)

// NetEdge is the real Edge: netdev and the fence.
type NetEdge struct {
	log     *slog.Logger
	state   func() *fsm.State
	addrs   *netdev.Addresses
	fence   fence.Fence
	watcher *netdev.Watcher
	changes chan struct{}
	// late takes deadlines to a fence for which each one is a transaction.
	late     chan struct{}
	deadline atomic.Int64
	clearing sync.WaitGroup
	gateways atomic.Bool

	mu         sync.Mutex
	announcers map[int]*netdev.Announcer    // by interface index
	devices    map[string]netdev.ENI        // by name, from the last Inventory
	settings   map[string]*settings         // by device: those that are watched
	guarded    map[netip.Addr]bool          // what the fence knows; Guard shuts, so it is done once
	fenced     map[int]bool                 // by device: whether the fence stands there, as last seen
	mends      int                          // how often the fence was put right
	sick       error                        // what was wrong with it the last time
	opened     map[netip.Addr]int           // mends when the fence was opened for what is owned here
	faults     map[string]string            // by device: why an ENI is not to be trusted
	refreshed  map[netip.Addr]lease.Instant // when Keep last extended an address's lifetime

	seen        *look  // the last one; nil: look again
	changesSeen uint64 // how often the kernel has told of a change
	lookDue     bool   // a token for another look is on its way
}

// NewNetEdge opens the kernel's side. f may be nil: then this process alone shuts at the
// deadline, which a stopped process cannot.
func NewNetEdge(log *slog.Logger, f fence.Fence, state func() *fsm.State) (*NetEdge, error) {
	addrs, err := netdev.NewAddresses()
	if err != nil {
		return nil, fmt.Errorf("failover: %w", err)
	}
	return &NetEdge{
		log: log, state: state, addrs: addrs, fence: f,
		watcher: netdev.NewWatcher(), changes: make(chan struct{}, 1), late: make(chan struct{}, 1),
		announcers: map[int]*netdev.Announcer{}, devices: map[string]netdev.ENI{}, settings: map[string]*settings{},
		guarded: map[netip.Addr]bool{}, fenced: map[int]bool{}, opened: map[netip.Addr]int{}, refreshed: map[netip.Addr]lease.Instant{},
		faults: map[string]string{},
	}, nil
}

// Run watches the kernel until ctx ends.
func (e *NetEdge) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.watcher.Run(ctx); err != nil && ctx.Err() == nil {
			e.log.Error("the watch of the interfaces has ended", "err", err)
		}
	})
	wg.Go(func() { e.storeDeadlines(ctx) })
	wg.Go(func() { e.watchSettings(ctx) })
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.watcher.C():
			e.mu.Lock()
			e.changesSeen++
			e.mu.Unlock()
			e.changed()
		}
	}
}

func (e *NetEdge) changed() {
	select {
	case e.changes <- struct{}{}:
	default:
	}
}

// Changes implements Edge.
func (e *NetEdge) Changes() <-chan struct{} { return e.changes }

// Close releases the sockets. The fence stays in the kernel.
func (e *NetEdge) Close() error {
	e.clearing.Wait()
	e.addrs.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, a := range e.announcers {
		errs = append(errs, a.Close())
	}
	clear(e.announcers)
	return errors.Join(errs...)
}

// SetDeadline implements Edge.
func (e *NetEdge) SetDeadline(t lease.Instant) {
	if e.fence == nil {
		return
	}
	e.deadline.Store(int64(t))
	if e.fence.Kind() == fence.EBPF {
		if err := e.fence.SetDeadline(int64(t)); err != nil {
			e.log.Error("the fence did not take the deadline", "err", err)
		}
		return
	}
	select {
	case e.late <- struct{}{}:
	default:
	}
}

// storeDeadlines gives the newest deadline to a fence that takes its time. That it
// arrives late only makes the fence shut earlier.
func (e *NetEdge) storeDeadlines(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.late:
		}
		if err := e.fence.SetDeadline(e.deadline.Load()); err != nil {
			e.log.Warn("the fence did not take the deadline", "err", err)
		}
	}
}

// Clean implements Edge.
func (e *NetEdge) Clean() error {
	var errs []error
	if e.fence != nil {
		errs = append(errs, e.shutAll())
	}
	swept, err := e.addrs.Sweep()
	for _, h := range swept {
		e.log.Info("removed a leftover address", "ip", h.IP, "device", h.Device)
	}
	errs = append(errs, err, netdev.SweepRoutes())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return e.forgetAll()
}

func (e *NetEdge) shutAll() error {
	errs := []error{e.fence.SetDeadline(0)}
	entries, err := e.fence.Guarded()
	errs = append(errs, err)
	for _, g := range entries {
		errs = append(errs, e.fence.Shut(g.IP))
	}
	return errors.Join(errs...)
}

func (e *NetEdge) managed(ip netip.Addr) bool {
	for _, v := range e.state().HAVIPs {
		if v.IP == ip {
			return true
		}
	}
	return false
}

// Inventory implements Edge. It also puts the fence on every ENI, and looks after the
// ARP settings where two ENIs share a subnet.
func (e *NetEdge) Inventory() ([]fsm.ENI, error) {
	list, _, err := netdev.Inventory(e.managed, nil)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	clear(e.devices)
	for _, d := range list {
		e.devices[d.Device] = d
	}
	e.mu.Unlock()
	e.calmFlux(list)
	if err := e.guardAll(); err != nil {
		e.log.Error("the fence does not know every HAVIP", "err", err)
	}
	out := make([]fsm.ENI, 0, len(list))
	for _, d := range list {
		if e.fence != nil {
			if err := e.stand(d.Index); err != nil && !errors.Is(err, fence.ErrNoDevice) {
				e.log.Error("the fence does not stand on an interface", "device", d.Device, "err", err)
			}
		}
		out = append(out, fsm.ENI{
			Device: d.Device, MAC: d.MAC.String(), Prefixes: d.Prefixes, Gateway: d.Gateway, Primary: d.Primary, Up: d.Up, Fault: e.fault(d.Device),
		})
	}
	return out, nil
}

func (e *NetEdge) fault(device string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.settings[device]; s != nil && s.fault != "" {
		return s.fault
	}
	return e.faults[device]
}

// device finds the ENI's device on this host: by its MAC first, because a device may be
// renamed, and then by its name, because its MAC may have been changed.
func (e *NetEdge) device(eni fsm.ENI) (netdev.ENI, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	named, exists := e.devices[eni.Device]
	if exists && strings.EqualFold(named.MAC.String(), eni.MAC) {
		return named, nil
	}
	for _, d := range e.devices {
		if strings.EqualFold(d.MAC.String(), eni.MAC) {
			return d, nil
		}
	}
	if exists {
		return named, nil
	}
	return netdev.ENI{}, fmt.Errorf("failover: this host has neither a device %s nor one with the MAC %s of ENI %s", eni.Device, eni.MAC, eni.ID)
}

// Up implements Edge, in this order: the fence knows the address and is shut; the
// address is there; the fence opens. The kernel has acknowledged each step. Keep, which
// follows at once, reads address and fence back, for all that came up in a turn together.
func (e *NetEdge) Up(h Holding) error {
	d, err := e.device(h.ENI)
	if err != nil {
		return err
	}
	ip := h.HAVIP.IP
	if err := e.ready(d.Index, ip); err != nil {
		return err
	}
	e.settle(d.Device, !d.Primary)
	if err := e.addrs.Add(d.Index, ip, h.Lifetime); err != nil {
		return err
	}
	e.forgetLook()
	if !d.Primary && d.Gateway.IsValid() {
		if err := netdev.Steer(ip, d); err != nil {
			return err
		}
	}
	if e.fence == nil {
		return nil
	}
	return e.open(ip)
}

// Down implements Edge: the fence shuts first, so that the wire is silent whatever comes
// after; then the address goes, from whichever device has it.
func (e *NetEdge) Down(h Holding) error {
	ip := h.HAVIP.IP
	var errs []error
	if e.fence != nil {
		errs = append(errs, e.fence.Shut(ip))
	}
	held, err := e.addrs.Holding()
	errs = append(errs, err)
	for _, a := range held {
		if a.IP == ip {
			errs = append(errs, e.addrs.Remove(a.Index, ip), netdev.Unsteer(ip, a.Index))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	e.mu.Lock()
	delete(e.refreshed, ip)
	delete(e.opened, ip)
	e.mu.Unlock()
	// Connections over the address hang otherwise; that they end is not worth a gap.
	e.clearing.Go(func() {
		if err := errors.Join(netdev.DestroySockets(ip), netdev.FlushConntrack(ip)); err != nil {
			e.log.Debug("could not end all connections over a HAVIP that left", "ip", ip, "err", err)
		}
	})
	return nil
}

// Keep implements Edge.
func (e *NetEdge) Keep(h Holding) (repairs []string, err error) {
	d, err := e.device(h.ENI)
	if err != nil {
		return nil, err
	}
	v, err := e.view()
	if err != nil {
		return nil, err
	}
	has := v.held[place{d.Index, h.HAVIP.IP}]
	repairs = e.resettled(d.Device)
	if !has {
		repairs = append(repairs, "the address was gone")
	}
	switch due := e.refreshDue(h.HAVIP.IP); {
	case !has:
		err = e.addrs.Add(d.Index, h.HAVIP.IP, h.Lifetime)
		e.forgetLook()
	case due:
		err = e.addrs.Extend(d.Index, h.HAVIP.IP, h.Lifetime)
	}
	if err != nil {
		return repairs, err
	}
	if e.fence == nil {
		return repairs, nil
	}
	if e.fenceSick(v, d.Index) != nil {
		e.forgetLook()
		if err := e.stand(d.Index); err != nil {
			return repairs, err
		}
	}
	if again, sick := e.mended(h.HAVIP.IP); again {
		return append(repairs, "the fence was damaged: "+sick.Error()), e.open(h.HAVIP.IP)
	}
	return repairs, nil
}

// refreshDue reports whether it is time to extend an address's lifetime, and notes that it
// is done. The kernel tells every extension to those who watch, this process included: an
// extension at every change would go round without end.
func (e *NetEdge) refreshDue(ip netip.Addr) bool {
	now := Boot()
	e.mu.Lock()
	defer e.mu.Unlock()
	last, known := e.refreshed[ip]
	if known && now.Sub(last) < keepEvery/2 {
		return false
	}
	e.refreshed[ip] = now
	return true
}

// Announce implements Edge. An announcer is bound to a device's MAC, so a new one is made
// after a failure.
func (e *NetEdge) Announce(h Holding) error {
	d, err := e.device(h.ENI)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for try := 0; ; try++ {
		a := e.announcers[d.Index]
		if a == nil {
			if a, err = netdev.NewAnnouncer(d.Index); err != nil {
				return err
			}
			e.announcers[d.Index] = a
		}
		if _, err = a.Announce(h.HAVIP.IP); err == nil || try > 0 {
			return err
		}
		delete(e.announcers, d.Index)
		_ = a.Close()
	}
}

// Observe reads back what the kernel shows for a holding: the address is there, and the
// fence lets its frames pass.
func (e *NetEdge) Observe(h Holding) (present, open bool, err error) {
	d, err := e.device(h.ENI)
	if err != nil {
		return false, false, err
	}
	present, err = e.addrs.Has(d.Index, h.HAVIP.IP)
	if err != nil || e.fence == nil {
		return present, present, err
	}
	entries, err := e.fence.Guarded()
	for _, g := range entries {
		if g.IP == h.HAVIP.IP {
			open = g.Open && e.fence.Deadline() > int64(Boot())
		}
	}
	return present, open, err
}
