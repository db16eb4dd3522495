package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// clsact keeps the programs as cls_bpf filters of priority 1, which live on the
// device. Of the filters with one priority the newest is asked first. All TCX
// programs of the device are asked before any filter.
type clsact struct {
	filter string // name of this owner's filters, for people
	handle uint32 // the first one to try
	tcx    bool   // the kernel has TCX
}

// clsactPriority is the first in line; 0 would let the kernel choose.
const clsactPriority = 1

var clsactParents = [2]uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}

func newClsact(owner string, tcx bool) clsact {
	id := idOf(owner)
	return clsact{
		filter: fmt.Sprintf("havip-fence-%x", id[:4]),
		handle: max(1, binary.BigEndian.Uint32(id[:4])>>1), // room to count on
		tcx:    tcx,
	}
}

func (clsact) name() string { return HookClsact }

func (c clsact) list(index int, dir direction) (line []slot, revision uint64, err error) {
	if c.tcx {
		if line, _, err = (tcx{}).list(index, dir); err != nil {
			return nil, 0, err
		}
		for i := range line {
			line[i].fixed = true
		}
	}
	at := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}
	filters, err := netlink.FilterList(at, clsactParents[dir])
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil, 0, fmt.Errorf("%w: index %d", ErrNoDevice, index)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return line, 0, nil // no clsact qdisc there
	case err != nil:
		return nil, 0, fmt.Errorf("fence: filters of device %d: %w", index, err)
	}
	if len(filters) == 0 && !c.tcx { // kernels without TCX list nothing for a device that is gone, and say no more
		if err := device(index); errors.Is(err, ErrNoDevice) {
			return nil, 0, err
		}
		return line, 0, nil
	}
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok {
			line = append(line, slot{prog: ebpf.ProgramID(b.Id), handle: b.Handle})
			continue
		}
		line = append(line, slot{what: fmt.Sprintf("%s filter of priority %d", f.Type(), f.Attrs().Priority)})
	}
	return line, 0, nil
}

func (c clsact) qdisc(index int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

func (c clsact) bpfFilter(index int, dir direction, p *ebpf.Program, handle uint32) *netlink.BpfFilter {
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: clsactParents[dir], Handle: handle,
			Priority: clsactPriority, Protocol: unix.ETH_P_ALL,
		},
		Name: c.filter, DirectAction: true,
	}
	if p != nil {
		f.Fd = p.FD()
	}
	return f
}

func (c clsact) first(index int, dir direction, p *ebpf.Program, line []slot, _ uint64) error {
	err := netlink.QdiscAdd(c.qdisc(index))
	if errors.Is(err, unix.ENODEV) {
		return ErrNoDevice
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("clsact: %w", err)
	}
	handle := c.handle
	for slices.ContainsFunc(line, func(s slot) bool { return s.handle == handle }) {
		handle++
	}
	err = netlink.FilterAdd(c.bpfFilter(index, dir, p, handle))
	switch {
	case errors.Is(err, unix.EEXIST):
		return errChanged
	case errors.Is(err, unix.EINVAL) && len(line) > 0 && line[0].what != "":
		return fmt.Errorf("%w: %s", ErrNotFirst, line[0].what)
	}
	return err
}

func (c clsact) swap(index int, dir direction, p *ebpf.Program, old slot) error {
	return netlink.FilterReplace(c.bpfFilter(index, dir, p, old.handle))
}

func (c clsact) remove(index int, dir direction, old slot) error {
	err := netlink.FilterDel(c.bpfFilter(index, dir, nil, old.handle))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return nil // gone, or the qdisc with it
	}
	return err
}

// tidy removes the qdisc when nobody has filters on it.
func (c clsact) tidy(index int) error {
	found := false
	qdiscs, err := netlink.QdiscList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}})
	for _, q := range qdiscs {
		found = found || q.Type() == "clsact"
	}
	if err != nil || !found {
		return nil // no device, no qdisc
	}
	for dir := range clsactParents {
		line, _, err := c.list(index, direction(dir))
		if err != nil && !errors.Is(err, ErrNoDevice) {
			return err
		}
		if slices.ContainsFunc(line, func(s slot) bool { return !s.fixed }) {
			return nil
		}
	}
	if err := netlink.QdiscDel(c.qdisc(index)); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("fence: clsact of device %d: %w", index, err)
	}
	return nil
}
