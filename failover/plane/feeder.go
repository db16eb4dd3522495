package plane

import (
	"reflect"
	"slices"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
)

// settleEvery is between two looks whether the voters are known for sure again.
const settleEvery = time.Millisecond

// Settled is a log that says whether its latest configuration is the one in force.
type Settled interface {
	// Settled reports whether an entry is the newest configuration in the log, and none is being written.
	Settled(index uint64) bool
}

// feeder knows what the plane was told.
type feeder struct {
	mu   sync.Mutex // held from the look at the log until the plane was told
	told View
	keys []Key
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

// follow tells the plane what has changed. False: the voters are not known for sure, and it should be
// called again soon.
func (c *Client) follow() bool {
	f := &c.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	// Where sending fails, the plane is gone, and Run ends.
	if keys := f.newKeys(c.cfg.Keys); keys != nil {
		_, _ = c.send(order{Keys: keys}, nil)
	}
	v := f.view(c.cfg.Log, c.page)
	if news := f.news(v); news != nil {
		_, _ = c.send(order{View: news}, nil)
	}
	return len(v.Voters) > 0 || len(c.cfg.Log.VoterSet().Voters) == 0
}

// Reconfiguring is called before an entry with a configuration is stored or cut. From then on the plane
// promises and counts by no voters, until this node is sure of the latest ones: a voter that has stored a
// configuration must not promise by the one before, or two changes later a majority that promises and one
// that endorses may have no voter in common (lease rules 4 and 9). It does not block.
func (c *Client) Reconfiguring() {
	c.page.Suspend()
	select {
	case c.again <- struct{}{}:
	default:
	}
}
