package guard

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/dchest/siphash"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/membership/datagram"
	"havip-cluster/netdev/acceptor"
)

// answers has the channel in which each voter answers.
type answers map[string]datagram.Channel

func (a answers) Answered(node string) (datagram.Channel, bool) { ch, is := a[node]; return ch, is }

// ackFrame is an acknowledgement to this node as it comes in at a device.
func ackFrame(c datagram.Channel, a lease.Ack) []byte {
	from := c.Peer.As4()
	b := make([]byte, 12, 256)
	b = append(b, 0x08, 0, 0x45, 0, 0, 148, 0, 0, 0, 0, 64, 17, 0, 0, from[0], from[1], from[2], from[3], 192, 0, 2, 9, 0x1c, 0xeb, 0x1c, 0xeb, 0, 128, 0, 0)
	f := []byte{1, 2, 1, 0, 0, 0, 0, 1}
	for _, v := range []uint64{2, 1, 1 << 32, c.Number, c.Invitation, 1, wire.VersionFixed<<56 | uint64(wire.KindAck)<<48, a.Session.Number, a.Round, uint64(a.Sent), uint64(a.Length), uint64(a.Config), uint64(a.Boot)} {
		f = binary.BigEndian.AppendUint64(f, v)
	}
	return append(b, binary.LittleEndian.AppendUint64(f, siphash.Hash(c.Answer[0], c.Answer[1], f))...)
}

// holding is a Holder, and the kernel that counts for the same session.
type holding struct {
	*rapid.T
	kernel  *acceptor.Acceptor
	counter *counter
	word    *ebpf.Map
	holder  *lease.Holder
	set     lease.VoterSet
	session uint64
	rounds  []lease.Renewal
	since   uint64      // the first round by the present set: those before are left to the process
	acks    []lease.Ack // that have come in
}

const heldLength = 200 * time.Millisecond

func (h *holding) deadline() (d lease.Instant) {
	var v int64
	if err := h.word.Lookup(uint32(0), &v); err != nil {
		h.Fatal(err)
	}
	return lease.Instant(v)
}

func (h *holding) begin() {
	if err := h.counter.StopCounting(); err != nil {
		h.Fatal(err)
	}
	h.session++
	h.holder = lease.NewHolder(lease.Session{Node: "n-1", Number: h.session}, ports.Boot(), heldLength)
	h.rounds, h.acks, h.since = nil, nil, 0
	if err := h.word.Update(uint32(0), int64(h.holder.Deadline()), ebpf.UpdateAny); err != nil {
		h.Fatal(err)
	}
}

func (h *holding) round(length time.Duration) {
	r, alive := h.holder.Begin(ports.Boot(), h.set, length)
	if !alive {
		h.begin()
		return
	}
	if was := h.counter.set; was.ID != h.set.ID || was.Index != h.set.Index {
		h.since = r.Round
	}
	h.counter.CountBy(r.Session, h.set, r.Sent)
	h.counter.Round(r)
	h.rounds = append(h.rounds, r)
}

// answer has an acknowledgement come in: at the kernel, and then at the process. From the kernel an answer counts
// if it comes in time by its clock, so where the lease passes between the two either is right.
func (h *holding) answer(a lease.Ack) {
	h.acks = append(h.acks, a)
	before := ports.Boot()
	if a.From == "n-1" {
		h.counter.OwnVote(a.Round)
	} else if _, _, err := h.kernel.Try(ackFrame(h.counter.socket.(answers)[a.From], a)); err != nil {
		h.Fatal(err)
	}
	was := h.holder.Deadline()
	moved, _ := h.holder.Ack(before, a)
	is := h.deadline()
	switch {
	case is > moved:
		h.Fatalf("ack %+v: the kernel has moved the deadline to %d, the holder is at %d (from %d)", a, is, moved, was)
	case is < moved && a.From != "n-1" && a.Round >= h.since && ports.Boot().Before(is):
		h.Fatalf("ack %+v: the kernel is at %d, the holder has moved from %d to %d", a, is, was, moved)
	case is < moved: // the process is first: the kernel would look at the own vote with the next answer of another
		if err := h.word.Update(uint32(0), int64(moved), ebpf.UpdateAny); err != nil {
			h.Fatal(err)
		}
	}
}

// newKernel is a program in the kernel that moves the deadline in word.
func newKernel(t *testing.T) (kernel *acceptor.Acceptor, word *ebpf.Map) {
	t.Helper()
	g := &guard{log: slog.New(slog.DiscardHandler)}
	page := g.newPage()
	if page == nil {
		t.Fatal("no page that is shared with the kernel (this test needs root and Linux 6.6, it does not skip)")
	}
	word, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		t.Fatal(err)
	}
	if kernel, err = acceptor.Open(g.page, 7403, word); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kernel.Close(); _ = word.Close(); _ = page.Close(); _ = g.page.Close() })
	return kernel, word
}

func counterOf(t interface{ Fatal(args ...any) }, kernel *acceptor.Acceptor) *acceptor.Counter {
	c, err := kernel.Counter()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// In random histories the kernel counts what lease.Holder counts: acknowledgements of rounds old and new, repeated,
// reordered, of other sessions, sets and lengths; leases that pass; voters that come and go.
func TestKernelAgainstHolder(t *testing.T) {
	kernel, word := newKernel(t)
	nodes := []string{"n-1", "n-2", "n-3", "n-4", "n-5"}
	known := answers{}
	for i, n := range nodes[1:] {
		known[n] = datagram.Channel{Number: uint64(100 + i), Invitation: 9, Answer: [2]uint64{5, uint64(i)}, Peer: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}
	}
	session := uint64(0)
	defer func() {
		if counterOf(t, kernel).Moved() == 0 {
			t.Error("the kernel has counted nothing in all histories")
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		h := &holding{T: t, kernel: kernel, word: word, session: session, set: lease.NewVoterSet(nodes[:3])}
		h.counter = &counter{node: "n-1", kernel: counterOf(t, kernel), socket: known, log: slog.New(slog.DiscardHandler)}
		defer func() { session = h.session }()
		h.begin()
		ack := func(t *rapid.T, r lease.Renewal) lease.Ack {
			return lease.Ack{Session: r.Session, Round: r.Round, Sent: r.Sent, Length: r.Length, Config: r.Config, From: rapid.SampledFrom(nodes).Draw(t, "from"), Boot: 1}
		}
		newest := func() lease.Renewal {
			if len(h.rounds) == 0 {
				return lease.Renewal{}
			}
			return h.rounds[len(h.rounds)-1]
		}
		t.Repeat(map[string]func(*rapid.T){
			"round": func(*rapid.T) { h.round(heldLength) },
			"long":  func(*rapid.T) { h.round(heldLength * 2) },
			"answer": func(t *rapid.T) {
				if a := ack(t, newest()); a.Round != 0 && h.set.Has(a.From) {
					h.answer(a)
				}
			},
			"answers": func(t *rapid.T) {
				for _, from := range h.set.Voters {
					a := ack(t, newest())
					if a.From = from; a.Round != 0 {
						h.answer(a)
					}
				}
			},
			"late": func(t *rapid.T) {
				if n := len(h.rounds); n > 0 {
					if a := ack(t, h.rounds[max(0, n-1-rapid.IntRange(0, 12).Draw(t, "rounds ago"))]); a.From != "n-1" {
						h.answer(a)
					}
				}
			},
			"again": func(t *rapid.T) {
				if len(h.acks) > 0 {
					if a := rapid.SampledFrom(h.acks).Draw(t, "which"); a.From != "n-1" {
						h.answer(a)
					}
				}
			},
			"odd": func(t *rapid.T) {
				a := ack(t, newest())
				switch rapid.IntRange(0, 4).Draw(t, "what") {
				case 0:
					a.Session.Number++
				case 1:
					a.Round += 8
				case 2:
					a.Sent++
				case 3:
					a.Length++
				case 4:
					a.Config++
				}
				if a.From != "n-1" {
					h.answer(a)
				}
			},
			"voters": func(t *rapid.T) {
				set := lease.NewVoterSet(nodes[rapid.IntRange(0, 1).Draw(t, "without itself"):rapid.IntRange(2, 5).Draw(t, "voters")])
				set.Index = h.set.Index + 1
				h.set = set
			},
			"wait":    func(t *rapid.T) { time.Sleep(time.Duration(rapid.IntRange(0, 60).Draw(t, "ms")) * time.Millisecond) },
			"session": func(*rapid.T) { h.begin() },
		})
	})
}

// A node that does not vote has no vote of its own, whatever its voter says.
func TestNoOwnVoteOfWhoDoesNotVote(t *testing.T) {
	kernel, word := newKernel(t)
	known := answers{"n-2": {Number: 2, Peer: netip.MustParseAddr("192.0.2.2")}, "n-3": {Number: 3, Peer: netip.MustParseAddr("192.0.2.3")}}
	c := &counter{node: "n-1", kernel: counterOf(t, kernel), socket: known, log: slog.New(slog.DiscardHandler)}
	for _, step := range []struct {
		voters []string
		want   uint64
	}{{[]string{"n-2", "n-3"}, 0}, {[]string{"n-1", "n-2", "n-3"}, 1}} {
		set, now := lease.NewVoterSet(step.voters), ports.Boot()
		r := lease.Renewal{Session: lease.Session{Node: "n-1", Number: 7}, Round: 1, Sent: now, Length: time.Minute, Config: set.ID}
		if err := word.Update(uint32(0), int64(now)+int64(time.Second), ebpf.UpdateAny); err != nil {
			t.Fatal(err)
		}
		c.CountBy(r.Session, set, now)
		c.Round(r)
		c.OwnVote(r.Round)
		if _, _, err := kernel.Try(ackFrame(known["n-2"], lease.Ack{Session: r.Session, Round: 1, Sent: now, Length: r.Length, Config: set.ID})); err != nil {
			t.Fatal(err)
		}
		if n := counterOf(t, kernel).Moved(); n != step.want {
			t.Errorf("voters %v, one of the others has answered: moved %d times, want %d", step.voters, n, step.want)
		}
	}
}

// What a voter answers in is looked at now and then, not with each round, and one that answers in no channel yet is left to
// the process.
func TestChannelsAreLookedAt(t *testing.T) {
	kernel, _ := newKernel(t)
	known := &counting{answers: answers{"n-2": {Number: 1, Peer: netip.MustParseAddr("192.0.2.2")}}}
	c := &counter{node: "n-1", kernel: counterOf(t, kernel), socket: known, log: slog.New(slog.DiscardHandler)}
	set := lease.NewVoterSet([]string{"n-1", "n-2", "n-3"})
	s, now := lease.Session{Node: "n-1", Number: 7}, ports.Boot()
	for _, step := range []struct {
		what   string
		after  time.Duration
		asked  int
		voters int
	}{
		{"at first", 0, 2, 1},
		{"soon after", channelsEach - 1, 2, 1},
		{"later", channelsEach, 4, 2},
	} {
		c.CountBy(s, set, now.Add(step.after))
		if known.times != step.asked || len(c.by.Voters) != step.voters {
			t.Errorf("%s: asked %d times, %d voters; want %d and %d", step.what, known.times, len(c.by.Voters), step.asked, step.voters)
		}
		known.answers["n-3"] = datagram.Channel{Number: 2, Peer: netip.MustParseAddr("192.0.2.3")}
	}
	if c.CountBy(lease.Session{Node: "n-1", Number: 8}, set, now.Add(channelsEach)); known.times != 6 {
		t.Errorf("not looked at for the next session: %d", known.times)
	}
}

// counting counts how often it is.
type counting struct {
	answers
	times int
}

func (a *counting) Answered(node string) (datagram.Channel, bool) {
	a.times++
	return a.answers.Answered(node)
}
