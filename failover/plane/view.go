package plane

import (
	"context"
	"errors"
	"sync"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// view is the log as the plane sees it: what the agent has told of it. It implements ports.Log.
type view struct {
	suspended func() int64 // of the page

	mu       sync.Mutex
	asOf     int64      // of suspended: the voters count while it is the same
	state    *fsm.State // never nil, never modified
	voters   lease.VoterSet
	unsure   bool // the agent did not know the latest voters
	leader   string
	caughtUp bool
	watchers map[chan struct{}]bool
}

func newView(suspended func() int64) *view {
	return &view{suspended: suspended, state: fsm.New(), watchers: map[chan struct{}]bool{}}
}

// follow takes what the agent tells. One goroutine calls it.
func (v *view) follow(w *View) {
	s := fsm.New()
	s.Index = w.Index
	s.Cluster.Lease, s.Cluster.LeaseMax, s.Cluster.Level = w.Lease, w.LeaseMax, w.Level
	if s.Nodes = w.Nodes; s.Nodes == nil {
		s.Nodes = v.State().Nodes
	}
	if s.Sessions = w.Sessions; s.Sessions == nil {
		s.Sessions = map[uint64]fsm.Session{}
	}
	set, unsure := v.VoterSet(), len(w.Voters) == 0
	if !unsure && (set.Index != w.VotersAt || len(set.Voters) == 0) {
		set = lease.NewVoterSet(w.Voters)
		set.Index = w.VotersAt
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state, v.voters, v.unsure, v.asOf, v.leader, v.caughtUp = s, set, unsure, w.Suspended, w.Leader, v.caughtUp || w.CaughtUp
	v.signal()
}

func (v *view) signal() {
	for c := range v.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (v *view) State() *fsm.State {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state
}

// VoterSet implements ports.Log: the voters that were known last. By these a holder may count, whose set may
// be an older one: the voters compare it with their own.
func (v *view) VoterSet() lease.VoterSet {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.voters
}

// sureView is the log for a voter.
type sureView struct{ *view }

// VoterSet implements ports.Log: no voters while the agent does not know for sure which are the latest.
func (v sureView) VoterSet() lease.VoterSet {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.asOf != v.suspended() || v.unsure {
		return lease.VoterSet{}
	}
	return v.voters
}

func (v *view) LeaderID() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.leader
}

func (v *view) CaughtUp() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.caughtUp
}

func (v *view) Watch() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watchers[c] = true
	return c, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.watchers, c)
	}
}

// Leading and Propose: the leader's part is the agent's.
func (v *view) Leading() (uint64, bool) { return 0, false }
func (v *view) Applied() uint64         { return v.State().Index }

var errAgents = errors.New("plane: proposing is the agent's part")

func (v *view) Propose(context.Context, uint64, string, fsm.Body) (fsm.Result, error) {
	return fsm.Result{}, errAgents
}
