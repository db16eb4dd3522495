package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"havip-cluster/netdev"
	"havip-cluster/netdev/fence"
)

// Linux is the real Kernel: netdev and the fence. Read and Do are for the goroutine of the
// Loop; Run, Changes and SetDeadline may be called by others.
type Linux struct {
	log       *slog.Logger
	fence     fence.Fence // nil: none
	clock     func() Instant
	addresses *netdev.Addresses
	router    *netdev.Router
	watcher   *netdev.Watcher
	settings  *netdev.Settings
	changes   chan struct{}
	kinds     atomic.Uint32 // netdev.Kinds since the last Changed
	refenced  atomic.Bool   // the fence was found damaged since the last Changed
	deadlines *deadlines

	announcers map[int]*netdev.Announcer // by ifindex
	announced  atomic.Uint64             // see Announced
	names      map[int]string            // of the devices, as last read; nil: read again
}

// NewLinux opens the sockets, in the network namespace of the calling thread. f may be nil:
// then this process alone shuts at the deadline, which a stopped process cannot.
func NewLinux(log *slog.Logger, f fence.Fence, clock func() Instant) (*Linux, error) {
	addresses, err := netdev.NewAddresses()
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	router, err := netdev.NewRouter()
	if err != nil {
		addresses.Close()
		return nil, fmt.Errorf("edge: %w", err)
	}
	k := &Linux{
		log: log, fence: f, clock: clock, addresses: addresses, router: router,
		watcher: netdev.NewWatcher(addresses, router), settings: netdev.NewSettings(),
		changes:    make(chan struct{}, 1),
		announcers: map[int]*netdev.Announcer{},
	}
	k.deadlines = newDeadlines(log, f, func() { k.refenced.Store(true); k.wake() })
	return k, nil
}

// Run watches the kernel, and takes deadlines to the fence, until ctx ends.
func (k *Linux) Run(ctx context.Context) {
	const runs = 2
	done := make(chan struct{}, runs)
	go func() {
		defer func() { done <- struct{}{} }()
		if err := k.watcher.Run(ctx); err != nil && ctx.Err() == nil {
			k.log.Error("the watch of the interfaces has ended", "err", err)
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		k.deadlines.run(ctx)
	}()
	for ended := 0; ended < runs; {
		select {
		case <-done:
			ended++
		case <-k.watcher.C():
			k.kinds.Or(uint32(k.watcher.Take()))
			k.wake()
		}
	}
}

func (k *Linux) wake() {
	select {
	case k.changes <- struct{}{}:
	default:
	}
}

// Changes has a token when links, addresses, routes or rules changed.
func (k *Linux) Changes() <-chan struct{} { return k.changes }

// SetDeadline tells the fence until when anything may answer: one memory store with eBPF.
func (k *Linux) SetDeadline(t Instant) { k.deadlines.set(t) }

// Close closes the sockets. What is in the kernel stays.
func (k *Linux) Close() error {
	var errs []error
	for _, a := range k.announcers {
		errs = append(errs, a.Close())
	}
	k.settings.Close()
	k.router.Close()
	k.addresses.Close()
	return errors.Join(errs...)
}

// Changed implements Kernel.
func (k *Linux) Changed() Parts {
	kinds := netdev.Kinds(k.kinds.Swap(0))
	var parts Parts
	if k.refenced.Swap(false) {
		parts |= Fence
	}
	if kinds&(netdev.LinksChanged|netdev.AddressesChanged) != 0 {
		parts |= Addresses
	}
	if kinds&netdev.LinksChanged != 0 {
		k.names = nil
		parts |= Everything // a device that is gone has taken its fence, routes and settings along
	}
	if kinds&(netdev.RoutesChanged|netdev.RulesChanged) != 0 {
		parts |= Routing
	}
	return parts
}

// Read implements Kernel.
func (k *Linux) Read(want *Desired, parts Parts, before *Reading) (*Reading, error) {
	r := &Reading{At: k.clock(), NoFence: k.fence == nil}
	if before != nil {
		*r = *before
		r.At = k.clock()
	}
	if parts&Addresses != 0 {
		if err := k.readAddresses(r); err != nil {
			return nil, err
		}
	}
	if parts&Fence != 0 && k.fence != nil {
		if err := k.readFence(r); err != nil {
			return nil, err
		}
	}
	if parts&Settings != 0 {
		k.readSettings(want, r)
	}
	if parts&Routing != 0 {
		routing, err := k.router.Read()
		if err != nil {
			return nil, err
		}
		r.Routing = routing
	}
	return r, nil
}

func (k *Linux) readAddresses(r *Reading) error {
	all, err := k.addresses.Read()
	if err != nil {
		return err
	}
	if err := k.readNames(all); err != nil {
		return err
	}
	r.Addresses = make(map[netip.Addr][]At, len(all))
	for _, a := range all {
		at := At{Index: a.Index, Device: k.names[a.Index], Bits: a.Prefix.Bits(), Managed: a.Managed}
		if a.Valid != 0 {
			at.Until = r.At.Add(a.Valid)
		}
		r.Addresses[a.IP()] = append(r.Addresses[a.IP()], at)
	}
	return nil
}

// readNames reads the names of the devices again when one of them may have changed.
func (k *Linux) readNames(all []netdev.Address) error {
	known := k.names != nil && !slices.ContainsFunc(all, func(a netdev.Address) bool { _, ok := k.names[a.Index]; return !ok })
	if known {
		return nil
	}
	devices, err := net.Interfaces()
	if err != nil {
		return err
	}
	k.names = make(map[int]string, len(devices))
	for _, d := range devices {
		k.names[d.Index] = d.Name
	}
	for index, a := range k.announcers { // the number of a device that has gone never comes back
		if _, there := k.names[index]; !there {
			delete(k.announcers, index)
			_ = a.Close()
		}
	}
	for _, a := range all { // one that has gone since
		if _, ok := k.names[a.Index]; !ok {
			k.names[a.Index] = ""
		}
	}
	return nil
}

func (k *Linux) readFence(r *Reading) error {
	got, err := k.fence.Read()
	if err != nil {
		return err
	}
	r.Fence = make(map[netip.Addr]State, len(got.Entries))
	for _, e := range got.Entries {
		r.Fence[e.IP] = Shut
		if e.Open {
			r.Fence[e.IP] = Open
		}
	}
	r.Attached = got.Devices
	return nil
}

// readSettings reads what is wanted to be right. What cannot be read is no reason not to serve.
func (k *Linux) readSettings(want *Desired, r *Reading) {
	r.Settings = map[string]Setting{}
	names := slices.Sorted(maps.Keys(want.Settled))
	if len(names) == 0 {
		return
	}
	got, err := k.settings.Read(names)
	if err != nil {
		k.log.Debug("cannot read the settings of every device", "err", err)
	}
	for device, s := range got {
		if s.Fault() == nil { // else no change of this device cures it, and it is a fault of the ENI
			r.Settings[device] = Setting{Changes: netdev.Want(s, want.Settled[device])}
		}
	}
}

// Do implements Kernel.
func (k *Linux) Do(op Op) []error {
	switch op.Kind {
	case OpRoute:
		return k.router.Apply(op.Routes)
	case OpSettle:
		return netdev.Apply(op.Settle)
	case OpAdd:
		return k.addresses.AddAll(k.requests(op.Items))
	case OpExtend:
		return k.addresses.ExtendAll(k.requests(op.Items))
	case OpRemove:
		keys := make([]netdev.AddressKey, 0, len(op.Items))
		for _, it := range op.Items {
			keys = append(keys, netdev.AddressKey{Index: it.Index, IP: it.IP})
		}
		return k.addresses.RemoveAll(keys)
	case OpAnnounce:
		return k.announce(op.Items)
	case OpAttach:
		errs := make([]error, len(op.Items))
		for i, it := range op.Items {
			if errs[i] = k.fence.Attach(it.Index); errs[i] == nil {
				errs[i] = k.deadlines.again()
			}
		}
		return errs
	case OpDestroy:
		return together(op.Items, netdev.DestroySockets)
	case OpFlush:
		return together(op.Items, netdev.FlushConntrack)
	}
	if k.fence == nil {
		return make([]error, len(op.Items))
	}
	do := map[OpKind]func(...netip.Addr) error{
		OpGuard: k.fence.Guard, OpShut: k.fence.Shut, OpForget: k.fence.Forget, OpOpen: k.fence.Open,
	}[op.Kind]
	return together(op.Items, do)
}

func (k *Linux) requests(items []Item) []netdev.AddressRequest {
	out := make([]netdev.AddressRequest, 0, len(items))
	for _, it := range items {
		out = append(out, netdev.AddressRequest{Index: it.Index, Device: k.names[it.Index], IP: it.IP, ValidFor: it.Lifetime})
	}
	return out
}

// together does something for all addresses at once. Where that fails it is done for each
// alone, so that it is known which one failed.
func together(items []Item, do func(...netip.Addr) error) []error {
	ips := make([]netip.Addr, 0, len(items))
	for _, it := range items {
		ips = append(ips, it.IP)
	}
	errs := make([]error, len(items))
	err := do(ips...)
	if err == nil {
		return errs
	}
	if len(items) == 1 {
		errs[0] = err
		return errs
	}
	for i, ip := range ips {
		errs[i] = do(ip)
	}
	return errs
}

// announce sends the claims of each device in one burst. An announcer is bound to a device, so
// a new one is made after a failure.
func (k *Linux) announce(items []Item) []error {
	errs := make([]error, len(items))
	byDevice := map[int][]int{}
	for i, it := range items {
		byDevice[it.Index] = append(byDevice[it.Index], i)
	}
	for _, index := range slices.Sorted(maps.Keys(byDevice)) {
		which := byDevice[index]
		for try := 0; len(which) > 0 && try < 2; try++ {
			which = k.announceOn(index, items, which, errs)
		}
	}
	return errs
}

// Announced counts the announcements of HAVIPs that the kernel has taken. Anybody may call it.
func (k *Linux) Announced() uint64 { return k.announced.Load() }

// announceOn returns what failed for another reason than the fence.
func (k *Linux) announceOn(index int, items []Item, which []int, errs []error) (failed []int) {
	a := k.announcers[index]
	if a == nil {
		var err error
		if a, err = netdev.NewAnnouncer(index); err != nil {
			for _, i := range which {
				errs[i] = err
			}
			return nil
		}
		k.announcers[index] = a
	}
	ips := make([]netip.Addr, 0, len(which))
	for _, i := range which {
		ips = append(ips, items[i].IP)
	}
	for n, err := range a.AnnounceAll(ips) {
		i := which[n]
		switch errs[i] = err; {
		case err == nil:
			k.announced.Add(1)
		case errors.Is(err, netdev.ErrFenced):
			errs[i] = fmt.Errorf("%w: %w", ErrFenced, err)
		default:
			failed = append(failed, i)
		}
	}
	if len(failed) > 0 {
		delete(k.announcers, index)
		_ = a.Close()
	}
	return failed
}
