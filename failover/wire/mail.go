package wire

import (
	"sync"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
)

// Config is what a Mail is made of.
type Config struct {
	Node string // id
	Log  ports.Log
	// Post carries sealed messages: the other side learns who sent one, whatever it says.
	Post ports.Post
	// Gossip carries messages to and from nodes that have no key yet (a program below level 4);
	// nil: there are none.
	Gossip ports.Post
	// Boot names this process of the voter. Words of version 1 cannot, so it is filled in for them.
	Boot lease.BootID
}

// Mail sends messages to nodes, this one included, and takes theirs.
type Mail struct {
	cfg     Config
	deliver func(Message)

	mu      sync.Mutex
	refused map[RefusedMessages]uint64 // by kind and reason, with a count of 0
}

// NewMail returns a Mail that hands on what may be heard to deliver. That must not block, and
// must not keep a renewal or an acknowledgement: their memory is used again.
func NewMail(cfg Config, deliver func(Message)) *Mail {
	return &Mail{cfg: cfg, deliver: deliver, refused: map[RefusedMessages]uint64{}}
}

// Receive takes one message from the network, of the node that the carrier has proved to be its
// sender. It does not block, and does not keep b.
func (m *Mail) Receive(from string, b []byte) { m.take(b, VersionSealed, from) }

// ReceiveGossip takes one message that came by gossip, where anybody with the cluster's gossip key
// could have said it. It counts only while that node or this one has no key yet, as in the version
// before. It does not block, and does not keep b.
func (m *Mail) ReceiveGossip(b []byte) { m.take(b, VersionGossip, "") }

// take decodes a message of a version, and hands it on if its sender may say it. In version 1 the
// message names that itself.
func (m *Mail) take(b []byte, version byte, from string) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	state := m.cfg.Log.State()
	s.nodes = state.Nodes
	var err error
	if version == VersionSealed && len(b) > 1 && b[0] == VersionFixed {
		s.msg, err = decodeFixed(b, from, m.cfg.Node, s)
	} else if s.msg, err = decodeInto(b, s); err == nil && b[0] != version {
		err = errDatagram
	}
	if err != nil {
		m.refuse(0, notWords)
		return
	}
	k, why := Kind(b[1]), ""
	switch {
	case version == VersionSealed:
		s.msg.From = from
	case sealed(state.Nodes[s.msg.From], state.Nodes[m.cfg.Node]):
		why = NotProved
	case s.msg.Renewal != nil:
		s.msg.Renewal.Boot = m.cfg.Boot
	}
	if why == "" {
		why = m.judge(k, &s.msg)
	}
	if why != "" {
		m.refuse(k, why)
		return
	}
	m.deliver(s.msg)
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Send sends to a node, best effort. What is for this node itself is delivered at once,
// in the caller's goroutine: so never call it with a lock held.
func (m *Mail) Send(to string, msg Message) {
	msg.From = m.cfg.Node
	if to == m.cfg.Node {
		m.deliver(msg)
		return
	}
	s := m.cfg.Log.State()
	if n, ok := s.Nodes[to]; ok {
		m.sendTo(s.Nodes[m.cfg.Node], n, msg)
	}
}

// sealed reports whether the messages between two nodes are sealed: both have a key. Until all of
// them have, both kinds are on the wire.
func sealed(a, b fsm.Node) bool { return a.Speaks() && b.Speaks() }

// sendTo sends a message in the kind that the two nodes speak.
func (m *Mail) sendTo(self, n fsm.Node, msg Message) {
	buf := datagrams.Get().(*[256]byte)
	defer datagrams.Put(buf)
	switch {
	case sealed(self, n):
		if (msg.Renewal != nil || msg.Ack != nil) && m.sendFixed(buf[:0], n, msg) {
			return
		}
		_ = m.cfg.Post.Send(n, EncodeAs(buf[:0], VersionSealed, msg)) // lost datagrams are ordinary; senders repeat
	case m.cfg.Gossip != nil && msg.Correction == nil && msg.Recall == nil && msg.Ended == nil && msg.Steps == nil && msg.Clock == nil:
		_ = m.cfg.Gossip.Send(n, Encode(buf[:0], msg))
	}
}

var datagrams = sync.Pool{New: func() any { return new([256]byte) }}

// TellLeader is SendLeader, and where no leader is known, it sends to every voter: a node whose Raft
// port is blocked knows of none, and should be heard all the same.
func (m *Mail) TellLeader(msg Message) {
	if m.cfg.Log.LeaderID() != "" {
		m.SendLeader(msg)
		return
	}
	for _, voter := range m.cfg.Log.VoterSet().Voters {
		m.Send(voter, msg)
	}
}

// SendLeader sends to the present leader, if one is known.
func (m *Mail) SendLeader(msg Message) {
	if id := m.cfg.Log.LeaderID(); id != "" {
		m.Send(id, msg)
	}
}
