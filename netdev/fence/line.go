package fence

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/limits"
)

// standing is what one line of programs means to the fence.
type standing struct {
	current int    // where the first program of ours is that is as it should be, -1 if none
	others  []int  // where else programs on our maps are: of another version, or one too many
	ahead   string // what is before current, or before the first of ours; "" if only fences are
	fixed   string // what no filter can overtake; "" if nothing
}

// judge reads a line. Fences of other owners are no obstacle: they let pass what
// is not theirs to the next program.
func (f *bpfFence) judge(line []slot, kind int) (standing, error) {
	s := standing{current: -1}
	for i, at := range line {
		what := at.what
		var p *program
		if at.prog != 0 {
			var err error
			if p, err = f.look.at(at.prog); errors.Is(err, unix.ENOENT) {
				return s, errChanged
			} else if err != nil {
				return s, err
			}
			what = fmt.Sprintf("program %d (%s)", at.prog, p.name)
		}
		switch {
		case p != nil && !at.fixed && p.name == programNames[kind] && p.maps[fenceMapHavips] == f.id:
			if s.current < 0 && f.isCurrent(p, at, kind) {
				s.current = i
			} else {
				s.others = append(s.others, i)
			}
		case p != nil && p.fence():
		case at.fixed:
			s.fixed = what
		case s.current < 0 && s.ahead == "":
			s.ahead = what
		}
	}
	return s, nil
}

// isCurrent reports whether a program on our maps is this binary's, and attached
// without a link.
func (f *bpfFence) isCurrent(p *program, at slot, kind int) bool {
	if !f.loaded {
		return true // opened to be read and removed
	}
	return at.link == 0 && p.tag == f.tags[kind] && p.owned && p.owner == f.owner
}

// putMax bounds how often put looks again, after a step of its own or of others.
const putMax = 16

// put leaves our program of that kind first in the line, and no other one on our
// maps. No step lets a frame pass unjudged: a new program is put before all
// others before an old one goes.
func (f *bpfFence) put(index int, dir direction, kind int) ([]slot, error) {
	var s standing
	for range putMax {
		line, revision, err := f.hook.list(index, dir)
		if err != nil {
			return nil, err
		}
		s, err = f.judge(line, kind)
		switch {
		case err != nil:
		case s.current >= 0 && (s.ahead == "" || kind == anchor) && len(s.others) == 0:
			return line, s.notFirst(kind)
		case s.current >= 0 && (s.ahead == "" || kind == anchor):
			err = f.hook.remove(index, dir, line[s.others[0]])
		default:
			err = f.step(index, dir, kind, line, revision, s)
		}
		if err != nil && !errors.Is(err, errChanged) {
			return nil, fmt.Errorf("fence: attach %s of device %d: %w", dir, index, err)
		}
	}
	if s.ahead != "" {
		return nil, fmt.Errorf("%w: device %d, %s: %s comes back", ErrNotFirst, index, dir, s.ahead)
	}
	return nil, fmt.Errorf("fence: attach %s of device %d: %w", dir, index, errChanged)
}

// step replaces a program of another version where it stands, or goes to the head.
func (f *bpfFence) step(index int, dir direction, kind int, line []slot, revision uint64, s standing) error {
	p, err := f.fresh(kind, line)
	if err != nil {
		return err
	}
	if s.current < 0 && s.ahead == "" && len(s.others) > 0 {
		return f.hook.swap(index, dir, p, line[s.others[0]])
	}
	return f.hook.first(index, dir, p, line, revision)
}

func (s standing) notFirst(kind int) error {
	switch {
	case kind == anchor:
		return nil
	case s.fixed != "":
		return fmt.Errorf("%w: TCX %s, and TCX is asked before clsact", ErrNotFirst, s.fixed)
	case s.ahead != "":
		return fmt.Errorf("%w: %s", ErrNotFirst, s.ahead)
	}
	return nil
}

// fresh returns our program of that kind, a new copy on the same maps if it is in
// the line already: a line takes each program once.
func (f *bpfFence) fresh(kind int, line []slot) (*ebpf.Program, error) {
	if !f.loaded || slices.ContainsFunc(line, func(s slot) bool { return s.prog == f.progIDs[kind] }) {
		if err := f.load(); err != nil {
			return nil, err
		}
	}
	return f.programs()[kind], nil
}

func (f *bpfFence) Attach(index int) error {
	if err := device(index); err != nil {
		return err
	}
	f.attaching.Lock()
	defer f.attaching.Unlock()
	if _, known := f.stand[index]; !known && len(f.stand) >= limits.FenceDevices {
		return fmt.Errorf("%w: %d devices", ErrFull, limits.FenceDevices)
	}
	if err := f.dropAnchor(); err != nil {
		return err
	}
	return f.attach(index)
}

func (f *bpfFence) attach(index int) error {
	var lines [2][]slot
	var late error
	for dir := range lines {
		line, err := f.put(index, direction(dir), dir)
		if err != nil && !errors.Is(err, ErrNotFirst) {
			return err
		}
		late = errors.Join(late, err)
		if err == nil {
			lines[dir] = line
		}
	}
	f.stand[index] = lines
	return late
}

// dropAnchor leaves the anchor on lo. errChanged if another process of the same
// owner has put one of its own there since groups looked.
func (f *bpfFence) dropAnchor() error {
	line, err := f.put(lo, ingress, anchor)
	if err == nil {
		f.anchorLine = line
	}
	return err
}

func (f *bpfFence) Detach(index int) error {
	f.attaching.Lock()
	defer f.attaching.Unlock()
	delete(f.stand, index)
	for _, dir := range []direction{ingress, egress} {
		line, _, err := f.hook.list(index, dir)
		if errors.Is(err, ErrNoDevice) {
			return nil
		}
		if err != nil {
			return err
		}
		s, err := f.judge(line, int(dir))
		if err != nil {
			return err
		}
		at := s.others
		if s.current >= 0 {
			at = append(at, s.current)
		}
		for _, i := range at {
			if err := f.hook.remove(index, dir, line[i]); err != nil {
				return fmt.Errorf("fence: detach %s of device %d: %w", dir, index, err)
			}
		}
	}
	return f.hook.tidy(index)
}

func (f *bpfFence) Healthy(index int) error {
	f.attaching.Lock()
	defer f.attaching.Unlock()
	return errors.Join(f.healthy(index), f.anchored())
}

// healthy compares the lines with those that were found good, which is one system
// call per direction on TCX, and judges them again only when they differ.
func (f *bpfFence) healthy(index int) error {
	lines, known := f.stand[index]
	for dir := range lines {
		line, _, err := f.hook.list(index, direction(dir))
		if err != nil {
			return err
		}
		if sameLine(lines[dir], line) {
			continue
		}
		lines[dir] = nil
		s, err := f.judge(line, dir)
		switch {
		case err != nil:
			return fmt.Errorf("%w: device %d: %w", ErrUnhealthy, index, err)
		case s.current < 0:
			return fmt.Errorf("%w: device %d has no %s program of this fence", ErrUnhealthy, index, direction(dir))
		}
		if err := s.notFirst(dir); err != nil {
			return fmt.Errorf("device %d, %s: %w", index, direction(dir), err)
		}
		lines[dir] = line
	}
	if known {
		f.stand[index] = lines
	}
	return nil
}

// anchored: without the anchor nothing opens, but the maps end with the last device.
func (f *bpfFence) anchored() error {
	line, _, err := f.hook.list(lo, ingress)
	if err != nil || sameLine(f.anchorLine, line) {
		return err
	}
	s, err := f.judge(line, anchor)
	if err == nil && s.current < 0 {
		err = errors.New("no program of this fence on lo")
	}
	if err != nil {
		return fmt.Errorf("%w: anchor: %w", ErrUnhealthy, err)
	}
	f.anchorLine = line
	return nil
}
