package membership

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/testbed/labtest"
)

// What is committed is told to each other server, one word at a time, the newest last; who has not got
// the entry is told again, a few times, and one that hangs holds nobody else up.
func TestCommitNotifier(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		said := map[raft.ServerID][]uint64{}
		under := map[raft.ServerID]int{}
		done := make(chan struct{})
		tell := &commitNotifier{
			self: "a", done: done, lanes: map[raft.ServerID]*tellLane{},
			servers: func() []raft.Server {
				return []raft.Server{{ID: "a"}, {ID: "b"}, {ID: "late"}, {ID: "dead"}, {ID: "never"}, {ID: "broken"}}
			},
		}
		tell.say = func(to raft.Server, c committed) (bool, error) {
			mu.Lock()
			said[to.ID] = append(said[to.ID], c.index)
			n := len(said[to.ID])
			if under[to.ID]++; under[to.ID] > 1 {
				t.Errorf("two words to %s at a time", to.ID)
			}
			mu.Unlock()
			time.Sleep(time.Millisecond)
			defer func() { mu.Lock(); under[to.ID]--; mu.Unlock() }()
			switch to.ID {
			case "late":
				return n > 3, nil
			case "broken": // the connection of before
				if n < 3 {
					return false, errors.New("broken pipe")
				}
			case "dead":
				time.Sleep(time.Second)
				return false, errors.New("no way")
			case "never":
				return false, nil
			}
			return true, nil
		}
		for i := range uint64(3) {
			tell.tell(committed{7, 10 + i})
		}
		time.Sleep(30 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		last := func(id raft.ServerID) uint64 { return said[id][len(said[id])-1] }
		if len(said["a"]) != 0 || len(said["b"]) > 3 || last("b") != 12 {
			t.Errorf("itself %v, b %v", said["a"], said["b"])
		}
		if len(said["late"]) < 4 || last("late") != 12 || last("dead") != 12 || len(said["dead"]) > 2*(tellTries+2) {
			t.Errorf("late %v, dead %v", said["late"], said["dead"])
		}
		if n := len(said["broken"]); n < 3 || n > 5 || last("broken") != 12 {
			t.Errorf("broken: %v", said["broken"])
		}
		if n := len(said["never"]); n < 3 || n > 2*(tellTries+2) {
			t.Errorf("never: %d words", n)
		}
		tell.mu.Lock()
		defer tell.mu.Unlock()
		if len(tell.lanes) != 0 {
			t.Errorf("%d lanes are left", len(tell.lanes))
		}
	})
}

// recording is a transport that keeps what is sent.
type recording struct {
	raft.Transport
	sent []raft.AppendEntriesRequest
}

func (r *recording) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	r.sent = append(r.sent, *req)
	resp.Success = true
	return nil
}

// The word has no entries, and the commit index is the entry that has to be there before: a server
// cannot take more for committed than what it has in common with the leader up to there.
func TestTheWordOfACommit(t *testing.T) {
	_, inner := raft.NewInmemTransport("a")
	trans := &recording{Transport: inner}
	tell := newCommitNotifier("a", raft.ProtocolVersionMax, trans, make(chan struct{}))
	taken, err := tell.say(raft.Server{ID: "b", Address: "b"}, committed{term: 7, index: 42})
	if err != nil || !taken || len(trans.sent) != 1 {
		t.Fatalf("%v %v %+v", taken, err, trans.sent)
	}
	q := trans.sent[0]
	if q.Term != 7 || q.PrevLogTerm != 7 || q.PrevLogEntry != 42 || q.LeaderCommitIndex != 42 || len(q.Entries) != 0 || string(q.ID) != "a" {
		t.Errorf("%+v", q)
	}
}

// A follower that comes back to an idle leader hears what is committed with the first heartbeats, not with Raft's next
// word about it, which is due after four time-outs at the earliest. A busy host has six tries.
func TestAFollowerThatIsBackHearsTheCommit(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	back := c.followers()[0]
	var took time.Duration
	for range 6 {
		back.close()
		time.Sleep(testHeartbeat / 2) // the leader has sent heartbeats for nothing
		back.open()
		began := time.Now()
		eventually(t, "it is caught up", back.node.CaughtUp)
		back.reconcile(c.all)
		if took = time.Since(began); took < 2*testHeartbeat {
			return
		}
	}
	t.Errorf("it was caught up %v after its start", took)
}

// One that missed an entry meanwhile gets it as soon: nobody has to write something for it.
func TestAFollowerThatIsBackGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	back := c.followers()[0]
	var took time.Duration
	for i := range 6 {
		back.close()
		c.do(subnet(i))
		want := c.leader().node.State().Index
		time.Sleep(2 * testHeartbeat) // Raft has tried to send it, and waits
		back.open()
		began := time.Now()
		eventually(t, "it has what it missed", func() bool { return back.node.State().Index >= want })
		back.reconcile(c.all)
		if took = time.Since(began); took < 2*testHeartbeat {
			return
		}
	}
	t.Errorf("it had it %v after its start", took)
}

// What a server missed is pushed once for each time that it was away, and for nobody else.
func TestWhatIsMissedIsPushedOnce(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		_, trans := raft.NewInmemTransport("a")
		tell := newCommitNotifier("a", raft.ProtocolVersionMax, trans, t.Context().Done())
		pushed, tries := 0, 0
		tell.push = func() { pushed++ }
		tell.say = func(raft.Server, committed) (bool, error) { tries++; return tries%4 == 0, nil }
		for i, row := range []struct {
			back bool
			want int
		}{{false, 0}, {true, 1}, {false, 1}, {true, 2}} {
			tell.tellServer(raft.Server{ID: "b"}, committed{7, uint64(i + 1)}, row.back)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if pushed != row.want {
				t.Errorf("%d: pushed %d times, want %d", i, pushed, row.want)
			}
		}
	})
}
