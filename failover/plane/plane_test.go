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

const length = 300 * time.Millisecond

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

func (l *listening) Look()                { l.looked.Add(1) }
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
	agent, plane, err := Pair()
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
	if !b.client.Begin(lease.Session{Node: "n-1", Number: 7}, ports.Boot(), length) {
		b.t.Fatal("the session does not begin")
	}
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
const slow = 10 * time.Second

// The plane renews while the agent authorises it, and the agent sees the lease without a question.
func TestThePlaneRenews(t *testing.T) {
	b := newBed(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	over := b.begin(ctx)
	begun := ports.Boot()
	b.within(slow, "renewed beyond its first length", func() bool { return ports.Boot().Sub(begun) > 2*length && b.left() > 0 })
	if session, deadline := b.client.Lease(); session != 7 || deadline.Sub(begun) < length {
		t.Errorf("session %d until %v", session, deadline.Sub(begun))
	}
	b.within(slow, "figures of the renewals", func() bool { return b.trips.Load() > 0 })
	if s := b.client.Course(0); len(s) == 0 {
		t.Error("no course of the renewals")
	}
	cancel()
	<-over
	if session, _ := b.client.Lease(); session != 0 || b.fence.deadline.Load() != 0 {
		t.Errorf("released, and still session %d until %d", session, b.fence.deadline.Load())
	}
}

// An agent that stops for less than its authorisation loses nothing; one that stops for longer loses its
// lease within that and one length, although its plane is alive.
func TestAStoppedAgentLosesItsLeaseLater(t *testing.T) {
	b := newBed(t)
	b.client.Begin(lease.Session{Node: "n-1", Number: 7}, ports.Boot(), length)
	begun := ports.Boot() // nobody authorises it again, as after SIGSTOP
	for ports.Boot().Sub(begun) < Authorisation-50*time.Millisecond {
		if b.left() <= 0 && ports.Boot().Sub(begun) < Authorisation {
			t.Fatalf("the lease was over after %v", ports.Boot().Sub(begun))
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(begun.Add(Authorisation + length).Sub(ports.Boot()))
	if left := b.left(); left > 0 {
		t.Errorf("it still answers for %v after authorisation and length", left)
	}
}

// From Reconfiguring on the voter promises by no voters, until the newest configuration is in force; the holder
// goes on by the old ones, which the others compare with theirs.
func TestNoVotersWhileTheConfigurationChanges(t *testing.T) {
	b := newBed(t)
	over := b.begin(t.Context())
	b.within(slow, "renewed", func() bool { return b.left() > 0 && len(sureView{b.server.view}.VoterSet().Voters) == 3 })
	b.log.change(func(l *replica) { l.newest = 2 }) // it is stored, and not in force yet
	b.client.Reconfiguring()
	if set := (sureView{b.server.view}).VoterSet(); len(set.Voters) != 0 {
		t.Fatalf("it goes by %v", set.Voters)
	}
	time.Sleep(20 * time.Millisecond)
	if set := (sureView{b.server.view}).VoterSet(); len(set.Voters) != 0 {
		t.Fatalf("before the new one is in force it goes by %v", set.Voters)
	}
	if left, sent := b.left(), len(b.server.view.VoterSet().Voters); left <= 0 || sent != 3 {
		t.Errorf("the holder goes by %d voters, %v left", sent, left)
	}
	b.log.change(func(l *replica) {
		l.set = lease.NewVoterSet([]string{"n-1", "n-2", "n-3", "n-4"})
		l.set.Index = 2
	})
	b.within(slow, "the new voters", func() bool { return len(sureView{b.server.view}.VoterSet().Voters) == 4 })
	select {
	case <-over:
		t.Error("the lease was lost")
	default:
	}
}

// A session that the log has closed ends at once.
func TestAClosedSessionEnds(t *testing.T) {
	b := newBed(t)
	over := b.begin(t.Context())
	b.log.change(func(l *replica) { l.state.Index, l.state.Sessions = 8, map[uint64]fsm.Session{} })
	select {
	case <-over:
	case <-time.After(slow):
		t.Fatal("it goes on")
	}
	b.within(slow, "the fence is shut", func() bool { return b.left() <= 0 })
	b.within(slow, "the owner is told", func() bool { return b.owner.looked.Load() > 0 })
}

// When the agent is dead its plane is stopped: nothing is renewed and no voter answers, the fence stays as
// it was, and whoever silences it then is the last to touch it.
func TestStopLeavesTheFence(t *testing.T) {
	b := newBed(t)
	b.begin(t.Context())
	b.within(slow, "renewed", func() bool { return b.left() > length/2 })
	b.server.Stop()
	if b.left() <= 0 {
		t.Error("the fence was shut")
	}
	b.fence.deadline.Store(0) // what the guard does next
	if b.client.Begin(lease.Session{Node: "n-1", Number: 7}, ports.Boot(), length) {
		t.Error("a session begins after the end")
	}
	if b.server.core.renewer.Begin(lease.Session{Node: "n-1", Number: 7}, ports.Boot(), length) {
		t.Error("an order that was under way begins it")
	}
	b.server.core.renewer.Ack(lease.Ack{From: "n-2", Session: lease.Session{Node: "n-1", Number: 7}, Round: 1})
	b.server.core.renewer.Release()
	time.Sleep(length / 2)
	if d := b.fence.deadline.Load(); d != 0 {
		t.Errorf("the deadline was set again: %d", d)
	}
}

// Words of other kinds reach the agent with their sender, and the agent's go out.
func TestWordsPass(t *testing.T) {
	b := newBed(t)
	heard := make(chan string, 8)
	b.net.mu.Lock()
	b.net.nodes["n-2"] = func(from string, word []byte) { heard <- fmt.Sprintf("%s %d", from, word[1]) }
	b.net.mu.Unlock()
	word := wire.EncodeAs(nil, wire.VersionSealed, wire.Message{Status: &wire.StatusWord{Applied: 9}})
	if err := b.client.Send(b.log.State().Nodes["n-2"], word); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("n-1 %d", wire.KindStatus)
	select {
	case got := <-heard:
		if got != want {
			t.Errorf("n-2 heard %q", got)
		}
	case <-time.After(slow):
		t.Fatal("n-2 heard nothing")
	}
	b.net.send("n-3", "n-1", word)
	select {
	case got := <-b.words:
		if got != fmt.Sprintf("n-3 %d", wire.KindStatus) {
			t.Errorf("the agent heard %q", got)
		}
	case <-time.After(slow):
		t.Fatal("the agent heard nothing")
	}
}

// The leader asks its own voter too, which is in the plane: the endorsement comes back to the agent. A
// session that is renewed is not endorsed.
func TestTheOwnVoterIsAsked(t *testing.T) {
	b := newBed(t)
	b.log.change(func(l *replica) { l.leader = "n-1" })
	ask := func() {
		q := lease.Question{ID: lease.QuestionID{Leader: "n-1", Term: 1, Number: 1}, Session: lease.Session{Node: "n-1", Number: 7}, Length: length, Config: b.log.VoterSet().ID}
		b.client.Hear("n-1", wire.EncodeAs(nil, wire.VersionSealed, wire.Message{Question: &q}))
	}
	want := fmt.Sprintf("n-1 %d", wire.KindEndorsement)
	b.within(slow, "an endorsement, once nobody renews and the silence is over", func() bool {
		ask()
		time.Sleep(5 * time.Millisecond)
		for {
			select {
			case got := <-b.words:
				if got == want {
					return true
				}
			default:
				return false
			}
		}
	})
	b.within(slow, "the agent learns of the revocation", func() bool { return b.client.Refuses(lease.Session{Node: "n-1", Number: 7}) })
}

// What the agent can ask.
func TestQuestionsOfTheAgent(t *testing.T) {
	b := newBed(t)
	b.within(slow, "an open session is promised", func() bool {
		left, known := b.client.Promised(lease.Session{Node: "n-1", Number: 7})
		return known && left > 0
	})
	if _, known := b.client.Promised(lease.Session{Node: "n-1", Number: 8}); known {
		t.Error("a session that nobody opened is known")
	}
	if d, s := b.client.Dropped(), b.client.Silent(); d["tag"] != 3 || len(s) != 1 {
		t.Errorf("dropped %v, silent %v", d, s)
	}
	_ = b.client.Report()
	if err := b.client.Start(Start{Node: "n-1"}); err == nil {
		t.Error("it starts twice")
	}
}

// stall keeps the plane from answering, as a guard that is stopped, until the returned function is called.
func (b *bed) stall() (release func()) {
	b.server.tell.Lock()
	return sync.OnceFunc(b.server.tell.Unlock)
}

// Whether a session is renewed by another process is not known while the plane does not answer: then nobody
// may open a new one in its place, and the refusal does not count against who asks. Others are not held up.
func TestAPlaneThatDoesNotAnswer(t *testing.T) {
	b := newBed(t)
	b.log.change(func(l *replica) { l.state.Cluster.Level = 4 })
	ask := fsm.OpenSession{Node: "n-1", Last: 7, Attempt: "copy", Held: "before"}
	over := b.begin(t.Context())
	b.within(slow, "a session that is renewed is another's", func() bool {
		r := shell.MayOpen(b.log.State(), b.client, ask)
		return r != nil && r.Code == fsm.CodeInUse
	})
	b.client.Release()
	<-over
	release := b.stall()
	defer release()
	begun := time.Now()
	if r := shell.MayOpen(b.log.State(), b.client, ask); r == nil || r.Code != fsm.CodeNotReady {
		t.Errorf("nobody answers: %v", r)
	}
	if waited := time.Since(begun); waited < callWait {
		t.Errorf("it was asked for %v only", waited)
	}
	begun = time.Now()
	for range 100 {
		b.client.Heard(lease.Session{Node: "n-1", Number: 7})
	}
	_ = b.client.Counted()
	if waited := time.Since(begun); waited > muteFor+4*askWait {
		t.Errorf("a hundred questions took %v", waited)
	}
	if r := b.client.Report(); r.Refused == "" {
		t.Error("nobody says that it does not answer")
	}
}

// What is over for the agent stays over, whatever is stored late; and an order to begin that came too late is
// taken back.
func TestOverIsFinal(t *testing.T) {
	b := newBed(t)
	over := b.begin(t.Context())
	b.within(slow, "renewed", func() bool { return b.left() > length/2 })
	b.client.Release()
	b.server.page.put(ports.Boot().Add(time.Hour)) // held up since before the end
	if session, _ := b.client.Lease(); session != 0 {
		t.Errorf("session %d is back", session)
	}
	<-over
	if until := b.client.page.Authorised(); until != 0 {
		t.Errorf("it may be renewed until %v", until)
	}
	b.server.page.put(0)

	release := b.stall()
	if b.client.Begin(lease.Session{Node: "n-1", Number: 7}, ports.Boot().Add(time.Minute), length) {
		t.Error("it begins without an answer")
	}
	release()
	b.within(slow, "the late begin is taken back", func() bool { _, d := b.client.page.Lease(); return d == 0 && b.left() <= 0 })
	if session, _ := b.client.Lease(); session != 0 {
		t.Errorf("session %d began", session)
	}
}

// A plane that is slow gets the newest view when it has answered the last one, and no queue of old ones.
func TestViewsDoNotQueue(t *testing.T) {
	b := newBed(t)
	b.within(slow, "told", func() bool { return b.client.Viewed() == b.log.State().Index })
	release := b.stall()
	before := b.client.next.Load()
	for i := range 200 {
		b.log.change(func(l *replica) {
			l.state.Index++
			l.state.Sessions = map[uint64]fsm.Session{7: l.state.Sessions[7], uint64(100 + i): {Number: uint64(100 + i), Node: "n-2", Lease: length}}
		})
		time.Sleep(time.Millisecond)
	}
	if sent := b.client.next.Load() - before; sent > 2 {
		t.Errorf("%d views wait for the plane", sent)
	}
	if viewed := b.client.Viewed(); viewed >= b.log.State().Index {
		t.Errorf("it is said to know the state up to %d", viewed)
	}
	release()
	b.within(slow, "the newest view", func() bool {
		_, known := b.server.view.State().Sessions[299]
		return known && b.client.Viewed() == b.log.State().Index
	})
}
