package shell

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/testbed/labtest"
)

// still is a log in which nothing happens.
type still struct {
	state *fsm.State
	set   lease.VoterSet
}

func (l *still) State() *fsm.State                { return l.state }
func (l *still) Watch() (<-chan struct{}, func()) { return nil, func() {} }
func (l *still) VoterSet() lease.VoterSet         { return l.set }
func (l *still) Leading() (uint64, bool)          { return 0, false }
func (l *still) LeaderID() string                 { return "" }
func (l *still) CaughtUp() bool                   { return true }
func (l *still) Applied() uint64                  { return l.state.Index }
func (l *still) Propose(context.Context, uint64, string, fsm.Body) (fsm.Result, error) {
	return fsm.Result{}, nil
}

// wires carries datagrams between nodes, at once.
type wires map[string]*wire.Mail

// wiresOf is what one of them sends by.
type wiresOf struct {
	wires
	from string
}

func (w wiresOf) Send(to fsm.Node, msg []byte) error {
	w.wires[to.ID].Receive(w.from, msg)
	return nil
}

// renewing is three nodes with real voters, the first with a Renewer too, without their loops.
type renewing struct {
	out     lease.Renewal
	log     *still
	voters  []*Voter
	renewer *Renewer
	fence   *storing
	now     lease.Instant
	silent  map[string]bool // voters that hear nothing
	before  func()          // an answer comes; nil: nothing
}

// storing is a Fence that takes deadlines, as the page of the real fence does: one memory
// store. netdev/fence has the cost of the real one (BenchmarkSetDeadline).
type storing struct{ deadline atomic.Int64 }

func (e *storing) SetDeadline(t lease.Instant) { e.deadline.Store(int64(t)) }

func (r *renewing) clock() lease.Instant { return r.now }

// renew sends a round to the three voters and takes their acknowledgements.
func (r *renewing) renew() {
	r.now = r.now.Add(100 * time.Millisecond)
	r.renewer.round(r.renewer.holder, &r.out, 0)
}

func newRenewing(t testing.TB, havips int) *renewing {
	t.Helper()
	const length = 500 * time.Millisecond
	state := fsm.New()
	state.Cluster.Lease, state.Cluster.LeaseMax = length, length
	for _, id := range []string{"n-1", "n-2", "n-3"} {
		state.Nodes[id] = fsm.Node{ID: id, Name: id, LeasePort: 1, Keys: make([]fsm.NodeKey, 1)}
	}
	state.Sessions[7] = fsm.Session{Number: 7, Node: "n-1", Lease: length}
	for i := range havips {
		v := fsm.HAVIP{ID: fmt.Sprint("h-", i), IP: netip.AddrFrom4([4]byte{10, 9, byte(i / 250), byte(i%250 + 1)})}
		v.Owner = &fsm.Claim{Session: 7, Node: "n-1", ENI: "n-1/eth0", Epoch: 1}
		state.HAVIPs[v.ID] = v
	}
	r := &renewing{fence: &storing{}, now: ports.Boot()}
	log := &still{state: state, set: lease.NewVoterSet([]string{"n-1", "n-2", "n-3"})}
	r.log = log
	mails := wires{}
	for id := range state.Nodes {
		cfg := Config{Node: id, Log: log, Clock: r.clock, Logger: slog.New(slog.DiscardHandler), Boot: DrawBoot(), Lease: length}
		var voter *Voter
		var renewer *Renewer
		cfg.Mail = wire.NewMail(wire.Config{Node: id, Log: log, Post: wiresOf{mails, id}, Boot: cfg.Boot}, func(m wire.Message) {
			switch {
			case m.Renewal != nil && r.silent[id]:
			case m.Renewal != nil:
				voter.Renewal(*m.Renewal)
			case m.Ack != nil:
				if r.before != nil {
					r.before()
				}
				renewer.Ack(*m.Ack)
			case m.Correction != nil:
				renewer.Corrected(*m.Correction)
			case m.Ended != nil:
				renewer.Ended(*m.Ended)
			}
		})
		mails[id], voter = cfg.Mail, NewVoter(cfg)
		r.voters = append(r.voters, voter)
		voter.prepare()
		if id == "n-1" {
			renewer = NewRenewer(cfg, nil, r.fence)
			r.renewer = renewer
		}
	}
	r.now = r.now.Add(time.Second) // the voters' silence is over
	r.renewer.Begin(lease.Session{Node: "n-1", Number: 7}, r.now, length)
	return r
}

// BenchmarkRenewal is one round of a lease, from the holder through three voters to the
// store of the deadline: everything but the network.
func BenchmarkRenewal(b *testing.B) {
	for _, havips := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(havips), func(b *testing.B) {
			r := newRenewing(b, havips)
			b.ReportAllocs()
			for b.Loop() {
				r.renew()
			}
			if got, want := r.fence.deadline.Load(), int64(r.now.Add(500*time.Millisecond)); got != want {
				b.Errorf("the deadline is %d, want %d", got, want)
			}
		})
	}
}

// A renewal allocates nothing up to the carrier: neither at the holder, nor in the datagrams up to the
// carrier, nor at the voters. Under the race detector sync.Pool forgets at random, so there
// the figure says nothing. The rest of the way is held by tests of the real parts: TestAMessageAllocatesNothing
// (membership/datagram) and TestVoterSetIsMadeOnce (agent).
func TestRenewalAllocatesNothingUpToTheSocket(t *testing.T) {
	r := newRenewing(t, 3)
	r.renew()
	if n := testing.AllocsPerRun(1000, r.renew); n != 0 && !labtest.Race {
		t.Errorf("%v allocations in a renewal", n)
	}
	if got, want := r.fence.deadline.Load(), int64(r.now.Add(500*time.Millisecond)); got != want {
		t.Errorf("the deadline is %d, want %d: it was not renewed", got, want)
	}
}
