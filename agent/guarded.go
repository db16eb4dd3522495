package agent

import (
	"context"
	"path/filepath"
	"time"

	"havip-cluster/agent/autosave"
	"havip-cluster/agent/guard"
	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/membership"
)

const (
	reportEvery = 100 * time.Millisecond
	reportCalm  = time.Second // while the own session is the one that the log has
)

// reportToGuard tells the guard, until ctx ends, what changes.
func (a *node) reportToGuard(ctx context.Context) error {
	if a.guard == nil {
		return nil
	}
	watch, stop := a.node.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var session uint64
	for {
		if a.member.Session != nil {
			if own, _ := a.member.Session.Lease(); own != 0 {
				session = own
			}
		}
		s := a.node.State()
		if _, open := s.Sessions[session]; !open || a.handedOver.Load() {
			session = 0
		}
		a.guard.Send(guard.Message{Session: session, Peers: peers(s, a.id.NodeID, a.node.LeaderID()), Fence: a.fenceKind()})
		if ctx.Err() != nil {
			return nil
		}
		pause := reportCalm
		if own, open := s.SessionOf(a.id.NodeID); open && own.Number != session {
			pause = reportEvery // it begins shortly after the log has it
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done(): // and once more, for the last word
		case <-watch:
		case <-timer.C:
		}
	}
}

// peers lists the other nodes that may lead, the leader first.
func peers(s *fsm.State, self, leader string) []guard.Peer {
	var out []guard.Peer
	for _, n := range s.NodeList() {
		if n.ID == self || n.Role == fsm.RoleAgent || len(out) == guard.PeersMax {
			continue
		}
		out = append(out, guard.Peer{Node: n.ID, API: membership.APIAddress(n)})
		if n.ID == leader {
			last := len(out) - 1
			out[0], out[last] = out[last], out[0]
		}
	}
	return out
}

// logTail is the newest lines of this agent's log; nil: nobody keeps them.
func (a *node) logTail() []byte {
	if a.options.Sink == nil {
		return nil
	}
	return a.options.Sink.Tail()
}

// snapshots lists what this node has saved by itself.
func (a *node) snapshots() ([]api.SavedSnapshot, error) {
	files, err := autosave.List(a.id.Dir)
	var out []api.SavedSnapshot
	for _, f := range files {
		out = append(out, api.SavedSnapshot{Node: a.id.Name, File: filepath.Join(a.id.Dir, autosave.Folder, f.Name), Bytes: f.Bytes, Index: f.Index, Made: f.Made})
	}
	return out, err
}
