package fence

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/mutant"
)

// direction of a frame as the host sees it; the values index fence.c's counters.
type direction int

const (
	ingress direction = iota
	egress
)

func (d direction) String() string { return [...]string{"ingress", "egress"}[d] }

// programs holds one program per direction.
type programs [2]*ebpf.Program

// hook is where the programs meet a device's frames.
type hook interface {
	// attach leaves a direction alone whose program is current, and replaces
	// any other of ours in one step, so that no frame passes unjudged.
	attach(index int, progs programs, current func(ebpf.ProgramID, direction) bool) error
	detach(index int) error
	attached(index int) ([2]ebpf.ProgramID, error)
	// devices lists, sorted, the indices with anything of ours, gone ones too.
	devices() ([]int, error)
}

// chooseHook asks the kernel about TCX by a query that has no effect.
func chooseHook(cfg Config) (hook, string, error) {
	_, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress}) // 1 is lo
	switch {
	case cfg.Hook == HookClsact:
		return newClsact(cfg.Dir), "eBPF on clsact: preferred by configuration", nil
	case cfg.Hook != "" && cfg.Hook != HookTCX:
		return nil, "", fmt.Errorf("fence: unknown hook %q", cfg.Hook)
	case err == nil:
		return tcx{cfg.Dir}, "eBPF on TCX", nil
	case cfg.Hook == HookTCX:
		return nil, "", fmt.Errorf("fence: TCX: %w", err)
	}
	return newClsact(cfg.Dir), fmt.Sprintf("eBPF on clsact: TCX refused: %v", err), nil
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

// tcx pins one link per device and direction in dir: in-INDEX and out-INDEX.
type tcx struct{ dir string }

var (
	tcxPrefixes = [2]string{"in-", "out-"}
	tcxTypes    = [2]ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress}
)

func (t tcx) pin(index int, dir direction) string {
	return filepath.Join(t.dir, tcxPrefixes[dir]+strconv.Itoa(index))
}

// open returns the pinned link and its program; os.ErrNotExist if there is none
// or its device is gone (then the pin is removed: an index can come again).
func (t tcx) open(index int, dir direction) (link.Link, ebpf.ProgramID, error) {
	l, err := link.LoadPinnedLink(t.pin(index, dir), nil)
	if err != nil {
		return nil, 0, err
	}
	info, err := l.Info()
	if err != nil {
		return nil, 0, errors.Join(err, l.Close())
	}
	if at := info.TCX(); at == nil || int(at.Ifindex) != index {
		return nil, 0, errors.Join(os.ErrNotExist, l.Unpin(), l.Close())
	}
	return l, info.Program, nil
}

func (t tcx) attach(index int, progs programs, current func(ebpf.ProgramID, direction) bool) error {
	for i, p := range progs {
		dir := direction(i)
		l, id, err := t.open(index, dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
			err = t.create(index, dir, p)
		case err == nil && !current(id, dir):
			err = errors.Join(l.Update(p), l.Close())
		case err == nil:
			err = l.Close()
		}
		if err != nil {
			return fmt.Errorf("fence: attach %s of device %d: %w", dir, index, err)
		}
	}
	return nil
}

// tcxBusyMax is how often, 1 ms apart, create tries again while the kernel says that
// the same program is still attached: it lets go of a link some time after its last
// pin is gone, mostly 8 to 40 ms, and on a busy host more than 200.
const tcxBusyMax = 500

// unpinned keeps the links of the planted bug "fence-unpinned" from the collector.
var unpinned []link.Link

// create puts the program first: one that ends the chain with TCX_PASS before
// ours would let everything through.
func (t tcx) create(index int, dir direction, p *ebpf.Program) error {
	opts := link.TCXOptions{Interface: index, Program: p, Attach: tcxTypes[dir], Anchor: link.Head()}
	l, err := link.AttachTCX(opts)
	for range tcxBusyMax {
		if !errors.Is(err, unix.EEXIST) {
			break
		}
		time.Sleep(time.Millisecond)
		l, err = link.AttachTCX(opts)
	}
	if errors.Is(err, unix.ENODEV) {
		return ErrNoDevice
	}
	if err != nil {
		return err
	}
	if mutant.Active("fence-unpinned") {
		unpinned = append(unpinned, l) // lives as long as the process
		return nil
	}
	if err := l.Pin(t.pin(index, dir)); err != nil {
		return errors.Join(err, l.Close())
	}
	return l.Close() // the pin holds it
}

// detach cuts the link at once: unpinning alone would leave it until the last
// handle is closed.
func (t tcx) detach(index int) error {
	var errs error
	for dir := range tcxTypes {
		l, _, err := t.open(index, direction(dir))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = errors.Join(l.Detach(), l.Unpin(), l.Close())
		}
		errs = errors.Join(errs, err)
	}
	return errs
}

func (t tcx) attached(index int) (ids [2]ebpf.ProgramID, err error) {
	for dir := range ids {
		l, id, err := t.open(index, direction(dir))
		if err != nil {
			return ids, fmt.Errorf("%s link: %w", direction(dir), err)
		}
		ids[dir] = id
		if err := l.Close(); err != nil {
			return ids, err
		}
	}
	return ids, nil
}

func (t tcx) devices() ([]int, error) {
	files, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, fmt.Errorf("fence: pins: %w", err)
	}
	var found []int
	for _, file := range files {
		for _, prefix := range tcxPrefixes {
			number, ok := strings.CutPrefix(file.Name(), prefix)
			if index, err := strconv.Atoi(number); ok && err == nil {
				found = append(found, index)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// clsact keeps the programs as cls_bpf filters, which outlive the process
// without a pin. The name tells the filters of this node's directory.
type clsact struct{ filter string }

// clsactPriority is the first in line; 0 would let the kernel choose.
const clsactPriority = 1

var clsactParents = [2]uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}

func newClsact(dir string) clsact {
	h := fnv.New32a()
	h.Write([]byte(dir))
	return clsact{fmt.Sprintf("havip-fence-%08x", h.Sum32())}
}

// list returns our filter of the direction, nil if none, and how many there are.
func (c clsact) list(index int, dir direction) (ours *netlink.BpfFilter, all int, err error) {
	at := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}
	filters, err := netlink.FilterList(at, clsactParents[dir])
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
		return nil, 0, nil // no clsact qdisc there, or no device
	}
	if err != nil {
		return nil, 0, fmt.Errorf("fence: filters of device %d: %w", index, err)
	}
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == c.filter {
			ours = b
		}
	}
	return ours, len(filters), nil
}

func (c clsact) attach(index int, progs programs, current func(ebpf.ProgramID, direction) bool) error {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("fence: clsact on device %d: %w", index, err)
	}
	for i, p := range progs {
		dir := direction(i)
		old, _, err := c.list(index, dir)
		if err != nil {
			return err
		}
		if old != nil && current(ebpf.ProgramID(old.Id), dir) {
			continue
		}
		filter := &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: index, Parent: clsactParents[dir], Handle: 1,
				Priority: clsactPriority, Protocol: unix.ETH_P_ALL,
			},
			Fd: p.FD(), Name: c.filter, DirectAction: true,
		}
		if err := netlink.FilterReplace(filter); err != nil {
			return fmt.Errorf("fence: attach %s of device %d: %w", dir, index, err)
		}
	}
	return nil
}

// detach removes our filters, and the qdisc when nobody else has filters on it.
func (c clsact) detach(index int) error {
	left, removed := 0, false
	for dir := range clsactParents {
		ours, all, err := c.list(index, direction(dir))
		if err != nil {
			return err
		}
		left += all
		if ours == nil {
			continue
		}
		if err := netlink.FilterDel(ours); err != nil {
			return fmt.Errorf("fence: detach device %d: %w", index, err)
		}
		left, removed = left-1, true
	}
	if left > 0 || !removed {
		return nil
	}
	return netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
}

func (c clsact) attached(index int) (ids [2]ebpf.ProgramID, err error) {
	for dir := range ids {
		ours, _, err := c.list(index, direction(dir))
		if err != nil {
			return ids, err
		}
		if ours == nil {
			return ids, fmt.Errorf("no %s filter", direction(dir))
		}
		ids[dir] = ebpf.ProgramID(ours.Id)
	}
	return ids, nil
}

func (c clsact) devices() ([]int, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("fence: devices: %w", err)
	}
	var found []int
	for _, l := range links {
		for dir := range clsactParents {
			ours, _, err := c.list(l.Attrs().Index, direction(dir))
			if err != nil {
				return nil, err
			}
			if ours != nil {
				found = append(found, l.Attrs().Index)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}
