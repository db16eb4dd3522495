package membership

import (
	"errors"
	"io"
	"maps"
	"sync"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

// What Raft gets for a request that was not sent.
var (
	errAbsent = errors.New("membership: the server does not answer, and nothing is to be sent there any more")
	errAnew   = errors.New("membership: the server answers again, and is sent what was written meanwhile too")
)

// absentAfter is how many failed requests in a row, heartbeats among them, make a server absent. One may have met a
// connection of an earlier life of that server.
const absentAfter = 2

// absentPeers is Raft's transport in which entries and snapshots for a server that does not answer wait until it
// answers a heartbeat.
//
// hashicorp/raft counts the requests that failed and pauses before the next one, twice as long each time, up to 10 s
// (v1.8.0, replicateTo); nothing ends that pause. So a server that was away for half a minute lacked what it had
// missed for seconds after its return, although its heartbeats, which go another way, were answered at once. A
// request that waits here does not fail. It goes out with the first heartbeat that is answered, late like one
// that a network held up, which Raft allows for. If more has been written meanwhile, it fails once instead, and Raft, which has
// been told of that, makes another one at once: the old one reaches up to where the log ended then, and the rest
// would follow in pieces of 64 entries, one for each new entry (v1.8.0, pipelineSend).
type absentPeers struct {
	votingTransport
	// wanted: this node leads in the term, and the server is one of the latest configuration. It may say yes to what
	// has just ended, but not for longer than until the next heartbeat or look.
	wanted func(id raft.ServerID, term uint64) bool
	newest func() uint64 // the last index of this node's log

	mu     sync.Mutex
	failed map[raft.ServerID]absence // at most fsm.MaxNodes
	anew   chan struct{}             // closed when something else than a heartbeat may have ended a wait
	freed  int                       // counts the calls of free
	over   bool                      // nothing waits any more
}

// absence is a server whose last request failed.
type absence struct {
	term  uint64 // of the first that failed
	times int
	news  chan struct{} // closed with the next request that ends
}

func newAbsentPeers(t votingTransport, wanted func(raft.ServerID, uint64) bool, newest func() uint64) *absentPeers {
	return &absentPeers{votingTransport: t, wanted: wanted, newest: newest, failed: map[raft.ServerID]absence{}, anew: make(chan struct{})}
}

// AppendEntries implements raft.Transport.
func (a *absentPeers) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	beat := isHeartbeat(req)
	if !beat {
		if err := a.wait(id, req.Term); err != nil {
			return err
		}
	}
	err := a.votingTransport.AppendEntries(id, to, req, resp)
	if beat || err != nil { // a server whose disk hangs answers heartbeats alone
		a.ended(id, req.Term, err == nil)
	}
	return err
}

// InstallSnapshot implements raft.Transport.
func (a *absentPeers) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := a.wait(id, req.Term); err != nil {
		return err
	}
	err := a.votingTransport.InstallSnapshot(id, to, req, resp, data)
	if err != nil {
		a.ended(id, req.Term, false)
	}
	return err
}

// ended notes how a request of a term ended.
func (a *absentPeers) ended(id raft.ServerID, term uint64, answered bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, known := a.failed[id]
	if known {
		close(last.news)
		delete(a.failed, id)
	}
	if last.term != term {
		last = absence{term: term}
	}
	if answered {
		return
	}
	if len(a.failed) >= fsm.MaxNodes { // servers that were removed, most likely
		maps.DeleteFunc(a.failed, func(_ raft.ServerID, old absence) bool { return old.term != term })
	}
	if len(a.failed) < fsm.MaxNodes { // the others have Raft's pause
		a.failed[id] = absence{term, last.times + 1, make(chan struct{})}
	}
}

// wait returns nil when a request of a term may be sent: its server answers, or has not failed often enough in
// that term. An error: the request is not wanted, or another one takes its place.
func (a *absentPeers) wait(id raft.ServerID, term uint64) error {
	a.mu.Lock()
	freed := a.freed
	a.mu.Unlock()
	for newest, waited := a.newest(), false; ; waited = true {
		a.mu.Lock()
		last, anew, wanted := a.failed[id], a.anew, a.freed == freed && !a.over
		a.mu.Unlock()
		switch {
		case last.times < absentAfter || last.term != term:
			if waited && a.newest() > newest {
				return errAnew
			}
			return nil
		case !wanted || !a.wanted(id, term):
			return errAbsent
		}
		select {
		case <-last.news:
		case <-anew:
		}
	}
}

// answers reports whether a server is not known to be absent.
func (a *absentPeers) answers(id raft.ServerID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed[id].times < absentAfter
}

// look has those who wait look whether they still have to.
func (a *absentPeers) look() { a.change(func() {}) }

// free fails the requests that wait now. While leadership is handed over Raft takes no entries, and it may wait for the
// replication to a server without a limit then (v1.8.0, leadershipTransfer: a place in triggerDeferErrorCh).
func (a *absentPeers) free() { a.change(func() { a.freed++ }) }

// end fails what waits, and what would.
func (a *absentPeers) end() { a.change(func() { a.over = true }) }

func (a *absentPeers) change(does func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	does()
	close(a.anew)
	a.anew = make(chan struct{})
}

// replicates reports whether this node, as leader of a term, has entries for a server.
func (n *Node) replicates(id raft.ServerID, term uint64) bool {
	r := n.inner.Load()
	if r == nil {
		return true // it starts
	}
	if r.State() != raft.Leader || r.CurrentTerm() != term {
		return false
	}
	for _, s := range n.Servers() {
		if s.ID == id {
			return true
		}
	}
	return false
}

// logged is the last index of this node's log, whatever the entry is.
func (n *Node) logged() uint64 {
	if r := n.inner.Load(); r != nil {
		return r.LastIndex()
	}
	return 0
}
