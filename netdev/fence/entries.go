package fence

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/limits"
)

// singlesMax is up to how many addresses are set one by one: a batch first reads
// all entries, because the kernel's batch cannot insist on existing keys.
const singlesMax = 64

// failures are the addresses of one call that could not be done.
type failures struct {
	verb  string
	of, n int
	first error
}

func (f *failures) add(n int, err error) {
	if err != nil && n > 0 {
		f.n += n
		if f.first == nil {
			f.first = err
		}
	}
}

func (f *failures) err() error {
	switch {
	case f.n == 0:
		return nil
	case f.of == 1:
		return fmt.Errorf("fence: %s: %w", f.verb, f.first)
	}
	return fmt.Errorf("fence: %s: %d of %d addresses not done, the first: %w", f.verb, f.n, f.of, f.first)
}

// check returns the addresses that can be HAVIPs, each once, and notes the rest.
func (f *failures) check(ips []netip.Addr) []netip.Addr {
	good := make([]netip.Addr, 0, len(ips))
	for _, ip := range ips {
		ip, err := checked(ip)
		if err != nil {
			f.add(1, err)
			continue
		}
		good = append(good, ip)
	}
	slices.SortFunc(good, netip.Addr.Compare)
	return slices.Compact(good)
}

func (f *bpfFence) Guard(ips ...netip.Addr) error {
	fails := failures{verb: "guard", of: len(ips)}
	f.changing.Lock()
	defer f.changing.Unlock()
	f.update(fails.check(ips), stateShut, &fails)
	return fails.err()
}

// update stores one state for all of them, whether they are known or not.
func (f *bpfFence) update(ips []netip.Addr, state uint32, fails *failures) {
	keys, states := make([][16]byte, len(ips)), make([]uint32, len(ips))
	for i, ip := range ips {
		keys[i], states[i] = ip.As16(), state
	}
	for at := 0; at < len(keys); {
		n, err := f.maps.Havips.BatchUpdate(keys[at:], states[at:], nil)
		if err == nil {
			return
		}
		if at += n; at >= len(keys) { // no count came back
			at = 0
		}
		// The kernel stops at the first one that fails; those behind it, which may
		// be known already, still get their turn, one by one.
		for ; at < len(keys); at++ {
			err := f.maps.Havips.Update(keys[at], state, ebpf.UpdateAny)
			if errors.Is(err, unix.E2BIG) {
				err = fmt.Errorf("%w: %d HAVIPs", ErrFull, limits.FenceEntries)
			}
			fails.add(1, wrapAddr(ips[at], err))
		}
	}
}

func wrapAddr(ip netip.Addr, err error) error {
	if err != nil {
		return fmt.Errorf("%v: %w", ip, err)
	}
	return nil
}

func (f *bpfFence) Open(ips ...netip.Addr) error { return f.set("open", ips, stateOpen) }

func (f *bpfFence) Shut(ips ...netip.Addr) error {
	return f.set("shut", ips, stateShut)
}

// set stores a state for those that are guarded.
func (f *bpfFence) set(verb string, ips []netip.Addr, state uint32) error {
	fails := failures{verb: verb, of: len(ips)}
	f.changing.Lock()
	defer f.changing.Unlock()
	good := fails.check(ips)
	if len(good) <= singlesMax {
		for _, ip := range good {
			err := f.maps.Havips.Update(ip.As16(), state, ebpf.UpdateExist)
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				err = ErrNotGuarded
			}
			fails.add(1, wrapAddr(ip, err))
		}
		return fails.err()
	}
	known, err := f.entries()
	if err != nil {
		fails.add(len(good), err)
		return fails.err()
	}
	guarded := make([]netip.Addr, 0, len(good))
	for _, ip := range good { // both are sorted
		for len(known) > 0 && known[0].IP.Less(ip) {
			known = known[1:]
		}
		if len(known) > 0 && known[0].IP == ip {
			guarded = append(guarded, ip)
		} else {
			fails.add(1, wrapAddr(ip, ErrNotGuarded))
		}
	}
	f.update(guarded, state, &fails)
	return fails.err()
}

func (f *bpfFence) Forget(ips ...netip.Addr) error {
	fails := failures{verb: "forget", of: len(ips)}
	f.changing.Lock()
	defer f.changing.Unlock()
	good := fails.check(ips)
	keys := make([][16]byte, len(good))
	for i, ip := range good {
		keys[i] = ip.As16()
	}
	for at := 0; at < len(keys); {
		n, err := f.maps.Havips.BatchDelete(keys[at:], nil)
		if err == nil {
			break
		}
		if at += n; at >= len(keys) {
			at = 0
		}
		// It stopped at one that is not there, or that failed: take that one alone.
		if err = f.maps.Havips.Delete(keys[at]); !errors.Is(err, ebpf.ErrKeyNotExist) {
			fails.add(1, wrapAddr(good[at], err))
		}
		at++
	}
	return fails.err()
}

func (f *bpfFence) Guarded() ([]Entry, error) {
	f.changing.Lock()
	defer f.changing.Unlock()
	return f.entries()
}

// entries reads all of the map, in one system call if nothing is in the way.
func (f *bpfFence) entries() ([]Entry, error) {
	size := int(f.maps.Havips.MaxEntries())
	if len(f.keys) < size {
		f.keys, f.states = make([][16]byte, size), make([]uint32, size)
	}
	f.raw = f.raw[:0]
	var cursor ebpf.MapBatchCursor
	for done := false; !done; {
		n, err := f.maps.Havips.BatchLookup(&cursor, f.keys, f.states, nil)
		if done = errors.Is(err, ebpf.ErrKeyNotExist); err != nil && !done {
			return nil, fmt.Errorf("fence: read HAVIPs: %w", err)
		}
		for i, k := range f.keys[:n] {
			f.raw = append(f.raw, rawEntry{binary.BigEndian.Uint64(k[:8]), binary.BigEndian.Uint64(k[8:]), f.states[i]})
		}
		done = done || len(f.raw) >= 2*size // other processes keep adding and removing
	}
	// An entry that another process moved meanwhile can come twice.
	slices.SortFunc(f.raw, compareRaw)
	f.raw = slices.CompactFunc(f.raw, func(a, b rawEntry) bool { return a.hi == b.hi && a.lo == b.lo })
	entries := make([]Entry, len(f.raw))
	for i, r := range f.raw {
		var k [16]byte
		binary.BigEndian.PutUint64(k[:8], r.hi)
		binary.BigEndian.PutUint64(k[8:], r.lo)
		entries[i] = Entry{IP: netip.AddrFrom16(k).Unmap(), Open: r.state != stateShut}
	}
	return entries, nil
}

// rawEntry is an entry as two numbers, which sort several times faster than
// addresses.
type rawEntry struct {
	hi, lo uint64
	state  uint32
}

// compareRaw gives the order of netip.Addr: IPv4 first, which the map has as
// ::ffff:a.b.c.d.
func compareRaw(a, b rawEntry) int {
	if a4, b4 := a.is4(), b.is4(); a4 != b4 {
		if a4 {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

func (r rawEntry) is4() bool { return r.hi == 0 && r.lo>>32 == 0xffff }

func (f *bpfFence) Read() (Reading, error) {
	entries, err := f.Guarded()
	if err != nil {
		return Reading{}, err
	}
	r := Reading{Entries: entries, Deadline: f.Deadline(), Devices: map[int]error{}}
	if r.Ports, err = f.tied(); err != nil {
		return Reading{}, err
	}
	f.attaching.Lock()
	defer f.attaching.Unlock()
	lost := f.anchored()
	for index := range f.stand {
		r.Devices[index] = errors.Join(f.healthy(index), lost)
	}
	return r, nil
}
