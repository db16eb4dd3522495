// Package fence silences a node's HAVIPs in the kernel when the lease deadline
// passes, whatever happens to the process that holds the lease. DESIGN.md in
// this folder has the table of frames, the choices and the remaining windows.
//
// The fence belongs to the network devices: no file, mount or process holds it.
// All calls that touch devices work in the network namespace of the calling
// thread; the process is expected to live in one.
package fence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"

	"havip-cluster/internal/boottime"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel,bpfeb -cc clang -strip llvm-strip fence fence.c -- -O2 -Wall -Werror -mcpu=v2 -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu

// Kind says what enforces the silence.
type Kind string

// The kinds, best first.
const (
	EBPF     Kind = "ebpf"
	NFTables Kind = "nftables"
	None     Kind = "none" // no fence: never returned by New, for status only
)

// The hooks; the first two are those of the eBPF kind.
const (
	HookTCX      = "tcx"    // Linux 6.6
	HookClsact   = "clsact" // Linux 5.8 to 6.5
	HookNFTables = "nftables"
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
	// ErrUnhealthy is returned by Healthy and found in a Reading, with the
	// missing part in the text.
	ErrUnhealthy = errors.New("fence: not intact")
	// ErrNotFirst is an ErrUnhealthy: another program sees the frames of the
	// device before the fence and can end their way there (TCX_PASS, TC_ACT_OK).
	// Attach cures it where the kernel lets it; a program that keeps coming back
	// is for the caller to report.
	ErrNotFirst = fmt.Errorf("%w: another program is before it", ErrUnhealthy)
	// ErrClosed is returned after Close or Uninstall, by SetDeadline of either
	// kind and by most calls of the nftables kind.
	ErrClosed = errors.New("fence: closed")
	// ErrFull is returned by Guard beyond limits.FenceEntries addresses, and by
	// Attach beyond limits.FenceDevices devices.
	ErrFull = errors.New("fence: full")
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

// Reading is the kernel's state at one moment.
type Reading struct {
	Entries  []Entry // all guarded HAVIPs, sorted by address
	Deadline int64   // as Fence.Deadline
	// Ports has the tied ports with the HAVIPs that they answer for.
	Ports map[uint16]netip.Addr
	// Devices has each device that was attached, by this process or the one it
	// adopted the fence from, until Detach: nil if the fence is intact there,
	// ErrUnhealthy, ErrNotFirst or ErrNoDevice.
	Devices map[int]error
}

// Fence is the kernel's side of a lease. A guarded HAVIP is silent unless it is
// open and the deadline lies ahead. Methods may be called concurrently.
//
// Guard, Open, Shut and Forget take any number of addresses and go on after an
// address that fails: each of the others is done, and the error says how many
// were not, and the first of them. With nftables a failing transaction of up to
// 1024 addresses is undone as a whole, and the next one is still tried.
type Fence interface {
	// Kind says what enforces the silence.
	Kind() Kind
	// Hook is HookTCX, HookClsact or HookNFTables.
	Hook() string
	// Attach puts the fence on the device with that index, first in line. A
	// repeated call repairs what is missing, and moves the fence to the head
	// without a moment in which frames pass unjudged. ErrNoDevice if the device
	// is gone, ErrNotFirst if another program cannot be overtaken.
	Attach(index int) error
	// Detach takes the fence off the device; nil if it was not there.
	Detach(index int) error
	// Guard makes the addresses known and shut, also if they were open before.
	Guard(ips ...netip.Addr) error
	// Open lets guarded addresses speak while the deadline has not passed.
	Open(ips ...netip.Addr) error
	// Shut silences guarded addresses before it returns. Idempotent.
	Shut(ips ...netip.Addr) error
	// Forget ends the management of the addresses: their frames pass freely.
	// Idempotent.
	Forget(ips ...netip.Addr) error
	// Tie makes a local TCP port answer for a HAVIP: frames leave from it, by the attached
	// devices, only while that address is open and the deadline lies ahead. A port that is
	// tied already follows the new address. ErrFull beyond limits.Probes ports.
	Tie(port uint16, ip netip.Addr) error
	// Untie ends that: frames from the port pass. The caller has closed its sockets, also
	// those that were accepted. Idempotent.
	Untie(port uint16) error
	// Guarded reads the guarded HAVIPs back from the kernel, sorted by address.
	Guarded() ([]Entry, error)
	// Read reads everything that a look needs back from the kernel.
	Read() (Reading, error)
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
	// Healthy reads back that the fence stands on the device and is first in
	// line: ErrUnhealthy names the missing part, ErrNotFirst the program before
	// it, ErrNoDevice says that the device is gone.
	Healthy(index int) error
	// Close releases the process's handles. The kernel's side stays.
	Close() error
	// Uninstall removes the kernel's side as well: all frames pass. The
	// caller has removed the managed addresses first.
	Uninstall() error
}

// Shared is a Fence of the kind EBPF: a program in the kernel may move its deadline, too, from one that has not
// passed to a later one.
type Shared interface {
	Fence
	// Deadlines is the map with the deadline, 8 bytes, at 0. The caller does not close it.
	Deadlines() *ebpf.Map
	// Extend moves the deadline on, to a time in nanoseconds of CLOCK_BOOTTIME: not back, and not from 0. No system call.
	Extend(bootNanos int64) error
	// Expire returns the deadline if it is after that time, and otherwise makes it 0: nobody but SetDeadline moves
	// it from there.
	Expire(bootNanos int64) int64
}

// Config says whose fence it is and what it may be made of.
type Config struct {
	// Owner is any name that tells the nodes of one network namespace apart,
	// such as the node's id. Processes with the same Owner share a fence.
	Owner string
	// Prefer is EBPF or NFTables to take only that; "" takes the best permitted.
	Prefer Kind
	// Hook is HookTCX or HookClsact to take only that; "" takes the one that a
	// dead process left, else TCX if the kernel knows it.
	Hook string
	// Table is the name of the nftables table; "" is made from Owner.
	Table string
	// OldDir is the directory of pins of versions that kept the fence there, ""
	// for none. What is pinned in it is moved, shut, and the pins are removed.
	OldDir string
	// Prove makes New prove each candidate as Prove does, and take the next where
	// the proof fails.
	Prove bool
	// Clock returns nanoseconds of CLOCK_BOOTTIME; nil is BootNow. The nftables
	// kind computes timeouts by it; eBPF asks the kernel's own clock.
	Clock func() int64
}

func (cfg Config) complete() Config {
	if cfg.Table == "" {
		cfg.Table = tableOf(cfg.Owner)
	}
	if cfg.Clock == nil {
		cfg.Clock = BootNow
	}
	return cfg
}

// candidates lists what cfg permits, best first.
func (cfg Config) candidates() ([]string, error) {
	switch cfg.Hook {
	case "", HookTCX, HookClsact:
	default:
		return nil, fmt.Errorf("fence: unknown hook %q; take %q or %q", cfg.Hook, HookTCX, HookClsact)
	}
	var all []string
	switch cfg.Prefer {
	case NFTables:
		return []string{HookNFTables}, nil
	case "", EBPF:
		all = []string{HookTCX, HookClsact}
		if cfg.Hook != "" {
			all = []string{cfg.Hook}
		} else if left := leftoverHook(cfg); left != "" && !cfg.Prove {
			all = []string{left} // another process of this owner may be using it
		}
	default:
		return nil, fmt.Errorf("fence: unknown kind %q; take %q or %q", cfg.Prefer, EBPF, NFTables)
	}
	if cfg.Prefer == "" {
		all = append(all, HookNFTables)
	}
	return all, nil
}

// Unproved is in New's words when the host was too slow to prove the fence that it chose.
const Unproved = "not proved"

// New returns the best fence that the kernel permits, and why it is that one.
// What a dead process of the same owner left behind is taken over as it stands:
// every HAVIP stays guarded, open ones stay open, the deadline is unchanged. The
// caller shuts and sweeps. Leftovers of another kind or version are moved, shut.
func New(cfg Config) (Fence, string, error) {
	cfg = cfg.complete()
	hooks, err := cfg.candidates()
	if err != nil {
		return nil, "", err
	}
	var refused []error
	for _, hook := range hooks {
		why := hook
		if cfg.Prove {
			proof, err := Prove(context.Background(), cfg, hook)
			switch {
			case errors.Is(err, errTooSlow): // which says nothing against it
				why += ", " + Unproved + ": the host was too slow for the proof"
			case err != nil:
				refused = append(refused, fmt.Errorf("%s is not proved: %w", hook, err))
				continue
			default:
				why += ", " + proof.String()
			}
		}
		f, err := open(cfg, hook)
		if err != nil {
			refused = append(refused, fmt.Errorf("%s refused: %w", hook, err))
			continue
		}
		return chosen(cfg, f, why, refused)
	}
	return nil, "", errors.Join(refused...)
}

func open(cfg Config, hook string) (kernelSide, error) {
	if hook == HookNFTables {
		return newNFT(cfg)
	}
	return newBPF(cfg, hook)
}

// kernelSide is what both kinds offer for a change from one to the other.
type kernelSide interface {
	Fence
	devices() []int
	tied() (map[uint16]netip.Addr, error)
}

// chosen moves the HAVIPs and devices of other leftovers to f, removes these
// only after f stands in their place, and puts the reasons into one line.
func chosen(cfg Config, f kernelSide, why string, refused []error) (Fence, string, error) {
	for _, err := range refused {
		why += "; " + strings.ReplaceAll(err.Error(), "\n", ", ")
	}
	left, err := leftovers(cfg, f)
	for _, old := range left {
		why += "; leftovers of " + old.Hook() + " moved"
		err = errors.Join(err, move(old, f))
	}
	err = errors.Join(err, removeOldPins(cfg.OldDir))
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("fence: leftovers: %w", err), f.Close())
	}
	return f, why, nil
}

func move(from, to kernelSide) error {
	entries, err := from.Guarded()
	if err == nil {
		var ips []netip.Addr
		for _, e := range entries {
			ips = append(ips, e.IP)
		}
		err = errors.Join(to.Guard(ips...), moveTies(from, to))
	}
	if err != nil {
		return errors.Join(err, from.Close())
	}
	for _, index := range from.devices() {
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
func BootNow() int64 { return boottime.Now() }

// checked returns ip in the form the kernel's side knows it by.
func checked(ip netip.Addr) (netip.Addr, error) {
	ip = ip.Unmap()
	if !ip.IsValid() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() {
		return ip, fmt.Errorf("%w: %v", ErrAddress, ip)
	}
	return ip, nil
}

func compareEntries(a, b Entry) int { return a.IP.Compare(b.IP) }
