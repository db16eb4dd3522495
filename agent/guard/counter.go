package guard

import (
	"log/slog"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/membership/datagram"
	"havip-cluster/netdev/acceptor"
)

// channelsEach is between two looks at which channels the voters answer in: they change with keys and restarts, and an
// answer in one that the program does not know is counted by the process.
const channelsEach = 100 * time.Millisecond

// counter has the program in the kernel count for the Renewer of the lease plane, whose lock is held.
type counter struct {
	node   string
	kernel *acceptor.Counter
	socket answering
	log    *slog.Logger

	by     acceptor.Counting // its Voters are room that is used again
	set    lease.VoterSet
	looked lease.Instant
	told   string // the last fault
}

// answering knows how a node answers tagged frames.
type answering interface {
	Answered(node string) (datagram.Channel, bool)
}

var _ shell.Counter = (*counter)(nil)

func (c *counter) CountBy(s lease.Session, set lease.VoterSet, now lease.Instant) {
	same := c.by.Session == s.Number && c.set.ID == set.ID && c.set.Index == set.Index
	if same && now.Sub(c.looked) < channelsEach {
		return
	}
	c.looked, c.set = now, set
	c.by.Session, c.by.Config, c.by.Majority, c.by.Voters = s.Number, uint64(set.ID), set.Majority(), c.by.Voters[:0]
	for _, voter := range set.Voters {
		if voter == c.node {
			continue
		}
		if ch, known := c.socket.Answered(voter); known {
			c.by.Voters = append(c.by.Voters, acceptor.Channel{Number: ch.Number, Invitation: ch.Invitation, Answer: ch.Answer, Peer: ch.Peer})
		}
	}
	err := c.kernel.Count(c.by)
	if err != nil && err.Error() != c.told {
		c.told = err.Error()
		go c.log.Warn( // not under the Renewer's lock: who reads the log may stand still
			"answers to renewals are counted by the process alone", "err", err)
	}
}

func (c *counter) Round(r lease.Renewal) { c.kernel.Round(r.Round, int64(r.Sent), r.Length) }

func (c *counter) OwnVote(round uint64) {
	if c.set.Has(c.node) {
		c.kernel.OwnVote(round)
	}
}

func (c *counter) StopCounting() error {
	c.by.Session = 0
	return c.kernel.Stop()
}
