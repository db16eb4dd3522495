package membership

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// deaf is how long the leader must not have been heard by who stands: one and a half times between two heartbeats.
// It means that one is late by half of that, or lost. That is little, and enough: who asks has heard that the lease of
// that leader has ended at a majority of the voters, and what an election costs is all there is to lose. More silence
// would be waited for where the leader is dead: a lease that ends at a majority leaves silence of four fifths of it, so
// who has a time-out of 1.6 leases or less stands at once. With a longer one heartbeats come more often (heartbeatEvery),
// and the voters' next hints ask again (lease/shell).
func deaf(every time.Duration) time.Duration { return every * 3 / 2 }

// Stand has this node stand for election at once, in place of a leader that it does not hear any more,
// as when that one hands leadership over (Raft dissertation, 3.10): TimeoutNow, said by this node to
// itself. So it waits neither for its time-out nor for those of the others; who votes for whom stays
// Raft's. later is how much more silence this node waits for than who stands first: two that stand at one
// moment share the votes, and then an election time-out passes. It returns false when it does not stand: that
// leader is heard, another one is known, or this node has no vote.
func (n *Node) Stand(leader string, later time.Duration) bool {
	if n.raft.State() != raft.Follower || n.LeaderID() != leader || leader == n.cfg.Node {
		return false
	}
	every := n.pace.interval()
	if every <= 0 || time.Since(n.raft.LastContact()) < deaf(every)+later {
		return false
	}
	if n.Suffrages()[n.cfg.Node] != "voter" {
		return false
	}
	rpc := raft.RPC{
		Command: &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.cfg.Node), Addr: n.parts.Transport.EncodePeer(raft.ServerID(n.cfg.Node), n.parts.Transport.LocalAddr()),
		}},
		RespChan: make(chan raft.RPCResponse, 1),
	}
	limit := time.NewTimer(n.raft.ReloadableConfig().HeartbeatTimeout)
	defer limit.Stop()
	select {
	case n.own <- rpc:
		return true
	case <-limit.C: // Raft is busy, with its disk most likely
	case <-n.done:
	}
	return false
}

// LeaderHeard is when this node last heard a leader, voted for one or stopped to lead; zero: not since its start, or it leads.
func (n *Node) LeaderHeard() time.Time {
	if n.raft.State() == raft.Leader {
		return time.Time{}
	}
	return n.raft.LastContact()
}

// TransferLeadership hands leadership to another voter, best effort within a limit.
func (n *Node) TransferLeadership() error {
	ctx, cancel := context.WithTimeout(context.Background(), transferWait)
	defer cancel()
	if _, err := wait(ctx, n.raft.LeadershipTransfer); err != nil {
		return fmt.Errorf("membership: hand leadership over: %w", err)
	}
	return nil
}

// YieldTo hands leadership to one voter, best effort within a limit.
func (n *Node) YieldTo(node string) error {
	for _, s := range n.Servers() {
		if string(s.ID) != node || s.Suffrage != raft.Voter {
			continue
		}
		if !n.absent.answers(s.ID) {
			return fmt.Errorf("membership: %s does not answer", node)
		}
		ctx, cancel := context.WithTimeout(context.Background(), transferWait)
		defer cancel()
		if _, err := wait(ctx, func() raft.Future { return n.raft.LeadershipTransferToServer(s.ID, s.Address) }); err != nil {
			return fmt.Errorf("membership: hand leadership to %s: %w", node, err)
		}
		return nil
	}
	return fmt.Errorf("membership: %s is no voter", node)
}
