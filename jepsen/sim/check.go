package sim

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
	"havip-cluster/membership"
)

// look is the first checker: at no instant do two hosts answer for one HAVIP. Somebody
// begins to answer only when a kernel changes, so looking at each change is looking
// always. Call it with the world's lock held.
func (w *World) observe() {
	for _, ip := range w.addressesUp() {
		var first *host
		ours := false // else two programs that are not ours answer for what may be no HAVIP
		for _, h := range w.hosts {
			if !h.answers(ip) {
				continue
			}
			if h.waking() {
				w.stats.Echoes++
				continue
			}
			_, up := h.kernel.addrs[ip]
			ours = ours || up
			switch {
			case first == nil:
				first = h
			case ours:
				w.violateLocked("two owners", "%s and %s answer for %v", first.describe(ip), h.describe(ip), ip)
			}
		}
	}
	w.lookAtProbes()
}

// lookAtProbes is the same for load balancers: at no instant do two hosts answer at one port, and
// none for a HAVIP that it does not answer for. Call it with the world's lock held.
func (w *World) lookAtProbes() {
	first := map[uint16]*host{}
	for _, h := range w.hosts {
		for _, port := range slices.Sorted(maps.Keys(h.kernel.ports)) {
			if !h.answersProbe(port) || h.waking() { // as with what it answers for others
				continue
			}
			w.stats.ProbesAnswered++
			ip := h.kernel.ports[port].HAVIP
			switch other := first[port]; {
			case other != nil:
				w.violateLocked("two probes", "%s and %s answer the probe at port %d", other.name, h.name, port)
			case !h.clockLocked().Before(h.kernel.deadline):
				w.violateLocked("two probes", "%s answers the probe of %v without a lease", h.name, ip)
			}
			first[port] = h
		}
	}
}

// describe says as what a host answers.
func (h *host) describe(ip netip.Addr) string {
	a, ours := h.kernel.addrs[ip]
	if !ours {
		return fmt.Sprintf("%s (another program's, fence %d)", h.name, h.kernel.fence[ip])
	}
	return fmt.Sprintf("%s (%s, epoch %d, session %d)", h.name, a.havip.Name, a.claim.Epoch, a.claim.Session)
}

// activation checks rules 6 and 7 where they count: epochs only grow, and a host that
// has the address up under an earlier claim has released it, or its session is closed, by
// all that the new owner's own log says.
func (w *World) activation(p *process, h owner.Activation) {
	if p.gate.isDead() {
		return
	}
	known := p.raft.Load().State().HAVIPs[h.HAVIP.ID]
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Activations++
	if !p.h.clockLocked().Before(p.h.kernel.deadline) {
		w.stats.Silenced++ // it was stopped since it looked: the fence keeps it silent
		return
	}
	id, epoch := h.HAVIP.ID, h.Claim.Epoch
	w.notef("%s activates %s under epoch %d, session %d", p.h.name, h.HAVIP.Name, epoch, h.Claim.Session)
	if before := w.activated[id]; epoch <= before {
		w.violateLocked("epochs", "%s activates %s under epoch %d, after %d", p.h.name, h.HAVIP.Name, epoch, before)
	}
	w.activated[id] = max(w.activated[id], epoch)
	if who := w.unguarded(p, h.HAVIP.IP); who != "" && !w.sched.Old { // below level 3 of the log nobody waits for the fences
		w.violateLocked("guard", "%s activates %s, and the fence of %s, which has a lease, does not guard it", p.h.name, h.HAVIP.Name, who)
	}
	if len(known.Draining) > 0 {
		w.stats.HandOffs++
	}
	for _, other := range w.hosts {
		a, up := other.up(id)
		if other != p.h && up && slices.Contains(known.Claims(), a.claim) {
			w.violateLocked("release", "%s activates %s (epoch %d) while %s has it up under %+v, which the log has not released", p.h.name, h.HAVIP.Name, epoch, other.name, a.claim)
		}
	}
}

// leads notes a leader: one per term.
func (w *World) leads(term uint64, p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch who := w.terms[term]; who {
	case p.node:
	case "":
		w.terms[term] = p.node
		w.stats.Elections++
		w.notef("%s leads term %d", p.h.name, term)
	default:
		w.violateLocked("two leaders", "%s and %s lead term %d", who, p.node, term)
	}
}

// follow checks each state that a node comes to.
func (w *World) follow(ctx context.Context, p *process, node *membership.Node) {
	watch, stop := node.Watch()
	defer stop()
	before := fsm.New()
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch:
		}
		s := node.State()
		if s == before {
			continue
		}
		for _, bad := range append(grown(before, s), sound(s)...) {
			w.violate("state", "%s at index %d: %s", p.h.name, s.Index, bad)
		}
		// One that was removed while it lagged may still be sent the leader's last snapshot.
		if _, member := s.Nodes[p.node]; member && p.old && s.Level() > 1 {
			w.violate("levels", "the log has come to level %d, and %s, a member, reads level 1", s.Level(), p.h.name)
		}
		w.noteEvents(s)
		w.lengths(s)
		w.levelThree(s)
		before = s
	}
}

// lengths checks rule 8: after a change the longer length stays in force for as long as
// promises of it may run. The first to see the change saw it after those were made.
func (w *World) lengths(s *fsm.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, known := s.Cluster, &w.length
	if c.LeaseIndex > known.index {
		known.index, known.at, known.longest = c.LeaseIndex, w.now(), c.LeaseMax
	}
	if c.LeaseIndex != known.index || c.LeaseMax >= known.longest {
		return
	}
	if took := w.now() - known.at; took < lease.Promise(known.longest) {
		w.violateLocked("length", "leases of %v are taken for over %v after the change to %v", known.longest, took, c.Lease)
	}
	known.longest = c.LeaseMax
}

// grown says what may only grow, and did not.
func grown(before, s *fsm.State) []string {
	var bad []string
	if s.Index < before.Index {
		bad = append(bad, fmt.Sprintf("the index was %d", before.Index))
	}
	for id, v := range s.HAVIPs {
		was, existed := before.HAVIPs[id]
		if !existed {
			continue
		}
		if v.Epoch < was.Epoch {
			bad = append(bad, fmt.Sprintf("%s went from epoch %d to %d", v.Name, was.Epoch, v.Epoch))
		}
		for _, c := range was.Claims() {
			if slices.Contains(v.Claims(), c) || s.Sessions[c.Session].Number == 0 {
				continue
			}
			if c.Epoch == v.Epoch && v.Owner != nil {
				bad = append(bad, fmt.Sprintf("the claim %+v of %s changed without a new epoch", c, v.Name))
			}
		}
	}
	for id, n := range s.Nodes {
		if was, existed := before.Nodes[id]; existed && n.LastSession < was.LastSession {
			bad = append(bad, fmt.Sprintf("node %s went from session %d to %d", n.Name, was.LastSession, n.LastSession))
		}
	}
	return bad
}

// sound says what is wrong in a state by itself.
func sound(s *fsm.State) []string {
	var bad []string
	if s.Cluster.LeaseMax < s.Cluster.Lease {
		bad = append(bad, fmt.Sprintf("the longest lease is %v, the lease %v", s.Cluster.LeaseMax, s.Cluster.Lease))
	}
	for number, sess := range s.Sessions {
		if n, known := s.Nodes[sess.Node]; !known || n.LastSession != number {
			bad = append(bad, fmt.Sprintf("session %d of node %q is open, its last one is %d", number, sess.Node, n.LastSession))
		}
	}
	for _, v := range s.HAVIPs {
		var last fsm.Epoch
		for _, c := range v.Claims() {
			if c.Epoch <= last || c.Epoch > v.Epoch {
				bad = append(bad, fmt.Sprintf("%s has the claims %+v at epoch %d", v.Name, v.Claims(), v.Epoch))
			}
			if sess, open := s.Sessions[c.Session]; !open || sess.Node != c.Node {
				bad = append(bad, fmt.Sprintf("%s is claimed by session %d of %s, which is not open", v.Name, c.Session, c.Node))
			}
			last = c.Epoch
		}
		if v.Owner != nil && (v.Disabled || v.Deleting) {
			bad = append(bad, v.Name+" is disabled or being deleted, and owned")
		}
	}
	return bad
}

// noteEvents counts what the journal tells, once for all nodes.
func (w *World) noteEvents(s *fsm.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Applied++
	for i := len(s.Events) - 1; i >= 0 && s.Events[i].Index > w.lastEvent; i-- {
		e := s.Events[i]
		switch e.Kind {
		case "session-opened":
			w.stats.Opened++
		case "session-closed":
			w.stats.Closed++
			if strings.Contains(e.Text, "expired") {
				w.stats.Expired++
			}
		case "node-added":
			w.stats.Joined++
		case "node-removed":
			w.stats.Removed++
		}
		w.notef("log %d: %s", e.Index, e.Text)
	}
	for _, sess := range s.SessionList() {
		if sess.Behind != 0 && !w.lagged[sess.Number] {
			w.lagged[sess.Number] = true
			w.stats.Behind++
		}
	}
	if s.Index > w.lastEvent {
		w.lastEvent = s.Index
	}
}

// settled reports whether everything that can be owned is owned and answered exactly
// once, and all replicas agree; why is told what is missing.
func (w *World) settled(why func(format string, args ...any)) bool {
	if why == nil {
		why = func(string, ...any) {}
	}
	lead := w.leader()
	if lead == nil {
		why("nobody leads")
		return false
	}
	s := lead.raft.Load().State()
	if !w.agree(lead, s, why) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		n, member := s.Nodes[h.node]
		_, open := s.SessionOf(h.node)
		switch {
		case !member || n.Removing:
			why("host %s (%s) is no member", h.name, h.node)
			return false
		case !open && h.role != fsm.RoleWitness:
			why("host %s has no session", h.name)
			return false
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.HAVIPs)) {
		if bad := w.served(s, s.HAVIPs[id]); bad != "" {
			why("%s", bad)
			return false
		}
	}
	for _, h := range w.hosts {
		for _, a := range h.kernel.addrs {
			if !h.clockLocked().Before(a.until) {
				continue // the kernel has taken it away
			}
			if v, exists := s.HAVIPs[a.havip.ID]; !exists || v.Owner == nil || *v.Owner != a.claim {
				why("%s has %s up and does not own it", h.name, a.havip.Name)
				return false
			}
		}
	}
	return true
}

// served says what a HAVIP lacks, with the world's lock held.
func (w *World) served(s *fsm.State, v fsm.HAVIP) string {
	if v.Deleting || len(v.Draining) > 0 {
		return fmt.Sprintf("%s waits for %+v", v.Name, v.Draining)
	}
	if v.Owner == nil {
		for _, e := range s.ENIs {
			if s.Ineligible(v, e, int64(^uint64(0)>>1)) == nil { // after all pauses
				return fmt.Sprintf("%s has no owner, and %s could be: %s", v.Name, e.ID, v.Reason)
			}
		}
		return ""
	}
	if s.Level() >= 3 && v.Served != v.Owner.Epoch {
		return fmt.Sprintf("%s is owned by %s under epoch %d, and the log shows it served under %d", v.Name, v.Owner.ENI, v.Owner.Epoch, v.Served)
	}
	for _, h := range w.hosts {
		if owns := h.node == v.Owner.Node; owns != h.answers(v.IP) {
			return fmt.Sprintf("%s is owned by %s, and %s answers: %t", v.Name, v.Owner.ENI, h.name, !owns)
		}
		if h.node != v.Owner.Node {
			continue
		}
		for i, cache := range append(slices.Clone(w.fabric.caches), w.fabric.bound) {
			if cache[v.IP] != h.index {
				return fmt.Sprintf("%s is owned by %s, client %d looks for it elsewhere", v.Name, h.name, i)
			}
		}
	}
	return ""
}

// agree reports whether all members have applied the same log, and that to equal states.
func (w *World) agree(lead *process, s *fsm.State, why func(string, ...any)) bool {
	var snapshot []byte
	for _, h := range w.hosts {
		w.mu.Lock()
		p := h.proc
		w.mu.Unlock()
		if p == nil || p.raft.Load() == nil {
			why("host %s is down", h.name)
			return false
		}
		t := p.raft.Load().State()
		if t.Index != s.Index {
			why("%s has applied %d, the leader %d", h.name, t.Index, s.Index)
			return false
		}
		b, err := t.Snapshot()
		if err != nil {
			w.violate("state", "%s: %v", h.name, err)
			return false
		}
		if snapshot != nil && string(snapshot) != string(b) {
			w.violate("replicas", "%s and %s differ at index %d", lead.h.name, h.name, s.Index)
			return false
		}
		snapshot = b
	}
	return true
}

func (w *World) leader() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if h.proc == nil {
			continue
		}
		if n := h.proc.raft.Load(); n != nil {
			if _, leads := n.Leading(); leads {
				return h.proc
			}
		}
	}
	return nil
}

// allVote reports whether everybody who should vote does.
func (w *World) allVote(why func(format string, args ...any)) bool {
	lead := w.leader()
	if lead == nil {
		return false
	}
	want := 0
	for _, h := range w.hosts {
		if h.role != fsm.RoleAgent {
			want++
		}
	}
	want = min(want, fsm.MaxVoters)
	voters, _ := lead.raft.Load().Voters()
	if len(voters) != want && why != nil {
		why("%d vote, %d should: %v", len(voters), want, voters)
	}
	return len(voters) == want
}

func (w *World) why() string {
	text := "nothing is missing any more"
	note := func(format string, args ...any) { text = fmt.Sprintf(format, args...) }
	if w.settled(note) {
		w.allVote(note)
	}
	return text
}
