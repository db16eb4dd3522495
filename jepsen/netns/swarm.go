package netns

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"

	"havip-cluster/testbed"
)

const (
	swarmTick  = time.Millisecond // what is due in a tick is sent in one system call
	swarmBatch = 512              // datagrams of one system call, at most
	swarmMax   = 1 << 14          // addresses
	sentBits   = 50               // of a question's number: when it was sent, ns; 13 days
)

// Swarm asks many addresses in turn, as a client of all of them: through the kernel's own routing
// and neighbour cache, each address once in a round. It keeps no probe, only each address's longest
// gap, from the sending of the last answered question to that of the next, less a round.
type Swarm struct {
	lab     *Lab
	every   time.Duration // a round
	ticker  *testbed.Ticker
	conn    *ipv4.PacketConn
	targets []net.Addr
	index   map[netip.Addr]int
	per     int // questions of a tick, in 1024ths
	end     func()

	mu    sync.Mutex
	asked uint64
	seen  []served
}

// served is what a Swarm knows of one address. Times are Lab.Now of sending; 0: never.
type served struct {
	last   int64 // the latest question that was answered
	gap    time.Duration
	gapEnd int64  // the first answered question after the longest gap
	before string // who answered at Reset
	node   string
}

// Swarm starts to ask targets (IPv4, at most 16,384) on a UDP port, each once in every, until ctx ends
// or Stop. The machine's neighbour cache must have room for them (net.ipv4.neigh.default.gc_thresh3).
func (l *Lab) Swarm(ctx context.Context, from *Host, targets []netip.Addr, port int, every time.Duration) (*Swarm, error) {
	if len(targets) == 0 || len(targets) > swarmMax || every < swarmTick {
		return nil, fmt.Errorf("netns: swarm of %d addresses every %v: 1 to %d, at least %v", len(targets), every, swarmMax, swarmTick)
	}
	s := &Swarm{lab: l, every: every, index: map[netip.Addr]int{}, seen: make([]served, len(targets))}
	for i, t := range targets {
		s.targets, s.index[t] = append(s.targets, net.UDPAddrFromAddrPort(netip.AddrPortFrom(t, uint16(port)))), i
	}
	s.per = int(int64(len(targets)) * 1024 * int64(swarmTick) / int64(every))
	var socket *net.UDPConn
	err := from.Do(func() (err error) {
		socket, err = net.ListenUDP("udp4", nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netns: swarm at %s: %w", from.Name, err)
	}
	_ = socket.SetReadBuffer(receiveBytes)
	_ = socket.SetWriteBuffer(receiveBytes)
	s.conn = ipv4.NewPacketConn(socket)
	if s.ticker, err = testbed.NewTicker(swarmTick); err != nil {
		_ = socket.Close()
		return nil, err
	}
	var sender, receiver sync.WaitGroup
	sender.Go(s.run)
	receiver.Go(s.receive)
	s.end = sync.OnceFunc(func() {
		s.ticker.Stop()
		sender.Wait()
		time.Sleep(testbed.GraceWait)
		_ = socket.Close()
		receiver.Wait()
	})
	context.AfterFunc(ctx, s.end)
	return s, nil
}

// Stop ends asking, waits for late answers and returns when both goroutines have ended.
func (s *Swarm) Stop() { s.end() }

func (s *Swarm) run() {
	owed, next := 0, 0
	messages := make([]ipv4.Message, swarmBatch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 0, testbed.QuestionBytes)}
	}
	s.ticker.Run(func(due uint64) {
		owed = min(owed+s.per*int(min(due, 10)), swarmBatch*1024)
		n := owed / 1024
		owed -= n * 1024
		now := s.lab.Now()
		for i := range messages[:n] {
			number := uint64(next)<<sentBits | uint64(now)
			messages[i].Buffers[0], messages[i].Addr = testbed.AppendQuestion(messages[i].Buffers[0][:0], number), s.targets[next]
			next = (next + 1) % len(s.targets)
		}
		for rest := messages[:n]; len(rest) > 0; {
			sent, _ := s.conn.WriteBatch(rest, 0)
			rest = rest[min(max(sent, 1), len(rest)):] // one that is refused (no neighbour) is a question without an answer
		}
		s.mu.Lock()
		s.asked += uint64(n)
		s.mu.Unlock()
	})
}

func (s *Swarm) receive() {
	messages := make([]ipv4.Message, swarmBatch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, testbed.AnswerBytes)}
	}
	for {
		n, err := s.conn.ReadBatch(messages, 0)
		if err != nil {
			return
		}
		s.mu.Lock()
		for _, m := range messages[:n] {
			s.answered(m)
		}
		s.mu.Unlock()
	}
}

// answered is called with mu held.
func (s *Swarm) answered(m ipv4.Message) {
	from, ok := m.Addr.(*net.UDPAddr)
	number, node, question := testbed.ParseQuestion(m.Buffers[0][:m.N])
	if !ok || !question {
		return
	}
	i, known := s.index[from.AddrPort().Addr().Unmap()]
	sent := int64(number & (1<<sentBits - 1))
	if !known || uint64(i) != number>>sentBits {
		return
	}
	e := &s.seen[i]
	if e.last != 0 && sent > e.last {
		if gap := time.Duration(sent-e.last) - s.every; gap > e.gap {
			e.gap, e.gapEnd = gap, sent
		}
	}
	e.last, e.node = max(e.last, sent), node
}

// Reset forgets the gaps so far, and remembers who answers.
func (s *Swarm) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.seen {
		s.seen[i].gap, s.seen[i].gapEnd, s.seen[i].before = 0, 0, s.seen[i].node
	}
}

// SwarmReport condenses what a Swarm saw.
type SwarmReport struct {
	Asked   uint64
	Dark    int             // addresses without an answer in the last ten rounds and 100 ms
	Gaps    []time.Duration // of the addresses with one of at least two rounds, sorted
	Last    time.Duration   // from a time to the end of the latest of those gaps, of addresses that another node answers for than at Reset
	Skipped uint64          // ticks without questions, for want of CPU
	By      map[string]int  // who answered last, by node
}

// Report condenses what was seen since Reset; Last counts from since, a Lab.Now.
func (s *Swarm) Report(since int64) SwarmReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := SwarmReport{Asked: s.asked, Skipped: s.ticker.Skipped(), By: map[string]int{}}
	recent := s.lab.Now() - int64(10*s.every) - int64(testbed.GraceWait)
	for _, e := range s.seen {
		if e.last == 0 || e.last < recent {
			r.Dark++
			continue
		}
		r.By[e.node]++
		if e.gap >= 2*s.every {
			r.Gaps = append(r.Gaps, e.gap)
			if e.node != e.before {
				r.Last = max(r.Last, time.Duration(e.gapEnd-since))
			}
		}
	}
	slices.Sort(r.Gaps)
	return r
}

// Quantile is the q-th (0 to 1) of the gaps; 0 without any.
func (r SwarmReport) Quantile(q float64) time.Duration {
	if len(r.Gaps) == 0 {
		return 0
	}
	return r.Gaps[min(int(q*float64(len(r.Gaps))), len(r.Gaps)-1)]
}

func (r SwarmReport) String() string {
	return fmt.Sprintf("%d addresses had a gap: p50 %s, p99 %s, max %s; the last was served again after %s; dark %d; %d questions, %d ticks missed; answered by %v",
		len(r.Gaps), r.Quantile(0.5).Round(time.Millisecond), r.Quantile(0.99).Round(time.Millisecond), r.Quantile(1).Round(time.Millisecond),
		r.Last.Round(time.Millisecond), r.Dark, r.Asked, r.Skipped, r.By)
}

// Sequence is n addresses from the lab's subnet, the first of them at start above its first one.
func (l *Lab) Sequence(start, n int) []netip.Addr {
	base := l.Subnet().Addr().As4()
	list := make([]netip.Addr, n)
	for i := range list {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(base[:])+uint32(start+i))
		list[i] = netip.AddrFrom4(a)
	}
	return list
}
