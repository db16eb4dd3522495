package shell

import (
	"log/slog"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// led is a log that has a leader.
type led struct {
	still
	leader string
}

func (l *led) LeaderID() string { return l.leader }

// succeeding is three voters of which n-1 leads; who stands is noted.
type succeeding struct {
	now    lease.Instant
	log    *led
	voters map[string]*Voter
	heirs  map[string]*Succession
	stood  []string
	later  []time.Duration // with which each did
	refuse bool
}

const succeedingLease = 500 * time.Millisecond

func newSucceeding(t *testing.T) *succeeding {
	t.Helper()
	state := fsm.New()
	state.Cluster.Lease, state.Cluster.LeaseMax = succeedingLease, succeedingLease
	ids := []string{"n-1", "n-2", "n-3"}
	for i, id := range ids {
		state.Nodes[id] = fsm.Node{ID: id, Name: id, LeasePort: 1, Keys: make([]fsm.NodeKey, 1), LastSession: uint64(i + 1)}
		state.Sessions[uint64(i+1)] = fsm.Session{Number: uint64(i + 1), Node: id, Lease: succeedingLease}
	}
	f := &succeeding{now: lease.Instant(time.Hour), log: &led{still{state: state, set: lease.NewVoterSet(ids)}, "n-1"}, voters: map[string]*Voter{}, heirs: map[string]*Succession{}}
	mails := wires{}
	for _, id := range ids {
		cfg := Config{
			Node: id, Log: f.log, Clock: func() lease.Instant { return f.now }, Logger: slog.New(slog.DiscardHandler), Boot: DrawBoot(), Lease: succeedingLease,
			Stand: func(leader string, later time.Duration) bool {
				if leader != "n-1" {
					t.Errorf("%s stands for %s", id, leader)
				}
				f.stood, f.later = append(f.stood, id), append(f.later, later)
				return !f.refuse
			},
		}
		cfg.Mail = wire.NewMail(wire.Config{Node: id, Log: f.log, Post: wiresOf{mails, id}, Boot: cfg.Boot}, func(m wire.Message) {
			if m.Hint != nil {
				f.heirs[id].Hinted(m.From, m.Hint)
			}
		})
		mails[id], f.voters[id], f.heirs[id] = cfg.Mail, NewVoter(cfg), NewSuccession(cfg)
		f.voters[id].prepare()
	}
	return f
}

// hint is what Run does when the promise of a voter has run out.
func (f *succeeding) hint(voter string) {
	f.voters[voter].tellVoters([]lease.Session{{Node: "n-1", Number: 1}})
}

func (f *succeeding) turn() {
	for _, id := range []string{"n-2", "n-3"} {
		f.heirs[id].standDue(f.now)
	}
}

// One voter's hint makes nobody stand; a majority makes the first stand at once, the next one later,
// each once.
func TestTheFirstStandsAtOnce(t *testing.T) {
	f := newSucceeding(t)
	f.hint("n-2")
	f.turn()
	if len(f.stood) != 0 {
		t.Fatalf("one voter's word: %v", f.stood)
	}
	f.hint("n-3")
	if len(f.heirs["n-2"].wake) != 1 {
		t.Error("nobody wakes the one that is due")
	}
	f.turn()
	if len(f.stood) != 1 || f.stood[0] != "n-2" {
		t.Fatalf("at once: %v", f.stood)
	}
	f.hint("n-2")
	f.hint("n-3")
	f.turn()
	if len(f.stood) != 1 {
		t.Fatalf("again: %v", f.stood)
	}
	f.now = f.now.Add(succeedingLease / standShare)
	f.turn()
	f.now = f.now.Add(succeedingLease)
	f.hint("n-2")
	f.hint("n-3")
	f.turn()
	if len(f.stood) != 2 || f.stood[1] != "n-3" {
		t.Fatalf("in the end: %v", f.stood)
	}
	// Where silence is what they wait for, and not the order, they would stand at one moment, and share the votes.
	if f.later[0] != 0 || f.later[1] != succeedingLease/standShare {
		t.Errorf("they stand with %v more silence", f.later)
	}
}

// Who owns nothing stands before who owns something.
func TestWhoOwnsNothingStandsFirst(t *testing.T) {
	f := newSucceeding(t)
	f.log.state.HAVIPs["h-1"] = fsm.HAVIP{ID: "h-1", Owner: &fsm.Claim{Session: 2, Node: "n-2", Epoch: 1}}
	f.hint("n-2")
	f.hint("n-3")
	f.turn()
	if len(f.stood) != 1 || f.stood[0] != "n-3" {
		t.Fatalf("%v", f.stood)
	}
}

// Nobody stands when the leader has changed meanwhile, for hints that are old, or about another's session.
func TestNobodyStandsWithoutReason(t *testing.T) {
	f := newSucceeding(t)
	f.hint("n-2")
	f.now = f.now.Add(succeedingLease)
	f.hint("n-3") // the first one is old by now
	f.turn()
	f.heirs["n-2"].Hinted("n-2", []lease.Session{{Node: "n-3", Number: 3}})
	f.heirs["n-2"].Hinted("n-3", []lease.Session{{Node: "n-3", Number: 3}})
	f.turn()
	if len(f.stood) != 0 {
		t.Fatalf("%v", f.stood)
	}
	f.hint("n-2")
	f.hint("n-3")
	f.log.leader = "n-3"
	f.turn()
	if len(f.stood) != 0 {
		t.Fatalf("another one leads: %v", f.stood)
	}
}

// Who may not stand yet, because it heard the leader a moment ago, is asked again by the next hints, and only by them.
func TestWhoMayNotStandYetTriesAgain(t *testing.T) {
	f := newSucceeding(t)
	f.refuse = true
	for i := range 3 {
		f.hint("n-2")
		f.hint("n-3")
		f.heirs["n-2"].standDue(f.now)
		f.heirs["n-2"].standDue(f.now)
		if len(f.stood) != i+1 {
			t.Fatalf("after %d hints: %v", i+1, f.stood)
		}
		f.now = f.now.Add(succeedingLease / 10)
	}
	f.now = f.now.Add(succeedingLease)
	f.heirs["n-2"].standDue(f.now)
	if len(f.stood) != 3 {
		t.Fatalf("without hints: %v", f.stood)
	}
	f.refuse = false
	for range 2 {
		f.hint("n-2")
		f.hint("n-3")
		f.heirs["n-2"].standDue(f.now)
	}
	if len(f.stood) != 4 {
		t.Fatalf("when it may: %v", f.stood)
	}
}
