package membership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
	"havip-cluster/membership/reach"
)

const (
	reachedLately = 5 * time.Second        // an answer that young makes a try unnecessary
	spreadTimeout = 500 * time.Millisecond // until what is told by gossip has gone out once
	gossipLabel   = 244                    // the first byte of a stream of memberlist with a label
)

// Doors tries the doors of the other members, for reach.Prober. What Raft, gossip and the words of
// the lease have found out by themselves lately is not tried again.
type Doors struct {
	Node   *Node
	Gossip *Gossip
	// Silent returns the nodes that do not answer at their lease port (datagram.Socket).
	Silent func() []string
}

// Peers returns the members that seem to be up: gossip sees them, or they have a session and this
// node knows a leader, so that it would hear of the session's end.
func (d Doors) Peers() (out []reach.Peer) {
	s, led := d.Node.State(), d.Node.LeaderID() != ""
	for _, n := range s.NodeList() {
		_, session := s.SessionOf(n.ID)
		if n.ID != d.Node.Self() && (d.Gossip.Alive(n.ID) || session && led) {
			out = append(out, reach.Peer{Node: n.ID, Present: session || n.Role == fsm.RoleWitness})
		}
	}
	return out
}

// Try finds out whether a door of a member is reached.
func (d Doors) Try(ctx context.Context, p reach.Probe) error {
	n, ok := d.Node.State().Nodes[p.Node]
	if !ok {
		return nil // removed meanwhile
	}
	switch p.Door {
	case reach.API:
		return reach.Connect(ctx, &net.Dialer{}, hostPort(n.Address, n.APIPort), nil)
	case reach.Raft:
		if d.Node.heardRaft(p.Node, reachedLately) || !d.Gossip.probed(p.Node) {
			return nil
		}
		return reach.Connect(ctx, &net.Dialer{}, hostPort(n.Address, n.RaftPort), nil)
	case reach.GossipTCP:
		return d.Gossip.tryTCP(ctx, n)
	case reach.GossipUDP:
		return d.Gossip.tryUDP(n)
	case reach.Lease:
		if slices.Contains(d.Silent(), p.Node) {
			return reach.ErrNoAnswer
		}
	}
	return nil
}

// heardRaft reports whether a connection of this node's Raft to another node brought something lately.
func (n *Node) heardRaft(node string, within time.Duration) bool {
	bound, real := n.parts.Transport.(*boundTransport)
	return real && bound.out.heard(node, within)
}

// heard asks the kernel when a connection to a node brought something, so that nothing has to be
// noted for each message.
func (d *dialler) heard(node string, within time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.open {
		secure, ok := c.Conn.(interface{ NetConn() net.Conn })
		if !ok || c.node != node {
			continue
		}
		raw, ok := secure.NetConn().(*net.TCPConn)
		if !ok {
			continue
		}
		control, err := raw.SyscallConn()
		if err != nil {
			continue
		}
		young := false
		_ = control.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			young = err == nil && time.Duration(info.Last_data_recv)*time.Millisecond < within
		})
		if young {
			return true
		}
	}
	return false
}

// probed reports whether gossip has heard that the node expects to be probed.
func (g *Gossip) probed(node string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[node].meta.Probed
}

// tryTCP connects from the address by which others know this node, as gossip does. The label alone
// is a stream that memberlist takes for ended, without a word in its log.
func (g *Gossip) tryTCP(ctx context.Context, n fsm.Node) error {
	from := &net.TCPAddr{IP: g.cfg.Listen.Addr().AsSlice()}
	label := append([]byte{gossipLabel, byte(len(g.cfg.Cluster))}, g.cfg.Cluster...)
	return reach.Connect(ctx, &net.Dialer{LocalAddr: from, Control: portAtConnect}, hostPort(n.Address, n.GossipPort), label)
}

// tryUDP sends a ping of memberlist, unless one of its own was answered lately.
func (g *Gossip) tryUDP(n fsm.Node) error {
	g.mu.Lock()
	last := g.pong[n.ID]
	g.mu.Unlock()
	if time.Since(last) < reachedLately {
		return nil
	}
	ip, err := netip.ParseAddr(n.Address)
	if err != nil {
		return fmt.Errorf("membership: address of node %s: %w", n.ID, err)
	}
	_, err = g.list.Ping(n.ID, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(n.GossipPort))))
	if _, silent := errors.AsType[memberlist.NoPingResponseError](err); silent {
		return reach.ErrNoAnswer
	}
	return err
}

// Unreached returns what a node says that it does not reach, and how many more doors it has counted.
// It is empty for a node that is not seen alive: what it said is old.
func (g *Gossip) Unreached(node string) ([]reach.Failure, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.seen[node]
	if s.status != statusAlive {
		return nil, 0
	}
	return reach.Unpack(s.meta.Unreached), s.meta.More
}

// TellUnreached tells the others what this node does not reach. It sends when that changes, and
// nothing otherwise.
func (g *Gossip) TellUnreached(list []reach.Failure) {
	g.mu.Lock()
	g.mine = list
	g.mu.Unlock()
	if err := g.list.UpdateNode(spreadTimeout); err != nil { // it goes out all the same
		g.cfg.Logger.Debug("gossip: what is not reached", "err", err)
	}
}

// NodeMeta implements memberlist.Delegate.
func (d gossipDelegate) NodeMeta(limit int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	m := meta{Version: d.g.cfg.Version, Probed: true}
	bare, err := json.Marshal(meta{Version: m.Version, Probed: true, Unreached: " ", More: len(d.g.mine) + 1})
	if err != nil {
		return nil
	}
	m.Unreached, m.More = reach.Pack(d.g.mine, limit-len(bare))
	b, err := json.Marshal(m)
	if err != nil || len(b) > limit {
		return nil
	}
	return b
}

// AckPayload implements memberlist.PingDelegate: nothing is added.
func (d gossipDelegate) AckPayload() []byte { return nil }

// NotifyPingComplete implements memberlist.PingDelegate. It is called for answers that came by UDP
// directly.
func (d gossipDelegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, _ []byte) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.g.pong[n.Name] = time.Now()
}
