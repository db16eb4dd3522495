package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"havip-cluster/failover/leader"
	"havip-cluster/fsm"
	"havip-cluster/membership"
)

const (
	operatorPatience = 10 * time.Second // until an operator gives up; the outcome is unknown then
	operatorPause    = 100 * time.Millisecond
	requestWait      = 2 * time.Second
	handOverWait     = 40 * time.Second // of cmd/havip-cluster
	repeatMax        = 1000
)

// acked is a change that the cluster said it has done.
type acked struct {
	key   string
	body  fsm.Body
	index uint64
}

// object is what the operators know of a HAVIP.
type object struct {
	acked    bool // it was made
	doubtful bool // its end was asked for, or it was never acknowledged
}

// operator runs what somebody does by hand.
func (w *World) operator(f func()) {
	w.asking.Add(1)
	w.wg.Go(func() {
		defer w.asking.Done()
		f()
	})
}

// pause waits, but no longer than until the faults end.
func (w *World) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.healed:
	case <-w.broken:
	}
}

// via picks a process that takes requests.
func (w *World) via() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	var up []*process
	for _, h := range w.hosts {
		if h.proc != nil && h.proc.raft.Load() != nil && !h.proc.gate.frozen.Load() {
			up = append(up, h.proc)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[w.rng.IntN(len(up))]
}

// request asks for a change through any node, again and again under one key. make gives
// the command on a node's present state, or nil when there is nothing to ask for. False
// means refused or unknown.
func (w *World) request(make func(s *fsm.State) fsm.Body) (fsm.Result, bool) {
	w.mu.Lock()
	w.ops++
	key := fmt.Sprintf("op-%d", w.ops)
	w.mu.Unlock()
	var body fsm.Body
	for end := time.Now().Add(operatorPatience); time.Now().Before(end) && !w.isBroken(); time.Sleep(operatorPause) {
		p := w.via()
		if p == nil {
			continue
		}
		if body == nil { // a repetition is the same request
			if body = make(p.raft.Load().State()); body == nil {
				continue
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), requestWait)
		res, err := p.forward(ctx, p.node, key, body)
		cancel()
		if err != nil {
			continue
		}
		if res.Refusal != nil {
			w.count(func(st *Stats) { st.Refused++ })
			w.notef("operator: %T is refused: %s", body, res.Refusal.Message)
			return res, false
		}
		w.mu.Lock()
		w.stats.Acked++
		w.acked = append(w.acked, acked{key, body, res.Index})
		w.mu.Unlock()
		return res, true
	}
	w.count(func(st *Stats) { st.Unknown++ })
	return fsm.Result{}, false
}

func (w *World) ask(body fsm.Body) bool {
	_, ok := w.request(func(*fsm.State) fsm.Body { return body })
	return ok
}

// onHAVIP asks for a change of a HAVIP that is known by name.
func (w *World) onHAVIP(name string, make func(s *fsm.State, v fsm.HAVIP) fsm.Body) bool {
	_, ok := w.request(func(s *fsm.State) fsm.Body {
		for _, v := range s.HAVIPList() {
			if v.Name == name {
				return make(s, v)
			}
		}
		return nil
	})
	return ok
}

func (w *World) create(name string) {
	w.mu.Lock()
	o := w.made[name]
	if o == nil {
		o = &object{}
		w.made[name] = o
	}
	again := o.acked || o.doubtful
	o.doubtful = o.doubtful || again
	w.mu.Unlock()
	_, ok := w.request(func(s *fsm.State) fsm.Body {
		if len(s.Subnets) == 0 {
			return nil
		}
		spec := fsm.Spec{}
		if s.Level() >= 4 {
			spec.Probe = fmt.Sprintf("tcp:%d", 61000+int(havipAddress(name).As4()[3]))
		}
		return fsm.CreateHAVIP{Name: name, Subnet: s.SubnetList()[0].Name, IP: havipAddress(name), ReuseNow: s.Level() > 1, Spec: spec}
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if o.acked = ok; !ok {
		o.doubtful = true
	}
}

func (w *World) remove(name string) {
	w.mu.Lock()
	if o := w.made[name]; o != nil {
		o.doubtful = true
	}
	w.mu.Unlock()
	w.onHAVIP(name, func(_ *fsm.State, v fsm.HAVIP) fsm.Body { return fsm.DeleteHAVIP{ID: v.ID, Force: true} })
}

func (w *World) move(name, to string) bool {
	return w.onHAVIP(name, func(s *fsm.State, v fsm.HAVIP) fsm.Body {
		place, refusal := leader.Move(s, time.Now().UnixNano(), v.ID, to)
		if refusal != nil {
			return nil
		}
		return place
	})
}

func (w *World) disable(name string, d time.Duration) {
	set := func(on bool) bool {
		return w.onHAVIP(name, func(_ *fsm.State, v fsm.HAVIP) fsm.Body {
			return fsm.UpdateHAVIP{ID: v.ID, Change: fsm.Change{Enabled: &on}}
		})
	}
	set(false)
	w.pause(d)
	set(true)
}

func (w *World) ban(name, node string, d time.Duration) {
	set := func(bans ...string) {
		w.onHAVIP(name, func(_ *fsm.State, v fsm.HAVIP) fsm.Body { return fsm.UpdateHAVIP{ID: v.ID, Bans: &bans} })
	}
	set(node)
	w.pause(d)
	set()
}

func (w *World) setNode(name string, change func(u *fsm.UpdateNode)) {
	w.request(func(s *fsm.State) fsm.Body {
		n, known := s.NodeNamed(name)
		if !known {
			return nil
		}
		u := fsm.UpdateNode{ID: n.ID}
		change(&u)
		return u
	})
}

func (w *World) standby(name string, d time.Duration) {
	w.setNode(name, func(u *fsm.UpdateNode) { u.Standby = ptr(true) })
	w.pause(d)
	w.setNode(name, func(u *fsm.UpdateNode) { u.Standby = ptr(false) })
}

func (w *World) maintenance(name string, d time.Duration) {
	w.setNode(name, func(u *fsm.UpdateNode) { u.Maintenance = ptr(true) })
	w.pause(d)
	w.setNode(name, func(u *fsm.UpdateNode) { u.Maintenance = ptr(false) })
}

func (w *World) setLease(d time.Duration) { w.ask(fsm.SetLease{Lease: d}) }

// join admits a host as a new node, and starts it. False means: try again.
func (w *World) join(h *host) bool {
	w.mu.Lock()
	fresh := h.node == ""
	w.mu.Unlock()
	if fresh {
		w.enrol(h)
	}
	n := h.asNode()
	token := fsm.Token{ID: "t-" + n.ID, SecretHash: "s", Node: n.Name, Role: n.Role, Expires: 1 << 62}
	w.ask(fsm.CreateToken{Token: token}) // may have been made by a request whose answer was lost
	if !w.ask(fsm.AddNode{Token: token.ID, SecretHash: "s", Node: n}) {
		return false
	}
	h.boot()
	return true
}

// replace removes a host's node, and lets the host join again later as a new one.
func (w *World) replace(h *host, d time.Duration) {
	gone := false
	for end := time.Now().Add(operatorPatience); time.Now().Before(end) && !gone && !w.isBroken(); time.Sleep(operatorPause) {
		lead := w.leader()
		if lead == nil || lead.gate.frozen.Load() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), operatorPatience/2)
		err := membership.RemoveNode(ctx, lead.raft.Load(), h.name, false, lead.alive)
		cancel()
		var refusal *fsm.Refusal
		switch {
		case err == nil:
			gone = true
		case errors.As(err, &refusal) && refusal.Code == fsm.CodeNotFound:
			gone = true
		case errors.As(err, &refusal):
			w.notef("operator: the removal of %s is refused: %s", h.name, refusal.Message)
			return
		}
	}
	w.pause(d)
}

// handOver is what the agent does at SIGTERM.
func (p *process) handOver() {
	ctx, cancel := context.WithTimeout(context.Background(), handOverWait)
	defer cancel()
	p.h.w.mu.Lock()
	m := p.member
	p.h.w.mu.Unlock()
	if m != nil && m.Session != nil {
		if err := m.Session.Close(ctx); err != nil {
			p.h.w.notef("%s: hand over: %v", p.h.name, err)
		}
	}
	if n := p.raft.Load(); n != nil {
		p.handOverVote(ctx, n)
	}
	p.cancel()
}

// handOverVote is what the agent does with its vote then.
func (p *process) handOverVote(ctx context.Context, n *membership.Node) {
	to, err := n.HandOverVote(ctx, p.submit, p.alive)
	if to != "" || err != nil {
		p.h.w.notef("%s: its vote goes to %q: %v", p.h.name, to, err)
	}
	if voters, _ := n.Voters(); len(voters) < 2 {
		return
	}
	if _, leads := n.Leading(); leads {
		_ = n.TransferLeadership()
	}
}

// repeatCommand proposes an old command of the log again, word for word: a delayed
// request of a process that is dead. The word is its kind; the number says how far back.
func (w *World) repeatCommand(a []string) {
	lead := w.leader()
	if lead == nil {
		return
	}
	s := lead.raft.Load().State()
	switch a[0] {
	case "open-session":
		for _, n := range s.NodeList() {
			if sess, open := s.SessionOf(n.ID); open && n.Name == string(rune('a'+num(a[1])%len(w.hosts))) {
				w.propose(lead, fsm.OpenSession{Node: n.ID, Last: sess.Number - 1, Attempt: "late"})
			}
		}
	case "place":
		for _, v := range s.HAVIPList() {
			if v.Owner != nil && v.Epoch > 1 {
				w.propose(lead, fsm.Place{Assignments: []fsm.Assignment{{
					HAVIP: v.ID, FromEpoch: v.Epoch - 1, Node: v.Owner.Node, Session: v.Owner.Session, ENI: v.Owner.ENI, Reason: "late",
				}}})
			}
		}
	}
}

func (w *World) propose(lead *process, body fsm.Body) {
	w.operator(func() {
		ctx, cancel := context.WithTimeout(context.Background(), requestWait)
		defer cancel()
		if res, err := lead.raft.Load().Propose(ctx, 0, "", body); err == nil && res.Refusal == nil {
			w.notef("late %T was done", body)
		}
	})
}

// forgive is `havip clear-failures --all`, when the causes are mended: what failed several
// times would else wait for minutes.
func (w *World) forgive() {
	w.request(func(s *fsm.State) fsm.Body {
		if s.Level() < 2 {
			return nil
		}
		return fsm.ResetFailures{}
	})
}

// settle ends all faults and demands service within the bound.
func (w *World) settle() {
	close(w.healed)
	w.mu.Lock()
	ids := slices.Sorted(maps.Keys(w.heals))
	w.mu.Unlock()
	for _, id := range ids {
		w.endFault(id)
	}
	for _, h := range w.hosts {
		if p := w.process(h); p != nil {
			p.gate.disarm()
		}
	}
	w.asking.Wait()
	began := time.Now()
	bound := settleBound + settleLeases*w.sched.Lease
	for _, h := range w.hosts {
		h.boot()
		w.backToWork(h, began.Add(bound))
	}
	w.forgive()
	for !w.settled(nil) || !w.allVote(nil) {
		if w.isBroken() {
			return
		}
		if time.Since(began) > bound {
			w.violate("liveness", "%v after the last fault: %s", bound, w.why())
			return
		}
		time.Sleep(settleTick)
	}
	w.count(func(st *Stats) { st.Settle = time.Since(began) })
	w.lost()
}

// backToWork undoes what operators did to a node, and joins a host that was removed.
func (w *World) backToWork(h *host, end time.Time) {
	for time.Now().Before(end) && !w.isBroken() {
		w.mu.Lock()
		node := h.node
		w.mu.Unlock()
		lead := w.leader()
		if lead == nil {
			time.Sleep(settleTick)
			continue
		}
		n, member := lead.raft.Load().State().Nodes[node]
		switch {
		case node == "", !member:
			h.kill(true)
			w.mu.Lock()
			h.node = ""
			w.mu.Unlock()
			w.join(h)
		case n.Removing: // it goes on by itself
			time.Sleep(settleTick)
		case n.Standby || n.Maintenance:
			w.setNode(h.name, func(u *fsm.UpdateNode) { u.Standby, u.Maintenance = ptr(false), ptr(false) })
		default:
			return
		}
	}
}

// lost checks that every change that was acknowledged is in the state.
func (w *World) lost() {
	lead := w.leader()
	if lead == nil {
		return // it has just gone; the state is the same on all
	}
	s := lead.raft.Load().State()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.acked {
		c, err := fsm.NewCommand(0, "", a.key, a.body)
		if err != nil {
			w.violateLocked("acknowledged", "%v", err)
			return
		}
		if r, known := s.Answered(c); !known || r.Index != a.index || r.Refusal != nil {
			w.violateLocked("acknowledged", "%T with key %s was acknowledged at index %d; the log says %+v", a.body, a.key, a.index, r)
		}
	}
	for name, o := range w.made {
		is := func(v fsm.HAVIP) bool { return v.Name == name }
		if o.acked && !o.doubtful && !slices.ContainsFunc(s.HAVIPList(), is) {
			w.violateLocked("acknowledged", "HAVIP %s was made and is gone", name)
		}
	}
}

func ptr[T any](v T) *T { return &v }
