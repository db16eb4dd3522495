package acceptor

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/boottime"
)

// hammering is how long a test tries to hit a moment of nanoseconds at most: an emulated processor gets less far.
const hammering = 5 * time.Second

// count is a bed whose program counts: session 7 with three voters, this node among them, and a round that was sent now.
type count struct {
	*bed
	by    Counting
	round uint64
	sent  int64
}

const (
	counted = time.Minute      // the length of its rounds
	left    = 30 * time.Second // of the lease before
)

func answerer(i byte) Channel {
	return Channel{Number: 0xc0ffee00 + uint64(i), Invitation: 0xfeed + uint64(i), Answer: [2]uint64{21, uint64(i)}, Peer: netip.AddrFrom4([4]byte{192, 0, 2, i})}
}

func newCount(t *testing.T) *count {
	t.Helper()
	b := &count{bed: newBed(t), by: Counting{Session: 7, Config: 0xc0c0c0c0c0c0c0c0, Majority: 2, Voters: []Channel{answerer(1), answerer(2)}}}
	b.must(b.counter.Count(b.by))
	b.begin(100)
	return b
}

func (b *count) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// begin begins a round; what is left of the lease is shown to the agent as well.
func (b *count) begin(round uint64) {
	b.Helper()
	b.round, b.sent = round, boottime.Now()
	b.set(b.sent + int64(left))
	b.counter.Round(round, b.sent, counted)
}

func (b *count) set(deadline int64) {
	b.Helper()
	b.must(b.deadline(deadline))
	atomic.StoreInt64(&b.page[PageDeadline], deadline)
}

// ack is an acknowledgement of the round by a voter.
func (b *count) ack(voter int) []byte {
	return b.by.counted(port, &b.by.Voters[voter], b.round, b.sent, counted)
}

// message is what a voter says of the round: in an answer or not, and of which kind.
func (b *count) message(voter int, answer, kind byte) []byte {
	from := &b.by.Voters[voter]
	return from.ethernet(port, from.tagged(answer, from.Answer, kind, b.by.Session, b.round, uint64(b.sent), uint64(counted), b.by.Config, 0x99))
}

// moves reports whether a frame moves the deadline to where the round brings it. It goes on to the process.
func (b *count) moves(frame []byte) bool {
	b.Helper()
	if b.answers(frame) {
		b.Fatal("an acknowledgement is answered")
	}
	var is int64
	b.must(b.objects.Deadlines.Lookup(uint32(0), &is))
	return is == b.sent+int64(counted)
}

// comes has a frame come in again and again until stop, and counts how often.
func (b *count) comes(frame []byte) (tries *atomic.Int64, stop func()) {
	tries = new(atomic.Int64)
	var over atomic.Bool
	var running sync.WaitGroup
	running.Go(func() {
		for !over.Load() {
			_, _, _ = b.Try(frame)
			tries.Add(1)
		}
	})
	return tries, func() { over.Store(true); running.Wait() }
}

// What makes a majority, and what does not.
func TestCount(t *testing.T) {
	for name, c := range map[string]struct {
		before func(b *count)
		frames func(b *count) [][]byte
		want   bool
	}{
		"both others":                   {nil, func(b *count) [][]byte { return [][]byte{b.ack(0), b.ack(1)} }, true},
		"one alone":                     {nil, func(b *count) [][]byte { return [][]byte{b.ack(0)} }, false},
		"one twice":                     {nil, func(b *count) [][]byte { return [][]byte{b.ack(0), b.ack(0)} }, false},
		"one and the own vote":          {func(b *count) { b.counter.OwnVote(100) }, func(b *count) [][]byte { return [][]byte{b.ack(1)} }, true},
		"the own vote of another round": {func(b *count) { b.counter.OwnVote(92) }, func(b *count) [][]byte { return [][]byte{b.ack(1)} }, false},
		"one each of two rounds": {nil, func(b *count) [][]byte {
			b.moves(b.ack(0))
			b.begin(108) // at the same place
			return [][]byte{b.ack(1)}
		}, false},
		"a round of before": {nil, func(b *count) [][]byte {
			first, second := b.ack(0), b.ack(1)
			b.begin(108)
			return [][]byte{first, second}
		}, false},
		"two rounds under way": {nil, func(b *count) [][]byte {
			older := b.ack(0)
			b.begin(101)
			return [][]byte{b.ack(0), older, b.ack(1)}
		}, true},
		"another time of sending": {nil, func(b *count) [][]byte { b.sent++; return [][]byte{b.ack(0), b.ack(1)} }, false},
		"another length": {nil, func(b *count) [][]byte {
			return [][]byte{b.ack(0), b.by.counted(port, &b.by.Voters[1], b.round, b.sent, 2*counted), b.by.counted(port, &b.by.Voters[1], b.round, b.sent, counted-1)}
		}, false},
		"another session":    {nil, func(b *count) [][]byte { b.by.Session++; return [][]byte{b.ack(0), b.ack(1)} }, false},
		"another voter set":  {nil, func(b *count) [][]byte { b.by.Config++; return [][]byte{b.ack(0), b.ack(1)} }, false},
		"another invitation": {nil, func(b *count) [][]byte { b.by.Voters[1].Invitation++; return [][]byte{b.ack(0), b.ack(1)} }, false},
		"another address": {nil, func(b *count) [][]byte {
			b.by.Voters[1].Peer = netip.MustParseAddr("192.0.2.77")
			return [][]byte{b.ack(0), b.ack(1)}
		}, false},
		"a channel that nobody knows": {nil, func(b *count) [][]byte { b.by.Voters[1].Number++; return [][]byte{b.ack(0), b.ack(1)} }, false},
		"in the name of another voter": {nil, func(b *count) [][]byte {
			b.by.Voters[1].Answer = b.by.Voters[0].Answer
			return [][]byte{b.ack(0), b.ack(1)}
		}, false},
		"three of five": {func(b *count) {
			b.by.Majority, b.by.Voters = 3, []Channel{answerer(1), answerer(2), answerer(3), answerer(4)}
			b.must(b.counter.Count(b.by))
		}, func(b *count) [][]byte { return [][]byte{b.ack(3), b.ack(1), b.ack(0)} }, true},
		"two of five": {func(b *count) {
			b.by.Majority, b.by.Voters = 3, []Channel{answerer(1), answerer(2), answerer(3), answerer(4)}
			b.must(b.counter.Count(b.by))
		}, func(b *count) [][]byte { return [][]byte{b.ack(3), b.ack(1)} }, false},
		"the most voters": {func(b *count) {
			b.by.Majority, b.by.Voters = 9, nil
			for i := range byte(CountedVotersMax) {
				b.by.Voters = append(b.by.Voters, answerer(i))
			}
			b.must(b.counter.Count(b.by))
			b.counter.OwnVote(100)
		}, func(b *count) (out [][]byte) {
			for i := 8; i < CountedVotersMax; i++ {
				out = append(out, b.ack(i))
			}
			return out
		}, true},
		"IPv6": {func(b *count) {
			b.by.Voters[0].Peer, b.by.Voters[1].Peer = peer6, netip.MustParseAddr("2001:db8::9")
			b.must(b.counter.Count(b.by))
		}, func(b *count) [][]byte { return [][]byte{b.ack(0), b.ack(1)} }, true},
		"no answer": {nil, func(b *count) [][]byte {
			return [][]byte{b.ack(0), b.message(1, 0, 2)}
		}, false},
		"another kind of message": {nil, func(b *count) [][]byte {
			return [][]byte{b.ack(0), b.message(1, 1, 1), b.message(1, 1, 3)}
		}, false},
		"one before a change of the voters, one after": {nil, func(b *count) [][]byte {
			b.moves(b.ack(0))
			b.by.Config++
			b.must(b.counter.Count(b.by))
			return [][]byte{b.ack(1)}
		}, false},
		"when the lease has passed": {func(b *count) { b.set(b.sent) }, func(b *count) [][]byte { return [][]byte{b.ack(0), b.ack(1)} }, false},
		"when it was ended":         {func(b *count) { b.set(0) }, func(b *count) [][]byte { return [][]byte{b.ack(0), b.ack(1)} }, false},
		"when that was stopped":     {func(b *count) { b.must(b.counter.Stop()) }, func(b *count) [][]byte { return [][]byte{b.ack(0), b.ack(1)} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newCount(t)
			if c.before != nil {
				c.before(b)
			}
			moved := false
			for _, frame := range c.frames(b) {
				moved = b.moves(frame)
			}
			if moved != c.want {
				t.Errorf("moved: %t, want %t", moved, c.want)
			}
			if shown := atomic.LoadInt64(&b.page[PageDeadline]) == b.sent+int64(counted); shown != c.want {
				t.Errorf("shown to the agent: %t, want %t", shown, c.want)
			}
			if want := map[bool]uint64{true: 1}[c.want]; b.counter.Moved() != want {
				t.Errorf("%d times moved, want %d", b.counter.Moved(), want)
			}
		})
	}
}

// A deadline is never moved back: one that the process has stored meanwhile stays.
func TestCountMovesForward(t *testing.T) {
	b := newCount(t)
	later := b.sent + int64(2*counted)
	b.set(later)
	b.moves(b.ack(0))
	b.moves(b.ack(1))
	var is int64
	b.must(b.objects.Deadlines.Lookup(uint32(0), &is))
	if is != later || atomic.LoadInt64(&b.page[PageDeadline]) != later {
		t.Errorf("the deadline is %d, and %d is shown; want %d", is, b.page[PageDeadline], later)
	}
}

// What the agent is shown is not moved back either, should the process have been there between the two.
func TestShownMovesForward(t *testing.T) {
	b := newCount(t)
	later := b.sent + int64(2*counted)
	atomic.StoreInt64(&b.page[PageDeadline], later)
	b.moves(b.ack(0))
	if !b.moves(b.ack(1)) || atomic.LoadInt64(&b.page[PageDeadline]) != later {
		t.Errorf("%d is shown, want %d", b.page[PageDeadline], later)
	}
}

// Whatever byte of an acknowledgement is changed, it does not count.
func TestMangledAcknowledgements(t *testing.T) {
	b := newCount(t)
	b.moves(b.ack(0))
	good := b.ack(1)
	for i := headersBytes; i < len(good); i++ {
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if b.moves(bad) {
			t.Fatalf("byte %d changed, and it counts", i-headersBytes)
		}
	}
	if !b.moves(good) {
		t.Error("the good one does not count")
	}
}

// When Stop has returned, no frame that was under way moves the deadline: the next session may begin with one like it.
func TestNothingCountsAfterStop(t *testing.T) {
	b := newCount(t)
	const tries = 300
	var frames atomic.Pointer[[][]byte]
	var over atomic.Bool
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for !over.Load() {
				if f := frames.Load(); f != nil {
					for _, frame := range *f {
						_, _, _ = b.Try(frame)
					}
				}
			}
		})
	}
	defer running.Wait()
	defer over.Store(true)
	moved := 0
	for i := range uint64(tries) {
		b.must(b.counter.Count(b.by))
		b.begin(i + 1)
		was := b.sent + int64(left)
		frames.Store(&[][]byte{b.ack(0), b.ack(1)})
		time.Sleep(time.Duration(i) * time.Microsecond)
		b.must(b.counter.Stop())
		var is int64
		b.must(b.objects.Deadlines.Lookup(uint32(0), &is))
		if is != was {
			moved++
		}
		b.set(was) // as if it had not been moved
		time.Sleep(50 * time.Microsecond)
		b.must(b.objects.Deadlines.Lookup(uint32(0), &is))
		if is != was {
			t.Fatalf("moved after the stop, try %d", i)
		}
	}
	if (moved == 0 || moved == tries) && runtime.NumCPU() > 1 {
		t.Errorf("of %d tries %d were moved before the stop", tries, moved)
	}
}

// While the voters change their places, one of them alone is never counted for two.
func TestPlacesChangeWhileFramesCome(t *testing.T) {
	b := newCount(t)
	frame := b.ack(0)
	there, back := b.by, b.by
	back.Voters = []Channel{b.by.Voters[1], b.by.Voters[0]}
	tries, stop := b.comes(frame)
	defer func() {
		stop()
		if b.moves(frame); tries.Load() == 0 || !b.moves(b.ack(1)) {
			t.Errorf("%d frames, and with both voters nothing moves", tries.Load())
		}
	}()
	for i, begin := 0, time.Now(); i < 20_000 && time.Since(begin) < hammering; i++ {
		b.must(b.counter.Count(back))
		b.must(b.counter.Count(there))
		if n := b.counter.Moved(); n != 0 {
			t.Fatalf("moved by one voter, after %d changes and %d frames", 2*i+2, tries.Load())
		}
	}
}

// One hand ends the lease while the other moves it: either it was moved before, or it stays ended.
func TestEndedIsEnded(t *testing.T) {
	b := newCount(t)
	memory, err := unix.Mmap(b.objects.Deadlines.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	b.must(err)
	defer func() { _ = unix.Munmap(memory) }()
	word := (*int64)(unsafe.Pointer(&memory[0]))
	b.moves(b.ack(0))
	frame := b.ack(1) // makes the majority, each time that it comes
	tries, stop := b.comes(frame)
	defer stop()
	soon, reached, moved := b.sent+int64(left), b.sent+int64(counted), 0
	for i, begin := 0, time.Now(); i < 30_000 && time.Since(begin) < hammering; i++ {
		atomic.StoreInt64(word, soon)
		for range i % 400 { // somewhere in what the program does
			_ = tries.Load()
		}
		if atomic.SwapInt64(word, 0) == reached {
			moved++
		}
		for end := tries.Load() + 2; tries.Load() < end; {
			runtime.Gosched()
		}
		if is := atomic.LoadInt64(word); is != 0 {
			t.Fatalf("try %d: the deadline is %d after the end", i, is)
		}
	}
	if moved == 0 && runtime.NumCPU() > 1 { // one processor does not do both at once
		t.Error("never moved")
	}
}

// One voter more than the limit is refused by name, and then nobody is counted by a set that does not hold.
func TestTooManyVoters(t *testing.T) {
	b := newCount(t)
	by := b.by
	by.Voters = nil
	for i := range byte(CountedVotersMax + 1) {
		by.Voters = append(by.Voters, answerer(i))
	}
	if err := b.counter.Count(by); !errors.Is(err, ErrVoters) {
		t.Errorf("one more: %v", err)
	}
	b.moves(b.ack(0))
	if b.moves(b.ack(1)) {
		t.Error("counted by the set before")
	}
}

// After Close nothing is told to a program that is gone, and nothing crashes.
func TestCounterAfterClose(t *testing.T) {
	b := newCount(t)
	b.Close()
	b.counter.Round(1, 2, 3)
	b.counter.OwnVote(1)
	if b.counter.Moved() != 0 || b.counter.Stop() != nil {
		t.Error("a counter that was closed counts")
	}
	if b.counter.Count(b.by) == nil {
		t.Error("a counter that was closed begins")
	}
}

// No round has the number 0, and so none can have the own vote of a place that was never used.
func TestNoRoundZero(t *testing.T) {
	b := newCount(t)
	b.round = 0
	b.must(b.counter.Count(b.by))
	b.counter.Round(0, b.sent, counted)
	if b.moves(b.ack(0)) {
		t.Error("one voter is a majority")
	}
}

// Where the count is not possible, renewals are answered all the same, and it is said why.
func TestNoCount(t *testing.T) {
	b := newBed(t)
	odd, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer odd.Close()
	a, err := Open(b.file, port, odd)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if c, err := a.Counter(); c != nil || err == nil {
		t.Errorf("a counter %v, and why there is none: %v", c, err)
	}
	d := delegation()
	if err := a.Grant(d); err != nil {
		t.Fatal(err)
	}
	if verdict, _, err := a.Try(d.renewal(port, 101, 5001)); err != nil || verdict != VerdictRedirect {
		t.Errorf("verdict %d, %v", int32(verdict), err)
	}
}

// A round costs no allocation, and none where nothing has changed.
func TestARoundAllocatesNothing(t *testing.T) {
	b := newCount(t)
	round := uint64(1)
	if n := testing.AllocsPerRun(1000, func() {
		round++
		_ = b.counter.Count(b.by)
		b.counter.Round(round, 1, counted)
		b.counter.OwnVote(round)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
