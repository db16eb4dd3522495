package netns

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoFence is returned when no program of a fence stands on an ENI.
var ErrNoFence = errors.New("netns: no eBPF program of a fence on the device")

// FencePrograms are the eBPF programs on an ENI of a host that share the map of deadlines,
// TCX or clsact, found by asking the device as anybody can: no pin, no file of the agent.
func FencePrograms(h *Host, eni int) (ids []ebpf.ProgramID, err error) {
	err = h.Do(func() error {
		dev, err := netlink.LinkByName(h.Device(eni))
		if err != nil {
			return err
		}
		ids, err = programsOn(dev)
		return err
	})
	return slices.DeleteFunc(ids, func(id ebpf.ProgramID) bool {
		m, err := mapOf(id, "havips")
		if err == nil {
			_ = m.Close()
		}
		return err != nil // it is another one's, such as the acceptor of renewals, which has the deadline as well
	}), err
}

// programsOn runs in the device's namespace.
func programsOn(dev netlink.Link) (ids []ebpf.ProgramID, err error) {
	for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		q, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: hook})
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
			continue // a kernel before 6.6
		}
		if err != nil {
			return nil, fmt.Errorf("netns: programs on %s: %w", dev.Attrs().Name, err)
		}
		for _, p := range q.Programs {
			ids = append(ids, p.ID)
		}
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(dev, parent)
		if err != nil {
			continue // without clsact there is no such parent
		}
		for _, f := range filters {
			if b, ok := f.(*netlink.BpfFilter); ok {
				ids = append(ids, ebpf.ProgramID(b.Id))
			}
		}
	}
	return ids, nil
}

// FenceMap opens the map of that name (havips, deadlines, counters) of the fence on an ENI,
// for reading. It stays readable when the fence is gone; holding it keeps no fence alive.
// ErrNoFence if there is none. The caller closes it.
func FenceMap(h *Host, eni int, name string) (*ebpf.Map, error) {
	ids, err := FencePrograms(h, eni)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if m, err := mapOf(id, name); err == nil {
			return m, nil
		} else if !errors.Is(err, ErrNoFence) && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: map %s at %s of %s", ErrNoFence, name, h.Device(eni), h.Name)
}

func mapOf(id ebpf.ProgramID, name string) (*ebpf.Map, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, err
	}
	list, _ := info.MapIDs()
	for _, id := range list {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, err
		}
		if i, err := m.Info(); err == nil && i.Name == name {
			return m, nil
		}
		_ = m.Close()
	}
	return nil, ErrNoFence
}

// Unfence takes every eBPF program with a map of HAVIPs off an ENI, as a person with tc(8) and
// bpftool(8) would. ErrNoFence if there was none.
func Unfence(h *Host, eni int) error {
	return h.Do(func() error {
		dev, err := netlink.LinkByName(h.Device(eni))
		if err != nil {
			return err
		}
		n := 0
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			q, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: hook})
			if err != nil {
				return err
			}
			for _, p := range q.Programs {
				m, err := mapOf(p.ID, "havips")
				if err != nil {
					continue // of somebody else
				}
				n++
				if err := errors.Join(m.Close(), detach(dev.Attrs().Index, hook, p)); err != nil {
					return err
				}
			}
		}
		if n == 0 {
			return ErrNoFence
		}
		return nil
	})
}

// detach removes one program, whether a link holds it or the device itself.
func detach(index int, hook ebpf.AttachType, p link.AttachedProgram) error {
	if id, ok := p.LinkID(); ok {
		l, err := link.NewFromID(id)
		if err != nil {
			return err
		}
		return errors.Join(l.Detach(), l.Close())
	}
	program, err := ebpf.NewProgramFromID(p.ID)
	if err != nil {
		return err
	}
	defer program.Close()
	return link.RawDetachProgram(link.RawDetachProgramOptions{Target: index, Program: program, Attach: hook})
}
