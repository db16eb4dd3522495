package failover

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"havip-cluster/failover/leader"
	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/owner"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
)

// Edge is this node's kernel: what the owner needs of it, and the fence's deadline, which the
// Renewer sets.
type Edge interface {
	owner.Edge
	shell.Fence
}

// Config joins the parts of a Member.
type Config struct {
	Node   string // id
	Log    ports.Log
	Submit ports.Submit
	// Post carries sealed words: the other side learns who sent one, whatever it says.
	Post ports.Post
	// Gossip carries words to and from nodes that have no key yet (a program below level 4);
	// nil: there are none.
	Gossip ports.Post
	Edge   Edge
	Clock  ports.Clock
	Logger *slog.Logger
	// Owner: this node may own HAVIPs, so it keeps a session. A witness does not.
	Owner bool
	// Lease is the length in force until the log tells another one.
	Lease time.Duration
	// Apart is where holder and acceptor run; nil: in this process.
	Apart Apart
	// Plane gives what renews a thread of its own, by the real clock; nil: a goroutine does.
	Plane *realtime.Plane
	// Stand has this node stand for election in place of a leader whose lease has ended, unless it hears
	// that one; Yield gives leadership to another voter. nil: neither is done.
	Stand func(leader string, later time.Duration) bool
	Yield func(node string) error
	// Changed hears what becomes of HAVIPs here; nil: nobody does. The Agent calls it on its
	// way, so it must not block.
	Changed func(owner.Change)
	// Sent reports whether clients find here what stands here, as package owner has it; nil: they do.
	Sent func(havip string, epoch fsm.Epoch) bool
	// Measure hears how the renewals do, Claimed each claim of a HAVIP by somebody outside the
	// cluster. They may be nil, and must not block.
	Measure shell.Measure
	Claimed func()
	// Wall is the time for records in unix nanoseconds; nil is the system's clock.
	Wall func() int64
}

// Member is this node's part in the cluster. The rooms know nothing of each other: they are joined
// here alone.
type Member struct {
	Voter      Voter
	Session    *shell.SessionClient // nil in a witness
	Agent      *owner.Agent         // nil in a witness
	Controller *leader.Controller

	apart   Apart          // nil: what follows is here
	voter   *shell.Voter   // nil: apart
	renewer *shell.Renewer // nil in a witness, or apart
	heir    *shell.Succession
	log     ports.Log
	mail    *wire.Mail
	clock   ports.Clock
}

// Voter is what this node's voter can be asked, wherever it runs.
type Voter interface {
	shell.Heard
	// Promised returns for how long this node's own promise to a session still runs.
	Promised(s lease.Session) (time.Duration, bool)
	// Refuses reports whether this voter has endorsed the end of a session.
	Refuses(s lease.Session) bool
	// Figures returns how many renewals this voter acknowledged and, by reason, refused.
	Figures() (granted uint64, refused map[string]uint64)
}

// Apart is a lease plane in another process: the shells of acceptor and holder, and the socket of the
// words (package plane).
type Apart interface {
	Voter
	shell.Leaseholder
	// Hear takes a word that is for a part over there: of a node, or with "" by gossip. It does not block.
	Hear(from string, word []byte)
	// Viewed is the index of the state that is known over there.
	Viewed() uint64
	// RefusedMessages are those that were not heard over there.
	RefusedMessages() []wire.RefusedMessages
}

// New builds a Member. Nothing runs before Run; but what Receive and ReceiveGossip are given from now
// on is heard, and a voter answers it.
func New(cfg Config) *Member {
	if cfg.Wall == nil {
		cfg.Wall = func() int64 { return time.Now().UnixNano() }
	}
	boot := shell.DrawBoot()
	m := &Member{clock: cfg.Clock, log: cfg.Log, apart: cfg.Apart}
	m.mail = wire.NewMail(wire.Config{Node: cfg.Node, Log: cfg.Log, Post: cfg.Post, Gossip: cfg.Gossip, Boot: boot}, m.deliver)
	cores := shell.Config{
		Node: cfg.Node, Log: cfg.Log, Submit: cfg.Submit, Mail: m.mail, Clock: cfg.Clock, Logger: cfg.Logger, Boot: boot, Lease: cfg.Lease, Plane: cfg.Plane, Stand: cfg.Stand, Measure: cfg.Measure,
	}
	if cfg.Apart != nil {
		cores.Viewed = cfg.Apart.Viewed
	}
	m.heir = shell.NewSuccession(cores)
	if m.Voter = cfg.Apart; cfg.Apart == nil {
		m.voter = shell.NewVoter(cores)
		m.Voter = m.voter
	}
	m.Controller = leader.New(leader.Config{
		Node: cfg.Node, Log: cfg.Log, Mail: m.mail, Voter: m.Voter, Clock: cfg.Clock, Logger: cfg.Logger, Wall: cfg.Wall, Yield: cfg.Yield,
	})
	if cfg.Owner {
		m.Agent = owner.New(owner.Config{
			Node: cfg.Node, Log: cfg.Log, Submit: cfg.Submit, Mail: m.mail, Edge: cfg.Edge, Clock: cfg.Clock, Logger: cfg.Logger, Changed: cfg.Changed, Sent: cfg.Sent, Claimed: cfg.Claimed,
		})
		var holder shell.Leaseholder = cfg.Apart
		if cfg.Apart == nil {
			m.renewer = shell.NewRenewer(cores, m.Agent, cfg.Edge)
			holder = m.renewer
		}
		m.Session = shell.NewSessionClient(cores, m.Agent, holder)
	}
	return m
}

// Run runs all parts until ctx ends, and then takes down what this node answers for. It
// returns the reason for which the SessionClient gave up for good, if any.
func (m *Member) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	if m.voter != nil {
		wg.Go(func() { m.voter.Run(ctx) })
	}
	wg.Go(func() { m.heir.Run(ctx) })
	wg.Go(func() { m.Controller.Run(ctx) })
	var err error
	if m.Session != nil {
		wg.Go(func() { m.Agent.Run(ctx, m.Session) })
		wg.Go(func() {
			if err = m.Session.Run(ctx); err != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return err
}

// Receive takes one word from the network, of the node that the carrier has proved to be its
// sender. It does not block, and does not keep b.
func (m *Member) Receive(from string, b []byte) { m.mail.Receive(from, b) }

// ReceiveGossip takes one word that came by gossip, where anybody with the cluster's gossip key
// could have said it. It does not block, and does not keep b.
func (m *Member) ReceiveGossip(b []byte) {
	if m.apart != nil && wire.OfCores(b) {
		m.apart.Hear("", b)
		return
	}
	m.mail.ReceiveGossip(b)
}

// Refused returns how many words were not heard, sorted by kind and reason.
func (m *Member) Refused() []wire.RefusedMessages {
	if m.apart == nil {
		return m.mail.Refused()
	}
	return wire.JoinRefused(m.mail.Refused(), m.apart.RefusedMessages())
}

// MayOpen is the leader's word on a request for a session, beside what Apply checks: nil, or
// that another process still renews the node's last one.
func (m *Member) MayOpen(b fsm.OpenSession) *fsm.Refusal {
	return shell.MayOpen(m.log.State(), m.Voter, b)
}

// deliver hands a message on. Of a renewal and an acknowledgement everybody takes a copy:
// their memory is used again.
func (m *Member) deliver(msg wire.Message) {
	switch {
	case m.apart != nil && msg.Question != nil: // this node's own, as leader
		m.apart.Hear(msg.From, wire.EncodeAs(nil, wire.VersionSealed, msg))
	case msg.Renewal != nil && m.voter != nil:
		m.voter.Renewal(*msg.Renewal)
	case msg.Question != nil:
		m.voter.Question(msg.From, *msg.Question)
	case msg.Hint != nil:
		m.Controller.Hear(msg)
		m.heir.Hinted(msg.From, msg.Hint)
	case msg.Endorsement != nil, msg.Activated != nil, msg.Status != nil:
		m.Controller.Hear(msg)
	case msg.Clock != nil && msg.Clock.Answered == 0:
		m.mail.Send(msg.From, wire.Message{Clock: &wire.ClockMessage{Asked: msg.Clock.Asked, Answered: m.clock()}})
	case msg.Clock != nil:
		msg.Clock.Heard = m.clock()
		m.Controller.Hear(msg)
	case msg.Steps != nil:
		msg.Steps.Heard = m.clock()
		m.Controller.Hear(msg)
	case msg.Ack != nil && m.renewer != nil:
		m.renewer.Ack(*msg.Ack)
	case msg.Ended != nil && m.renewer != nil:
		m.renewer.Ended(*msg.Ended)
	case msg.Correction != nil && m.renewer != nil:
		m.renewer.Corrected(*msg.Correction)
	case (msg.Ready != nil || msg.Recall != nil) && m.Agent != nil:
		m.Agent.Hear(msg)
	case msg.Released != nil:
		m.Controller.Hear(msg)
		if m.Agent != nil {
			m.Agent.Hear(msg)
		}
	}
}
