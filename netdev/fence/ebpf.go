package fence

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/boottime"
	"havip-cluster/internal/limits"
)

// State words of the havips map, as in fence.c: 0 is shut, s > 0 is open until
// the deadline in slot s-1. A node has one session, hence one slot.
const (
	stateShut uint32 = 0
	stateOpen uint32 = 1
)

// Reasons of fence.c, in its order.
const (
	reasonOther = iota
	reasonOpen
	reasonAnnounce
	reasonMalformed
	reasonShut
	reasonExpired
	reasonsCount
)

// bpfFence is the eBPF kind. The devices are the truth: the process keeps only
// what it has seen there, to tell a change cheaply.
type bpfFence struct {
	cfg   Config
	owner ownerID
	hook  hook
	maps  fenceMaps
	id    ebpf.MapID // of maps.Havips: programs on it are this fence's

	attaching  sync.Mutex // guards what follows, and is held while lines are changed
	look       programCache
	stand      map[int][2][]slot // attached devices: the lines as last found good, nil: not yet
	anchorLine []slot
	loaded     bool
	progs      fencePrograms
	progIDs    [3]ebpf.ProgramID
	tags       [3]string

	changing sync.Mutex // of the entries; guards the buffers
	keys     [][16]byte
	states   []uint32
	raw      []rawEntry

	mu   sync.RWMutex // guards word and page against Close
	page []byte
	word *int64 // deadlines[0] in page; nil after Close
}

var (
	_ kernelSide = (*bpfFence)(nil)
	_ Shared     = (*bpfFence)(nil)
)

// raceMax is how often newBPF starts again because another process of the owner
// was installing the same fence.
const raceMax = 8

func newBPF(cfg Config, hookName string) (kernelSide, error) {
	if err := boottime.OfMachine(); err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	if err := rlimit.RemoveMemlock(); err != nil { // before Linux 5.11 only
		return nil, fmt.Errorf("fence: before Linux 5.11 eBPF is counted against RLIMIT_MEMLOCK: set LimitMEMLOCK=infinity, or give CAP_SYS_RESOURCE: %w", err)
	}
	h, err := hookNamed(cfg, hookName)
	if err != nil {
		return nil, err
	}
	var f *bpfFence
	for range raceMax {
		if f, err = installBPF(cfg, h); !errors.Is(err, errChanged) {
			break
		}
	}
	if err != nil {
		return nil, err // and no typed nil
	}
	return f, nil
}

// installBPF adopts the owner's fence, or makes a new one.
func installBPF(cfg Config, h hook) (_ *bpfFence, err error) {
	all, err := groups(cfg)
	if err != nil {
		return nil, err
	}
	f := &bpfFence{cfg: cfg, owner: idOf(cfg.Owner), hook: h, look: programCache{}, stand: map[int][2][]slot{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	own := f.takeUp(all)
	if own == nil {
		if err := f.create(); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(f.load(), f.mapPage()); err != nil {
		return nil, err
	}
	if err := f.anchorAlone(own == nil); err != nil {
		return nil, err
	}
	if own != nil {
		err = f.takeOver(own)
	}
	return f, err
}

// spec is fence.c with the sizes of this binary.
func spec() (*ebpf.CollectionSpec, error) {
	s, err := loadFence()
	if err != nil {
		return nil, fmt.Errorf("fence: eBPF object: %w", err)
	}
	s.Maps[fenceMapHavips].MaxEntries = limits.FenceEntries
	s.Maps[fenceMapPorts].MaxEntries = limits.Probes
	return s, nil
}

func (f *bpfFence) ownMaps() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		fenceMapHavips: &f.maps.Havips, fenceMapDeadlines: &f.maps.Deadlines,
		fenceMapCounters: &f.maps.Counters, fenceMapOwner: &f.maps.Owner,
		fenceMapPorts: &f.maps.Ports,
	}
}

func (f *bpfFence) create() error {
	s, err := spec()
	if err != nil {
		return err
	}
	for name, m := range f.ownMaps() {
		if *m, err = ebpf.NewMap(s.Maps[name]); err != nil {
			return fmt.Errorf("fence: map %s: %w", name, err)
		}
	}
	if err := f.maps.Owner.Update(uint32(0), f.owner, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("fence: owner: %w", err)
	}
	info, err := f.maps.Havips.Info()
	if err != nil {
		return fmt.Errorf("fence: map: %w", err)
	}
	f.id, _ = info.ID()
	// Before anything is on a device: could the next process find it again?
	again, err := ebpf.NewMapFromID(f.id)
	if err != nil {
		return fmt.Errorf("fence: maps cannot be found by their id, which needs CAP_SYS_ADMIN: %w", err)
	}
	return again.Close()
}

// open takes hold of a group's maps. With same they must be laid out as this
// binary's; otherwise it is enough that they can be read.
func (f *bpfFence) open(g *group, same bool) error {
	s, err := spec()
	if err != nil {
		return err
	}
	f.id = g.maps[fenceMapHavips]
	for name, m := range f.ownMaps() {
		id, ok := g.maps[name]
		if !ok && !same {
			continue
		}
		if *m, err = ebpf.NewMapFromID(id); err == nil && same {
			err = s.Maps[name].Compatible(*m)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("fence: map %s: %w", name, err), f.closeMaps())
		}
	}
	if k, v := f.maps.Havips.KeySize(), f.maps.Havips.ValueSize(); k != 16 || v != 4 {
		return errors.Join(fmt.Errorf("fence: HAVIPs of %d and %d bytes are of an unknown version", k, v), f.closeMaps())
	}
	return nil
}

// openGroup opens a fence to be read, shut and removed.
func openGroup(cfg Config, g *group) (kernelSide, error) {
	h := hooks(cfg)[0]
	if len(g.at) > 0 {
		h = g.at[0].hook
	}
	f := &bpfFence{cfg: cfg, owner: g.owner, hook: h, look: programCache{}, stand: map[int][2][]slot{}}
	err := f.open(g, false)
	if err == nil {
		err = f.mapPage()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	for _, p := range g.at {
		if p.index != lo {
			f.stand[p.index] = [2][]slot{}
		}
	}
	return f, nil
}

// load loads the programs on the fence's maps, again if they are loaded.
func (f *bpfFence) load() error {
	s, err := spec()
	if err != nil {
		return err
	}
	replace := map[string]*ebpf.Map{}
	for name, m := range f.ownMaps() {
		if *m == nil {
			return fmt.Errorf("fence: no map %s: this fence is of a version before", name)
		}
		replace[name] = *m
	}
	var progs fencePrograms
	if err := s.LoadAndAssign(&progs, &ebpf.CollectionOptions{MapReplacements: replace}); err != nil {
		return fmt.Errorf("fence: load: %w", err)
	}
	if f.loaded {
		_ = f.progs.Close()
	}
	f.progs, f.loaded = progs, true
	for i, p := range f.programs() {
		info, err := p.Info()
		if err != nil {
			return fmt.Errorf("fence: program: %w", err)
		}
		f.progIDs[i], _ = info.ID()
		f.tags[i] = info.Tag
	}
	return nil
}

func (f *bpfFence) mapPage() (err error) {
	f.page, err = unix.Mmap(f.maps.Deadlines.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("fence: map the deadline: %w", err)
	}
	f.word = (*int64)(unsafe.Pointer(&f.page[0])) // page-aligned
	return nil
}

// anchorAlone puts the anchor on lo. errChanged if another process of the owner
// was quicker: then nothing of this one stays there. With fresh the maps are new,
// and no other process has a program on them that it counts on.
func (f *bpfFence) anchorAlone(fresh bool) error {
	err := f.contested()
	if err == nil {
		err = f.dropAnchor()
	}
	if err == nil {
		err = f.contested()
	}
	if errors.Is(err, errChanged) && fresh {
		err = errors.Join(err, f.weighAnchor())
	}
	return err
}

// takeUp is the rule by which processes of one owner that come at the same time
// agree: of the fences whose maps this binary can use, the one with the oldest
// anchor stays, which groups puts first. New anchors go to the head of the line, so
// none becomes older later. f has its maps open then; nil if there is none. Fences
// with other maps are none to agree on: they are moved.
func (f *bpfFence) takeUp(all []*group) *group {
	for _, g := range all {
		if g.owned && g.owner == f.owner && f.open(g, true) == nil {
			return g
		}
	}
	return nil
}

// contested returns errChanged if the fence that stays is another one than f.
func (f *bpfFence) contested() error {
	all, err := groups(f.cfg)
	if err != nil {
		return err
	}
	other := &bpfFence{owner: f.owner}
	if g := other.takeUp(all); g != nil && other.id != f.id {
		err = errChanged
	}
	return errors.Join(err, other.closeMaps())
}

// weighAnchor takes f's own anchor off lo again, and nothing else.
func (f *bpfFence) weighAnchor() error {
	line, _, err := f.hook.list(lo, ingress)
	if err != nil {
		return err
	}
	for _, s := range line {
		if s.prog == f.progIDs[anchor] && !s.fixed {
			return errors.Join(f.hook.remove(lo, ingress, s), f.hook.tidy(lo))
		}
	}
	return nil
}

// takeOver brings the devices of the adopted group up to this version and hook.
func (f *bpfFence) takeOver(g *group) error {
	f.attaching.Lock()
	defer f.attaching.Unlock()
	for _, p := range g.at {
		if _, done := f.stand[p.index]; p.index == lo || done {
			continue
		}
		f.stand[p.index] = [2][]slot{}
		err := f.attach(p.index)
		if err != nil && !errors.Is(err, ErrNoDevice) && !errors.Is(err, ErrNotFirst) {
			return fmt.Errorf("fence: adopt device %d: %w", p.index, err)
		}
	}
	for _, p := range g.at {
		if p.hook.name() == f.hook.name() {
			continue
		}
		if err := errors.Join(p.hook.remove(p.index, p.dir, p.slot), p.hook.tidy(p.index)); err != nil {
			return fmt.Errorf("fence: leave %s of device %d: %w", p.hook.name(), p.index, err)
		}
	}
	return nil
}

func (f *bpfFence) programs() [3]*ebpf.Program {
	return [3]*ebpf.Program{f.progs.FenceIngress, f.progs.FenceEgress, f.progs.FenceAnchor}
}

func (f *bpfFence) Kind() Kind { return EBPF }

func (f *bpfFence) Hook() string { return f.hook.name() }

func (f *bpfFence) devices() []int {
	f.attaching.Lock()
	defer f.attaching.Unlock()
	return slices.Sorted(maps.Keys(f.stand))
}

func (f *bpfFence) Deadline() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.word == nil {
		return 0
	}
	return atomic.LoadInt64(f.word)
}

// SetDeadline is the renewal's hot path. The lock is never held across a system
// call by another reader, and Close is the only writer.
func (f *bpfFence) SetDeadline(bootNanos int64) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.word == nil {
		return ErrClosed
	}
	atomic.StoreInt64(f.word, max(bootNanos, 0)) // the program compares unsigned
	return nil
}

// Extend implements Shared.
func (f *bpfFence) Extend(bootNanos int64) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.word == nil {
		return ErrClosed
	}
	for {
		was := atomic.LoadInt64(f.word)
		if was == 0 || was >= bootNanos || atomic.CompareAndSwapInt64(f.word, was, bootNanos) {
			return nil
		}
	}
}

// Expire implements Shared.
func (f *bpfFence) Expire(bootNanos int64) int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.word == nil {
		return 0
	}
	for {
		was := atomic.LoadInt64(f.word)
		if bootNanos < was {
			return was
		}
		if was == 0 || atomic.CompareAndSwapInt64(f.word, was, 0) {
			return 0
		}
	}
}

// Deadlines implements Shared.
func (f *bpfFence) Deadlines() *ebpf.Map { return f.maps.Deadlines }

func (f *bpfFence) Counters() (Counters, error) {
	var sums [2 * reasonsCount]uint64
	for i := range sums {
		var perCPU []uint64
		if err := f.maps.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return Counters{}, fmt.Errorf("fence: read counters: %w", err)
		}
		for _, n := range perCPU {
			sums[i] += n
		}
	}
	return Counters{verdicts(sums[:reasonsCount]), verdicts(sums[reasonsCount:])}, nil
}

func verdicts(n []uint64) Verdicts {
	return Verdicts{
		Other: n[reasonOther], Open: n[reasonOpen], Announce: n[reasonAnnounce],
		Malformed: n[reasonMalformed], Shut: n[reasonShut], Expired: n[reasonExpired],
	}
}

func (f *bpfFence) Close() error {
	f.mu.Lock()
	page := f.page
	f.page, f.word = nil, nil
	f.mu.Unlock()
	var err error
	if page != nil {
		err = unix.Munmap(page)
	}
	for _, p := range f.programs() {
		if p != nil {
			err = errors.Join(err, p.Close())
		}
	}
	return errors.Join(err, f.closeMaps())
}

func (f *bpfFence) closeMaps() (err error) {
	for _, m := range f.ownMaps() {
		err = errors.Join(err, (*m).Close()) // nil and closed maps are fine
	}
	return err
}

func (f *bpfFence) Uninstall() error { return errors.Join(f.removeAll(), f.Close()) }

// removeAll takes every program on the fence's maps off every device, whichever
// process, version or hook put it there.
func (f *bpfFence) removeAll() error {
	f.attaching.Lock()
	defer f.attaching.Unlock()
	clear(f.stand)
	all, err := groups(f.cfg)
	for _, g := range all {
		if g.maps[fenceMapHavips] != f.id {
			continue
		}
		for _, p := range g.at {
			err = errors.Join(err, p.hook.remove(p.index, p.dir, p.slot), p.hook.tidy(p.index))
		}
	}
	return err
}
