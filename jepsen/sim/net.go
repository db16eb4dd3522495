package sim

import (
	"bytes"
	"errors"
	"time"

	"havip-cluster/failover"
	"havip-cluster/fsm"
)

// network is what lies between the hosts: for each direction of each pair a link, cut or
// not, and weather that lies over all of them.
type network struct {
	w       *World
	links   [][]*link // from, to; guarded by the world's lock, like all here
	weather weather
	holds   []*hold
	// captured are the last renewals that somebody on a path has seen.
	captured map[direction][]parcel
	changed  chan struct{} // closed when a cut has ended, and made anew
}

type link struct {
	cuts int             // faults under way that cut it
	shut map[doorway]int // and those that shut one port at its end
	dice dice
}

// doorway is a port, one of those at which a host is spoken to: a firewall may shut one, and leave the others.
type doorway string

const (
	raftDoor  doorway = "raft"  // requests of Raft; answers come back by the same connection
	wordsDoor doorway = "words" // sealed datagrams
)

var doorways = []string{string(raftDoor), string(wordsDoor)}

// weather is what happens to datagrams everywhere: per cent lost, doubled, late.
type weather struct {
	loss, dup, late int
	extra           time.Duration // longer trips
}

// hold is a fault made to measure: what kind of datagram between two hosts is how much
// later, or never arrives.
type hold struct {
	kind     byte
	from, to int
	extra    time.Duration // negative: lost
}

// parcel is a datagram with what its receiver knows of the sender: for certain if it is sealed.
type parcel struct {
	from   string // node id
	sealed bool
	b      []byte
}

// door is where a datagram comes in; "" is that of gossip, which nothing shuts here.
func (c parcel) door() doorway {
	if c.sealed {
		return wordsDoor
	}
	return ""
}

// give hands a datagram to the part that takes it.
func (c parcel) give(m *failover.Member) {
	if c.sealed {
		m.Receive(c.from, c.b)
	} else {
		m.ReceiveGossip(c.b)
	}
}

// The kinds of datagram of failover/wire/wire.go.
var kinds = map[string]byte{
	"renewal": 1, "ack": 2, "hint": 3, "question": 4, "endorsement": 5, "released": 6, "ready": 7, "activated": 8, "status": 9, "correction": 13, "recall": 14, "ended": 15,
	"steps": 16, "clock": 17,
}

var kindNames = func() map[byte]string {
	out := map[byte]string{}
	for name, k := range kinds {
		out[k] = name
	}
	return out
}()

const (
	inboxMax   = 1000                   // datagrams that wait in the socket of a stopped process
	retransmit = 200 * time.Millisecond // TCP's least time-out: what a lost segment costs
	rpcLate    = 64                     // requests that wait in the sockets of a stopped process
)

var (
	errDead  = errors.New("sim: the process is dead")
	errNoWay = errors.New("sim: no answer")
)

func newNetwork(w *World, hosts int) *network {
	n := &network{w: w, changed: make(chan struct{}), captured: map[direction][]parcel{}}
	for i := range hosts {
		row := []*link{}
		for j := range hosts {
			row = append(row, &link{shut: map[doorway]int{}, dice: newDice(w.sched.Seed, uint64(1000+i*hostsMax+j))})
		}
		n.links = append(n.links, row)
	}
	return n
}

// cut changes how many faults cut a direction.
func (n *network) cut(from, to, by int) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.links[from][to].cuts += by
	if by < 0 {
		close(n.changed)
		n.changed = make(chan struct{})
	}
}

// open reports whether a direction works now; call it with the world's lock held.
func (n *network) open(from, to int) bool { return from == to || n.links[from][to].cuts == 0 }

// passes is open for one door of the host at the end; with the world's lock held.
func (n *network) passes(from, to int, door doorway) bool {
	return n.open(from, to) && (from == to || n.links[from][to].shut[door] == 0)
}

// shut changes how many faults shut a door against a direction.
func (n *network) shut(from, to int, door doorway, by int) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.links[from][to].shut[door] += by
	if by < 0 {
		close(n.changed)
		n.changed = make(chan struct{})
	}
}

func (n *network) reaches(from, to int, door doorway) bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.passes(from, to, door)
}

// trip gives the delay of one trip; with the world's lock held.
func (n *network) trip(l *link) time.Duration {
	d := n.w.sched.Delay
	return l.dice.between(d, 2*d) + n.weather.extra
}

// datagram sends one from host to host: lost, doubled, late and out of order as it comes.
func (n *network) datagram(from, to int, c parcel) {
	w, msg := n.w, c.b
	w.mu.Lock()
	kind := msg[1]
	w.stats.Datagrams[kind]++
	l := n.links[from][to]
	if kind == renewals && w.renewed != nil && w.awaited == (direction{from, to}) {
		close(w.renewed)
		w.renewed = nil
	}
	if w.Trace != nil && kind != kinds["status"] {
		w.notef("%s to %s: %s", w.hosts[from].name, w.hosts[to].name, kindNames[kind])
	}
	switch kind {
	case renewals:
		n.capture(from, to, c)
	case kinds["recall"]:
		w.hosts[to].recalled++
	}
	var delays []time.Duration
	copies := 1
	switch {
	case !n.passes(from, to, c.door()) || l.dice.percent(n.weather.loss):
		copies = 0
		w.stats.Lost++
	case l.dice.percent(n.weather.dup):
		copies = 2
		w.stats.Doubled++
	}
	for range copies {
		d := n.trip(l)
		if l.dice.percent(n.weather.late) {
			d += l.dice.between(0, 3*w.sched.Lease)
			w.stats.Late++
		}
		for _, h := range n.holds {
			if h.kind == kind && h.from == from && h.to == to {
				d += h.extra
			}
		}
		if d > 0 {
			delays = append(delays, d)
		}
	}
	w.mu.Unlock()
	if len(delays) == 0 {
		return
	}
	c.b = bytes.Clone(msg)
	for _, d := range delays {
		time.AfterFunc(d, func() {
			if n.reaches(from, to, c.door()) {
				w.hosts[to].arrived(c)
			}
		})
	}
}

// arrived gives a datagram to the process that runs, or to its socket while it is stopped.
func (h *host) arrived(c parcel) {
	w := h.w
	w.mu.Lock()
	p := h.proc
	if p == nil || p.member == nil {
		w.mu.Unlock()
		return
	}
	if p.gate.frozen.Load() {
		if len(p.inbox) < inboxMax {
			p.inbox = append(p.inbox, c)
		}
		w.mu.Unlock()
		return
	}
	m := p.member
	w.mu.Unlock()
	c.give(m)
}

// Send implements ports.Post: the receiver knows who sent it.
func (p *process) Send(to fsm.Node, msg []byte) error { return p.send(to, msg, true) }

// byGossip is the Post for nodes that have no key.
type byGossip struct{ *process }

func (p byGossip) Send(to fsm.Node, msg []byte) error { return p.send(to, msg, false) }

func (p *process) send(to fsm.Node, msg []byte, sealed bool) error {
	if !p.gate.pass("send") {
		return errDead
	}
	if len(msg) > datagramMax {
		p.h.w.violate("datagram size", "%s sends a datagram of %d bytes", p.node, len(msg))
	}
	if h := p.h.w.byAddress(to.Address); h != nil {
		p.h.w.net.datagram(p.h.index, h.index, parcel{p.node, sealed, msg})
	}
	return nil
}

// datagramMax is what the carriers take.
const datagramMax = 1200

// stream carries a request from one process to another host's, as a connection does: it
// waits through a cut and through a shut door, and costs a retransmission when the weather takes a segment.
// deliver is called at the other side, and its answer comes back in the same way. The
// error is errNoWay after limit. The other side may get the request even so.
func stream[T any](p *process, to int, door doorway, limit time.Duration, deliver func(q *process) (answer <-chan T, err error)) (got T, err error) {
	if !p.gate.pass("send") {
		return got, errDead
	}
	w := p.h.w
	end := time.NewTimer(limit)
	defer end.Stop()
	if err := w.net.cross(p, p.h.index, to, door, end.C); err != nil {
		return got, err
	}
	q, err := w.hosts[to].listening(p, end.C, func(q *process) { _, _ = deliver(q) })
	if err != nil {
		return got, err
	}
	answer, err := deliver(q)
	if err != nil {
		return got, err
	}
	select {
	case got = <-answer:
	case <-end.C:
		return got, errNoWay
	case <-p.gate.dead:
		return got, errDead
	case <-q.gate.dead:
		return got, errNoWay // the connection is reset
	}
	if !q.gate.pass("answer") {
		return got, errNoWay
	}
	if err := w.net.cross(p, to, p.h.index, "", end.C); err != nil {
		return got, err
	}
	if !p.gate.pass("receive") {
		return got, errDead
	}
	return got, nil
}

// cross waits for one trip of p's stream.
func (n *network) cross(p *process, from, to int, door doorway, end <-chan time.Time) error {
	if from == to {
		return nil
	}
	n.w.mu.Lock()
	l := n.links[from][to]
	d := n.trip(l)
	if l.dice.percent(n.weather.loss) {
		d += retransmit
	}
	n.w.stats.Streamed++
	n.w.mu.Unlock()
	if !p.gate.sleep(d) {
		return errDead
	}
	for {
		n.w.mu.Lock()
		open, changed := n.passes(from, to, door), n.changed
		n.w.mu.Unlock()
		if open {
			return nil
		}
		select {
		case <-changed:
		case <-end:
			return errNoWay
		case <-p.gate.dead:
			return errDead
		}
	}
}

// listening returns the process at a host. While that is stopped, its kernel takes the
// request: it is delivered at the thaw, also when nobody waits for the answer any more.
func (h *host) listening(from *process, end <-chan time.Time, late func(q *process)) (*process, error) {
	h.w.mu.Lock()
	q := h.proc
	h.w.mu.Unlock()
	if q == nil || q.gate.isDead() {
		return nil, errNoWay // connection refused
	}
	for q.gate.frozen.Load() {
		q.gate.mu.Lock()
		thaw := q.gate.thaw
		q.gate.mu.Unlock()
		if thaw == nil {
			continue
		}
		select {
		case <-thaw:
		case <-q.gate.dead:
			return nil, errNoWay
		case <-from.gate.dead:
			return nil, errDead
		case <-end:
			h.deliverLate(q, thaw, late)
			return nil, errNoWay
		}
	}
	return q, nil
}

func (h *host) deliverLate(q *process, thaw chan struct{}, late func(q *process)) {
	h.w.mu.Lock()
	q.lateRPCs++
	room := q.lateRPCs <= rpcLate
	h.w.mu.Unlock()
	if !room {
		return
	}
	h.w.wg.Go(func() {
		select {
		case <-thaw:
			late(q)
		case <-q.gate.dead:
		}
	})
}
