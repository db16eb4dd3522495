package netns

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"havip-cluster/jepsen/history"
)

// A sampler's run of samples ends with a pause longer than sampleBreak; while a deadline has passed,
// and stays the same, it cannot have been open in between, so longer pauses are let pass.
const (
	sampleBreak  = 12 * time.Millisecond
	expiredBreak = time.Second
)

// Sampler reads the fences of all nodes again and again, from the maps of the programs that the
// agents have attached: what the kernel itself would judge a frame by, whether the agent lives or
// not. Nodes whose fence is not on TCX have no such maps and are not sampled.
type Sampler struct {
	ticker *ticker
	c      *Cluster
	havips []netip.Addr
	maps   []fenceMaps // by node
	end    func()

	mu     sync.Mutex
	counts []uint64 // by node
	open   map[[2]string]*history.Kernel
	done   []history.Kernel
}

// fenceMaps are the maps of one node, as long as their anchor is on its lo.
type fenceMaps struct {
	anchor            ebpf.ProgramID
	havips, deadlines *ebpf.Map
}

// SampleFences starts a sampler for some HAVIPs, every every. Stop ends it.
func (c *Cluster) SampleFences(havips []netip.Addr, every time.Duration) (*Sampler, error) {
	n := len(c.Lab.nodes)
	s := &Sampler{c: c, havips: havips, maps: make([]fenceMaps, n), counts: make([]uint64, n), open: map[[2]string]*history.Kernel{}}
	var err error
	if s.ticker, err = newTicker(every); err != nil {
		return nil, err
	}
	var running sync.WaitGroup
	running.Go(func() { s.ticker.run(s.sample) })
	s.end = sync.OnceFunc(func() {
		s.ticker.stop()
		running.Wait()
		for i := range s.maps {
			s.maps[i].close()
		}
	})
	return s, nil
}

// Stop returns when the sampler has ended.
func (s *Sampler) Stop() { s.end() }

// History returns the series, one for each node, and the runs of samples so far.
func (s *Sampler) History() ([]history.Series, []history.Kernel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var series []history.Series
	for i, n := range s.counts {
		series = append(series, history.Series{Kind: history.Sampling, From: "sampler", Target: s.c.NodeName(i + 1), Every: int64(s.ticker.every), Count: n})
	}
	list := append([]history.Kernel(nil), s.done...)
	for _, k := range s.open {
		list = append(list, *k)
	}
	return series, list
}

func (s *Sampler) sample(uint64) {
	for i := range s.maps {
		if !s.maps[i].refresh(s.c.Lab.Node(i + 1)) {
			continue
		}
		for _, havip := range s.havips {
			if k, ok := s.maps[i].read(s.c.Lab, havip); ok {
				k.Node, k.HAVIP = s.c.NodeName(i+1), havip.String()
				s.add(k)
			}
		}
		s.mu.Lock()
		s.counts[i]++
		s.mu.Unlock()
	}
}

// add joins a sample to the run before, if it continues that.
func (s *Sampler) add(k history.Kernel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{k.Node, k.HAVIP}
	run := s.open[key]
	if run != nil {
		apart, limit := k.Last-run.Last, int64(sampleBreak)
		same := run.State == k.State
		if k.State == history.FenceExpired {
			same, limit = same && run.Deadline == k.Deadline, int64(expiredBreak)
		}
		if same && apart <= limit {
			run.Last, run.Deadline, run.Widest = k.Last, k.Deadline, max(run.Widest, apart)
			run.Samples++
			return
		}
		s.done = append(s.done, *run)
	}
	k.Samples = 1
	s.open[key] = &k
}

// refresh opens the maps anew if the host's fence is another than before. It is false without any.
func (p *fenceMaps) refresh(h *Host) bool {
	err := h.Do(func() error {
		line, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress}) // 1 is lo
		if err != nil {
			return err
		}
		for _, at := range line.Programs {
			if p.havips != nil && at.ID == p.anchor {
				return nil
			}
		}
		p.close()
		for _, at := range line.Programs {
			if err := p.open(at.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return err == nil && p.havips != nil
}

// open takes the maps of a program if it is a fence's anchor.
func (p *fenceMaps) open(id ebpf.ProgramID) error {
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer func() { _ = prog.Close() }()
	info, err := prog.Info()
	if err != nil || info.Name != "fence_anchor" {
		return err
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return err
		}
		switch about, err := m.Info(); {
		case err == nil && about.Name == "havips":
			p.havips = m
		case err == nil && about.Name == "deadlines":
			p.deadlines = m
		default:
			_ = m.Close()
		}
	}
	p.anchor = id
	return nil
}

func (p *fenceMaps) close() {
	if p.havips != nil {
		_, _ = p.havips.Close(), p.deadlines.Close()
	}
	*p = fenceMaps{}
}

// Deadline reads, without any code of the agent, until when the kernel of a node lets its HAVIPs
// speak, in ns of CLOCK_BOOTTIME. It is false if the node has no fence on TCX.
func (c *Cluster) Deadline(node int) (at int64, ok bool) {
	var p fenceMaps
	defer p.close()
	ok = p.refresh(c.Lab.Node(node)) && p.deadlines.Lookup(uint32(0), &at) == nil
	return at, ok
}

// read takes one sample of a HAVIP. The layout of the maps is that of netdev/fence/DESIGN.md: a
// state word by address, 0 shut, s open until deadline s-1; deadlines on CLOCK_BOOTTIME. A deadline
// that passes during the sample gives none.
func (p *fenceMaps) read(l *Lab, havip netip.Addr) (k history.Kernel, ok bool) {
	before, begin := bootTime(), l.Now()
	key := havip.As16()
	var state [4]byte
	if p.havips.Lookup(key[:], &state) != nil {
		return k, false // not guarded at this node
	}
	word := binary.NativeEndian.Uint32(state[:])
	if word == 0 {
		return history.Kernel{State: history.FenceShut, First: l.Now(), Last: begin}, true
	}
	var deadline [8]byte
	if p.deadlines.Lookup(word-1, &deadline) != nil {
		return k, false
	}
	until, after, end := int64(binary.NativeEndian.Uint64(deadline[:])), bootTime(), l.Now()
	k = history.Kernel{First: end, Last: begin, Deadline: until - before + begin}
	switch {
	case after < until:
		k.State = history.FenceOpen
	case before >= until:
		k.State, k.Deadline = history.FenceExpired, until
	default:
		return k, false
	}
	return k, true
}

// bootTime is CLOCK_BOOTTIME of the machine, ns.
func bootTime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("netns: no CLOCK_BOOTTIME: " + err.Error())
	}
	return ts.Nano()
}
