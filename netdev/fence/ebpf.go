package fence

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/mutant"
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

// Pins in Config.Dir, besides one pair of links per device with TCX. They are
// readable without the agent: bpftool map dump pinned DIR/counters.
var mapPins = []string{"havips", "deadlines", "counters"}

// bpfFence is the eBPF kind. The pins are the truth: apart from the maps, every
// call looks at the kernel and not at a memory of what it did.
type bpfFence struct {
	dir  string
	hook hook
	obj  fenceObjects
	maps []ebpf.MapID // of obj, in the order of mapPins
	tags [2]string    // of obj's programs, by direction

	attaching sync.Mutex // held while the links are looked at and made

	mu   sync.RWMutex // guards word and page against Close
	page []byte
	word *int64 // deadlines[0] in page; nil after Close
}

var _ kernelSide = (*bpfFence)(nil)

func newBPF(cfg Config) (kernelSide, string, error) {
	f, reason, err := loadBPF(cfg)
	if err != nil {
		return nil, "", err // and no typed nil
	}
	return f, reason, nil
}

// loadBPF loads the programs on the pinned maps, or on new ones, and puts them
// into whatever links a dead process left.
func loadBPF(cfg Config) (_ *bpfFence, reason string, err error) {
	if err := sameBoottime(); err != nil {
		return nil, "", err
	}
	if err := rlimit.RemoveMemlock(); err != nil { // before Linux 5.11 only
		return nil, "", fmt.Errorf("fence: memory limit: %w", err)
	}
	if err := ensureBPFFS(cfg.Dir); err != nil {
		return nil, "", err
	}
	f := &bpfFence{dir: cfg.Dir}
	_, missing := os.Stat(filepath.Join(cfg.Dir, mapPins[0]))
	defer func() {
		if err == nil {
			return
		}
		err = errors.Join(err, f.Close())
		if missing != nil { // what is pinned now is half of a new fence
			err = errors.Join(err, f.unpin())
		}
	}()
	if err := f.load(); err != nil {
		return nil, "", err
	}
	if f.hook, reason, err = chooseHook(cfg); err != nil {
		return nil, "", err
	}
	left, err := f.devices()
	if err != nil {
		return nil, "", err
	}
	for _, index := range left {
		if err := f.Attach(index); err != nil && !errors.Is(err, ErrNoDevice) {
			return nil, "", fmt.Errorf("fence: adopt device %d: %w", index, err)
		}
	}
	return f, reason, nil
}

func (f *bpfFence) load() error {
	spec, err := loadFence()
	if err != nil {
		return fmt.Errorf("fence: eBPF object: %w", err)
	}
	for _, name := range mapPins {
		spec.Maps[name].Pinning = ebpf.PinByName
	}
	opts := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: f.dir}}
	if err := spec.LoadAndAssign(&f.obj, opts); err != nil {
		return fmt.Errorf("fence: load into %s: %w", f.dir, err)
	}
	for _, m := range f.ownMaps() {
		info, err := m.Info()
		if err != nil {
			return fmt.Errorf("fence: map: %w", err)
		}
		id, _ := info.ID()
		f.maps = append(f.maps, id)
	}
	for i, p := range f.programs() {
		info, err := p.Info()
		if err != nil {
			return fmt.Errorf("fence: program: %w", err)
		}
		f.tags[i] = info.Tag
	}
	f.page, err = unix.Mmap(f.obj.Deadlines.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("fence: map the deadline: %w", err)
	}
	f.word = (*int64)(unsafe.Pointer(&f.page[0])) // page-aligned
	return nil
}

// sameBoottime refuses a time namespace with an offset: the kernel's programs
// see the machine's CLOCK_BOOTTIME, so a deadline from inside would be wrong.
func sameBoottime() error {
	b, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return nil // no time namespaces, or no /proc: no offset
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "boottime" && (f[1] != "0" || f[2] != "0") {
			return fmt.Errorf("fence: time namespace shifts CLOCK_BOOTTIME by %s s", f[1])
		}
	}
	return nil
}

func (f *bpfFence) ownMaps() []*ebpf.Map {
	return []*ebpf.Map{f.obj.Havips, f.obj.Deadlines, f.obj.Counters}
}

func (f *bpfFence) programs() programs {
	return programs{f.obj.FenceIngress, f.obj.FenceEgress}
}

func (f *bpfFence) Kind() Kind { return EBPF }

func (f *bpfFence) Attach(index int) error {
	if err := device(index); err != nil {
		return err
	}
	// Of two at once that find no link, one would wait in vain for the other's to go.
	f.attaching.Lock()
	defer f.attaching.Unlock()
	if err := f.repin(); err != nil {
		return err
	}
	return f.hook.attach(index, f.programs(), f.current)
}

// repin puts back the pins of the maps that somebody removed.
func (f *bpfFence) repin() error {
	if err := ensureBPFFS(f.dir); err != nil {
		return err
	}
	for i, m := range f.ownMaps() {
		err := f.pinned(mapPins[i], f.maps[i])
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		again, err := m.Clone() // m itself believes to be pinned still
		if err == nil {
			err = errors.Join(again.Pin(filepath.Join(f.dir, mapPins[i])), again.Close())
		}
		if err != nil {
			return fmt.Errorf("fence: pin %s again: %w", mapPins[i], err)
		}
	}
	return nil
}

func (f *bpfFence) Detach(index int) error { return f.hook.detach(index) }

func (f *bpfFence) devices() ([]int, error) { return f.hook.devices() }

// current reports whether the program with that id is this binary's program for
// the direction, working on the pinned maps.
func (f *bpfFence) current(id ebpf.ProgramID, dir direction) bool {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return false
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil || info.Tag != f.tags[dir] {
		return false
	}
	ids, ok := info.MapIDs()
	for _, id := range f.maps {
		ok = ok && slices.Contains(ids, id)
	}
	return ok
}

func (f *bpfFence) Guard(ip netip.Addr) error {
	ip, err := checked(ip)
	if err != nil {
		return err
	}
	err = f.obj.Havips.Update(ip.As16(), stateShut, ebpf.UpdateAny)
	if errors.Is(err, unix.E2BIG) {
		return fmt.Errorf("%w: %d", ErrFull, HAVIPsMax)
	}
	return wrap("guard", ip, err)
}

func (f *bpfFence) Open(ip netip.Addr) error { return f.set("open", ip, stateOpen) }

func (f *bpfFence) Shut(ip netip.Addr) error {
	if mutant.Active("fence-not-shut") {
		return nil
	}
	return f.set("shut", ip, stateShut)
}

func (f *bpfFence) set(verb string, ip netip.Addr, state uint32) error {
	ip, err := checked(ip)
	if err != nil {
		return err
	}
	err = f.obj.Havips.Update(ip.As16(), state, ebpf.UpdateExist)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("%w: %v", ErrNotGuarded, ip)
	}
	return wrap(verb, ip, err)
}

func (f *bpfFence) Forget(ip netip.Addr) error {
	ip, err := checked(ip)
	if err != nil {
		return err
	}
	if err = f.obj.Havips.Delete(ip.As16()); errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return wrap("forget", ip, err)
}

func wrap(verb string, ip netip.Addr, err error) error {
	if err != nil {
		return fmt.Errorf("fence: %s %v: %w", verb, ip, err)
	}
	return nil
}

func (f *bpfFence) Guarded() ([]Entry, error) {
	var (
		entries []Entry
		key     [16]byte
		state   uint32
	)
	it := f.obj.Havips.Iterate()
	for it.Next(&key, &state) {
		entries = append(entries, Entry{IP: netip.AddrFrom16(key).Unmap(), Open: state != stateShut})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("fence: read HAVIPs: %w", err)
	}
	slices.SortFunc(entries, compareEntries)
	return slices.Compact(entries), nil
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

func (f *bpfFence) Counters() (Counters, error) {
	var sums [2 * reasonsCount]uint64
	for i := range sums {
		var perCPU []uint64
		if err := f.obj.Counters.Lookup(uint32(i), &perCPU); err != nil {
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

func (f *bpfFence) Healthy(index int) error {
	if err := device(index); err != nil {
		return err
	}
	for i, name := range mapPins {
		if err := f.pinned(name, f.maps[i]); err != nil {
			return err
		}
	}
	ids, err := f.hook.attached(index)
	if err != nil {
		return fmt.Errorf("%w: device %d: %w", ErrUnhealthy, index, err)
	}
	for dir, id := range ids {
		if !f.current(id, direction(dir)) {
			return fmt.Errorf("%w: device %d: foreign %s program", ErrUnhealthy, index, direction(dir))
		}
	}
	return nil
}

// pinned checks that the pin still holds the map that the programs use.
func (f *bpfFence) pinned(name string, want ebpf.MapID) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(f.dir, name), nil)
	if err != nil {
		return fmt.Errorf("%w: pin %s: %w", ErrUnhealthy, name, err)
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return fmt.Errorf("%w: map %s: %w", ErrUnhealthy, name, err)
	}
	if id, _ := info.ID(); id != want {
		return fmt.Errorf("%w: pin %s holds another map", ErrUnhealthy, name)
	}
	return nil
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
	for _, m := range f.ownMaps() {
		err = errors.Join(err, m.Close()) // nil and closed maps are fine
	}
	for _, p := range f.programs() {
		if p != nil {
			err = errors.Join(err, p.Close())
		}
	}
	return err
}

func (f *bpfFence) Uninstall() error {
	left, err := f.devices()
	for _, index := range left {
		err = errors.Join(err, f.Detach(index))
	}
	return errors.Join(err, f.Close(), f.unpin())
}

// unpin removes the pins of the maps, and the file system if the fence made it.
func (f *bpfFence) unpin() error {
	var errs error
	for _, name := range mapPins {
		if err := os.Remove(filepath.Join(f.dir, name)); !errors.Is(err, os.ErrNotExist) {
			errs = errors.Join(errs, err)
		}
	}
	return errors.Join(errs, removeBPFFS(f.dir))
}

// leftoverBPF opens the eBPF fence that a dead process left, nil if none.
func leftoverBPF(cfg Config) (kernelSide, error) {
	if _, err := os.Stat(filepath.Join(cfg.Dir, mapPins[0])); err != nil {
		return nil, nil
	}
	old, _, err := newBPF(cfg)
	return old, err
}
