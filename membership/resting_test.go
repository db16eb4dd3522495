package membership

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/testbed/labtest"
)

// stopping is a node n2 whose log says what a test makes it say, in virtual time.
type stopping struct {
	*Node
	mu     sync.Mutex
	words  []fsm.RestVote
	refuse bool            // nobody leads
	then   func(*stopping) // after each word that is in the log
	alive  map[string]bool // what gossip sees
	began  time.Time
}

func newStopping(voters ...string) *stopping {
	x := newSituation().node("n1", fsm.RoleVoter).node("n2", fsm.RoleVoter).node("n3", fsm.RoleVoter)
	x.s.Cluster.Level, x.s.Cluster.LeaseMax = fsm.CommandLevel, 500*time.Millisecond
	n := &stopping{Node: &Node{Machine: NewMachine(), cfg: Config{Node: "n2", Logger: slog.New(slog.DiscardHandler)}, book: &ledger{}}, alive: map[string]bool{"n1": true}, began: time.Now()}
	n.publish(x.s)
	n.vote(voters...)
	return n
}

func (n *stopping) vote(ids ...string) { n.voters.Store(&votersAt{ids: ids}) }

func (n *stopping) change(id string, f func(*fsm.Node)) {
	s := *n.State()
	nodes := map[string]fsm.Node{}
	for k, v := range s.Nodes {
		if k == id {
			f(&v)
		}
		nodes[k] = v
	}
	s.Nodes = nodes
	n.publish(&s)
}

func (n *stopping) submit(_ context.Context, body fsm.Body) (fsm.Result, error) {
	w := body.(fsm.RestVote)
	n.mu.Lock()
	n.words = append(n.words, w)
	refuse := n.refuse
	n.mu.Unlock()
	if refuse {
		return fsm.Result{}, errors.New("nobody leads")
	}
	n.change(w.Node, func(m *fsm.Node) { m.Resting = !w.Back })
	if n.then != nil {
		n.then(n)
	}
	return fsm.Result{}, nil
}

func (n *stopping) refuses(yes bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = yes
}

// said is how many words there were.
func (n *stopping) said() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.words)
}

// A node with two votes, or about to have the second one, stops: what it says, how it ends and how long it takes.
func TestHandOverVote(t *testing.T) {
	both := []string{"n1", "n2"}
	rest := func(id string) func(*stopping) {
		return func(n *stopping) { n.change(id, func(m *fsm.Node) { m.Resting = true }) }
	}
	for _, tc := range []struct {
		name        string
		voters      []string
		prepare     func(*stopping)
		then        func(*stopping)
		to, fails   string
		words       int
		least, most time.Duration
	}{
		{"one of two", both, nil, func(n *stopping) { n.vote("n1") }, "n1", "", 1, 0, time.Second},
		{"not yet a voter: its vote rests before it has one", []string{"n1"}, nil, nil, "", "", 1, 300 * time.Millisecond, time.Second},
		{"promoted by a decision of before, and demoted", []string{"n1"}, nil, func(n *stopping) {
			time.AfterFunc(250*time.Millisecond, func() { n.vote("n1", "n2") })
			time.AfterFunc(400*time.Millisecond, func() { n.vote("n1") })
		}, "n1", "", 1, 400 * time.Millisecond, time.Second},
		{"a word that it is back comes late", []string{"n1"}, rest("n2"), func(n *stopping) { n.then = nil }, "", "", 1, 500 * time.Millisecond, time.Second},
		{"not a voter, and nobody is there", []string{"n1"}, func(n *stopping) { n.refuse, n.alive = true, nil }, nil, "", "", 1, 0, 0},
		{"not a voter, and nobody leads for now", []string{"n1"}, func(n *stopping) { n.refuse = true; time.AfterFunc(1025*time.Millisecond, func() { n.refuses(false) }) }, nil, "", "", 22, time.Second, 2 * time.Second},
		{"not a voter of three", []string{"n1", "n3"}, nil, nil, "", "", 0, 0, 0},
		{"an agent", []string{"n1"}, func(n *stopping) { n.change("n2", func(m *fsm.Node) { m.Role = fsm.RoleAgent }) }, nil, "", "", 0, 0, 0},
		{"one that is removed", []string{"n1"}, func(n *stopping) { n.change("n2", func(m *fsm.Node) { m.Removing = true }) }, nil, "", "", 0, 0, 0},
		{"a third one votes meanwhile", both, nil, func(n *stopping) { n.vote("n1", "n2", "n3") }, "", "", 1, 0, time.Second},
		{"the other one was demoted first", both, rest("n1"), func(n *stopping) { n.vote("n2") }, "", "start it first", 1, 0, time.Second},
		{"both keep their votes", both, rest("n1"), nil, "", "both have to be started again", 1, time.Second, 2 * time.Second},
		{"nobody leads", both, func(n *stopping) { n.refuse = true }, nil, "", "in time", 201, 10 * time.Second, 11 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			labtest.Bubble(t, func(t *testing.T) {
				n := newStopping(tc.voters...)
				n.then = tc.then
				if tc.prepare != nil {
					tc.prepare(n)
				}
				if strings.HasPrefix(tc.name, "a word that it is back") {
					time.AfterFunc(200*time.Millisecond, func() { n.change("n2", func(m *fsm.Node) { m.Resting = false }) })
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10025*time.Millisecond)
				defer cancel()
				to, err := n.HandOverVote(ctx, n.submit, func(id string) bool { return n.alive[id] })
				took := time.Since(n.began)
				switch {
				case (err == nil) != (tc.fails == "") || err != nil && (!errors.Is(err, ErrVoteKept) || !strings.Contains(err.Error(), tc.fails)):
					t.Errorf("error %v, want %q", err, tc.fails)
				case to != tc.to || len(n.words) != tc.words:
					t.Errorf("to %q with %d words, want %q with %d", to, len(n.words), tc.to, tc.words)
				case took < tc.least || took > tc.most:
					t.Errorf("it took %v, want %v to %v", took, tc.least, tc.most)
				}
				for _, w := range n.words {
					if w.Back || w.Node != "n2" {
						t.Errorf("it said %+v", w)
					}
				}
			})
		})
	}
}

// A new leader hears at once that the node runs again; without one it is said once a second.
func TestTakeVoteBackAtANewLeader(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		n := newStopping("n1")
		n.refuses(true)
		n.change("n2", func(m *fsm.Node) { m.Resting = true })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); n.TakeVoteBack(ctx, n.submit) }()
		time.Sleep(3500 * time.Millisecond)
		if said := n.said(); said < 4 || said > 5 {
			t.Errorf("in 3.5 s without a leader it was said %d times", said)
		}
		n.refuses(false)
		n.wake() // as a new leader does
		at := time.Since(n.began)
		time.Sleep(restPause)
		synctest.Wait()
		if n.State().Nodes["n2"].Resting {
			t.Errorf("the new leader has not heard of it %v later", time.Since(n.began)-at)
		}
		said := n.said()
		for range 100 {
			n.wake()
			time.Sleep(10 * time.Millisecond)
		}
		if n.said() != said {
			t.Errorf("it was said %d times after it was in the log", n.said()-said)
		}
		n.refuses(true)
		n.change("n2", func(m *fsm.Node) { m.Resting = true })
		for range 100 { // a second full of wakes
			n.wake()
			time.Sleep(10 * time.Millisecond)
		}
		if more := n.said() - said; more < 10 || more > 21 {
			t.Errorf("it was said %d times in a second", more)
		}
		cancel()
		<-done
	})
}
