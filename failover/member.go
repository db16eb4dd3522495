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

// New builds a Member. Nothing runs before Run; but what Receive and ReceiveGossip are given from now
// on is heard, and a voter answers it.
func New(cfg Config) *Member {
	m := &Member{mail: newMail(cfg)}
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

// Receive takes one word from the network, of the node that the carrier has proved to be its
// sender. It does not block, and does not keep b.
func (m *Member) Receive(from string, b []byte) { m.take(b, wireSealed, from) }

// ReceiveGossip takes one word that came by gossip, where anybody with the cluster's gossip key
// could have said it. It counts only while that node or this one has no key yet, as in the version
// before. It does not block, and does not keep b.
func (m *Member) ReceiveGossip(b []byte) { m.take(b, wireVersion, "") }

// take decodes a word of a version, and hands it on if its sender may say it. In version 1 the
// word names that itself.
func (m *Member) take(b []byte, version byte, from string) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	state := m.mail.log.State()
	s.nodes = state.Nodes
	var err error
	if s.msg, err = decodeInto(b, s); err != nil || b[0] != version {
		m.mail.refuse(0, notWords)
		return
	}
	k, why := kind(b[1]), ""
	switch {
	case version == wireSealed:
		s.msg.From = from
	case sealed(state.Nodes[s.msg.From], state.Nodes[m.mail.node]):
		why = notProved
	case s.msg.Renewal != nil:
		s.msg.Renewal.Boot = m.Voter.boot() // that version cannot name it
	}
	if why == "" {
		why = m.mail.judge(k, &s.msg)
	}
	if why != "" {
		m.mail.refuse(k, why)
		return
	}
	m.receive(s.msg)
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
	case msg.Correction != nil && m.Keeper != nil:
		m.Keeper.corrected(*msg.Correction)
	case (msg.Ready != nil || msg.Recall != nil) && m.Agent != nil:
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
	post    Post // sealed, each word bound to its sender
	gossip  Post // for nodes that have no key yet; nil: none
	deliver func(message)

	mu      sync.Mutex
	refused map[RefusedWords]uint64 // by kind and reason, with a count of 0
}

func newMail(cfg Config) *mail {
	return &mail{node: cfg.Node, log: cfg.Log, post: cfg.Post, gossip: cfg.Gossip, refused: map[RefusedWords]uint64{}}
}

// send sends to a node, best effort. What is for this node itself is delivered at once,
// in the caller's goroutine: so never call it with a lock held.
func (m *mail) send(to string, msg message) {
	msg.From = m.node
	if to == m.node {
		m.deliver(msg)
		return
	}
	s := m.log.State()
	if n, ok := s.Nodes[to]; ok {
		m.sendTo(s.Nodes[m.node], n, msg)
	}
}

// sealed reports whether the words between two nodes are sealed: both have a key. Until all of
// them have, both kinds are on the wire.
func sealed(a, b fsm.Node) bool { return a.Speaks() && b.Speaks() }

// sendTo sends a word in the kind that the two nodes speak.
func (m *mail) sendTo(self, n fsm.Node, msg message) {
	buf := datagrams.Get().(*[256]byte)
	defer datagrams.Put(buf)
	switch {
	case sealed(self, n):
		_ = m.post.Send(n, encodeAs(buf[:0], wireSealed, msg)) // lost datagrams are ordinary; senders repeat
	case m.gossip != nil && msg.Correction == nil && msg.Recall == nil:
		_ = m.gossip.Send(n, encode(buf[:0], msg))
	}
}

var datagrams = sync.Pool{New: func() any { return new([256]byte) }}

// tellLeader is sendLeader, and where no leader is known, it sends to every voter: a node whose Raft
// port is blocked knows of none, and should be heard all the same.
func (m *mail) tellLeader(msg message) {
	if m.log.LeaderID() != "" {
		m.sendLeader(msg)
		return
	}
	for _, voter := range m.log.VoterSet().Voters {
		m.send(voter, msg)
	}
}

// sendLeader sends to the present leader, if one is known.
func (m *mail) sendLeader(msg message) {
	if id := m.log.LeaderID(); id != "" {
		m.send(id, msg)
	}
}
