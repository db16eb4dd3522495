package netns

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"havip-cluster/jepsen/history"
	"havip-cluster/testbed"
)

// A sampler's run of samples ends with a pause longer than sampleBreak; while a deadline has passed,
// and stays the same, it cannot have been open in between, so longer pauses are let pass.
const (
	sampleBreak  = 12 * time.Millisecond
	expiredBreak = time.Second
	askEvery     = 10 * time.Millisecond // the device, for its programs
)

// Sampler reads the fences of all nodes again and again, from the maps of the programs on their
// first ENI: what the kernel itself would judge a frame by, whether the agent lives or not.
// Nodes whose fence is nftables have no such maps and are not sampled.
type Sampler struct {
	ticker *testbed.Ticker
	c      *Cluster
	havips []netip.Addr
	fences []fenceMaps // by node
	end    func()

	mu     sync.Mutex
	counts []uint64 // by node
	open   map[[2]string]*history.Kernel
	done   []history.Kernel
}

// fenceMaps are the maps of one node, as long as its device has the same programs.
type fenceMaps struct {
	programs          []ebpf.ProgramID
	asked             time.Time // the device
	havips, deadlines *ebpf.Map
}

// SampleFences starts a sampler for some HAVIPs, every every. Stop ends it.
func (c *Cluster) SampleFences(havips []netip.Addr, every time.Duration) (*Sampler, error) {
	n := len(c.Lab.Nodes())
	s := &Sampler{c: c, havips: havips, fences: make([]fenceMaps, n), counts: make([]uint64, n), open: map[[2]string]*history.Kernel{}}
	var err error
	if s.ticker, err = testbed.NewTicker(every); err != nil {
		return nil, err
	}
	var running sync.WaitGroup
	running.Go(func() { s.ticker.Run(s.sample) })
	s.end = sync.OnceFunc(func() {
		s.ticker.Stop()
		running.Wait()
		for i := range s.fences {
			s.fences[i].close()
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
		series = append(series, history.Series{Kind: history.Sampling, From: "sampler", Target: s.c.NodeName(i + 1), Every: int64(s.ticker.Every()), Count: n})
	}
	list := append([]history.Kernel(nil), s.done...)
	for _, k := range s.open {
		list = append(list, *k)
	}
	return series, list
}

func (s *Sampler) sample(uint64) {
	for i := range s.fences {
		if !s.fences[i].refresh(s.c.Lab.Node(i + 1)) {
			continue
		}
		for _, havip := range s.havips {
			if k, ok := s.fences[i].read(s.c.Lab, havip); ok {
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

// refresh opens the maps anew if the device has other programs than before; it asks every askEvery. It
// is false without any.
func (p *fenceMaps) refresh(h *Host) bool {
	if time.Since(p.asked) < askEvery {
		return p.havips != nil
	}
	ids, err := FencePrograms(h, 0)
	if p.asked = time.Now(); err != nil {
		p.close()
		return false
	}
	if p.havips != nil && slices.Equal(ids, p.programs) {
		return true
	}
	p.close()
	havips, err := FenceMap(h, 0, "havips")
	if err != nil {
		return false
	}
	deadlines, err := FenceMap(h, 0, "deadlines")
	if err != nil {
		_ = havips.Close()
		return false
	}
	p.programs, p.havips, p.deadlines = ids, havips, deadlines
	return true
}

func (p *fenceMaps) close() {
	if p.havips != nil {
		_, _ = p.havips.Close(), p.deadlines.Close()
	}
	*p = fenceMaps{asked: p.asked}
}

// read takes one sample of a HAVIP. The layout of the maps is that of netdev/fence/DESIGN.md: a
// state word by address, 0 shut, s open until deadline s-1; deadlines on CLOCK_BOOTTIME. A deadline
// that passes during the sample gives none.
func (p *fenceMaps) read(l *Lab, havip netip.Addr) (k history.Kernel, ok bool) {
	before, begin := BootNow(), l.Now()
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
	until, after, end := int64(binary.NativeEndian.Uint64(deadline[:])), BootNow(), l.Now()
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
