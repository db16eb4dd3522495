package guard

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/dchest/siphash"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/plane"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/membership/datagram"
	"havip-cluster/netdev/acceptor"
)

// The page has one layout: the program in the kernel reads the word that the agent writes. Likewise frames.
func TestOneLayout(t *testing.T) {
	if plane.SuspendedAt != acceptor.PageSuspended {
		t.Errorf("the voters are suspended by word %d of the page, and the kernel reads word %d", plane.SuspendedAt, acceptor.PageSuspended)
	}
	if plane.DeadlineAt != acceptor.PageDeadline {
		t.Errorf("the agent sees the deadline in word %d of the page, and the kernel moves word %d", plane.DeadlineAt, acceptor.PageDeadline)
	}
	if lease.RoundsMax != acceptor.RoundsMax {
		t.Errorf("a holder remembers %d rounds, and the kernel %d", lease.RoundsMax, acceptor.RoundsMax)
	}
	if wire.VersionFixed != datagram.FixedMark {
		t.Errorf("fixed messages begin with %d, and tagged ones with %d", wire.VersionFixed, datagram.FixedMark)
	}
	if lease.NodesMax != acceptor.DelegationsMax {
		t.Errorf("%d nodes, and %d can be delegated", lease.NodesMax, acceptor.DelegationsMax)
	}
}

// voterLog is the log of a voter, which the test changes.
type voterLog struct {
	state *fsm.State
	set   lease.VoterSet
}

func (l *voterLog) State() *fsm.State                { return l.state }
func (l *voterLog) VoterSet() lease.VoterSet         { return l.set }
func (l *voterLog) LeaderID() string                 { return "" }
func (l *voterLog) CaughtUp() bool                   { return true }
func (l *voterLog) Applied() uint64                  { return l.state.Index }
func (l *voterLog) Leading() (uint64, bool)          { return 0, false }
func (l *voterLog) Watch() (<-chan struct{}, func()) { return nil, func() {} }
func (l *voterLog) Propose(context.Context, uint64, string, fsm.Body) (fsm.Result, error) {
	return fsm.Result{}, nil
}

// said is what the voter has said to others.
type said struct{ acks, endorsements int }

func (s *said) Send(_ fsm.Node, b []byte) error {
	switch wire.Kind(b[1]) {
	case wire.KindAck:
		s.acks++
	case wire.KindEndorsement:
		s.endorsements++
	}
	return nil
}

// channels has the channel of each holder.
type channels map[string]datagram.Channel

func (c channels) Tagged(node string) (datagram.Channel, bool) { ch, is := c[node]; return ch, is }

// twin is a voter that delegates to the kernel, and beside it the acceptor alone, which sees the same messages and
// says what is right. Since the kernel's clock is the real one, the acceptor is asked with an instant before and one
// after the voter was: where these two differ, either is right.
type twin struct {
	*rapid.T
	log           *voterLog
	voter         *shell.Voter
	kernel        *acceptor.Acceptor
	said          *said
	channels      channels
	before, after *lease.Acceptor
	boot          lease.BootID
	session       uint64
	round         uint64
	sent          int64
	suspended     int64
	acked         uint64 // by the kernel
}

const twinLength = 10 * time.Millisecond

func newTwin(t *rapid.T, kernel *acceptor.Acceptor) *twin {
	state := fsm.New()
	state.Cluster.Lease, state.Cluster.LeaseMax = twinLength, twinLength
	state.Nodes = map[string]fsm.Node{}
	for _, id := range []string{"n-1", "n-2", "n-3"} {
		state.Nodes[id] = fsm.Node{ID: id, Name: id, LeasePort: 1, Keys: make([]fsm.NodeKey, 1)}
	}
	w := &twin{T: t, kernel: kernel, said: &said{}, boot: shell.DrawBoot(), log: &voterLog{state: state, set: lease.NewVoterSet([]string{"n-1", "n-2", "n-3"})}}
	w.log.set.Index = 1
	w.channels = channels{"n-2": {Number: uint64(w.boot), Invitation: 9, Request: [2]uint64{1, uint64(w.boot)}, Answer: [2]uint64{2, 3}, Peer: netip.MustParseAddr("192.0.2.1")}}
	mail := wire.NewMail(wire.Config{Node: "n-1", Log: w.log, Post: w.said, Boot: w.boot}, func(wire.Message) {})
	past := ports.Boot().Add(-time.Minute) // the silence after the start is over
	clock := func() lease.Instant { return past }
	hand := &inKernel{acceptor: kernel, socket: w.channels, suspended: func() int64 { return w.suspended }}
	w.voter = shell.NewVoter(shell.Config{
		Node: "n-1", Log: w.log, Mail: mail, Clock: func() lease.Instant { return clock() }, Logger: slog.New(slog.DiscardHandler),
		Boot: w.boot, Lease: twinLength, Delegate: hand,
	})
	w.voter.Follow()
	clock = ports.Boot
	for _, a := range []**lease.Acceptor{&w.before, &w.after} {
		*a = lease.NewAcceptor("n-1", w.boot, past, twinLength)
		(*a).CaughtUp(past)
		(*a).UseVoterSet(past, w.log.set)
	}
	w.open()
	return w
}

// change gives the log another state.
func (w *twin) change(f func(s *fsm.State)) {
	s := *w.log.state
	s.Sessions = map[uint64]fsm.Session{}
	for n, sess := range w.log.state.Sessions {
		s.Sessions[n] = sess
	}
	f(&s)
	w.log.state = &s
}

// open opens a next session of n-2, which ends the one before.
func (w *twin) open() {
	w.session++
	w.change(func(s *fsm.State) {
		s.Sessions = map[uint64]fsm.Session{w.session: {Number: w.session, Node: "n-2", Lease: twinLength}}
	})
	w.before.Opened(ports.Boot(), lease.Session{Node: "n-2", Number: w.session}, twinLength)
	w.voter.Follow()
	w.after.Opened(ports.Boot(), lease.Session{Node: "n-2", Number: w.session}, twinLength)
	w.round, w.sent = 0, 0
}

// use gives the log another voter set.
func (w *twin) use(set lease.VoterSet) {
	w.before.UseVoterSet(ports.Boot(), set)
	w.log.set = set
	w.after.UseVoterSet(ports.Boot(), set)
}

// renew has a renewal come in: at the kernel first, as on the wire.
func (w *twin) renew(r lease.Renewal) {
	frame := frameOf(w.channels["n-2"], r)
	_, early := w.before.Renew(ports.Boot(), r)
	verdict, _, err := w.kernel.Try(frame)
	if err != nil {
		w.Fatal(err)
	}
	acked := verdict == acceptor.VerdictRedirect
	if acked {
		w.acked++
	} else {
		was := w.said.acks
		w.voter.Renewal(r)
		acked = w.said.acks > was
	}
	_, late := w.after.Renew(ports.Boot(), r)
	if early == late && acked != (early == "") {
		w.Fatalf("renewal %+v: acknowledged %t (by the kernel: %t), the acceptor says %q", r, acked, verdict == acceptor.VerdictRedirect, early)
	}
}

// question asks whether the session has expired.
func (w *twin) question() {
	q := lease.Question{ID: lease.QuestionID{Leader: "n-3", Term: 1, Number: 1}, Session: lease.Session{Node: "n-2", Number: w.session}, Config: w.log.set.ID, Length: twinLength}
	_, early := w.before.Endorse(ports.Boot(), q)
	was := w.said.endorsements
	w.voter.Question("n-3", q)
	endorsed := w.said.endorsements > was
	_, late := w.after.Endorse(ports.Boot(), q)
	if early == late && endorsed != (early == "") {
		w.Fatalf("endorsed %t, the acceptor says %q", endorsed, early)
	}
	if early != late { // who has endorsed and who has not goes on differently
		w.open()
	}
}

// frameOf is a renewal of n-2 as it comes in at a device.
func frameOf(c datagram.Channel, r lease.Renewal) []byte {
	b := make([]byte, 12, 256)
	b = append(b, 0x08, 0, 0x45, 0, 0, 148, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0x1c, 0xeb, 0x1c, 0xeb, 0, 128, 0, 0)
	f := []byte{1, 2, 0, 0, 0, 0, 0, 1}
	for _, v := range []uint64{2, 1, 1 << 32, c.Number, c.Invitation, 1, wire.VersionFixed<<56 | uint64(wire.KindRenewal)<<48, r.Session.Number, r.Round, uint64(r.Sent), uint64(r.Length), uint64(r.Config), uint64(r.Boot)} {
		f = binary.BigEndian.AppendUint64(f, v)
	}
	return append(b, binary.LittleEndian.AppendUint64(f, siphash.Hash(c.Request[0], c.Request[1], f))...)
}

// In random histories a voter that delegates to the kernel says what the acceptor alone would: renewals of all
// kinds, repeated and reordered, questions, sessions that end, voter sets, lengths, suspended voters, waiting.
func TestKernelAgainstAcceptor(t *testing.T) {
	g := &guard{log: slog.New(slog.DiscardHandler)}
	page := g.newPage()
	if page == nil {
		t.Fatal("no page that is shared with the kernel (this test needs root and Linux 6.6, it does not skip)")
	}
	defer page.Close()
	defer g.page.Close()
	kernel, err := acceptor.Open(g.page, 7403, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	memory, err := unix.Mmap(int(page.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	word := (*int64)(unsafe.Pointer(&memory[8*plane.SuspendedAt]))
	acked := uint64(0)
	defer func() {
		if acked == 0 {
			t.Error("the kernel has answered nothing in all histories")
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		w := newTwin(t, kernel)
		w.suspended = atomic.LoadInt64(word)
		defer func() { w.voter.Stop(); acked += w.acked }()
		var sent []lease.Renewal
		good := func() lease.Renewal {
			w.round++
			w.sent += rapid.Int64Range(1, 3).Draw(t, "later")
			return lease.Renewal{Session: lease.Session{Node: "n-2", Number: w.session}, Round: w.round, Sent: lease.Instant(w.sent), Length: w.log.state.Cluster.Lease, Config: w.log.set.ID, Boot: w.boot}
		}
		t.Repeat(map[string]func(*rapid.T){
			"renewal": func(*rapid.T) { r := good(); sent = append(sent, r); w.renew(r) },
			"renewals": func(*rapid.T) {
				for range 3 {
					r := good()
					sent = append(sent, r)
					w.renew(r)
				}
			},
			"replay": func(t *rapid.T) {
				if len(sent) > 0 {
					w.renew(rapid.SampledFrom(sent).Draw(t, "which"))
				}
			},
			"odd": func(t *rapid.T) {
				r := good()
				switch rapid.IntRange(0, 5).Draw(t, "what") {
				case 0:
					r.Session.Number = rapid.Uint64Range(0, w.session+1).Draw(t, "session")
				case 1:
					r.Length = rapid.SampledFrom([]time.Duration{twinLength - 1, twinLength, 2 * twinLength, 0}).Draw(t, "length")
				case 2:
					r.Config++
				case 3:
					r.Boot++
				case 4:
					r.Sent = lease.Instant(rapid.Int64Range(-5, w.sent).Draw(t, "sent"))
				case 5:
					r.Round = rapid.Uint64Range(0, w.round).Draw(t, "round")
				}
				w.renew(r)
			},
			"question": func(*rapid.T) { w.question() },
			"wait":     func(*rapid.T) { time.Sleep(lease.Promise(twinLength) + time.Millisecond) },
			"session":  func(*rapid.T) { w.open() },
			"voters": func(t *rapid.T) {
				set := lease.NewVoterSet(rapid.SampledFrom([][]string{{"n-1", "n-2", "n-3"}, {"n-1", "n-2"}, {"n-2", "n-3"}}).Draw(t, "voters"))
				set.Index = uint64(rapid.IntRange(2, 4).Draw(t, "index"))
				w.use(set)
				w.voter.Follow()
			},
			"suspended": func(*rapid.T) { // and this voter does not learn of it by itself
				w.suspended = atomic.AddInt64(word, 1)
				set := w.log.set
				w.use(lease.VoterSet{})
				r := good()
				r.Config = set.ID
				w.renew(r)
				w.use(set)
				w.voter.Follow()
			},
			"length": func(t *rapid.T) {
				longest := rapid.SampledFrom([]time.Duration{twinLength, twinLength * 3 / 2}).Draw(t, "longest")
				w.change(func(s *fsm.State) { s.Cluster.Lease, s.Cluster.LeaseMax = longest, longest })
				w.before.SetLongest(ports.Boot(), longest)
				w.voter.Follow()
				w.after.SetLongest(ports.Boot(), longest)
			},
		})
	})
}
