package plane

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
)

// Carrier is the socket of the messages (membership/datagram).
type Carrier interface {
	ports.Post
	Run(ctx context.Context) error
	Close() error
	Silent() []string
	Dropped() map[string]uint64
}

// Kernel keeps promises in the voter's place where renewals come in.
type Kernel interface {
	shell.Delegate
	// Follow has it where the kernel sends to these addresses. One goroutine calls it.
	Follow(peers []netip.Addr)
	// Where says on which devices it is.
	Where() string
	// Counter counts the answers to this node's own renewals; nil: nothing there does. Counted is how many deadlines it
	// has moved.
	Counter() shell.Counter
	Counted() uint64
	Close()
}

// Host is what a Server needs of the process that it is in.
type Host struct {
	// Open opens the socket of the messages. keys may change with the state; receive must not block.
	Open func(s Start, state func() *fsm.State, keys func() []Key, receive func(from string, word []byte), p *realtime.Plane) (Carrier, error)
	// Fence returns the fence that the agent has installed, once it is open here. It may wait.
	Fence func() (shell.Fence, error)
	// Kernel opens what keeps the voter's promises in the kernel, once there is a carrier; nil: nothing does. The
	// error says why this host has none.
	Kernel func(s Start, c Carrier, suspended func() int64) (Kernel, error)
	Logger *slog.Logger
	Plane  *realtime.Plane
	Clock  ports.Clock
}

const (
	seenEvery = time.Second // between two reports of how renewals did
	seenMost  = 1024        // figures of each kind that wait for it; more are dropped
	tellWait  = time.Second // for an agent that does not read: then it is not told
	// followEach is between two looks at which devices lead to the other nodes.
	followEach = 5 * time.Second
)

// noDevice is why a Kernel that is nowhere answers nothing.
const noDevice = "no Ethernet device leads to another node"

// Server is the lease plane in the guard: acceptor, holder and the socket of their words.
type Server struct {
	host    Host
	page    *Page
	control net.Conn
	words   *packets
	view    *view
	keys    atomic.Pointer[[]Key]

	tell sync.Mutex // held while the agent is told something
	enc  *gob.Encoder

	mu      sync.Mutex
	seen    seen
	core    *core // nil before Start
	stopped bool
}

// core is what runs from Start on.
type core struct {
	start   Start
	carrier Carrier
	mail    *wire.Mail
	voter   *shell.Voter
	renewer *shell.Renewer // nil: the node keeps no session
	kernel  Kernel         // nil: the voter keeps its promises itself
	why     string         // there is no kernel
	cancel  context.CancelFunc
}

// NewServer takes over the plane's ends.
func NewServer(e Ends, h Host) (*Server, error) {
	page, control, words, err := e.open()
	if err != nil {
		return nil, err
	}
	return &Server{host: h, page: page, control: control, words: words, view: newView(page.Suspended), enc: gob.NewEncoder(control)}, nil
}

// Run does what the agent wants until that has ended or Stop is called.
func (s *Server) Run() {
	dec := gob.NewDecoder(s.control)
	for {
		var o order
		if err := dec.Decode(&o); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.host.Logger.Debug("the agent's orders end", "err", err)
			}
			break
		}
		a := s.do(&o)
		if a.ID = o.ID; a.ID != 0 {
			s.say(a)
		}
	}
	s.Stop()
}

// Stop ends renewing and answering. The fence stays as it is: what stands until the deadline, stands.
// Afterwards nobody here touches the fence any more.
func (s *Server) Stop() {
	s.mu.Lock()
	c, before := s.core, s.stopped
	s.stopped = true
	s.mu.Unlock()
	if before {
		return
	}
	_ = s.control.Close()
	s.words.stop()
	if c == nil {
		return
	}
	if c.renewer != nil {
		c.renewer.Abandon()
	}
	c.voter.Stop()
	if c.kernel != nil {
		c.kernel.Close()
	}
	c.cancel()
	_ = c.carrier.Close() // the rest ends soon, and touches nothing
}

func (s *Server) do(o *order) (a answer) {
	c := s.core // written by this goroutine alone
	switch {
	case o.Start != nil:
		if err := s.start(*o.Start); err != nil {
			a.Error = err.Error()
		}
	case c == nil:
		a.Error = "the lease plane has not been started"
	case o.Keys != nil:
		s.keys.Store(&o.Keys)
	case o.Begin != nil:
		if o.View != nil {
			s.follow(c, o.View)
		}
		a.OK = s.begin(c, o.Begin)
	case o.View != nil:
		s.follow(c, o.View)
	case o.Release:
		if c.renewer != nil {
			c.renewer.Release()
		}
	case o.Ask == askPromises:
		a.Promises = s.promises(c)
	case o.Ask == askFigures:
		a.Figures = s.figures(c)
	case o.Ask == askCourse && c.renewer != nil:
		a.Course = c.renewer.Course(o.From)
	}
	return a
}

// follow has the voter go by a view before the agent is told that it does.
func (s *Server) follow(c *core, v *View) {
	s.view.follow(v)
	c.voter.Follow()
}

// promises are those of the voter to all open sessions, in the order of their numbers.
func (s *Server) promises(c *core) (out []promise) {
	for _, sess := range s.view.State().SessionList() {
		session := lease.Session{Node: sess.Node, Number: sess.Number}
		if ago, left, known := c.voter.Heard(session); known {
			out = append(out, promise{session, ago, left, c.voter.Refuses(session)})
		}
	}
	return out
}

func (s *Server) figures(c *core) *Figures {
	f := &Figures{Dropped: c.carrier.Dropped(), Silent: c.carrier.Silent(), Report: s.host.Plane.Report(), NoKernel: c.why}
	if c.kernel != nil {
		if f.Kernel, f.InKernel, f.Counted = c.kernel.Where(), c.kernel.Granted(), c.kernel.Counted(); f.Kernel == "" {
			f.NoKernel = noDevice
		}
	}
	f.Granted, f.Refused = c.voter.Figures()
	for _, r := range c.mail.Refused() {
		f.Words = append(f.Words, RefusedMessages{Kind: r.Kind, Reason: r.Reason, Count: r.Count})
	}
	return f
}

// start makes the parts and runs them.
func (s *Server) start(o Start) error {
	if s.core != nil {
		return errors.New("the lease plane runs already")
	}
	var fence shell.Fence
	if o.Owner {
		var err error
		if fence, err = s.host.Fence(); err != nil {
			return fmt.Errorf("the guard has no fence: %w", err)
		}
	}
	s.view.follow(&o.View)
	s.keys.Store(&o.Keys)
	c := &core{start: o}
	carrier, err := s.host.Open(o, s.view.State, func() []Key { return *s.keys.Load() }, func(from string, word []byte) { s.receive(c, from, word) }, s.host.Plane)
	if err != nil {
		return err
	}
	boot := shell.DrawBoot()
	c.carrier = carrier
	c.mail = wire.NewMail(wire.Config{Node: o.Node, Log: s.view, Post: carrier, Gossip: gossip{s}, Boot: boot}, func(m wire.Message) { s.deliver(c, m) })
	cfg := shell.Config{
		Node: o.Node, Log: s.view, Mail: c.mail, Clock: s.host.Clock, Logger: s.host.Logger, Boot: boot, Lease: o.Lease, Plane: s.host.Plane,
		Authorised: s.authorised,
		Measure:    shell.Measure{Renewed: s.renewed, Extended: s.extended},
	}
	voting := cfg
	voting.Log = sureView{s.view}
	if s.host.Kernel != nil {
		if c.kernel, err = s.host.Kernel(o, carrier, s.page.Suspended); err != nil {
			s.host.Logger.Info("this voter keeps its promises in its process, not in the kernel", "why", err)
			c.kernel, c.why = nil, err.Error()
		} else {
			voting.Delegate = c.kernel
		}
	}
	c.voter = shell.NewVoter(voting)
	if o.Owner {
		c.renewer = s.newRenewer(cfg, c.kernel, fence)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	s.mu.Lock()
	stopped := s.stopped
	if !stopped {
		s.core = c
	}
	s.mu.Unlock()
	if stopped { // the agent died meanwhile
		cancel()
		if c.kernel != nil {
			c.kernel.Close()
		}
		return errors.Join(errors.New("the lease plane was stopped"), carrier.Close())
	}
	go c.voter.Run(ctx)
	go func() {
		if err := carrier.Run(ctx); err != nil {
			s.host.Logger.Error("the words of the lease end", "err", err)
		}
	}()
	go s.words.run(func(kind byte, node, word []byte) { s.fromAgent(c, kind, node, word) })
	go s.report(ctx)
	if c.kernel != nil {
		go s.guide(ctx, c)
	}
	go s.host.Plane.KeepMemory(ctx)
	return nil
}

// newRenewer makes the holder's part. A program in the kernel counts beside it where there is one, and where it reaches the fence.
func (s *Server) newRenewer(cfg shell.Config, k Kernel, f shell.Fence) *shell.Renewer {
	if k != nil {
		cfg.Counter = k.Counter()
	}
	if shared, is := f.(shell.SharedFence); is {
		return shell.NewRenewer(cfg, listener{s}, sharedPaged{paged{f, s.page}, shared})
	}
	return shell.NewRenewer(cfg, listener{s}, paged{f, s.page})
}

// guide keeps the kernel's part on the devices that lead to the other nodes: at once when those change, and now
// and then, because routes do.
func (s *Server) guide(ctx context.Context, c *core) {
	watch, stop := s.view.Watch()
	defer stop()
	tick := time.NewTicker(followEach)
	defer tick.Stop()
	var told []netip.Addr
	for again := true; ; {
		peers := s.peers(c.start.Node)
		if again || !slices.Equal(peers, told) {
			told = peers
			c.kernel.Follow(peers)
		}
		select {
		case <-ctx.Done():
			return
		case <-watch:
			again = false
		case <-tick.C:
			again = true
		}
	}
}

// peers are the addresses of the other nodes, in order.
func (s *Server) peers(self string) (out []netip.Addr) {
	for id, n := range s.view.State().Nodes {
		if ip, err := netip.ParseAddr(n.Address); err == nil && id != self {
			out = append(out, ip)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// authorised reports whether the agent still wants its session.
func (s *Server) authorised(now lease.Instant) bool {
	return now.Before(s.page.Authorised())
}

// begin renews a session from now on.
func (s *Server) begin(c *core, b *begin) bool {
	if c.renewer == nil {
		return false
	}
	c.renewer.Release() // of the one before: no late answer to it is stored under this one's number
	s.page.begin(b.Session.Number, 0)
	if !c.renewer.Begin(b.Session, b.Sent, b.Length) {
		return false
	}
	go func() {
		// It ends with the session: at Stop Abandon has ended that.
		c.renewer.Renew(context.Background(), func(context.Context) bool { return false })
		listener{s}.Wake()
	}()
	return true
}

// receive takes a word from the network. What is not for acceptor or holder is the agent's.
func (s *Server) receive(c *core, from string, word []byte) {
	if wire.OfCores(word) {
		c.mail.Receive(from, word)
		return
	}
	_ = s.words.send(packetWord, from, word) // a lost word is ordinary; senders repeat
}

// deliver takes a message of Mail: for acceptor or holder, or what this node says to itself.
func (s *Server) deliver(c *core, m wire.Message) {
	switch {
	case m.Renewal != nil:
		c.voter.Renewal(*m.Renewal)
	case m.Question != nil:
		c.voter.Question(m.From, *m.Question)
	case m.Ack != nil && c.renewer != nil:
		c.renewer.Ack(*m.Ack)
	case m.Ended != nil && c.renewer != nil:
		c.renewer.Ended(*m.Ended)
	case m.Correction != nil && c.renewer != nil:
		c.renewer.Corrected(*m.Correction)
	case m.Endorsement != nil, m.Hint != nil:
		var room [256]byte
		_ = s.words.send(packetWord, c.start.Node, wire.EncodeAs(room[:0], wire.VersionSealed, m))
	}
}

// fromAgent takes a packet of the agent.
func (s *Server) fromAgent(c *core, kind byte, node, word []byte) {
	switch {
	case kind == packetGossip:
		c.mail.ReceiveGossip(word)
	case kind == packetWord && string(node) == c.start.Node:
		c.mail.Receive(c.start.Node, word)
	case kind == packetWord:
		if n, known := s.view.State().Nodes[string(node)]; known {
			_ = c.carrier.Send(n, word)
		}
	}
}

// gossip has the agent send a word by gossip.
type gossip struct{ s *Server }

func (g gossip) Send(to fsm.Node, word []byte) error {
	return g.s.words.send(packetGossip, to.ID, word)
}

// listener tells the agent what its owner's part listens for.
type listener struct{ s *Server }

// Wake does not wait for the agent: it is called by what renews.
func (l listener) Wake()                    { go l.s.say(answer{Wake: true}) }
func (l listener) AnnounceAgain(why string) { go l.s.say(answer{Again: why}) }

// say tells the agent something. One that does not read for tellWait has lost its control: it is told
// nothing more, and the session ends when its authorisation does.
func (s *Server) say(a answer) {
	s.tell.Lock()
	defer s.tell.Unlock()
	_ = s.control.SetWriteDeadline(time.Now().Add(tellWait))
	if err := s.enc.Encode(&a); err != nil && !errors.Is(err, net.ErrClosed) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.host.Logger.Warn("the agent does not read what its lease plane says")
		}
		_ = s.control.Close() // half a message may have been written
	}
}

func (s *Server) renewed(trip time.Duration)  { s.note(&s.seen.Trips, trip) }
func (s *Server) extended(left time.Duration) { s.note(&s.seen.Left, left) }

func (s *Server) note(list *[]time.Duration, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(*list) < seenMost {
		*list = append(*list, d)
	}
}

// report tells the agent once in a while how renewals did.
func (s *Server) report(ctx context.Context) {
	tick := time.NewTicker(seenEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		out := seen{slices.Clone(s.seen.Trips), slices.Clone(s.seen.Left)}
		s.seen.Trips, s.seen.Left = s.seen.Trips[:0], s.seen.Left[:0]
		s.mu.Unlock()
		// An agent that is stopped does not read, and is told nothing that could fill the way to it.
		if len(out.Trips)+len(out.Left) > 0 && s.authorised(s.host.Clock()) {
			s.say(answer{Seen: &out})
		}
	}
}
