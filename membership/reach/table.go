// Package reach finds out which ports of the other members a node does not reach. What it finds is
// this node's own observation, a hint for people: nothing is decided by it.
package reach

import (
	"cmp"
	"slices"
	"time"
)

// Door is a port of a node, with its protocol. The words are stable: they travel between versions.
type Door string

// The doors of a node.
const (
	API       Door = "api"        // TCP
	Raft      Door = "raft"       // TCP
	GossipTCP Door = "gossip/tcp" // the same port has two
	GossipUDP Door = "gossip/udp"
	Lease     Door = "lease" // UDP
)

// Doors are all of them.
var Doors = []Door{API, Raft, GossipTCP, GossipUDP, Lease}

// Why a door was not reached. The words are stable, as those of Door.
type Why string

// Reasons.
const (
	TimedOut    Why = "timed out"
	Refused     Why = "connection refused"
	Unreachable Why = "host or network unreachable"
	NoAnswer    Why = "no answer" // of what has no connections
	Failed      Why = "failed"    // anything else
)

// Limits of the work: it does not grow with the cluster, a round takes longer instead.
const (
	turnEvery    = 5 * time.Second         // between two turns; in each, some peers are tried at all doors
	turnPeers    = 4                       // peers of one turn, so a cluster of 5 is tried once in a turn
	retryEvery   = 1500 * time.Millisecond // to a door that failed, until it is certain
	retryDoors   = 8                       // doors of such a retry
	certainTries = 3                       // failures in a row before anything is said
	// absentAfter is how long a door of a peer without a session has to fail: one that has just
	// died still seems alive to gossip for some seconds.
	absentAfter = 12 * time.Second
)

// Peer is another member that seems to be up.
type Peer struct {
	Node    string // id
	Present bool   // it has a session
}

// Probe is one try that is due.
type Probe struct {
	Node string
	Door Door
}

// Failure is a door that failed several times in a row, and does so still.
type Failure struct {
	Probe
	Why   Why
	Since time.Time // the first failure of those in a row
}

// Table knows what was tried and how it ended. It is a pure core: times come from the caller.
type Table struct {
	peers  []Peer
	failed map[Probe]*failing // what works has no entry
	after  string             // the last peer of the last turn
	turn   time.Time          // the next one
	retry  time.Time
}

type failing struct {
	tries int
	why   Why
	since time.Time
}

// Meet takes the peers that seem to be up now, and forgets all others.
func (t *Table) Meet(peers []Peer) {
	t.peers = slices.SortedFunc(slices.Values(peers), func(a, b Peer) int { return cmp.Compare(a.Node, b.Node) })
	for p := range t.failed {
		if _, up := t.peer(p.Node); !up {
			delete(t.failed, p)
		}
	}
}

func (t *Table) peer(node string) (Peer, bool) {
	at, found := slices.BinarySearchFunc(t.peers, node, func(p Peer, node string) int { return cmp.Compare(p.Node, node) })
	if !found {
		return Peer{}, false
	}
	return t.peers[at], true
}

// Due returns what is to be tried at a time, sorted. jitter, from 0 to 1, shifts the next turn, so
// that the nodes of a cluster do not keep step.
func (t *Table) Due(now time.Time, jitter float64) []Probe {
	if now.Before(t.turn) {
		return t.again(now)
	}
	t.turn = now.Add(spread(turnEvery, jitter))
	t.retry = now.Add(spread(retryEvery, jitter))
	var due []Probe
	first, _ := slices.BinarySearchFunc(t.peers, t.after+"\x00", func(p Peer, node string) int { return cmp.Compare(p.Node, node) })
	for i := range min(turnPeers, len(t.peers)) {
		p := t.peers[(first+i)%len(t.peers)]
		t.after = p.Node
		for _, d := range Doors {
			due = append(due, Probe{p.Node, d})
		}
	}
	slices.SortFunc(due, compare)
	return due
}

// again returns the doors about which it is not certain that they fail.
func (t *Table) again(now time.Time) (due []Probe) {
	if now.Before(t.retry) {
		return nil
	}
	for p, f := range t.failed {
		if f.tries < certainTries {
			due = append(due, p)
		}
	}
	slices.SortFunc(due, compare)
	t.retry = now.Add(retryEvery)
	return due[:min(len(due), retryDoors)]
}

// spread is d, more or less by a fifth.
func spread(d time.Duration, jitter float64) time.Duration {
	return d*4/5 + time.Duration(float64(d)*2/5*jitter)
}

// Next is when Due has something again.
func (t *Table) Next() time.Time {
	for _, f := range t.failed {
		if f.tries < certainTries && t.retry.Before(t.turn) {
			return t.retry
		}
	}
	return t.turn
}

// Note takes the outcome of a try; "" is that the door was reached.
func (t *Table) Note(now time.Time, p Probe, why Why) {
	if _, up := t.peer(p.Node); !up {
		return
	}
	if why == "" {
		delete(t.failed, p)
		return
	}
	if t.failed == nil {
		t.failed = map[Probe]*failing{}
	}
	f := t.failed[p]
	if f == nil {
		f = &failing{since: now}
		t.failed[p] = f
	}
	f.tries++
	f.why = why
}

// Failures returns the doors that are certain to fail at a time, sorted.
func (t *Table) Failures(now time.Time) []Failure {
	var out []Failure
	for p, f := range t.failed {
		peer, _ := t.peer(p.Node)
		if f.tries >= certainTries && (peer.Present || now.Sub(f.since) >= absentAfter) {
			out = append(out, Failure{p, f.why, f.since})
		}
	}
	slices.SortFunc(out, func(a, b Failure) int { return compare(a.Probe, b.Probe) })
	return out
}

func compare(a, b Probe) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(slices.Index(Doors, a.Door), slices.Index(Doors, b.Door)))
}
