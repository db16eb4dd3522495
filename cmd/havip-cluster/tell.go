package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
	"havip-cluster/netdev/fence"
)

const (
	childEnv = "HAVIP_AGENT_CHILD" // set by the guard: file 3 is its pipe
	childFD  = 3

	wordVersion = 1
	wordMax     = 4096 // bytes of a line; a pipe takes as much in one piece
	peersMax    = 16   // only voters are named; a cluster has at most five
	tellEvery   = 100 * time.Millisecond
	tellWait    = 100 * time.Millisecond // for a guard that does not read
	agentScore  = -900                   // oom_score_adj: after the guard, before the host is lost
)

// word is what the agent tells its guard, as one line of JSON, whenever it changes: what
// the guard needs to know when the agent can no longer be asked.
type word struct {
	Version int `json:"v"`
	// Session is the one that this process opened and the log has not closed; 0: none.
	// Never one that the log alone tells of: it may be of another process.
	Session uint64     `json:"session"`
	Peers   []peer     `json:"peers"` // the other voters, the leader first
	Fence   fence.Kind `json:"fence"` // what the agent installed; "": no edge at all
}

// peer is a node that may lead.
type peer struct {
	Node string `json:"node"` // id
	API  string `json:"api"`  // host:port
}

// parseWord reads a line; false if it is not a whole word of this version.
func parseWord(line []byte) (word, bool) {
	var w word
	err := json.Unmarshal(line, &w)
	return w, err == nil && w.Version == wordVersion && len(w.Peers) <= peersMax
}

// teller writes words to the guard.
type teller struct {
	pipe *os.File
	last string
}

// newTeller takes over the guard's pipe; nil if this process has no guard.
func newTeller() (*teller, error) {
	if os.Getenv(childEnv) == "" {
		return nil, nil
	}
	if err := os.Unsetenv(childEnv); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(childFD, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, fmt.Errorf("$%s is set, but file %d is not the pipe of a guard", childEnv, childFD)
	}
	unix.CloseOnExec(childFD)
	// Not blocking, so that a write to a guard that was stopped has a limit.
	if err := unix.SetNonblock(childFD, true); err != nil {
		return nil, err
	}
	return &teller{pipe: os.NewFile(childFD, "guard")}, nil
}

// tell writes w if it is news. What fails is told again the next time; a guard that is
// dead has sent its signal.
func (t *teller) tell(w word) {
	w.Version = wordVersion
	line, err := json.Marshal(w)
	if err != nil || string(line) == t.last {
		return
	}
	t.last = string(line)
	_ = t.pipe.SetWriteDeadline(time.Now().Add(tellWait))
	// It begins with the end of a line, for the half line that a failed write leaves.
	if _, err := t.pipe.WriteString("\n" + t.last + "\n"); err != nil && !errors.Is(err, unix.EPIPE) {
		t.last = ""
	}
}

// tellGuard tells the guard, until ctx ends, what changes.
func (a *runner) tellGuard(ctx context.Context) error {
	if a.teller == nil {
		return nil
	}
	watch, stop := a.node.Watch()
	defer stop()
	tick := time.NewTicker(tellEvery) // a session begins shortly after the log has it
	defer tick.Stop()
	var session uint64
	for {
		if a.member.Keeper != nil {
			if own, _ := a.member.Keeper.Lease(); own != 0 {
				session = own
			}
		}
		s := a.node.State()
		if _, open := s.Sessions[session]; !open || a.handedOver.Load() {
			session = 0
		}
		a.teller.tell(word{Session: session, Peers: peers(s, a.id.NodeID, a.node.LeaderID()), Fence: a.fenceKind()})
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-ctx.Done(): // and once more, for the last word
		case <-watch:
		case <-tick.C:
		}
	}
}

// peers lists the other nodes that may lead, the leader first.
func peers(s *fsm.State, self, leader string) []peer {
	var out []peer
	for _, n := range s.NodeList() {
		if n.ID == self || n.Role == fsm.RoleAgent || len(out) == peersMax {
			continue
		}
		out = append(out, peer{Node: n.ID, API: apiAddress(n)})
		if n.ID == leader {
			last := len(out) - 1
			out[0], out[last] = out[last], out[0]
		}
	}
	return out
}
