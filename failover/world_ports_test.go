package failover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/owner"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// process is one life of an agent on a host: the ports that its Member was given. When it
// is killed, nothing that its goroutines still do has any effect.
type process struct {
	*host
	alive bool // under world.mu
	again atomic.Bool
}

var errKilled = errors.New("the process is dead")

// process makes p the one that runs; call it with world.mu held.
func (h *host) process(p *process) { h.current = p }

// kill ends the process as SIGKILL does: the kernel keeps what it has.
func (h *host) kill() {
	h.w.mu.Lock()
	h.alive, h.current.alive = false, false
	cancel := h.cancel
	h.w.mu.Unlock()
	cancel()
}

func (p *process) dead() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return !p.alive
}

// Log.

func (p *process) State() *fsm.State {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.reads++
	return p.w.states[p.applied]
}

func (p *process) Watch() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.watchers[ch] = true
	return ch, func() {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		delete(p.watchers, ch)
	}
}

func (p *process) VoterSet() lease.VoterSet { return p.w.voterSet() }
func (p *process) CaughtUp() bool           { return true }
func (p *process) Applied() uint64          { return p.State().Index }

func (p *process) Leading() (uint64, bool) {
	if p.dead() {
		return 0, false
	}
	return p.host.Leading()
}

func (p *process) LeaderID() string {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.w.leader
}

func (p *process) Propose(ctx context.Context, term uint64, _ string, body fsm.Body) (fsm.Result, error) {
	if p.dead() {
		return fsm.Result{}, errKilled
	}
	return p.w.propose(ctx, p.host, term, body)
}

func (p *process) submit(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	leader := p.LeaderID()
	if p.dead() || ctx.Err() != nil {
		return fsm.Result{}, errKilled
	}
	if leader == "" || !p.w.reaches(p.node.ID, leader) || !p.w.host(leader).running() {
		time.Sleep(20 * time.Millisecond)
		return fsm.Result{}, errWorld
	}
	time.Sleep(worldTrip)
	if open, is := body.(fsm.OpenSession); is {
		if refusal := p.w.host(leader).member.MayOpen(open); refusal != nil {
			time.Sleep(worldTrip)
			return fsm.Result{Refusal: refusal}, nil
		}
	}
	res, err := p.w.propose(ctx, p.w.host(leader), 0, body)
	time.Sleep(worldTrip)
	if err == nil && !p.w.reaches(leader, p.node.ID) {
		return fsm.Result{}, errWorld
	}
	return res, err
}

func (h *host) running() bool {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.alive
}

// Post.

func (p *process) Send(to fsm.Node, msg []byte) error {
	return p.send(to, msg, func(m *Member, b []byte) { m.Receive(p.node.ID, b) })
}

// byGossip is a Post for nodes that have no key.
type byGossip struct{ *process }

func (p byGossip) Send(to fsm.Node, msg []byte) error {
	return p.send(to, msg, func(m *Member, b []byte) { m.ReceiveGossip(b) })
}

func (p *process) send(to fsm.Node, msg []byte, deliver func(m *Member, b []byte)) error {
	if p.dead() {
		return errKilled
	}
	w, other := p.w, p.w.host(to.ID)
	if len(msg) > wire.MaxDatagram {
		w.fault("a datagram of %d bytes", len(msg))
	}
	b := bytes.Clone(msg)
	w.noteMessages(p.node.ID, b)
	w.mu.Lock()
	w.packets[wire.Kind(b[1])]++
	copies := 1
	switch n := w.rng.IntN(100); {
	case n < w.loss, w.unsaid != nil && w.unsaid(b):
		copies = 0
	case n < w.loss+w.dup:
		copies = 2
	}
	delays := []time.Duration{}
	for range copies {
		delays = append(delays, worldTrip+time.Duration(w.rng.Int64N(int64(worldTrip))))
	}
	w.mu.Unlock()
	for _, d := range delays {
		time.AfterFunc(d, func() {
			w.mu.Lock()
			m, alive := other.member, other.alive
			w.mu.Unlock()
			if alive && w.reaches(p.node.ID, to.ID) {
				deliver(m, b)
			}
		})
	}
	return nil
}

func (w *world) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.violation == "" {
		w.violation = fmt.Sprintf(format, args...)
	}
}

// Edge.

// call counts a call and takes its time; the error is what the test wants it to be.
func (p *process) call(what string) error {
	time.Sleep(200 * time.Microsecond)
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.calls[what]++
	switch {
	case !p.alive:
		return errKilled
	case p.fails[what]:
		return fmt.Errorf("%s fails here", what)
	}
	return nil
}

// fail makes calls of the edge fail, or work again.
func (h *host) fail(what string, fails bool) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.fails[what] = fails
}

func (h *host) called(what string) int {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.calls[what]
}

// Turn does what the real edge does, one HAVIP after the other: off before on, and what is
// there is kept. What fails is as the test wants it.
func (p *process) Turn(want owner.Wanted) owner.Report {
	r := owner.Report{Next: p.clock() + lease.Instant(time.Second)}
	wanted := map[string]owner.Activation{}
	for _, h := range want.Activations {
		wanted[h.HAVIP.ID] = h
	}
	retry := func() { r.Next = p.clock() + lease.Instant(10*time.Millisecond) }
	for _, id := range p.up() {
		h, stays := wanted[id]
		if stays && p.onlyOn(id, h.ENI.ID) {
			continue
		}
		if p.down(id) != nil {
			retry()
			delete(wanted, id)
			continue
		}
		if !stays {
			r.Gone = append(r.Gone, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		h := wanted[id]
		was := p.onlyOn(id, h.ENI.ID)
		err := error(nil)
		if was {
			err = p.keep(id)
		} else {
			err = p.put(h)
		}
		switch {
		case err != nil:
			r.Faults = append(r.Faults, owner.Trouble{HAVIP: id, Text: err.Error()})
		case !was && p.call("announce") == nil, p.again.Swap(false) && p.call("announce") == nil:
			r.Serving = append(r.Serving, id)
		}
	}
	if want.Deadline == 0 && p.call("clean") == nil { // whatever was stuck goes with everything
		p.w.mu.Lock()
		clear(p.kernel)
		p.w.mu.Unlock()
		p.w.observe()
		r.Clean = true
	}
	if want.Deadline == 0 && !r.Clean {
		retry()
	}
	r.Guarded = want.State.Index
	if p.blind() {
		r.Guarded, r.Unguarded = 0, "guard fails here"
		retry()
	}
	return r
}

func (p *process) blind() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.fails["guard"]
}

// up lists what is on the interfaces.
func (p *process) up() []string {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return slices.Sorted(maps.Keys(p.kernel))
}

func (p *process) onlyOn(id, eni string) bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return len(p.kernel[id]) == 1 && p.kernel[id][eni]
}

// put puts the address up whatever happens then: a failure may come late.
func (p *process) put(h owner.Activation) error {
	p.w.mu.Lock()
	if p.alive {
		if p.kernel[h.HAVIP.ID] == nil {
			p.kernel[h.HAVIP.ID] = map[string]bool{}
		}
		p.kernel[h.HAVIP.ID][h.ENI.ID] = true
		if len(p.kernel[h.HAVIP.ID]) > 1 && p.w.violation == "" {
			p.w.violation = fmt.Sprintf("%s is on two ENIs of %s", h.HAVIP.Name, p.node.ID)
		}
	}
	p.w.mu.Unlock()
	p.w.observe()
	return p.call("up")
}

func (p *process) down(id string) error {
	if err := p.call("down"); err != nil {
		return err
	}
	p.w.mu.Lock()
	delete(p.kernel, id)
	p.w.mu.Unlock()
	p.w.observe()
	return nil
}

// keep fails only when the test wants it to; to keep what is there takes no time.
func (p *process) keep(string) error {
	p.w.mu.Lock()
	fails := p.fails["keep"]
	p.w.mu.Unlock()
	if !fails {
		return nil
	}
	return p.call("keep")
}

func (p *process) AnnounceAgain()           { p.again.Store(true) }
func (p *process) Changes() <-chan struct{} { return p.links }

func (p *process) SetDeadline(t lease.Instant) {
	p.w.mu.Lock()
	if p.alive {
		p.deadline = t
	}
	p.w.mu.Unlock()
	p.w.observe()
}

func (p *process) Inventory(*fsm.State) ([]fsm.ENI, string, error) {
	host := 10 + int(p.node.ID[0]-'A')
	out := []fsm.ENI{}
	for i, device := range []string{"eth0", "eth1"} {
		out = append(out, fsm.ENI{
			Device: device, MAC: "02:00:00:00:00:01", Up: true, Primary: i == 0,
			Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(host + 20*i)}), 16)},
		})
	}
	return out, "", nil
}

// changed notes what the Agent tells. Acquired and Released must take turns.
func (p *process) changed(c owner.Change) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if !p.alive {
		return
	}
	id := c.HAVIP.ID
	if (c.Kind == owner.Acquired) == p.has[id] && c.Kind != owner.Faulted {
		p.w.unpaired = fmt.Sprintf("%s tells %s of %s, and had it: %t", p.node.ID, c.Kind, c.HAVIP.Name, p.has[id])
	}
	if c.Kind != owner.Faulted {
		p.has[id] = c.Kind == owner.Acquired
	}
	p.changes = append(p.changes, c)
}
