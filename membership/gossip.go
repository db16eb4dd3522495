package membership

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"havip-cluster/fsm"
	"havip-cluster/membership/reach"
)

const (
	// rejoinEvery is how often a node tries the peers that it does not see alive:
	// memberlist never heals a split by itself after 30 s (memberlist#222).
	rejoinEvery   = 5 * time.Second
	meetEvery     = 250 * time.Millisecond // between two looks, while a node was never heard of
	calmEvery     = time.Second            // and while each one was
	reclaimAfter  = 30 * time.Second       // a name may come back from another address
	leaveTimeout  = 500 * time.Millisecond
	gossipTCPWait = 2 * time.Second
	gossipEvery   = 500 * time.Millisecond // between two rounds of news; each wakes the process, news or not
	// MaxDatagram is the longest message that Send takes, in bytes: with memberlist's
	// overhead it fits into one Ethernet frame.
	MaxDatagram = 1200
)

// The first byte of a datagram says what it is.
const (
	forReceive byte = iota
	// goodBye carries the id of a node that stops. memberlist knows who left, and who is
	// lost, but does not tell: Node.State is not set in its events.
	goodBye
)

// GossipConfig says where and with which secret a node gossips.
type GossipConfig struct {
	Cluster string // goes into every packet as authenticated label
	Node    string // id; names are node ids, which never change
	Listen  netip.AddrPort
	Keys    [][]byte // 32 bytes each, AES-GCM; the first one encrypts
	Version string
	Logger  *slog.Logger
	// Receive is called for each datagram, in memberlist's goroutine: it must not block,
	// and must not keep msg.
	Receive func(msg []byte)
	// Members is the newest state: it says where members are, for the limits on connections.
	Members func() *fsm.State
	// Changed is called when a node appears or disappears. It must not block.
	Changed func()

	tune func(*memberlist.Config) // nil; a test shortens the timers
}

// Gossip is discovery, a hint who is alive, and the carrier of encrypted datagrams.
type Gossip struct {
	cfg  GossipConfig
	list *memberlist.Memberlist
	ring *memberlist.Keyring
	mu   sync.Mutex
	seen map[string]sighting  // by node id
	bye  map[string]bool      // who said good-bye and is not back
	pong map[string]time.Time // the last answer to a datagram, by node id
	mine []reach.Failure      // what this node does not reach

	closing  sync.Once
	closeErr error
}

const (
	statusAlive = "alive"
	statusLost  = "lost"
	statusLeft  = "left"
)

// sighting is what gossip thinks of a node, and where it was.
type sighting struct {
	status string
	meta   meta
	at     memberlist.Node
}

// meta is what a node tells of itself; at most memberlist.MetaMaxSize bytes.
type meta struct {
	Version string `json:"v"`
	// Probed: a connection to its Raft port that ends at once is nothing unusual to it.
	Probed bool `json:"p,omitempty"`
	// Unreached is what the node does not reach (reach.Pack), More how many entries had no room.
	Unreached string `json:"u,omitempty"`
	More      int    `json:"m,omitempty"`
}

// OpenGossip starts to listen. It knows nobody until Rejoin.
func OpenGossip(cfg GossipConfig) (*Gossip, error) {
	g := &Gossip{cfg: cfg, seen: map[string]sighting{}, bye: map[string]bool{}, pong: map[string]time.Time{}}
	c := memberlist.DefaultLANConfig()
	c.Name = cfg.Node
	c.Label = cfg.Cluster
	c.BindAddr, c.AdvertiseAddr = cfg.Listen.Addr().String(), cfg.Listen.Addr().String()
	c.BindPort, c.AdvertisePort = int(cfg.Listen.Port()), int(cfg.Listen.Port())
	if len(cfg.Keys) > 0 { // none only in a test
		ring, err := memberlist.NewKeyring(cfg.Keys, cfg.Keys[0])
		if err != nil {
			return nil, fmt.Errorf("membership: gossip keys: %w", err)
		}
		g.ring, c.Keyring = ring, ring
	}
	c.DeadNodeReclaimTime = reclaimAfter
	c.TCPTimeout = gossipTCPWait
	c.GossipInterval = gossipEvery
	c.EnableCompression = false // a datagram of leases is shorter than its dictionary
	if cfg.tune != nil {
		cfg.tune(c)
	}
	c.Delegate, c.Events, c.Ping = gossipDelegate{g}, gossipDelegate{g}, gossipDelegate{g}
	c.Logger = log.New(newSlogWriter(cfg.Logger), "", log.LstdFlags)
	if c.Transport == nil { // a test has one of its own
		transport, err := newBoundedGossip(cfg)
		if err != nil {
			return nil, fmt.Errorf("membership: gossip on %s: %w", cfg.Listen, err)
		}
		c.Transport = transport
	}
	list, err := memberlist.Create(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("membership: gossip on %s: %w", cfg.Listen, err), c.Transport.Shutdown())
	}
	g.list = list
	return g, nil
}

// SetKeys makes these the gossip keys, the first one to encrypt with, while gossip goes on.
func (g *Gossip) SetKeys(keys [][]byte) error {
	for _, key := range keys {
		if err := g.ring.AddKey(key); err != nil {
			return fmt.Errorf("membership: gossip key: %w", err)
		}
	}
	if err := g.ring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("membership: gossip key: %w", err)
	}
	for _, old := range g.ring.GetKeys() {
		if slices.ContainsFunc(keys, func(key []byte) bool { return bytes.Equal(key, old) }) {
			continue
		}
		if err := g.ring.RemoveKey(old); err != nil {
			return fmt.Errorf("membership: gossip key: %w", err)
		}
	}
	return nil
}

// Send sends one datagram to a node, encrypted. Nobody knows whether it arrives.
func (g *Gossip) Send(to fsm.Node, msg []byte) error {
	if len(msg) > MaxDatagram {
		return fmt.Errorf("membership: datagram of %d bytes, at most %d", len(msg), MaxDatagram)
	}
	err := g.list.SendToAddress(memberlist.Address{Addr: hostPort(to.Address, to.GossipPort), Name: to.ID}, append([]byte{forReceive}, msg...))
	if err != nil {
		return fmt.Errorf("membership: datagram to %s: %w", to.Name, err)
	}
	return nil
}

// Status returns what gossip thinks of a node: alive, lost, left, or "" for one never
// heard of.
func (g *Gossip) Status(node string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[node].status
}

// Version returns the version of the program that a node runs, "" if unknown.
func (g *Gossip) Version(node string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[node].meta.Version
}

// Alive reports whether gossip sees the node.
func (g *Gossip) Alive(node string) bool {
	return node == g.cfg.Node || g.Status(node) == statusAlive
}

// RunRejoin tries, until ctx ends, every node of the state that is not seen alive: one
// that was never heard of soon (a new one comes by itself), one that was lost every rejoinEvery.
func (g *Gossip) RunRejoin(ctx context.Context, state func() *fsm.State) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	for {
		again := time.Since(last) >= rejoinEvery
		pause := calmEvery
		g.forget(state())
		for _, n := range state().NodeList() {
			// One at a time: a peer that does not answer takes up to gossipTCPWait, and one
			// that does may tell of the others.
			if ctx.Err() == nil && !g.Alive(n.ID) && (again || g.Status(n.ID) == "") {
				g.Join([]string{n.ID + "/" + hostPort(n.Address, n.GossipPort)})
			}
			if !g.Alive(n.ID) && g.Status(n.ID) == "" {
				pause = meetEvery
			}
		}
		if again {
			last = time.Now()
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// forget drops what is known of nodes that are no members (any more) and not there either.
func (g *Gossip) forget(s *fsm.State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.seen, func(id string, was sighting) bool {
		_, member := s.Nodes[id]
		return !member && was.status != statusAlive
	})
	maps.DeleteFunc(g.bye, func(id string, _ bool) bool { _, there := g.seen[id]; return !there })
}

// Join tells peers, given as host:port or id/host:port, that this node is there. Those
// that do not answer are tried again by RunRejoin.
func (g *Gossip) Join(peers []string) {
	if len(peers) == 0 {
		return
	}
	if n, err := g.list.Join(peers); err != nil {
		g.cfg.Logger.Debug("gossip: some peers did not answer", "answered", n, "err", err)
	}
}

// Close says goodbye, so that nobody suspects a failure, and stops. Calling it again
// changes nothing.
func (g *Gossip) Close() error {
	g.closing.Do(func() {
		g.sayGoodBye()
		// memberlist waits until it has told often enough, which in a small cluster takes
		// longer than the others need to hear it: its time-out is no failure.
		if err := g.list.Leave(leaveTimeout); err != nil {
			g.cfg.Logger.Debug("gossip: leave", "err", err)
		}
		g.sayGoodBye() // a datagram may be lost
		g.closeErr = g.list.Shutdown()
	})
	return g.closeErr
}

// sayGoodBye tells everybody ever seen, those too that this node thinks lost: they may be
// there. Best effort: without it the node is lost, not left.
func (g *Gossip) sayGoodBye() {
	g.mu.Lock()
	var to []memberlist.Node
	for id, s := range g.seen {
		if id != g.cfg.Node && s.status != statusLeft {
			to = append(to, s.at)
		}
	}
	g.mu.Unlock()
	for i := range to {
		_ = g.list.SendBestEffort(&to[i], append([]byte{goodBye}, g.cfg.Node...))
	}
}

// goodBye notes who left. A busy node may have been called lost before its word came.
func (g *Gossip) goodBye(id string) {
	g.mu.Lock()
	s := g.seen[id]
	switch s.status {
	case statusAlive:
		g.bye[id] = true
	case statusLost:
		s.status = statusLeft
		g.seen[id] = s
	}
	g.mu.Unlock()
	g.cfg.Changed()
}

type gossipDelegate struct{ g *Gossip }

func (d gossipDelegate) NotifyMsg(b []byte) {
	switch {
	case len(b) == 0:
	case b[0] == forReceive:
		d.g.cfg.Receive(b[1:])
	case b[0] == goodBye:
		d.g.goodBye(string(b[1:]))
	}
}
func (d gossipDelegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d gossipDelegate) LocalState(bool) []byte          { return nil }
func (d gossipDelegate) MergeRemoteState([]byte, bool)   {}

func (d gossipDelegate) NotifyJoin(n *memberlist.Node)   { d.set(n, statusAlive) }
func (d gossipDelegate) NotifyUpdate(n *memberlist.Node) { d.set(n, statusAlive) }
func (d gossipDelegate) NotifyLeave(n *memberlist.Node)  { d.set(n, statusLost) }

func (d gossipDelegate) set(n *memberlist.Node, status string) {
	var m meta
	_ = json.Unmarshal(n.Meta, &m) // what cannot be read is unknown
	d.g.mu.Lock()
	if status == statusLost && d.g.bye[n.Name] {
		status = statusLeft
	}
	delete(d.g.bye, n.Name)
	before := d.g.seen[n.Name]
	d.g.seen[n.Name] = sighting{status, m, *n}
	d.g.mu.Unlock()
	if before.status != status || before.meta.Version != m.Version { // not for what it does not reach
		d.g.cfg.Changed()
	}
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
