package plane

import (
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
)

// settleEvery is between two looks whether the voters are known for sure again.
const settleEvery = time.Millisecond

// Settled is a log that says whether its latest configuration is the one in force.
type Settled interface {
	// Settled reports whether an entry is the newest configuration in the log.
	Settled(index uint64) bool
}

// feeder knows what the plane was told.
type feeder struct {
	mu   sync.Mutex // held from the look at the log until the plane was told
	told View
	keys []Key

	// Read by who takes answers, while mu may be held by who waits for one.
	pending atomic.Uint64 // id of the last view, while the plane has not answered it; 0: it has
	index   atomic.Uint64 // of that view
}

// view is what the plane may know of the log now. Call it with mu held.
func (f *feeder) view(log ports.Log, page *Page) *View {
	v := &View{Suspended: page.Suspended()} // before the voters
	if set := log.VoterSet(); sure(log, set) {
		v.Voters, v.VotersAt = set.Voters, set.Index
	}
	v.CaughtUp = log.CaughtUp() // before the state, which is then that one or a later one
	s := log.State()
	v.Index, v.Nodes, v.Sessions = s.Index, s.Nodes, s.Sessions
	v.Lease, v.LeaseMax, v.Level, v.Leader = s.Cluster.Lease, s.Cluster.LeaseMax, s.Level(), log.LeaderID()
	return v
}

// sure reports whether a set is that of the newest configuration in the log.
func sure(log ports.Log, set lease.VoterSet) bool {
	known, ok := log.(Settled)
	return !ok || known.Settled(set.Index)
}

// newKeys are the node's keys if they have changed. Call it with mu held.
func (f *feeder) newKeys(keys func() []Key) []Key {
	now := keys()
	if len(now) == 0 || slices.EqualFunc(now, f.keys, func(a, b Key) bool { return a.Certificate == b.Certificate }) {
		return nil
	}
	f.keys = now
	return now
}

// news is what of a view the plane does not know yet; nil: nothing. Call it with mu held.
func (f *feeder) news(v *View) *View {
	index := v.Index
	old := f.told
	f.told = *v
	sameNodes := sameMap(old.Nodes, v.Nodes)
	old.Index, old.Nodes = index, v.Nodes
	if sameNodes && sameMap(old.Sessions, v.Sessions) {
		old.Sessions = v.Sessions
		if old.Lease == v.Lease && old.LeaseMax == v.LeaseMax && old.Level == v.Level && old.Leader == v.Leader && old.CaughtUp == v.CaughtUp &&
			old.VotersAt == v.VotersAt && old.Suspended == v.Suspended && slices.Equal(old.Voters, v.Voters) {
			return nil
		}
	}
	out := *v
	if sameNodes {
		out.Nodes = nil
	}
	return &out
}

// sameMap reports whether two maps are equal; states share those that did not change.
func sameMap[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() || reflect.DeepEqual(a, b)
}

// follow tells the plane what has changed, unless it has not answered the last view: then it is told of what
// is newest when it has, so that what waits for a plane that is slow stays little. False: the voters are not
// known for sure, and it should be called again soon.
func (c *Client) follow() bool {
	f := &c.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending.Load() != 0 {
		return true // listen gives a token
	}
	// Where sending fails, the plane is gone, and Run ends.
	if keys := f.newKeys(c.cfg.Keys); keys != nil {
		_ = c.send(order{Keys: keys})
	}
	v := f.view(c.cfg.Log, c.page)
	if news := f.news(v); news != nil {
		id := c.id()
		f.index.Store(v.Index)
		f.pending.Store(id)
		_ = c.send(order{ID: id, View: news})
	} else {
		c.viewed.Store(v.Index)
	}
	return len(v.Voters) > 0 || len(c.cfg.Log.VoterSet().Voters) == 0
}

// followed takes the plane's answer to a view; false: it was to something else.
func (c *Client) followed(id uint64) bool {
	f := &c.feed
	index := f.index.Load()
	if !f.pending.CompareAndSwap(id, 0) {
		return false
	}
	c.viewed.Store(index)
	c.look()
	return true
}

// look has Run look at the log.
func (c *Client) look() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}

// Reconfiguring is called when an entry with a configuration was stored or cut, before Raft counts or
// acknowledges it. From then on the plane's voter is none, until this node is sure of the latest voters: one
// that has acknowledged a configuration must not promise by the one before, or two changes later a majority
// that promises and one that endorses may have no voter in common (lease rules 4 and 9). It does not block.
func (c *Client) Reconfiguring() {
	c.page.Suspend()
	c.look()
}
