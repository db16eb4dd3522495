package fence

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownerID is what the kernel's side keeps of an owner's name.
type ownerID [16]byte

func idOf(owner string) ownerID {
	sum := sha256.Sum256([]byte("havip-cluster fence of " + owner))
	return ownerID(sum[:16])
}

// program is what the kernel tells about a loaded program.
type program struct {
	name, tag string
	maps      map[string]ebpf.MapID // by name, as far as they are a fence's
	owner     ownerID
	owned     bool // false: of a version without owners
}

// The programs of fence.c; the first two are in the order of direction.
var programNames = [3]string{fenceProgFenceIngress, fenceProgFenceEgress, fenceProgFenceAnchor}

const anchor = 2

// fence reports whether the program is a fence's, of any owner and version.
func (p *program) fence() bool {
	_, havips := p.maps[fenceMapHavips]
	_, deadlines := p.maps[fenceMapDeadlines]
	return slices.Contains(programNames[:], p.name) && havips && deadlines
}

// programCacheMax bounds the memory of a programCache: many more programs than a host has.
const programCacheMax = 4096

// programCache tells programs by their id and remembers them; one never changes.
type programCache map[ebpf.ProgramID]*program

// at returns the program; os.ErrNotExist if it has gone. Asking for a program or
// a map by its id needs CAP_SYS_ADMIN.
func (l programCache) at(id ebpf.ProgramID) (*program, error) {
	if p := l[id]; p != nil {
		return p, nil
	}
	handle, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, fmt.Errorf("fence: program %d: %w", id, err)
	}
	defer handle.Close()
	info, err := handle.Info()
	if err != nil {
		return nil, fmt.Errorf("fence: program %d: %w", id, err)
	}
	p := &program{name: info.Name, tag: info.Tag, maps: map[string]ebpf.MapID{}}
	if slices.Contains(programNames[:], p.name) {
		ids, _ := info.MapIDs()
		for _, id := range ids {
			if err := p.hold(id); err != nil {
				return nil, err
			}
		}
	}
	if len(l) >= programCacheMax {
		clear(l)
	}
	l[id] = p
	return p, nil
}

func (p *program) hold(id ebpf.MapID) error {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return fmt.Errorf("fence: map %d: %w", id, err)
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return fmt.Errorf("fence: map %d: %w", id, err)
	}
	p.maps[info.Name] = id
	if info.Name == fenceMapOwner && info.ValueSize == uint32(len(p.owner)) {
		p.owned = m.Lookup(uint32(0), &p.owner) == nil
	}
	return nil
}

// place is one program of a fence on a device.
type place struct {
	hook  hook
	index int
	dir   direction
	nth   int // in its line, from 1
	slot  slot
	prog  *program
}

// group is the programs that share one set of maps: one fence.
type group struct {
	maps  map[string]ebpf.MapID
	owner ownerID
	owned bool
	at    []place // by device
}

// anchored is the place of the group's anchor in the line of lo, counted from 1 at
// the head, where the newest is; 0 if there is none.
func (g *group) anchored() (oldest int) {
	for _, p := range g.at {
		if p.prog.name == programNames[anchor] {
			oldest = max(oldest, p.nth)
		}
	}
	return oldest
}

// linksMax is how often an interrupted list of the devices is asked for again.
const linksMax = 5

func devicesHere() ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	for range linksMax {
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		links, err = netlink.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("fence: devices: %w", err)
	}
	return links, nil
}

// groups asks all devices of the network namespace for the fences on them.
func groups(cfg Config) ([]*group, error) {
	links, err := devicesHere()
	if err != nil {
		return nil, err
	}
	look, found := programCache{}, map[ebpf.MapID]*group{}
	for _, l := range links {
		for _, h := range hooks(cfg) {
			for _, dir := range []direction{ingress, egress} {
				if err := look.collect(h, l.Attrs().Index, dir, found); err != nil {
					return nil, err
				}
			}
		}
	}
	byID := slices.Sorted(maps.Keys(found))
	var all []*group
	for _, id := range byID {
		all = append(all, found[id])
	}
	// The one with the oldest anchor is where another process would look.
	slices.SortStableFunc(all, func(a, b *group) int { return cmp.Compare(b.anchored(), a.anchored()) })
	return all, nil
}

func (l programCache) collect(h hook, index int, dir direction, found map[ebpf.MapID]*group) error {
	line, _, err := h.list(index, dir)
	if errors.Is(err, ErrNoDevice) {
		return nil // gone since it was listed
	}
	if err != nil {
		return err
	}
	for i, s := range line {
		if s.fixed || s.prog == 0 {
			continue
		}
		p, err := l.at(s.prog)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		if !p.fence() {
			continue
		}
		id := p.maps[fenceMapHavips]
		g := found[id]
		if g == nil {
			g = &group{maps: map[string]ebpf.MapID{}}
			found[id] = g
		}
		maps.Copy(g.maps, p.maps)
		g.owner, g.owned = p.owner, g.owned || p.owned
		g.at = append(g.at, place{h, index, dir, i + 1, s, p})
	}
	return nil
}

// leftoverHook is the hook on which a fence of this owner has its anchor, "" if none.
func leftoverHook(cfg Config) string {
	for _, h := range hooks(cfg) {
		found := map[ebpf.MapID]*group{}
		if err := (programCache{}).collect(h, lo, ingress, found); err != nil {
			return ""
		}
		for _, g := range found {
			if g.owned && g.owner == idOf(cfg.Owner) {
				return h.name()
			}
		}
	}
	return ""
}

// leftovers opens what else there is of f's owner: fences of the other kind, on
// other maps, or of a version before.
func leftovers(cfg Config, f kernelSide) (left []kernelSide, err error) {
	own, _ := f.(*bpfFence)
	if own != nil {
		left, err = leftoverNFT(cfg)
		if err != nil {
			return nil, err
		}
	}
	pinned, err := oldMaps(cfg.OldDir)
	if err != nil {
		return left, err
	}
	all, err := groups(cfg)
	if errors.Is(err, unix.EPERM) && len(pinned) == 0 {
		return left, nil // no eBPF is permitted here, so none is left
	}
	if err != nil {
		return left, err
	}
	if id, ok := pinned[fenceMapHavips]; ok && !slices.ContainsFunc(all, func(g *group) bool { return g.maps[fenceMapHavips] == id }) {
		all = append(all, &group{maps: pinned}) // on no device any more
	}
	for _, g := range all {
		mine := g.owned && g.owner == idOf(cfg.Owner)
		if own != nil && g.maps[fenceMapHavips] == own.id || !mine && (len(pinned) == 0 || g.maps[fenceMapHavips] != pinned[fenceMapHavips]) {
			continue
		}
		old, e := openGroup(cfg, g)
		if errors.Is(e, unix.ENOENT) {
			continue // gone since it was listed: the maps live as long as a program that uses them
		}
		if e != nil {
			return left, e
		}
		left = append(left, old)
	}
	return left, nil
}

// Find opens every fence of the owner in this network namespace, of either kind
// and whatever process it is from; "" finds those of all owners, and of versions
// without owners. It needs no file. The caller may read, shut and Uninstall
// them, and closes them; Attach is for those of New.
func Find(owner string) ([]Fence, error) {
	cfg := Config{Owner: owner}.complete()
	var found []Fence
	all, err := groups(cfg)
	if errors.Is(err, unix.EPERM) {
		all, err = nil, nil // no eBPF is permitted here, so none is left
	}
	for _, g := range all {
		if owner != "" && (!g.owned || g.owner != idOf(owner)) {
			continue
		}
		f, e := openGroup(cfg, g)
		if errors.Is(e, unix.ENOENT) {
			continue // gone since it was listed
		}
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		found = append(found, f)
	}
	tables, e := findNFT(owner)
	return append(found, tables...), errors.Join(err, e)
}
