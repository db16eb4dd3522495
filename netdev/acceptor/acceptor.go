package acceptor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/boottime"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel,bpfeb -cc clang -strip llvm-strip acceptor acceptor.c -- -O2 -Wall -Werror -mcpu=v3 -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu

// DelegationsMax is how many sessions can be delegated at once: lease.NodesMax, one for each node.
const DelegationsMax = 1024

// recallTries is how often the kernel is asked for a recall: it may have no memory for the frame.
const recallTries = 3

// Errors of Grant: beyond DelegationsMax; of a session that has not been recalled.
var (
	ErrFull    = errors.New("acceptor: full")
	ErrGranted = errors.New("it is delegated already")
)

// Delegation is the right to acknowledge renewals of one session (lease.Delegation), and how its holder speaks.
// Instants are in nanoseconds.
type Delegation struct {
	Session uint64
	Config  uint64        // id of the voter set
	Length  time.Duration // L
	Promise time.Duration // P
	Boot    uint64        // of the voter
	// Suspended is the page's word of that place from before the voter set was looked at: the delegation counts
	// while it is the same.
	Suspended int64
	Channel   Channel
	Progress
}

// Channel is how a holder's renewals come, and how they are answered (membership/datagram, tagged frames).
type Channel struct {
	Number, Invitation uint64
	Request, Answer    [2]uint64 // keys of SipHash-2-4
	Peer               netip.Addr
}

// Progress is what was promised: lease.Progress, and by how many acknowledgements since the grant.
type Progress struct {
	Round              uint64
	Sent, Heard, Until int64
	Acked              uint64
}

// Acceptor is the program, its delegations and the devices that it is on. All methods may be called from any
// goroutine. It ends with the process.
type Acceptor struct {
	objects acceptorObjects
	devices devices
	counter *Counter
	noCount error // why there is no Counter

	mu      sync.Mutex
	granted map[uint64]uint64 // session: its channel's number
}

// Open loads the program for a voter that listens on a UDP port, with the page that the agent suspends voters by
// (NewPage), and proves it on frames of its own. deadline is the map of the fence whose deadline the Counter moves; nil:
// that of no fence. It is on no device yet. The error says why this host has no
// acceptor in the kernel: before Linux 6.6, or without CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON.
func Open(page *os.File, port uint16, deadline *ebpf.Map) (_ *Acceptor, err error) {
	if err := boottime.OfMachine(); err != nil {
		return nil, fmt.Errorf("acceptor: %w", err)
	}
	if err := possible(); err != nil { // before the program is loaded: that fails too, and says less
		return nil, err
	}
	fd, err := unix.FcntlInt(page.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	shared, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("acceptor: the page is not shared with the kernel: %w", err)
	}
	defer shared.Close() // the programs hold it
	a := &Acceptor{granted: map[uint64]uint64{}}
	if a.noCount = proveCount(port); a.noCount == nil {
		a.noCount = a.load(port, shared, deadline, true)
	}
	if a.noCount != nil { // answering is worth more
		if err := a.load(port, shared, nil, false); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	if err := a.prove(port); err != nil {
		return nil, fmt.Errorf("acceptor: not proved: %w", err)
	}
	return a, nil
}

// load loads the program; page and deadline are maps that others have, nil: its own. Without the count it has no Counter.
func (a *Acceptor) load(port uint16, page, deadline *ebpf.Map, count bool) error {
	spec, err := loadAcceptor()
	if err != nil {
		return fmt.Errorf("acceptor: eBPF object: %w", err)
	}
	spec.Maps[acceptorMapDelegations].MaxEntries = DelegationsMax
	counts := uint8(0)
	if count {
		counts = 1
	}
	if err := errors.Join(spec.Variables[acceptorVarPort].Set(port), spec.Variables[acceptorVarCounts].Set(counts)); err != nil {
		return fmt.Errorf("acceptor: variables: %w", err)
	}
	shared := map[string]*ebpf.Map{acceptorMapPage: page, acceptorMapDeadlines: deadline}
	maps.DeleteFunc(shared, func(_ string, m *ebpf.Map) bool { return m == nil })
	if err := spec.LoadAndAssign(&a.objects, &ebpf.CollectionOptions{MapReplacements: shared}); err != nil {
		return rights(err)
	}
	a.devices.program = a.objects.Accept
	if !count {
		return nil
	}
	if a.counter, err = newCounter(&a.objects); err != nil {
		return errors.Join(err, a.objects.Close())
	}
	return nil
}

// Counter is the part that counts for this node's own session. The error says why this host has none.
func (a *Acceptor) Counter() (*Counter, error) { return a.counter, a.noCount }

// NewPage makes the page that agent, lease plane and this program share: failover/plane lays it out. The error
// says that this kernel, or this process's rights, give no such memory; then an ordinary page does.
func NewPage() (*os.File, error) {
	spec, err := loadAcceptor()
	if err != nil {
		return nil, fmt.Errorf("acceptor: eBPF object: %w", err)
	}
	m, err := ebpf.NewMap(spec.Maps[acceptorMapPage])
	if err != nil {
		return nil, rights(err)
	}
	defer m.Close()
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "lease page"), nil
}

// rights says of a refused system call which rights are needed: what comes with it is of limits of memory, or the
// verifier's.
func rights(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("acceptor: eBPF needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, in the first user namespace: %w", unix.EPERM)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("acceptor: CAP_PERFMON is missing, or this kernel's verifier refuses the program: %w", err)
	}
	return fmt.Errorf("acceptor: %w", err)
}

// Grant delegates a session. The one before of the same session has been recalled.
//
// It is stored before it counts. The kernel gives the place of a deleted entry to the next new one at once and fills
// that without its lock, while a frame that was looked up before the recall may still be at it: it would find a
// delegation that is half the old one and half the new one, and what it promised by that would be overwritten. So
// granted is set by a second update, which takes the entry's lock.
func (a *Acceptor) Grant(d Delegation) error {
	peer := d.Channel.Peer.As16()
	v := acceptorDelegation{
		Suspended: uint64(d.Suspended), Invite: wire(d.Channel.Invitation), Session: wire(d.Session), Length: wire(uint64(d.Length)),
		Config: wire(d.Config), Boot: wire(d.Boot), KeyIn: d.Channel.Request, KeyOut: d.Channel.Answer,
		Promise: uint64(d.Promise), Round: d.Round, Sent: d.Sent, Heard: d.Heard, Until: d.Until,
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v.Peer)), len(peer)), peer[:])
	channel := wire(d.Channel.Number)
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.granted[d.Session]; known {
		return fmt.Errorf("acceptor: delegate session %d: %w", d.Session, ErrGranted)
	}
	if len(a.granted) >= DelegationsMax {
		return fmt.Errorf("%w: %d sessions", ErrFull, DelegationsMax)
	}
	if err := a.objects.Delegations.Update(channel, &v, ebpf.UpdateNoExist); err != nil {
		return fmt.Errorf("acceptor: delegate session %d: %w", d.Session, err)
	}
	v.Granted = 1
	if err := a.objects.Delegations.Update(channel, &v, ebpf.UpdateExist|ebpf.UpdateLock); err != nil {
		return errors.Join(fmt.Errorf("acceptor: delegate session %d: %w", d.Session, err), a.objects.Delegations.Delete(channel))
	}
	a.granted[d.Session] = channel
	return nil
}

// Recall ends a session's delegation and returns what was promised by it; false: it had none. Afterwards nothing
// is promised any more. An error: that is not sure; the process must not speak for this voter any longer.
func (a *Acceptor) Recall(session uint64) (Progress, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	channel, known := a.granted[session]
	if !known {
		return Progress{}, false, nil
	}
	var in [recallBytes]byte
	binary.NativeEndian.PutUint64(in[ethernetBytes:], channel)
	var found uint32
	var err error
	for range recallTries {
		if found, err = a.objects.Recall.Run(&ebpf.RunOptions{Data: in[:]}); err == nil {
			break
		}
	}
	if err == nil && found != 1 {
		err = errors.New("it has gone")
	}
	if err != nil {
		return Progress{}, true, fmt.Errorf("acceptor: recall session %d: %w", session, err)
	}
	p, err := a.look(channel)
	if err != nil {
		return Progress{}, true, fmt.Errorf("acceptor: recall session %d: %w", session, err)
	}
	delete(a.granted, session)
	if err := a.objects.Delegations.Delete(channel); err != nil {
		return p, true, fmt.Errorf("acceptor: recall session %d: %w", session, err)
	}
	return p, true, nil
}

// Look returns what was promised to a delegated session until now; false: it is not delegated.
func (a *Acceptor) Look(session uint64) (Progress, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	channel, known := a.granted[session]
	if !known {
		return Progress{}, false
	}
	p, err := a.look(channel)
	return p, err == nil
}

// Acked returns how many renewals the present delegations have acknowledged.
func (a *Acceptor) Acked() (n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, channel := range a.granted {
		if p, err := a.look(channel); err == nil {
			n += p.Acked
		}
	}
	return n
}

func (a *Acceptor) look(channel uint64) (Progress, error) {
	var v acceptorDelegation
	if err := a.objects.Delegations.LookupWithFlags(channel, &v, ebpf.LookupLock); err != nil {
		return Progress{}, err
	}
	return Progress{v.Round, v.Sent, v.Heard, v.Until, v.Acked}, nil
}

// Close takes the program off its devices: nothing is promised any more when it returns.
func (a *Acceptor) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.devices.close()
	if a.counter != nil {
		a.counter.close()
	}
	_ = a.objects.Close()
	clear(a.granted)
}

// wire is a number as a frame has it, read as the host reads 8 bytes.
func wire(v uint64) uint64 {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return binary.NativeEndian.Uint64(b[:])
}
