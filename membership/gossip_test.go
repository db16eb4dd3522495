package membership

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"havip-cluster/fsm"
)

// chatter is one node's gossip, with a record of what it was told.
type chatter struct {
	*Gossip
	id   string
	log  *logBook
	mu   sync.Mutex
	got  [][]byte
	news int
}

var gossipKey = bytes.Repeat([]byte{7}, 32)

// hasty makes memberlist notice a crash within a second or two.
func hasty(c *memberlist.Config) {
	c.ProbeInterval, c.ProbeTimeout = 100*time.Millisecond, 60*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 2, 1
	c.GossipInterval, c.GossipToTheDeadTime = 20*time.Millisecond, 200*time.Millisecond
	c.PushPullInterval = 0 // so that nothing but RunRejoin brings two parts together
}

// steady is hasty, but calls nobody lost whom a busy host has held up.
func steady(c *GossipConfig) {
	c.tune = func(m *memberlist.Config) { hasty(m); m.SuspicionMult = 200 }
}

func chat(t *testing.T, id string, change func(*GossipConfig)) *chatter {
	t.Helper()
	ch := &chatter{id: id, log: &logBook{}}
	cfg := GossipConfig{
		Cluster: "c-0000000000000001", Node: id, Listen: settingsAddr(t), Keys: [][]byte{gossipKey}, Version: "v-" + id,
		Logger: ch.log.logger(), tune: hasty,
		Receive: func(b []byte) {
			ch.mu.Lock()
			defer ch.mu.Unlock()
			ch.got = append(ch.got, slices.Clone(b))
		},
		Changed: func() {
			ch.mu.Lock()
			defer ch.mu.Unlock()
			ch.news++
		},
	}
	if change != nil {
		change(&cfg)
	}
	ch.Gossip = must[*Gossip](t)(OpenGossip(cfg))
	t.Cleanup(func() { _ = ch.Close() }) // a lonely one cannot say good-bye
	return ch
}

func (c *chatter) node() fsm.Node {
	return fsm.Node{ID: c.id, Name: c.id, Address: "127.0.0.1", GossipPort: int(c.cfg.Listen.Port())}
}

func stateOf(chatters ...*chatter) *fsm.State {
	s := fsm.New()
	for _, c := range chatters {
		s.Nodes[c.id] = c.node()
	}
	return s
}

// rejoin keeps a node looking for the others.
func (c *chatter) rejoin(t *testing.T, s *fsm.State) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.RunRejoin(ctx, func() *fsm.State { return s }) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// crash stops without a good-bye.
func (c *chatter) crash(t *testing.T) {
	t.Helper()
	c.closing.Do(func() { check(t, c.list.Shutdown()) })
}

func (c *chatter) received(msg string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.got, func(b []byte) bool { return string(b) == msg })
}

func allSee(chatters ...*chatter) bool {
	for _, a := range chatters {
		for _, b := range chatters {
			if !a.Alive(b.id) {
				return false
			}
		}
	}
	return true
}

func TestNodesFindEachOther(t *testing.T) {
	a, b, c := chat(t, "n-a", nil), chat(t, "n-b", nil), chat(t, "n-c", nil)
	s := stateOf(a, b, c)
	if a.Status("n-b") != "" || a.Alive("n-b") || !a.Alive("n-a") {
		t.Error("it knows somebody before anybody spoke")
	}
	a.rejoin(t, s) // one that looks is enough
	eventually(t, "all three", func() bool { return allSee(a, b, c) })
	if v := b.Version("n-c"); v != "v-n-c" {
		t.Errorf("version %q", v)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.news < 2 {
		t.Errorf("told of %d changes", b.news)
	}
}

func TestDatagrams(t *testing.T) {
	a, b := chat(t, "n-a", nil), chat(t, "n-b", nil)
	// They arrive before the nodes have met: the address comes from the log.
	eventually(t, "a datagram arrives", func() bool {
		check(t, a.Send(b.node(), []byte("renew session 17")))
		return b.received("renew session 17")
	})
	full := bytes.Repeat([]byte{0xee}, MaxDatagram)
	eventually(t, "the longest one arrives whole", func() bool {
		check(t, a.Send(b.node(), full))
		return b.received(string(full))
	})
	if err := a.Send(b.node(), append(full, 0)); err == nil {
		t.Error("one byte more was sent")
	}
}

// What is on the wire is not what was sent, and fits into an Ethernet frame.
func TestDatagramsAreEncryptedAndFitAFrame(t *testing.T) {
	a := chat(t, "n-a", nil)
	wire := must[net.PacketConn](t)(net.ListenPacket("udp", "127.0.0.1:0"))
	defer wire.Close()
	to := fsm.Node{ID: "n-x", Address: "127.0.0.1", GossipPort: wire.LocalAddr().(*net.UDPAddr).Port}
	msg := bytes.Repeat([]byte("lease"), MaxDatagram/5) // memberlist would compress it
	check(t, a.Send(to, msg))
	check(t, wire.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 4096)
	n, _, err := wire.ReadFrom(b)
	check(t, err)
	if bytes.Contains(b[:n], []byte("leaselease")) {
		t.Error("it can be read")
	}
	if n+8+40 > 1500 { // with the headers of UDP and IPv6
		t.Errorf("%d bytes are more than a frame takes", n)
	}
	t.Logf("%d bytes become %d", len(msg), n)
}

// A node with another key or of another cluster is not let in, and changes nothing.
func TestStrangersCannotJoin(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*GossipConfig)
	}{
		{"another key", func(c *GossipConfig) { c.Keys = [][]byte{bytes.Repeat([]byte{8}, 32)} }},
		{"another cluster", func(c *GossipConfig) { c.Cluster = "c-0000000000000002" }},
		{"no encryption", func(c *GossipConfig) { c.Keys = nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := chat(t, "n-a", steady), chat(t, "n-b", steady)
			a.rejoin(t, stateOf(a, b))
			eventually(t, "the two", func() bool { return allSee(a, b) })
			x := chat(t, "n-x", tc.change)
			for range 5 {
				x.Join([]string{"n-a/" + a.cfg.Listen.String()})
				a.Join([]string{"n-x/" + x.cfg.Listen.String()})
				_ = x.Send(a.node(), []byte("I am the leader"))
				time.Sleep(20 * time.Millisecond)
			}
			throughout(t, 300*time.Millisecond, "nobody knows the stranger, nor he them", func() bool {
				return a.Status("n-x") == "" && b.Status("n-x") == "" && x.Status("n-a") == "" &&
					!a.received("I am the leader") && allSee(a, b)
			})
		})
	}
}

func TestWhoLeavesAndWhoIsLost(t *testing.T) {
	a, b, c := chat(t, "n-a", nil), chat(t, "n-b", nil), chat(t, "n-c", nil)
	stop := a.rejoin(t, stateOf(a, b, c))
	eventually(t, "all three", func() bool { return allSee(a, b, c) })
	stop()
	check(t, b.Close())
	check(t, b.Close()) // twice is once
	eventually(t, "b left", func() bool { return a.Status("n-b") == "left" && c.Status("n-b") == "left" })
	c.crash(t)
	eventually(t, "c is lost", func() bool { return a.Status("n-c") == "lost" })
	if a.Alive("n-b") || a.Alive("n-c") {
		t.Error("one of them is called alive")
	}
}

// A busy node is called lost, and calls others lost, while it says good-bye.
func TestWhoLeavesWhileCalledLost(t *testing.T) {
	w := &wall{}
	a, b := chat(t, "n-a", w.guard(t)), chat(t, "n-b", w.guard(t))
	stop := a.rejoin(t, stateOf(a, b))
	eventually(t, "they meet", func() bool { return allSee(a, b) })
	stop()
	w.raise(true)
	eventually(t, "each calls the other lost", func() bool { return a.Status("n-b") == "lost" && b.Status("n-a") == "lost" })
	w.raise(false)
	check(t, b.Close())
	eventually(t, "b left", func() bool { return a.Status("n-b") == "left" })
}

// memberlist gives up on a dead node for good (memberlist#222). Here the two parts of a
// split have called each other dead, and nothing but RunRejoin brings them together.
func TestASplitHeals(t *testing.T) {
	w := &wall{}
	a, b := chat(t, "n-a", w.guard(t)), chat(t, "n-b", w.guard(t))
	s := stateOf(a, b)
	stop := a.rejoin(t, s)
	eventually(t, "they meet", func() bool { return allSee(a, b) })
	stop()
	w.raise(true)
	eventually(t, "each calls the other lost", func() bool { return a.Status("n-b") == "lost" && b.Status("n-a") == "lost" })
	time.Sleep(2 * time.Second) // longer than they gossip to the dead, also on a busy host
	w.raise(false)
	throughout(t, 600*time.Millisecond, "they do not find each other by themselves", func() bool {
		return a.Status("n-b") == "lost" && b.Status("n-a") == "lost"
	})
	a.rejoin(t, s)
	eventually(t, "they are together again", func() bool { return allSee(a, b) })
}

// wall cuts the network between nodes.
type wall struct {
	mu sync.Mutex
	up bool
}

func (w *wall) raise(up bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up = up
}

func (w *wall) isUp() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up
}

// guard puts the wall in front of a node's transport.
func (w *wall) guard(t *testing.T) func(*GossipConfig) {
	return func(cfg *GossipConfig) {
		cfg.tune = func(c *memberlist.Config) {
			hasty(c)
			inner := must[*memberlist.NetTransport](t)(memberlist.NewNetTransport(&memberlist.NetTransportConfig{
				BindAddrs: []string{c.BindAddr}, BindPort: c.BindPort, Logger: nil,
			}))
			c.Transport = walled{inner, w}
		}
	}
}

type walled struct {
	*memberlist.NetTransport
	w *wall
}

func (x walled) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if x.w.isUp() {
		return time.Now(), nil // lost on its way
	}
	return x.NetTransport.WriteToAddress(b, a)
}

func (x walled) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	if x.w.isUp() {
		return nil, net.ErrClosed
	}
	return x.NetTransport.DialAddressTimeout(a, d)
}

// A node that comes back at another address is the same node.
func TestANodeComesBackAtAnotherAddress(t *testing.T) {
	reclaim := func(c *GossipConfig) {
		c.tune = func(m *memberlist.Config) { hasty(m); m.DeadNodeReclaimTime = time.Millisecond }
	}
	a, b := chat(t, "n-a", reclaim), chat(t, "n-b", reclaim)
	stop := a.rejoin(t, stateOf(a, b))
	eventually(t, "they meet", func() bool { return allSee(a, b) })
	stop()
	b.crash(t)
	eventually(t, "b is lost", func() bool { return a.Status("n-b") == "lost" })
	again := chat(t, "n-b", reclaim)
	again.rejoin(t, stateOf(a, again))
	eventually(t, "b is back", func() bool { return allSee(a, again) })
}

func TestRejoinEndsWhilePeersDoNotAnswer(t *testing.T) {
	a := chat(t, "n-a", nil)
	s := stateOf(a)
	for i := range 20 { // TEST-NET addresses: nobody is there
		id := string(rune('b' + i))
		s.Nodes[id] = fsm.Node{ID: id, Name: id, Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String(), GossipPort: 7402}
	}
	stop := a.rejoin(t, s)
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	stop()
	if d := time.Since(start); d > 8*gossipTCPWait { // all of them: 20 times that
		t.Errorf("it ended after %v, as if it asked all of them first", d)
	}
}

// Saying good-bye in a cluster of two takes no longer than in a large one, and is no error.
func TestGoodByeWithTheTimersOfALAN(t *testing.T) {
	plain := func(c *GossipConfig) { c.tune = nil }
	a, b := chat(t, "n-a", plain), chat(t, "n-b", plain)
	stop := a.rejoin(t, stateOf(a, b))
	eventually(t, "they meet", func() bool { return allSee(a, b) })
	stop()
	start := time.Now()
	check(t, b.Close())
	t.Logf("closed after %v", time.Since(start))
	eventually(t, "b left", func() bool { return a.Status("n-b") == "left" })
}
