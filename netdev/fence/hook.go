package fence

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// direction of a frame as the host sees it; the values index fence.c's counters.
type direction int

const (
	ingress direction = iota
	egress
)

func (d direction) String() string { return [...]string{"ingress", "egress"}[d] }

// lo is the loopback device's index in every network namespace. The anchor is there.
const lo = 1

// slot is one program in the line that the frames of a device and direction go along.
type slot struct {
	prog   ebpf.ProgramID // 0: a classifier that is no program
	link   link.ID        // not 0: a link holds it, as in versions before this one
	handle uint32         // of a filter on clsact
	fixed  bool           // not on this hook, but always before it
	what   string         // of a classifier that is no program
}

// hook is where the programs meet a device's frames.
type hook interface {
	name() string
	// list returns the line in the order in which the kernel asks it, and a
	// number that grows with each change, 0 if there is none. ErrNoDevice.
	list(index int, dir direction) ([]slot, uint64, error)
	// first puts p before all others. errChanged if the line is not the one of
	// that revision any more.
	first(index int, dir direction, p *ebpf.Program, line []slot, revision uint64) error
	// swap puts p into the place of old in one step.
	swap(index int, dir direction, p *ebpf.Program, old slot) error
	// remove takes old out; nil if it has gone.
	remove(index int, dir direction, old slot) error
	// tidy removes what is left of the hook itself if nobody uses it.
	tidy(index int) error
}

// errChanged is returned when another process was quicker.
var errChanged = errors.New("fence: the line of programs has changed")

func hookNamed(cfg Config, name string) (hook, error) {
	_, _, err := tcx{}.list(lo, ingress)
	if name == HookClsact {
		return newClsact(cfg.Owner, err == nil), nil
	}
	if err != nil {
		return nil, fmt.Errorf("fence: TCX: %w", err)
	}
	return tcx{}, nil
}

// hooks lists those that this kernel has.
func hooks(cfg Config) []hook {
	if t, err := hookNamed(cfg, HookTCX); err == nil {
		return []hook{t, newClsact(cfg.Owner, true)}
	}
	return []hook{newClsact(cfg.Owner, false)}
}

// device returns ErrNoDevice for an index that names nothing, and an error for
// a device without Ethernet frames, which the programs could not read.
func device(index int) error {
	l, err := netlink.LinkByIndex(index)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("%w: index %d", ErrNoDevice, index)
	}
	if err != nil {
		return fmt.Errorf("fence: device %d: %w", index, err)
	}
	if kind := l.Attrs().EncapType; kind != "ether" {
		return fmt.Errorf("fence: device %d (%s) is %s, not ether", index, l.Attrs().Name, kind)
	}
	return nil
}

// tcx attaches the programs themselves, without a link: they stay until the
// device goes or somebody detaches them.
type tcx struct{}

var tcxTypes = [2]ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress}

func (tcx) name() string { return HookTCX }

// mprogMax is BPF_MPROG_MAX of the kernel: the programs that one line holds.
const mprogMax = 64

// mprogQuery is the part of union bpf_attr that BPF_PROG_QUERY takes (linux/bpf.h).
type mprogQuery struct {
	target, attach, flags, attachFlags uint32
	progs                              unsafe.Pointer
	count, _                           uint32
	progFlags, links, linkFlags        unsafe.Pointer
	revision                           uint64
}

// list is one system call, where the library's query takes two.
func (tcx) list(index int, dir direction) ([]slot, uint64, error) {
	var progs, links [mprogMax]uint32
	attr := mprogQuery{
		target: uint32(index), attach: uint32(tcxTypes[dir]), count: mprogMax,
		progs: unsafe.Pointer(&progs), links: unsafe.Pointer(&links),
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno == unix.ENODEV {
		return nil, 0, fmt.Errorf("%w: index %d", ErrNoDevice, index)
	}
	if errno != 0 {
		return nil, 0, fmt.Errorf("fence: query %s of device %d: %w", dir, index, errno)
	}
	var line []slot
	for i := range min(attr.count, mprogMax) {
		line = append(line, slot{prog: ebpf.ProgramID(progs[i]), link: link.ID(links[i])})
	}
	return line, attr.revision, nil
}

func (tcx) first(index int, dir direction, p *ebpf.Program, _ []slot, revision uint64) error {
	return attachError(link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: index, Program: p, Attach: tcxTypes[dir], Anchor: link.Head(), ExpectedRevision: revision,
	}))
}

func attachError(err error) error {
	switch {
	case errors.Is(err, unix.ESTALE), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST):
		return errChanged
	case errors.Is(err, unix.ENODEV):
		return ErrNoDevice
	}
	return err
}

func (t tcx) swap(index int, dir direction, p *ebpf.Program, old slot) error {
	if old.link != 0 { // a link holds its place until it is cut: go before it, then cut it
		line, revision, err := t.list(index, dir)
		if err != nil {
			return err
		}
		return errors.Join(t.first(index, dir, p, line, revision), t.remove(index, dir, old))
	}
	q, err := ebpf.NewProgramFromID(old.prog)
	if err != nil {
		return attachError(err)
	}
	defer q.Close()
	return attachError(link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: index, Program: p, Attach: tcxTypes[dir], Anchor: link.ReplaceProgram(q),
	}))
}

func (tcx) remove(index int, dir direction, old slot) error {
	if old.link != 0 {
		l, err := link.NewFromID(old.link)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(l.Detach(), l.Close())
	}
	p, err := ebpf.NewProgramFromID(old.prog)
	if err == nil {
		defer p.Close()
		err = link.RawDetachProgram(link.RawDetachProgramOptions{Target: index, Program: p, Attach: tcxTypes[dir]})
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil // gone meanwhile
	}
	return err
}

func (tcx) tidy(int) error { return nil }

// sameLine reports whether nothing has changed in a line. Program ids are not
// given again before the kernel has counted through all of them.
func sameLine(a, b []slot) bool { return a != nil && slices.Equal(a, b) }
