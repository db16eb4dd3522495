package plane

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// The plane renews while the agent authorises it, and the agent sees the lease without a question.
func TestThePlaneRenews(t *testing.T) {
	b := newBed(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	over := b.begin(ctx)
	begun := ports.Boot()
	b.within(slow, "renewed beyond its first length", func() bool { return lease.Instant(b.fence.deadline.Load()).Sub(begun) > 2*length })
	if session, deadline := b.client.Lease(); session != 7 || deadline.Sub(begun) < length {
		t.Errorf("session %d until %v", session, deadline.Sub(begun))
	}
	b.within(slow, "figures of the renewals", func() bool { return b.trips.Load() > 0 })
	if s := b.client.Course(0); len(s) == 0 {
		t.Error("no course of the renewals")
	}
	cancel()
	<-over
	if session, _ := b.client.Lease(); session != 0 {
		t.Errorf("released, and still session %d", session)
	}
	b.within(slow, "the fence is shut", func() bool { return b.fence.deadline.Load() == 0 })
}

// An agent that stops for less than its authorisation loses nothing; one that stops for longer loses its
// lease within that and one length, although its plane is alive. A busy host, which may itself stop the plane for
// longer than a lease, has six tries.
func TestAStoppedAgentLosesItsLeaseLater(t *testing.T) {
	for try := 1; ; try++ {
		b := newBedOf(t, short)
		b.client.Begin(lease.Session{Node: "n-1", Number: 7}, ports.Boot(), short)
		begun := ports.Boot() // nobody authorises it again, as after SIGSTOP
		over := time.Duration(0)
		for over == 0 && ports.Boot().Sub(begun) < Authorisation-50*time.Millisecond {
			if b.left() <= 0 {
				over = ports.Boot().Sub(begun)
			}
			time.Sleep(time.Millisecond)
		}
		if over != 0 && over < Authorisation && try < 6 {
			continue
		}
		if over != 0 && over < Authorisation {
			t.Fatalf("the lease was over after %v", over)
		}
		time.Sleep(begun.Add(Authorisation + short).Sub(ports.Boot()))
		if left := b.left(); left > 0 {
			t.Errorf("it still answers for %v after authorisation and length", left)
		}
		return
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
	word := wire.EncodeAs(nil, wire.VersionSealed, wire.Message{Status: &wire.StatusMessage{Applied: 9}})
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
	b := newBedOf(t, short)
	b.log.change(func(l *replica) { l.leader = "n-1" })
	ask := func() {
		q := lease.Question{ID: lease.QuestionID{Leader: "n-1", Term: 1, Number: 1}, Session: lease.Session{Node: "n-1", Number: 7}, Length: short, Config: b.log.VoterSet().ID}
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
	b.within(slow, "what is dropped, and who is silent", func() bool {
		d, s := b.client.Dropped(), b.client.Silent()
		return d["tag"] == 3 && len(s) == 1
	})
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
	before := b.client.next.Load()
	for range 100 {
		b.client.Heard(lease.Session{Node: "n-1", Number: 7})
	}
	_ = b.client.Counted()
	if waited, sent := time.Since(begun), b.client.next.Load()-before; sent > 3+uint64(waited/muteFor) { // each costs askWait
		t.Errorf("of a hundred questions %d were sent in %v", sent, waited)
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

// While a session begins, views go on: the plane never ends with an older one.
func TestBeginTellsNoOldView(t *testing.T) {
	b := newBed(t)
	for i := range 50 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.log.change(func(l *replica) {
				l.state.Index++
				l.state.Sessions = map[uint64]fsm.Session{7: l.state.Sessions[7], uint64(100 + i): {Number: uint64(100 + i), Node: "n-2", Lease: length}}
			})
		}()
		b.client.Begin(lease.Session{Node: "n-1", Number: 7}, ports.Boot(), length)
		<-done
		b.within(slow, "the newest view", func() bool {
			_, known := b.server.view.State().Sessions[uint64(100+i)]
			return known
		})
	}
	b.client.Release()
}

// nowhere is a Kernel on no device.
type nowhere struct{ Kernel }

func (nowhere) Mark() int64     { return 0 }
func (nowhere) Where() string   { return "" }
func (nowhere) Granted() uint64 { return 0 }
func (nowhere) Counted() uint64 { return 0 }

// A kernel's part that is on no device answers nothing, and the figures say why.
func TestNowhereInTheKernel(t *testing.T) {
	b := newBed(t)
	b.server.mu.Lock()
	c := *b.server.core
	b.server.mu.Unlock()
	c.kernel = nowhere{}
	if f := b.server.figures(&c); f.NoKernel != noDevice {
		t.Errorf("no kernel, because of %q", f.NoKernel)
	}
}

// The deadline that the agent sees is moved by the plane and by the kernel. Whoever is later brings it back by nothing, and a
// session that has ended stays ended.
func TestTheShownDeadlineOnlyGrows(t *testing.T) {
	agent, server, err := Pair(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	defer server.Close()
	p, err := OpenPage(agent.Page)
	if err != nil {
		t.Fatal(err)
	}
	p.begin(7, 100)
	for _, step := range []struct{ extend, want lease.Instant }{{120, 120}, {110, 120}, {121, 121}} {
		if p.extend(step.extend); *p.word(wordDeadline) != int64(step.want) {
			t.Errorf("extended to %d: %d, want %d", step.extend, *p.word(wordDeadline), step.want)
		}
	}
	p.put(0)
	if p.extend(200); *p.word(wordDeadline) != 0 {
		t.Error("a session that has ended is extended")
	}
}

// Expire makes stored a shell.SharedFence; Extend as the real one.
func (f *stored) Extend(t lease.Instant) {
	if was := f.deadline.Load(); was != 0 && was < int64(t) {
		f.deadline.Store(int64(t))
	}
}

func (f *stored) Expire(now lease.Instant) lease.Instant {
	if f.deadline.Load() <= int64(now) {
		f.deadline.Store(0)
	}
	return lease.Instant(f.deadline.Load())
}

// What the agent sees follows the fence, whoever has moved that, and nothing is shown of a deadline that has ended.
func TestThePageFollowsTheFence(t *testing.T) {
	agent, server, err := Pair(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	defer server.Close()
	page, err := OpenPage(agent.Page)
	if err != nil {
		t.Fatal(err)
	}
	fence := &stored{}
	p := sharedPaged{paged{fence, page}, fence}
	for _, step := range []struct {
		what       string
		do         func()
		fence, see lease.Instant
	}{
		{"a session begins", func() { page.begin(7, 0); p.SetDeadline(100) }, 100, 100},
		{"the process extends it", func() { p.Extend(120) }, 120, 120},
		{"the kernel has moved the fence, and not the page", func() { fence.Extend(140); p.Expire(110) }, 140, 140},
		{"the process is later than the kernel", func() { p.Extend(130) }, 140, 140},
		{"it has passed", func() { p.Expire(140) }, 0, 0},
		{"an answer comes late", func() { p.Extend(200) }, 0, 0},
		{"the next one begins", func() { page.begin(8, 0); p.SetDeadline(300) }, 300, 300},
		{"somebody else makes it 0", func() { fence.SetDeadline(0); p.Expire(210) }, 0, 0},
	} {
		step.do()
		if _, see := page.Lease(); lease.Instant(fence.deadline.Load()) != step.fence || see != step.see {
			t.Errorf("%s: the fence has %d, and the agent sees %d; want %d and %d", step.what, fence.deadline.Load(), see, step.fence, step.see)
		}
	}
}

// looked is a Kernel that says which addresses it is told of.
type looked struct {
	Kernel
	peers chan []netip.Addr
}

func (l looked) Follow(peers []netip.Addr) { l.peers <- peers }

// The kernel's part is where a new node's renewals come in as soon as that node is known, not some seconds later.
func TestTheKernelFollowsANewNode(t *testing.T) {
	v := newView(func() int64 { return 0 })
	s := &Server{view: v}
	k := looked{peers: make(chan []netip.Addr, 8)}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.guide(ctx, &core{start: Start{Node: "n-1"}, kernel: k})
	}()
	told := func(want ...string) {
		t.Helper()
		select {
		case got := <-k.peers:
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("told of %v, want %v", got, want)
			}
		case <-time.After(followEach / 2):
			t.Errorf("not told of %v within %v", want, followEach/2)
		}
	}
	told()
	v.follow(&View{Nodes: map[string]fsm.Node{"n-1": {Address: "192.0.2.1"}, "n-3": {Address: "192.0.2.3"}, "n-2": {Address: "192.0.2.2"}}})
	told("192.0.2.2", "192.0.2.3")
	v.follow(&View{Index: 9}) // something else
	cancel()
	<-over
	if len(k.peers) != 0 {
		t.Errorf("told again of %v, which has not changed", <-k.peers)
	}
}
