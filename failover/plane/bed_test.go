package plane

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
)

// length is of a lease that a stall of a busy host does not end, short of one that is to end soon.
const (
	length = 6 * time.Second
	short  = 300 * time.Millisecond
)

// replica is a log that a test changes.
type replica struct {
	mu       sync.Mutex
	state    *fsm.State
	set      lease.VoterSet
	newest   uint64 // configuration
	leader   string
	watchers []chan struct{}
}

func (l *replica) change(f func(l *replica)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := *l.state
	l.state = &s
	f(l)
	for _, w := range l.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (l *replica) locked(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *replica) State() (s *fsm.State)        { l.locked(func() { s = l.state }); return s }
func (l *replica) VoterSet() (s lease.VoterSet) { l.locked(func() { s = l.set }); return s }
func (l *replica) LeaderID() (id string)        { l.locked(func() { id = l.leader }); return id }
func (l *replica) Settled(index uint64) (ok bool) {
	l.locked(func() { ok = index == l.newest })
	return ok
}
func (l *replica) CaughtUp() bool          { return true }
func (l *replica) Applied() uint64         { return l.State().Index }
func (l *replica) Leading() (uint64, bool) { return 0, false }
func (l *replica) Propose(context.Context, uint64, string, fsm.Body) (fsm.Result, error) {
	return fsm.Result{}, nil
}

func (l *replica) Watch() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	l.locked(func() { l.watchers = append(l.watchers, c) })
	return c, func() {}
}

// network carries the words of the planes, and of voters that have none.
type network struct {
	mu    sync.Mutex
	nodes map[string]func(from string, word []byte)
	cut   map[string]bool
}

func (n *network) send(from, to string, word []byte) {
	n.mu.Lock()
	take := n.nodes[to]
	if n.cut[from] || n.cut[to] {
		take = nil
	}
	n.mu.Unlock()
	if take != nil {
		take(from, word)
	}
}

// socket is the end of a plane in it.
type socket struct {
	n    *network
	self string
	end  chan struct{}
	once sync.Once
}

func (s *socket) Send(to fsm.Node, word []byte) error { s.n.send(s.self, to.ID, word); return nil }
func (s *socket) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.end:
	}
	return nil
}
func (s *socket) Close() error               { s.once.Do(func() { close(s.end) }); return nil }
func (s *socket) Silent() []string           { return []string{"n-9"} }
func (s *socket) Dropped() map[string]uint64 { return map[string]uint64{"tag": 3} }

// stored is a fence.
type stored struct{ deadline atomic.Int64 }

func (f *stored) SetDeadline(t lease.Instant) { f.deadline.Store(int64(t)) }

// listening is the owner's part.
type listening struct{ looked, again atomic.Int64 }

func (l *listening) Wake()                { l.looked.Add(1) }
func (l *listening) AnnounceAgain(string) { l.again.Add(1) }

// bed is node n-1 with its plane, and two voters that answer.
type bed struct {
	t      *testing.T
	log    *replica
	net    *network
	server *Server
	client *Client
	fence  stored
	owner  listening
	others map[string]*shell.Voter
	words  chan string // that reached the agent
	trips  atomic.Int64
}

func newBed(t *testing.T) *bed {
	t.Helper()
	return newBedOf(t, length)
}

func newBedOf(t *testing.T, length time.Duration) *bed {
	t.Helper()
	state := fsm.New()
	state.Index = 7
	state.Cluster.Lease, state.Cluster.LeaseMax = length, length
	for _, id := range []string{"n-1", "n-2", "n-3"} {
		state.Nodes[id] = fsm.Node{ID: id, Name: id, LeasePort: 1, Keys: make([]fsm.NodeKey, 1), LastSession: 7}
	}
	state.Sessions[7] = fsm.Session{Number: 7, Node: "n-1", Lease: length}
	set := lease.NewVoterSet([]string{"n-1", "n-2", "n-3"})
	set.Index = 1
	b := &bed{
		t: t, log: &replica{state: state, set: set, newest: 1, leader: "n-2"}, net: &network{nodes: map[string]func(string, []byte){}, cut: map[string]bool{}},
		others: map[string]*shell.Voter{}, words: make(chan string, 64),
	}
	quiet := slog.New(slog.DiscardHandler)
	past := func() lease.Instant { return ports.Boot().Add(-time.Minute) } // the voters' silence is over
	for _, id := range []string{"n-2", "n-3"} {
		boot, clock := shell.DrawBoot(), past
		mail := wire.NewMail(wire.Config{Node: id, Log: b.log, Post: &socket{n: b.net, self: id}, Boot: boot}, func(m wire.Message) {
			if m.Renewal != nil {
				b.others[id].Renewal(*m.Renewal)
			}
		})
		b.others[id] = shell.NewVoter(shell.Config{Node: id, Log: b.log, Mail: mail, Clock: func() lease.Instant { return clock() }, Logger: quiet, Boot: boot, Lease: length})
		b.others[id].Heard(lease.Session{})
		clock = ports.Boot
		b.net.nodes[id] = mail.Receive
	}
	agent, plane, err := Pair(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.server, err = NewServer(plane, Host{
		Open: func(s Start, _ func() *fsm.State, keys func() []Key, receive func(string, []byte), _ *realtime.Plane) (Carrier, error) {
			if s.Node != "n-1" || len(keys()) != 1 {
				return nil, fmt.Errorf("started as %+v", s)
			}
			b.net.mu.Lock()
			defer b.net.mu.Unlock()
			b.net.nodes["n-1"] = receive
			return &socket{n: b.net, self: "n-1", end: make(chan struct{})}, nil
		},
		Fence: func() (shell.Fence, error) { return &b.fence, nil }, Logger: quiet, Clock: ports.Boot, Plane: realtime.New(),
	})
	if err != nil {
		t.Fatal(err)
	}
	go b.server.Run()
	b.client, err = NewClient(agent, ClientConfig{
		Log: b.log, Clock: ports.Boot, Logger: quiet, Keys: func() []Key { return []Key{{Certificate: "a", Secret: []byte{1}}} },
		Word:    func(from string, word []byte) { b.words <- fmt.Sprintf("%s %d", from, word[1]) },
		Owner:   func() shell.Listener { return &b.owner },
		Measure: shell.Measure{Renewed: func(time.Duration) { b.trips.Add(1) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.client.Start(Start{Cluster: "c-1", Node: "n-1", Listen: netip.MustParseAddrPort("127.0.0.1:0"), Lease: length, Owner: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _ = b.client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		_ = b.client.Close()
		b.server.Stop()
	})
	return b
}

// within waits until a condition holds.
func (b *bed) within(limit time.Duration, what string, holds func() bool) {
	b.t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// begin begins the session and renews it in a goroutine, until the end of ctx; the channel closes when that ends.
func (b *bed) begin(ctx context.Context) <-chan struct{} {
	b.t.Helper()
	b.within(slow, "the session begins", func() bool {
		return b.client.Begin(lease.Session{Node: "n-1", Number: 7}, ports.Boot(), length)
	})
	over := make(chan struct{})
	go func() {
		defer close(over)
		b.client.Renew(ctx, func(context.Context) bool { return false })
	}()
	return over
}

// left is what the fence has left.
func (b *bed) left() time.Duration { return lease.Instant(b.fence.deadline.Load()).Sub(ports.Boot()) }

// slow is for what a busy machine may delay.
const slow = 40 * time.Second
