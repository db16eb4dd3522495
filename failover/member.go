package failover

import (
	"context"
	"sync"

	"havip-cluster/fsm"
)

// Member is this node's part in the cluster: its Voter, Keeper, Agent and Controller.
type Member struct {
	Voter      *Voter
	Keeper     *Keeper // nil in a witness
	Agent      *Agent  // nil in a witness
	Controller *Controller

	reporter *reporter // nil in a witness
	mail     *mail
}

// New builds a Member. Nothing runs, and no datagram is answered, before Run.
func New(cfg Config) *Member {
	m := &Member{mail: &mail{node: cfg.Node, log: cfg.Log, post: cfg.Post}}
	m.Voter = newVoter(cfg, m.mail)
	m.Controller = newController(cfg, m.mail, m.Voter)
	if cfg.Owner {
		m.Keeper = newKeeper(cfg, m.mail)
		m.Agent = newAgent(cfg, m.mail, m.Keeper)
		m.Keeper.agent = m.Agent
		m.reporter = newReporter(cfg, m.Agent)
		m.Agent.reporter = m.reporter
		m.Agent.guardian = newGuardian(cfg)
		m.Agent.journal = newJournal(cfg)
	}
	m.mail.deliver = m.receive
	return m
}

// Run runs all parts until ctx ends, and then takes down what this node answers for. It
// returns the reason for which the Keeper gave up for good, if any.
func (m *Member) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { m.Voter.Run(ctx) })
	wg.Go(func() { m.Controller.Run(ctx) })
	var err error
	if m.Keeper != nil {
		wg.Go(func() { m.Agent.Run(ctx) })
		wg.Go(func() { m.reporter.run(ctx) })
		wg.Go(func() { m.Agent.guardian.run(ctx) })
		wg.Go(func() { m.Agent.journal.run(ctx) })
		wg.Go(func() {
			if err = m.Keeper.Run(ctx); err != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return err
}

// Receive takes one datagram from the network. It does not block.
func (m *Member) Receive(b []byte) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	s.nodes = m.mail.log.State().Nodes
	msg, err := decodeInto(b, s)
	if err != nil {
		m.Voter.malformed.Add(1)
		return
	}
	m.receive(msg)
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// receive hands a message on. Of a renewal and an acknowledgement everybody takes a copy:
// their memory is used again.
func (m *Member) receive(msg message) {
	switch {
	case msg.Renewal != nil:
		m.Voter.renewal(*msg.Renewal)
	case msg.Question != nil:
		m.Voter.question(msg.From, *msg.Question)
	case msg.Hint != nil, msg.Endorsement != nil, msg.Activated != nil, msg.Status != nil:
		m.Controller.hear(msg)
	case msg.Ack != nil && m.Keeper != nil:
		m.Keeper.ack(*msg.Ack)
	case msg.Ready != nil && m.Agent != nil:
		m.Agent.hear(msg)
	case msg.Released != nil:
		m.Controller.hear(msg)
		if m.Agent != nil {
			m.Agent.hear(msg)
		}
	}
}

// mail sends messages to nodes, this one included.
type mail struct {
	node    string
	log     Log
	post    Post
	deliver func(message)
}

// send sends to a node, best effort. What is for this node itself is delivered at once,
// in the caller's goroutine: so never call it with a lock held.
func (m *mail) send(to string, msg message) {
	msg.From = m.node
	if to == m.node {
		m.deliver(msg)
		return
	}
	if n, ok := m.log.State().Nodes[to]; ok {
		m.sendTo(n, msg)
	}
}

func (m *mail) sendTo(n fsm.Node, msg message) {
	buf := datagrams.Get().(*[256]byte)
	_ = m.post.Send(n, encode(buf[:0], msg)) // lost datagrams are ordinary; senders repeat
	datagrams.Put(buf)
}

var datagrams = sync.Pool{New: func() any { return new([256]byte) }}

// sendLeader sends to the present leader, if one is known.
func (m *mail) sendLeader(msg message) {
	if id := m.log.LeaderID(); id != "" {
		m.send(id, msg)
	}
}
