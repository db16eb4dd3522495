// Package fence silences a node's HAVIPs in the kernel when the lease deadline
// passes, whatever happens to the process that holds the lease. DESIGN.md in
// this folder has the table of frames, the choices and the remaining windows.
//
// All calls that touch devices work in the network namespace of the calling
// thread; the process is expected to live in one.
package fence

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel,bpfeb -cc clang -strip llvm-strip fence fence.c -- -O2 -Wall -Werror -mcpu=v2 -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu

// Limits.
const (
	// HAVIPsMax is the number of HAVIPs one fence can guard; fence.c has the
	// same number.
	HAVIPsMax = 4096
)

// Kind says what enforces the silence.
type Kind string

// The kinds, best first.
const (
	EBPF     Kind = "ebpf"
	NFTables Kind = "nftables"
	None     Kind = "none" // no fence: never returned by New, for status only
)

// The hooks of the eBPF kind.
const (
	HookTCX    = "tcx"    // Linux 6.6
	HookClsact = "clsact" // Linux 5.8 to 6.5
)

var (
	// ErrNoDevice is returned when no device has the given index (any more).
	ErrNoDevice = errors.New("fence: no such device")
	// ErrNotGuarded is returned by Open and Shut for an address that Guard has
	// not made known: it is not fenced, so neither word would be true.
	ErrNotGuarded = errors.New("fence: address is not guarded")
	// ErrAddress is returned for an address that cannot be a HAVIP: invalid,
	// unspecified, multicast, loopback, or with a zone.
	ErrAddress = errors.New("fence: not a HAVIP address")
	// ErrUnhealthy is returned by Healthy, with the missing part in the text.
	ErrUnhealthy = errors.New("fence: not intact")
	// ErrClosed is returned after Close or Uninstall, by SetDeadline of either
	// kind and by most calls of the nftables kind.
	ErrClosed = errors.New("fence: closed")
	// ErrFull is returned by Guard when HAVIPsMax addresses are guarded.
	ErrFull = errors.New("fence: too many HAVIPs")
)

// Entry is one guarded HAVIP as read back from the kernel.
type Entry struct {
	IP netip.Addr
	// Open: it may speak until the deadline. It stays true after the deadline.
	Open bool
}

// Verdicts counts frames of one direction since the fence was installed, by
// the reason they passed or were dropped for.
type Verdicts struct {
	Other     uint64 // passed: no managed address on the guarded side
	Open      uint64 // passed: HAVIP open, deadline ahead
	Announce  uint64 // passed on ingress: another host's gratuitous ARP
	Malformed uint64 // passed: too short to judge, left to the kernel; in Other with nftables
	Shut      uint64 // dropped: HAVIP shut
	Expired   uint64 // dropped: HAVIP open, deadline passed
}

// Dropped is the number of frames that did not pass.
func (v Verdicts) Dropped() uint64 { return v.Shut + v.Expired }

// Counters counts the judged frames of all attached devices.
type Counters struct {
	Ingress, Egress Verdicts
}

// Fence is the kernel's side of a lease. A guarded HAVIP is silent unless it is
// open and the deadline lies ahead. Methods may be called concurrently.
type Fence interface {
	// Kind says what enforces the silence.
	Kind() Kind
	// Attach puts the fence on the device with that index, first in line. A
	// repeated call repairs what is missing. ErrNoDevice if the device is gone.
	Attach(index int) error
	// Detach takes the fence off the device; nil if it was not there.
	Detach(index int) error
	// Guard makes ip known and shut, also if it was open before.
	Guard(ip netip.Addr) error
	// Open lets a guarded ip speak while the deadline has not passed.
	Open(ip netip.Addr) error
	// Shut silences a guarded ip before it returns. Idempotent.
	Shut(ip netip.Addr) error
	// Forget ends the management of ip: its frames pass freely. Idempotent.
	Forget(ip netip.Addr) error
	// Guarded reads the guarded HAVIPs back from the kernel, sorted by address.
	Guarded() ([]Entry, error)
	// Deadline is the stored deadline in nanoseconds of CLOCK_BOOTTIME; 0 is
	// silence.
	Deadline() int64
	// SetDeadline stores it for all open HAVIPs. A time already past, 0 or a
	// negative one silences them. With eBPF this is one memory store, without
	// allocation or system call; with nftables it is a transaction, and an
	// error means that the HAVIPs fall silent no later than the old deadline.
	SetDeadline(bootNanos int64) error
	// Counters reads the frame counters.
	Counters() (Counters, error)
	// Healthy reads back that the fence stands on the device: ErrUnhealthy
	// names the missing part, ErrNoDevice says that the device is gone.
	Healthy(index int) error
	// Close releases the process's handles. The kernel's side stays.
	Close() error
	// Uninstall removes the kernel's side as well: all frames pass. The
	// caller has removed the managed addresses first.
	Uninstall() error
}

// Config says where the kernel's side lives. Two nodes on one machine differ in
// Dir, and in Table if they share a network namespace.
type Config struct {
	// Dir is a directory of pinned objects on a bpffs, which is mounted there
	// if there is none. "" is /sys/fs/bpf/havip-cluster.
	Dir string
	// Prefer is EBPF or NFTables to take only that; "" takes the best permitted.
	Prefer Kind
	// Hook is HookTCX or HookClsact to take only that; "" takes TCX if known.
	Hook string
	// Table is the name of the nftables table. "" is "havip_cluster".
	Table string
	// Clock returns nanoseconds of CLOCK_BOOTTIME; nil is BootNow. The nftables
	// kind computes timeouts by it; eBPF asks the kernel's own clock.
	Clock func() int64
}

// New returns the best fence that the kernel permits, and why it is that one.
// What a dead process left behind is taken over as it stands: every HAVIP stays
// guarded, open ones stay open, the deadline is unchanged. The caller shuts and
// sweeps. If the leftovers are of the other kind they are moved, shut.
func New(cfg Config) (Fence, string, error) {
	if cfg.Dir == "" {
		cfg.Dir = "/sys/fs/bpf/havip-cluster"
	}
	if cfg.Table == "" {
		cfg.Table = "havip_cluster"
	}
	if cfg.Clock == nil {
		cfg.Clock = BootNow
	}
	var why string
	switch cfg.Prefer {
	case "", EBPF:
		f, reason, err := newBPF(cfg)
		if err == nil {
			old, err := leftoverNFT(cfg)
			return chosen(f, old, reason, err)
		}
		if cfg.Prefer == EBPF {
			return nil, "", err
		}
		why = fmt.Sprintf("nftables: eBPF refused: %v", err)
	case NFTables:
		why = "nftables: preferred by configuration"
	default:
		return nil, "", fmt.Errorf("fence: unknown kind %q", cfg.Prefer)
	}
	f, err := newNFT(cfg)
	if err != nil {
		return nil, "", fmt.Errorf("%s; %w", why, err)
	}
	old, err := leftoverBPF(cfg)
	return chosen(f, old, why, err)
}

// kernelSide is what both kinds offer for a change from one to the other.
type kernelSide interface {
	Fence
	devices() ([]int, error)
}

// chosen moves the HAVIPs and devices of the other kind's leftovers to f, and
// removes the leftovers only after f stands in their place.
func chosen(f, old kernelSide, why string, err error) (Fence, string, error) {
	if err == nil && old != nil {
		why += "; leftovers of " + string(old.Kind()) + " moved"
		err = move(old, f)
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("fence: leftovers of the other kind: %w", err), f.Close())
	}
	return f, why, nil
}

func move(from, to kernelSide) error {
	entries, err := from.Guarded()
	if err != nil {
		return errors.Join(err, from.Close())
	}
	for _, e := range entries {
		if err := to.Guard(e.IP); err != nil {
			return errors.Join(err, from.Close())
		}
	}
	devices, err := from.devices()
	for _, index := range devices {
		if e := to.Attach(index); e != nil && !errors.Is(e, ErrNoDevice) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return errors.Join(err, from.Close())
	}
	return from.Uninstall()
}

// BootNow is the present time on CLOCK_BOOTTIME in nanoseconds. It counts
// suspend, as the lease does.
func BootNow() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("fence: CLOCK_BOOTTIME: %v", err)) // Linux 2.6.39 has it
	}
	return ts.Nano()
}

// checked returns ip in the form the kernel's side knows it by.
func checked(ip netip.Addr) (netip.Addr, error) {
	ip = ip.Unmap()
	if !ip.IsValid() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() {
		return ip, fmt.Errorf("%w: %v", ErrAddress, ip)
	}
	return ip, nil
}

func compareEntries(a, b Entry) int { return a.IP.Compare(b.IP) }
