package api

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"havip-cluster/fsm"
)

// Health of the whole.
const (
	HealthGreen  = "green"  // all is well
	HealthYellow = "yellow" // everything works, less may fail than should
	HealthRed    = "red"    // no leader, or an enabled HAVIP has no owner
)

// Status is the cluster's health at a glance, as one node sees it.
type Status struct {
	Cluster
	Health   string    `json:"health" enum:"green,yellow,red"`
	Problems []string  `json:"problems"`
	Owned    int       `json:"owned" doc:"HAVIPs with an owner"`
	Pending  int       `json:"pending" doc:"Those of them whose owner has not said yet that it serves"`
	Unowned  int       `json:"unowned" doc:"Enabled HAVIPs without an owner"`
	Members  []Node    `json:"members"`
	Local    LocalView `json:"local"`
	// Notes do not colour the health: all is well, and less may fail than a person thinks.
	Notes []string `json:"notes" doc:"What is well and has no margin, each with the command that gives one"`
	// Unreached is at most unreachedMax long; problems count the others.
	Unreached []Unreached `json:"unreached" doc:"Ports of nodes that another node has tried in vain, several times in a row, sorted"`
}

// Unreached is one port of one node that another one does not reach, by its own word.
type Unreached struct {
	From     string `json:"from" doc:"Name of the node that tried"`
	To       string `json:"to" doc:"Name of the node that it does not reach"`
	Port     int    `json:"port"`
	Protocol string `json:"protocol" enum:"tcp,udp"`
	Use      string `json:"use" enum:"api,raft,gossip,lease"`
	Why      string `json:"why"`
	ForMS    int64  `json:"for_ms" doc:"Since the first try in vain, by the clocks of both nodes"`
}

// LocalView is what only the answering node knows.
type LocalView struct {
	Node             string        `json:"node"`
	Version          string        `json:"version"`
	Fence            string        `json:"fence"`
	FenceHook        string        `json:"fence_hook" doc:"Where it meets the frames: tcx, clsact, nftables, or none"`
	FenceProved      bool          `json:"fence_proved" doc:"It was shown when the agent started that it outlives its process"`
	FenceNote        string        `json:"fence_note,omitempty" doc:"What this kind of fence cannot do"`
	Session          uint64        `json:"session"`
	LeaseRemainingMS int64         `json:"lease_remaining_ms"`
	Observed         []Observation `json:"observed"`
	LogBytes         int64         `json:"log_bytes"`
	Plane            Plane         `json:"lease_plane" doc:"What the threads that renew and answer have of the host"`
	// HeardMS is there without a leader alone.
	HeardMS *int64 `json:"leader_heard_ms,omitempty" doc:"Without a leader: how long ago this node last heard one; absent: not since its start"`
}

// heardAgo is how long ago a node without a leader heard one, in milliseconds; nil: not since its start.
func heardAgo(l Local) *int64 {
	if l.Heard.IsZero() {
		return nil
	}
	ago := max(0, time.Since(l.Heard).Milliseconds())
	return &ago
}

// problemsOfAKind is how many problems of one kind the status lists; one more line counts the
// others. Ten thousand lines help nobody.
const problemsOfAKind = 20

// health gathers what is wrong, the worst colour and, of each kind, no more than a person reads.
type health struct {
	out   *Status
	kinds map[string]int
}

func (h *health) worse(colour, format string, args ...any) {
	if h.out.Health != HealthRed {
		h.out.Health = colour
	}
	h.out.Problems = append(h.out.Problems, fmt.Sprintf(format, args...))
}

// many is worse for what there may be thousands of.
func (h *health) many(kind, colour, format string, args ...any) {
	if h.kinds[kind]++; h.kinds[kind] <= problemsOfAKind {
		h.worse(colour, format, args...)
	}
}

// rest counts those of a kind that many left out.
func (h *health) rest(kind, colour, what string) {
	if n := h.kinds[kind] - problemsOfAKind; n > 0 {
		h.worse(colour, what, n)
	}
}

func (s *Server) status(st *fsm.State) Status {
	l := s.Backend.Local()
	out := Status{
		Cluster: s.clusterView(st), Health: HealthGreen, Problems: []string{}, Members: s.nodeViews(st, st.NodeList()),
		Local: LocalView{
			Node: st.NodeName(s.Backend.Self()), Version: s.Version, Fence: l.Fence, FenceHook: l.FenceHook, FenceProved: l.FenceProved, FenceNote: l.FenceNote, Session: l.Session,
			LeaseRemainingMS: max(0, l.LeaseRemaining.Milliseconds()), Observed: list(l.Observed), LogBytes: l.LogBytes, Plane: l.Plane,
		},
	}
	out.Unreached, out.Notes = []Unreached{}, margins(st)
	h, at := &health{&out, map[string]int{}}, time.Now().UnixNano()
	h.gaveUp(st, at)
	if out.Leader == nil {
		out.Local.HeardMS = heardAgo(l)
		h.leaderless(l)
	}
	h.members(out.Members)
	h.unreached(st, s.Backend.Live(), time.Unix(0, at))
	for _, sess := range st.SessionList() {
		if sess.Behind != 0 {
			h.worse(HealthYellow, "%s", fsm.BehindText(st.NodeName(sess.Node), sess.Behind))
		}
	}
	if out.Maintenance {
		h.worse(HealthYellow, "the cluster is in maintenance: nothing is placed or moved, no failover included; `cluster maintenance off`")
	}
	h.fewVoters(st)
	for _, c := range l.Conditions {
		h.worse(HealthYellow, "this node: %s", c)
	}
	for _, e := range st.ENIList() {
		if e.Fault != "" {
			h.many("eni", HealthYellow, "ENI %s: %s", e.ID, e.Fault)
		}
	}
	h.checks(st)
	h.rest("eni", HealthYellow, "%d more ENIs have a fault; `eni list`")
	h.keys(st, time.Unix(0, at))
	h.cloud(s, st)
	h.havips(st, at)
	h.strangers(st, at)
	for _, o := range l.Observed {
		if o.Problem != "" {
			h.many("observed", HealthYellow, "HAVIP %s at this node: %s", o.HAVIP, o.Problem)
		}
	}
	h.rest("observed", HealthYellow, "%d more HAVIPs have a problem at this node")
	return out
}

// gaveUp tells first what a person has to know first: who could not serve what, lately.
func (h *health) gaveUp(st *fsm.State, at int64) {
	type giveUp struct {
		fsm.GaveUp
		eni string
		v   fsm.HAVIP
	}
	var all []giveUp
	for _, v := range st.HAVIPs {
		for eni, g := range v.GaveUp {
			if !g.Holds(at) {
				continue
			}
			if g.At == 0 { // written by a program without At
				g.At = g.Until - int64(fsm.GiveUpPause)
			}
			all = append(all, giveUp{g, eni, v})
		}
	}
	slices.SortFunc(all, func(a, b giveUp) int {
		return cmp.Or(cmp.Compare(b.At, a.At), cmp.Compare(a.v.Name, b.v.Name), cmp.Compare(a.v.ID, b.v.ID), cmp.Compare(a.eni, b.eni))
	})
	for _, g := range all {
		h.many("gave up", HealthYellow, "%s gave up %s (%s): %s, %s ago", g.eni, g.v.Name, g.v.IP, g.Reason, max(0, time.Duration(at-g.At)).Round(time.Second))
	}
	h.rest("gave up", HealthYellow, "%d more HAVIPs were given up lately; `events`")
}

func (h *health) members(nodes []Node) {
	for _, n := range nodes {
		if n.Status != StatusAlive {
			h.worse(HealthYellow, "node %s is %s; is its agent running? if it is gone for good: `havip-cluster node remove %s --force`", n.Name, n.Status, n.Name)
		}
		if n.Standby || n.Maintenance || n.Draining || n.Removing {
			h.worse(HealthYellow, "node %s is set aside (standby %t, maintenance %t, drained %t, being removed %t)%s", n.Name, n.Standby, n.Maintenance, n.Draining, n.Removing, wayBack(n))
		}
		if n.Health != string(fsm.HealthGreen) {
			h.worse(HealthYellow, "the health of node %s is %s: %s", n.Name, n.Health, n.HealthReason)
		}
		if n.Flapping {
			h.worse(HealthYellow, "node %s is flapping: it lost %d sessions lately; nothing goes there for a wish", n.Name, n.Flaps)
		}
		if n.Leftout != "" {
			h.worse(HealthYellow, "the inventory of node %s leaves out: %s", n.Name, n.Leftout)
		}
	}
}

// pendingLeases is how many leases an owner may take to say that it serves.
const pendingLeases = 2

func (h *health) havips(st *fsm.State, at int64) {
	clashes, late := st.Clashes(), int64(pendingLeases*st.Cluster.LeaseMax)
	var troubled []fsm.HAVIP // few, so that only these are put in order
	for _, v := range st.HAVIPs {
		serving := st.Serving(v)
		_, clash := clashes[v.ID]
		switch {
		case serving != fsm.Unbound:
			h.out.Owned++
		case !v.Disabled && !v.Deleting:
			h.out.Unowned++
		default:
			continue
		}
		if serving == fsm.Pending {
			h.out.Pending++
		}
		if serving == fsm.Unbound || clash || serving == fsm.Pending && at-v.Since > late {
			troubled = append(troubled, v)
		}
	}
	slices.SortFunc(troubled, func(a, b fsm.HAVIP) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	for _, v := range troubled {
		node, clash := clashes[v.ID]
		if v.Owner == nil {
			h.many("unowned", HealthRed, "HAVIP %s has no owner: %s", v.Name, cmp.Or(notPlaceable(st, v), v.Reason))
			continue
		}
		if clash {
			h.many("clash", HealthYellow, "HAVIP %s: %s, also in use there; it goes to nobody else until then", v.Name, fsm.OwnAddressText(v.IP, node))
		}
		if st.Serving(v) == fsm.Pending && at-v.Since > late {
			h.many("pending", HealthYellow, "HAVIP %s is pending for %s: %s has not said that it serves", v.Name, time.Duration(at-v.Since).Round(time.Second), v.Owner.ENI)
		}
	}
	h.rest("unowned", HealthRed, "%d more HAVIPs have no owner; `placement`")
	h.rest("clash", HealthYellow, "%d more HAVIPs have an own address of a node; `events`")
	h.rest("pending", HealthYellow, "%d more HAVIPs are pending; `placement`")
}
