package owner

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// Handoff decides what one session of this node may do with each HAVIP: rules 6 and 7 of
// the lease protocol. It is a pure core: it reads no clock and sends nothing. The Agent
// tells it what it hears and does, and carries out the steps that Decide returns, in
// their order. A new session begins with a new Handoff.
//
// It does not know the lease: the Agent asks it only while the lease runs, and takes
// everything down when it does not.
type Handoff struct {
	session uint64
	// patience is how long a draining owner waits for its successor's word that it is
	// ready, so that the gap holds one trip and not two commits. Serving on meanwhile is
	// safe: the successor waits for the release. One that is ready for other HAVIPs
	// meanwhile takes them in lots, and is waited for, patienceMost at most.
	patience time.Duration

	active   map[string]fsm.Claim            // by HAVIP id: what this node answers for
	released map[string]fsm.Epoch            // never activate this epoch or an earlier one
	heard    map[string]map[said]uint64      // released by others, directly: session
	ready    map[string]map[string]fsm.Epoch // by node: the newest epoch for which it said it is ready
	draining map[string]lease.Instant        // since when an active claim is draining
	coming   map[string]lease.Instant        // by node: when it was last ready for one more HAVIP

	// The HAVIPs in which this session has a claim by the state read, and their list, sorted. Most turns of
	// a hand-over of many see the state of the one before.
	read    *fsm.State
	claimed map[string]bool
	claims  []string
}

// said is one node's word about one epoch.
type said struct {
	epoch fsm.Epoch
	node  string
}

// heardMax bounds how many direct releases of one HAVIP are remembered, and of how many nodes
// that they are ready.
const heardMax = 2 * fsm.MaxDraining

const (
	// patienceLeast is for short leases: between two lots of many HAVIPs a successor on a busy host is silent for so long.
	patienceLeast = 500 * time.Millisecond
	// patienceMost bounds a hand-over of very many to one successor: what it has not asked for by then, it gets.
	patienceMost = time.Minute
)

// NewHandoff begins the memory of one session.
func NewHandoff(session uint64, patience time.Duration) *Handoff {
	return &Handoff{
		session: session, patience: patience,
		active: map[string]fsm.Claim{}, released: map[string]fsm.Epoch{},
		heard: map[string]map[said]uint64{}, ready: map[string]map[string]fsm.Epoch{},
		draining: map[string]lease.Instant{}, coming: map[string]lease.Instant{},
	}
}

// StepKind is what the Agent has to do.
type StepKind string

const (
	// StepActivate: answer for the HAVIP under this claim.
	StepActivate StepKind = "activate"
	// StepRelabel: go on answering, now under this claim; nothing changes on the wire.
	StepRelabel StepKind = "relabel"
	// StepDeactivate: stop answering, then say Released.
	StepDeactivate StepKind = "deactivate"
	// StepReleased: say that this claim was never used and never will be, or was given up.
	StepReleased StepKind = "released"
	// StepReady: tell the earlier owners that this node waits only for them.
	StepReady StepKind = "ready"
)

// Step is one thing to do, about one claim.
type Step struct {
	Kind  StepKind
	HAVIP string
	Claim fsm.Claim
	// To are the nodes to tell, for StepReady, StepReleased and StepDeactivate, beside the leader.
	To []string
}

// Decide compares the log with what this node does. The steps are sorted by HAVIP, and
// what ends comes before what begins.
func (h *Handoff) Decide(now lease.Instant, s *fsm.State) []Step {
	var ends, begins []Step
	for _, id := range h.known(s) {
		v, exists := s.HAVIPs[id]
		e, b := h.decide(now, v, exists, id)
		ends, begins = append(ends, e...), append(begins, b...)
	}
	return append(ends, begins...)
}

// known lists the HAVIPs of this session about which there may be something to decide, sorted.
func (h *Handoff) known(s *fsm.State) []string {
	h.follow(s)
	var ids []string
	for _, id := range h.claims {
		if act, answers := h.active[id]; !answers || !h.settled(s.HAVIPs[id], act) {
			ids = append(ids, id)
		}
	}
	before := len(ids)
	for id := range h.active {
		if !h.claimed[id] { // the log has taken it away
			ids = append(ids, id)
		}
	}
	if len(ids) > before {
		slices.Sort(ids)
	}
	return ids
}

// follow notes where this session has a claim, when the state is another one.
func (h *Handoff) follow(s *fsm.State) {
	if s == h.read {
		return
	}
	h.read, h.claimed, h.claims = s, map[string]bool{}, nil
	for id, v := range s.HAVIPs {
		if v.Owner != nil && h.mine(*v.Owner) || slices.ContainsFunc(v.Draining, h.mine) {
			h.claimed[id] = true
			h.claims = append(h.claims, id)
		}
	}
	slices.Sort(h.claims)
}

// settled reports whether a HAVIP is answered for under the claim that the log has, and no other
// claim is left: as nearly all are in nearly every turn.
func (h *Handoff) settled(v fsm.HAVIP, act fsm.Claim) bool {
	return v.Owner != nil && *v.Owner == act && len(v.Draining) == 0 && h.mine(act) && act.Epoch > h.released[v.ID]
}

func (h *Handoff) mine(c fsm.Claim) bool { return c.Session == h.session }

func (h *Handoff) decide(now lease.Instant, v fsm.HAVIP, exists bool, id string) (ends, begins []Step) {
	act, isActive := h.active[id]
	if isActive && (!exists || !slices.Contains(v.Claims(), act)) {
		// The log has taken the claim away: the session was closed, or the release done.
		return []Step{{Kind: StepDeactivate, HAVIP: id, Claim: act}}, nil
	}
	successor := h.successor(v)
	for _, c := range v.Draining {
		if h.mine(c) && !(isActive && c == act) {
			ends = append(ends, Step{Kind: StepReleased, HAVIP: id, Claim: c, To: successor})
		}
	}
	own := v.Owner
	switch {
	case own != nil && h.mine(*own) && own.Epoch <= h.released[id]:
		ends = append(ends, Step{Kind: StepReleased, HAVIP: id, Claim: *own}) // given up; until the log knows
	case own != nil && h.mine(*own) && (!isActive || act != *own):
		e, b := h.take(v, act, isActive)
		ends, begins = append(ends, e...), append(begins, b...)
	case isActive && (own == nil || act != *own) && h.drained(now, v):
		ends = append(ends, Step{Kind: StepDeactivate, HAVIP: id, Claim: act, To: successor})
	}
	return ends, begins
}

// successor is whom a release concerns beside the leader.
func (h *Handoff) successor(v fsm.HAVIP) []string {
	if v.Owner == nil || h.mine(*v.Owner) {
		return nil
	}
	return []string{v.Owner.Node}
}

// take says how to come to the newest claim, which is this session's. act is an earlier
// claim of this same session, if it still answers under one.
func (h *Handoff) take(v fsm.HAVIP, act fsm.Claim, isActive bool) (ends, begins []Step) {
	sameENI := isActive && act.ENI == v.Owner.ENI
	if waits := h.waitsFor(v); len(waits) > 0 {
		return nil, []Step{{Kind: StepReady, HAVIP: v.ID, Claim: *v.Owner, To: waits}}
	}
	switch {
	case sameENI:
		return nil, []Step{{Kind: StepRelabel, HAVIP: v.ID, Claim: *v.Owner}}
	case isActive: // between two ENIs of this node: off before on
		ends = []Step{{Kind: StepDeactivate, HAVIP: v.ID, Claim: act}}
	}
	return ends, []Step{{Kind: StepActivate, HAVIP: v.ID, Claim: *v.Owner}}
}

// waitsFor lists the nodes whose earlier claims are not known to be released. A claim of
// this session itself is no obstacle: it is this node that would use it.
func (h *Handoff) waitsFor(v fsm.HAVIP) []string {
	var nodes []string
	for _, c := range v.Draining {
		if h.mine(c) || h.toldReleased(v.ID, c) {
			continue
		}
		nodes = append(nodes, c.Node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// toldReleased reports whether the claim's own node and session said that it is released.
func (h *Handoff) toldReleased(id string, c fsm.Claim) bool {
	session, told := h.heard[id][said{c.Epoch, c.Node}]
	return told && session == c.Session
}

// drained reports whether a draining claim that still answers should stop now.
func (h *Handoff) drained(now lease.Instant, v fsm.HAVIP) bool {
	if v.Owner == nil || h.ready[v.ID][v.Owner.Node] >= v.Owner.Epoch {
		return true
	}
	since, known := h.draining[v.ID]
	if !known {
		h.draining[v.ID] = now
		return h.patience <= 0
	}
	return now.Sub(max(since, h.coming[v.Owner.Node])) >= h.patience || now.Sub(since) >= patienceMost
}

// HeardReleased notes another node's word that it answers no longer under a claim. from is who
// said it, for certain. The session must be named: an epoch alone could be a message of long ago.
func (h *Handoff) HeardReleased(from, havip string, epoch fsm.Epoch, session uint64) {
	m := h.heard[havip]
	if m == nil {
		m = map[said]uint64{}
		h.heard[havip] = m
	}
	if len(m) >= heardMax {
		delete(m, slices.MinFunc(keys(m), func(a, b said) int {
			return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.node, b.node))
		}))
	}
	m[said{epoch, from}] = session
}

// HeardReady notes that a node, as the owner of an epoch, waits only for its predecessors. A word that it repeats
// shows no progress.
func (h *Handoff) HeardReady(now lease.Instant, from, havip string, epoch fsm.Epoch) {
	m := h.ready[havip]
	if m == nil {
		m = map[string]fsm.Epoch{}
		h.ready[havip] = m
	}
	if last, known := m[from]; known || len(m) < heardMax {
		m[from] = max(last, epoch)
		if _, here := h.active[havip]; here && epoch > last {
			h.coming[from] = now
		}
	}
}

// Activated notes that this node answers under the claim.
func (h *Handoff) Activated(havip string, c fsm.Claim) {
	h.active[havip] = c
	delete(h.draining, havip)
}

// Deactivated notes that this node does not answer under the claim, and never will.
func (h *Handoff) Deactivated(havip string, c fsm.Claim) {
	if h.active[havip] == c {
		delete(h.active, havip)
		delete(h.draining, havip)
	}
	h.released[havip] = max(h.released[havip], c.Epoch)
}

// Recalled is asked by a leader about a claim of this session: true if the log here does not know of it
// and nothing of the HAVIP answers here. Then this node never answers under it, whatever its log says
// later: a release. A HAVIP that the log here does not have is not given up: it would be forgotten,
// and the promise with it.
func (h *Handoff) Recalled(s *fsm.State, havip string, epoch fsm.Epoch, session uint64) bool {
	v, exists := s.HAVIPs[havip]
	if _, active := h.active[havip]; active {
		return false
	}
	if !exists || v.Epoch >= epoch || session != h.session || session == 0 {
		return false
	}
	h.released[havip] = max(h.released[havip], epoch)
	return true
}

// Forget drops what is known of HAVIPs that the log no longer has. Their ids never come
// back. One that still answers here stays known until it is taken down.
func (h *Handoff) Forget(s *fsm.State) {
	gone := func(id string) bool {
		_, exists := s.HAVIPs[id]
		_, answers := h.active[id]
		return !exists && !answers
	}
	maps.DeleteFunc(h.coming, func(node string, _ lease.Instant) bool { return s.Nodes[node].ID == "" })
	maps.DeleteFunc(h.released, func(id string, _ fsm.Epoch) bool { return gone(id) })
	maps.DeleteFunc(h.heard, func(id string, _ map[said]uint64) bool { return gone(id) })
	maps.DeleteFunc(h.ready, func(id string, _ map[string]fsm.Epoch) bool { return gone(id) })
}

// Active returns the claim under which this node answers for a HAVIP.
func (h *Handoff) Active(havip string) (fsm.Claim, bool) {
	c, ok := h.active[havip]
	return c, ok
}

func keys[V any](m map[said]V) []said {
	out := make([]said, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}
