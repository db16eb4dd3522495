package datagram

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

const cluster = "c-0123456789abcdef"

var loopback = netip.MustParseAddr("127.0.0.1")

// company is a cluster as its state shows it: nodes with keys and ports, and their sockets.
type company struct {
	t     testing.TB
	state atomic.Pointer[fsm.State]
	index uint64
	nodes map[string]*member
}

// member is one node with its processes: one at a time.
type member struct {
	c    *company
	id   string
	keys atomic.Pointer[[]identity.DatagramKey]
	log  bytes.Buffer

	counting atomic.Bool // messages are counted, not kept
	counted  atomic.Int64

	mu    sync.Mutex
	heard []said
	sock  *Socket
	stop  func()
}

type said struct{ from, message string }

func newKey(t testing.TB) identity.DatagramKey {
	t.Helper()
	secret, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(secret.PublicKey().Bytes())
	return identity.NewDatagramKey(hex.EncodeToString(sum[:]), secret)
}

func record(k identity.DatagramKey) fsm.NodeKey {
	return fsm.NodeKey{Certificate: k.Certificate, Public: k.Public}
}

func newCompany(t testing.TB, ids ...string) *company {
	c := &company{t: t, nodes: map[string]*member{}}
	c.state.Store(fsm.New())
	for _, id := range ids {
		m := &member{c: c, id: id}
		m.keys.Store(&[]identity.DatagramKey{newKey(t)})
		c.nodes[id] = m
		m.start()
	}
	for _, id := range ids {
		c.introduce(id)
	}
	t.Cleanup(func() {
		for _, m := range c.nodes {
			m.end()
		}
	})
	return c
}

// change makes a next state, as an entry of the log does.
func (c *company) change(do func(nodes map[string]fsm.Node)) {
	s := *c.state.Load()
	nodes := map[string]fsm.Node{}
	for id, n := range s.Nodes {
		nodes[id] = n
	}
	do(nodes)
	c.index++
	s.Index, s.Nodes = c.index, nodes
	c.state.Store(&s)
}

// introduce puts a node with its keys into the state.
func (c *company) introduce(id string) {
	m := c.nodes[id]
	var keys []fsm.NodeKey
	for _, k := range *m.keys.Load() {
		keys = append(keys, record(k))
	}
	port := int(m.sock.conn.local.Port())
	c.change(func(nodes map[string]fsm.Node) {
		nodes[id] = fsm.Node{ID: id, Name: id, Address: loopback.String(), LeasePort: port, Keys: keys}
	})
}

func (m *member) config(listen netip.AddrPort) Config {
	return Config{
		Cluster: cluster, Node: m.id, Listen: listen, State: m.c.state.Load,
		Keys:   func() ([]identity.DatagramKey, error) { return *m.keys.Load(), nil },
		Logger: slog.New(slog.NewTextHandler(&m.log, nil)),
		Receive: func(from string, message []byte) {
			if m.counting.Load() {
				m.counted.Add(1)
				return
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			m.heard = append(m.heard, said{from, string(message)})
		},
	}
}

// start begins a process; it listens where the one before did.
func (m *member) start() {
	m.c.t.Helper()
	listen := netip.AddrPortFrom(loopback, uint16(m.c.state.Load().Nodes[m.id].LeasePort))
	sock, err := Open(m.config(listen))
	if err != nil {
		m.c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := sock.Run(ctx); err != nil {
			m.c.t.Error(err)
		}
	}()
	m.sock, m.stop = sock, sync.OnceFunc(func() {
		cancel()
		<-done
		_ = sock.Close()
	})
}

func (m *member) end() { m.stop() }

func (m *member) count(from, message string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.heard {
		if s == (said{from, message}) {
			n++
		}
	}
	return n
}

func (m *member) all() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.heard)
}

// say repeats a message until it is heard, as those who speak of a lease do.
func (c *company) say(from, to, message string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%s hears %q of %s", to, message, from), func() bool {
		_ = c.nodes[from].sock.Send(c.state.Load().Nodes[to], []byte(message))
		time.Sleep(2 * time.Millisecond)
		return c.nodes[to].count(from, message) > 0
	})
}

func (c *company) eventually(what string, ok func() bool) {
	c.t.Helper()
	end := time.Now().Add(40 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			for id, m := range c.nodes {
				c.t.Logf("%s dropped %v", id, m.sock.Dropped())
			}
			c.t.Fatalf("it is still not so that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// throw sends bytes as they are.
func (c *company) throw(to string, frame []byte) {
	c.t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, uint16(c.state.Load().Nodes[to].LeasePort))))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(frame); err != nil {
		c.t.Fatal(err)
	}
}

// capture seals a message as a node would send it, without sending it.
func (c *company) capture(from, to, message string) []byte {
	c.t.Helper()
	s := c.nodes[from].sock
	p := s.table.now().peers[shortID(to)]
	p.mu.Lock()
	defer p.mu.Unlock()
	frame, ok := p.send.seal(nil, s.table.short, p.short, []byte(message))
	if !ok {
		c.t.Fatal("there is no channel")
	}
	return frame
}

func (c *company) dropped(node string, why cause) uint64 {
	return c.nodes[node].sock.Dropped()[string(why)]
}

func TestWordsArrive(t *testing.T) {
	c := newCompany(t, "n-a", "n-b", "n-c")
	for _, from := range []string{"n-a", "n-b", "n-c"} {
		for _, to := range []string{"n-a", "n-b", "n-c"} {
			if from != to {
				c.say(from, to, "renewal "+from+to)
			}
		}
	}
	long := string(bytes.Repeat([]byte{7}, PayloadMax))
	c.say("n-a", "n-b", long)
	if err := c.nodes["n-a"].sock.Send(c.state.Load().Nodes["n-b"], []byte(long+"x")); err == nil {
		t.Error("a longer one is sent")
	}
	if err := c.nodes["n-a"].sock.Send(fsm.Node{ID: "n-x", Name: "x"}, nil); err == nil {
		t.Error("a message for nobody is sent")
	}
}

// A frame that was captured counts once, whoever sends it again; and not at all in another life
// of its sender or of its receiver.
func TestReplaysDoNotCount(t *testing.T) {
	c := newCompany(t, "n-a", "n-b")
	c.say("n-a", "n-b", "hello")
	frame := c.capture("n-a", "n-b", "captured")
	before := bytes.Clone(frame)
	c.throw("n-b", frame)
	c.eventually("it counts once", func() bool { return c.nodes["n-b"].count("n-a", "captured") == 1 })
	again := func(why cause) {
		t.Helper()
		was := c.dropped("n-b", why)
		for range 5 {
			c.throw("n-b", before)
		}
		c.eventually("it is dropped: "+string(why), func() bool { return c.dropped("n-b", why) >= was+5 })
		if n := c.nodes["n-b"].count("n-a", "captured"); n != 1 {
			t.Fatalf("it counts %d times", n)
		}
	}
	again(causeReplay)
	unsent := c.capture("n-a", "n-b", "captured") // never seen by the receiver
	c.nodes["n-b"].end()
	c.nodes["n-b"].start()
	before = unsent
	again(causeChannel) // the receiver has forgotten everything
	c.say("n-a", "n-b", "to the second life")
	again(causeChannel)

	unsent = c.capture("n-a", "n-b", "captured")
	c.nodes["n-a"].end()
	c.nodes["n-a"].start()
	c.say("n-a", "n-b", "from the second life")
	before = unsent
	again(causeChannel)
	c.say("n-a", "n-b", "and on")
}

// Who is removed has no key any more, with the next datagram; what it had is worth nothing.
func TestARemovedNodeSaysNothing(t *testing.T) {
	c := newCompany(t, "n-a", "n-b", "n-c")
	c.say("n-a", "n-b", "as a member")
	frame := c.capture("n-a", "n-b", "as a removed one")
	c.change(func(nodes map[string]fsm.Node) { delete(nodes, "n-a") })
	n := c.nodes["n-b"].all()
	c.throw("n-b", frame)
	c.eventually("it is dropped", func() bool { return c.dropped("n-b", causeSender) > 0 })
	if got := c.nodes["n-b"].all(); got != n {
		t.Error("it is heard")
	}
	c.say("n-c", "n-b", "others are")
}

// A member speaks for itself: with its own keys it cannot make a frame of another, and a frame of
// its own that is relabelled is not authentic.
func TestNobodySpeaksForAnother(t *testing.T) {
	c := newCompany(t, "n-a", "n-b", "n-c")
	c.say("n-c", "n-b", "mine")
	c.say("n-a", "n-b", "mine")
	n := c.nodes["n-b"].all()
	frame := c.capture("n-c", "n-b", "of n-a, I say")
	var h header
	if why := h.parse(frame); why != "" {
		t.Fatal(why)
	}
	a := c.nodes["n-b"].sock.table.now().peers[shortID("n-a")]
	h.from, h.fromKey = a.short, shortKey(a.keys[0].Certificate)
	h.channel, h.invite, h.number = a.recv.channel, a.recv.invite, a.recv.window.newest+10
	h.put(frame)
	c.throw("n-b", frame)
	c.eventually("it is dropped", func() bool { return c.dropped("n-b", causeTag) > 0 })
	if got := c.nodes["n-b"].all(); got != n {
		t.Error("it is heard")
	}
}

// A new certificate takes over without a gap: the old key counts until the new one is known,
// and not after the state has dropped it.
func TestANewKeyTakesOver(t *testing.T) {
	c := newCompany(t, "n-a", "n-b")
	c.say("n-a", "n-b", "old key")
	c.say("n-b", "n-a", "old key")
	old := (*c.nodes["n-a"].keys.Load())[0]
	next := newKey(t)
	c.nodes["n-a"].keys.Store(&[]identity.DatagramKey{next, old})
	for i := range 20 { // it is not registered yet: the old one speaks
		c.say("n-a", "n-b", fmt.Sprint("meanwhile ", i))
	}
	c.introduce("n-a")
	using := func(k identity.DatagramKey) bool {
		p := c.nodes["n-a"].sock.table.now().peers[shortID("n-b")]
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.send.pair != nil && sameKey(p.send.pair.own, k)
	}
	c.eventually("the new key speaks", func() bool {
		_ = c.nodes["n-a"].sock.Send(c.state.Load().Nodes["n-b"], []byte("on"))
		return using(next)
	})
	c.say("n-a", "n-b", "new key")
	c.say("n-b", "n-a", "to the new key")
	c.change(func(nodes map[string]fsm.Node) {
		n := nodes["n-a"]
		n.Keys = n.Keys[:1]
		nodes["n-a"] = n
	})
	c.nodes["n-a"].keys.Store(&[]identity.DatagramKey{old}) // a thief with the old one
	c.change(func(map[string]fsm.Node) {})
	frames := c.nodes["n-b"].all()
	for range 20 {
		_ = c.nodes["n-a"].sock.Send(c.state.Load().Nodes["n-b"], []byte("stolen"))
		time.Sleep(5 * time.Millisecond)
	}
	if c.nodes["n-b"].all() != frames {
		t.Error("the old key still speaks")
	}
}

// Frames without a key are counted and dropped; nothing is allocated for them, and one line
// tells of all.
func TestAFloodIsCounted(t *testing.T) {
	c := newCompany(t, "n-a", "n-b")
	c.say("n-a", "n-b", "before")
	b := c.nodes["n-b"].sock
	good := c.capture("n-a", "n-b", "good")
	from := netip.AddrPortFrom(loopback, 9)
	garbage := make([][]byte, 0, 300)
	for i := range 300 {
		f := bytes.Clone(good)
		f[i%len(f)] ^= byte(1 + i/len(f))
		garbage = append(garbage, f)
	}
	garbage = append(garbage, nil, []byte{1}, bytes.Repeat([]byte{1}, 2000))
	i := 0
	scratch := make([]byte, 4096)
	allocs := testing.AllocsPerRun(3*len(garbage), func() {
		f := scratch[:copy(scratch, garbage[i%len(garbage)])]
		i++
		if why := b.take(f, from); why == "" {
			t.Fatalf("taken: %x", f)
		}
	})
	if allocs > 0.1 { // the two sockets say hello meanwhile
		t.Errorf("%v allocations for a foreign datagram", allocs)
	}
	for range 5000 {
		b.counts.add(causeTag)
	}
	b.counts.tell(b.cfg.Logger)
	b.counts.tell(b.cfg.Logger)
	if n := bytes.Count(c.nodes["n-b"].log.Bytes(), []byte("\n")); n != 1 {
		t.Errorf("%d lines: %s", n, c.nodes["n-b"].log.String())
	}
	c.say("n-a", "n-b", "after")
}

// Who does not answer is told, while it is spoken to.
func TestSilent(t *testing.T) {
	c := newCompany(t, "n-a", "n-b")
	c.say("n-a", "n-b", "before")
	a := c.nodes["n-a"].sock
	p := a.table.now().peers[shortID("n-b")]
	for _, row := range []struct {
		spoke, heard, up, met time.Duration // ago
		silent                bool
	}{
		{time.Second, time.Second, time.Minute, time.Minute, false}, {time.Second, time.Minute, time.Minute, time.Minute, true},
		{time.Minute, time.Minute, time.Minute, time.Minute, false}, {time.Second, time.Minute, time.Second, time.Minute, false},
		{time.Second, time.Minute, time.Minute, time.Second, false},
	} {
		now := time.Now()
		p.mu.Lock()
		p.send.spoke, p.send.heard, p.since = now.Add(-row.spoke), now.Add(-row.heard), now.Add(-row.met)
		got := silent(&p.send, now.Add(-row.up), p.since, now)
		p.mu.Unlock()
		if got != row.silent {
			t.Errorf("%+v: silent %t", row, got)
		}
	}
	if got := a.Silent(); len(got) > 1 {
		t.Errorf("silent: %v", got)
	}
}
