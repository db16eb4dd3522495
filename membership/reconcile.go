package membership

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

const (
	reconcileEvery = 250 * time.Millisecond
	// reconcileCalm is the pause where nothing waits for what the state does not tell: at a node that does
	// not lead, and while every server is what it should be.
	reconcileCalm = time.Second
)

// Reconciler is the leader's loop that makes Raft's servers follow the cluster's nodes.
// In a node that does not lead it does nothing.
type Reconciler struct {
	Node *Node
	// Founder is the first command of the cluster: set in the node that was bootstrapped.
	Founder *fsm.InitCluster
	// Alive and Applied say what is known of a node; they decide who may become a voter.
	Alive   func(node string) bool
	Applied func(node string) (index uint64, fresh bool)
	// Version is the version that a node's program has told of itself, with its level of
	// commands, "" if unknown; nil = of none. The state learns it, and so the cluster which
	// commands every node can read (fsm level.go).
	Version func(node string) string

	since map[string]time.Time // by node that may get a vote: since when it is there, without a break
}

// Run works until ctx ends.
func (r *Reconciler) Run(ctx context.Context) {
	watch, stop := r.Node.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch:
		case <-timer.C:
		}
		err := r.step(ctx)
		if err != nil {
			r.Node.cfg.Logger.Info("membership change failed, trying again", "err", err)
		}
		pause := reconcileEvery
		if err == nil && r.settled() {
			pause = reconcileCalm
		}
		timer.Reset(pause)
	}
}

// settled reports whether no change of the servers is outstanding: whoever may vote does.
func (r *Reconciler) settled() bool {
	if _, leads := r.Node.Leading(); !leads {
		return true
	}
	s := r.Node.State()
	if s.Cluster.ID == "" {
		return false
	}
	_, due := NextChange(s, r.Node.Servers(), func(string) bool { return true })
	return !due
}

// step does at most one thing: gather, decide, act.
func (r *Reconciler) step(ctx context.Context) error {
	term, leads := r.Node.Leading()
	if !leads {
		r.since = nil
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	s := r.Node.State()
	r.startAnew(s, r.Node.Servers())
	if s.Cluster.ID == "" {
		if r.Founder == nil {
			return nil
		}
		return r.propose(ctx, term, *r.Founder)
	}
	if change, due := NextChange(s, r.Node.Servers(), r.ready); due && r.followed(change.Node) {
		return r.act(ctx, s, change)
	}
	if b, due := r.upgraded(s); due {
		return r.propose(ctx, term, b)
	}
	return r.forget(ctx, term, s)
}

// upgraded finds a node that runs another program than the state says.
func (r *Reconciler) upgraded(s *fsm.State) (fsm.UpdateNode, bool) {
	if r.Version == nil {
		return fsm.UpdateNode{}, false
	}
	for _, n := range s.NodeList() {
		// The state would clip a longer one, and it would differ for ever.
		if v := r.Version(n.ID); v != "" && v != n.Version && len(v) <= fsm.MaxNameRunes {
			return fsm.UpdateNode{ID: n.ID, Version: &v}, true
		}
	}
	return fsm.UpdateNode{}, false
}

// followed reports whether every server that is alive, but for the one to be changed, has
// applied the latest configuration. A server that is two configurations behind may take
// another voter for none and refuse it its vote, and with the leader gone nobody could be
// elected any more: raft's pre-vote looks at the voter's own configuration.
func (r *Reconciler) followed(but string) bool {
	_, latest := r.Node.Voters()
	for _, srv := range r.Node.Servers() {
		id := string(srv.ID)
		if id == but || !r.Alive(id) {
			continue
		}
		if applied, fresh := r.Applied(id); !fresh || applied < latest {
			return false
		}
	}
	return true
}

// startAnew forgets since when a node is there while it votes or its vote rests: before it is promoted the next
// time, it is to be there for the whole time again.
func (r *Reconciler) startAnew(s *fsm.State, servers []raft.Server) {
	for _, srv := range servers {
		if id := string(srv.ID); srv.Suffrage == raft.Voter || s.Nodes[id].Resting {
			delete(r.since, id)
		}
	}
}

// ready reports whether a node may become a voter: it is there, holds about the whole log,
// and that for as long as a voter that has just started acknowledges no renewals (lease
// protocol, rule 2). One that is still silent would raise the majority for nothing, and in
// a cluster of two voters every lease would end.
func (r *Reconciler) ready(node string) bool {
	applied, fresh := r.Applied(node)
	if !fresh || !r.Alive(node) {
		delete(r.since, node)
		return false
	}
	if r.since == nil {
		r.since = map[string]time.Time{}
	}
	if _, known := r.since[node]; !known {
		s := r.Node.State()
		maps.DeleteFunc(r.since, func(id string, _ time.Time) bool { _, member := s.Nodes[id]; return !member })
		r.since[node] = time.Now()
	}
	_, latest := r.Node.Voters()
	return applied >= latest && r.Node.Ready(applied) && time.Since(r.since[node]) >= silence(r.Node.State().Cluster.LeaseMax)
}

// silence is a little longer than the promise of 1.02 leases and 2 ms.
func silence(leaseMax time.Duration) time.Duration {
	return leaseMax + leaseMax/20 + 5*time.Millisecond
}

func (r *Reconciler) act(ctx context.Context, s *fsm.State, c Change) error {
	if (c.Kind == Remove || c.Kind == Demote) && c.Node == r.Node.Self() {
		// A leader that removes itself leaves the others without one for an election.
		return r.Node.TransferLeadership()
	}
	r.Node.cfg.Logger.Info("membership", "change", string(c.Kind), "node", s.NodeName(c.Node), "why", c.Why)
	return r.Node.Change(ctx, c)
}

// forget takes a node out of the state once Raft has no server of it any more.
func (r *Reconciler) forget(ctx context.Context, term uint64, s *fsm.State) error {
	in := map[string]bool{}
	for _, srv := range r.Node.Servers() {
		in[string(srv.ID)] = true
	}
	for _, n := range s.NodeList() {
		if _, open := s.SessionOf(n.ID); !n.Removing || open || in[n.ID] {
			continue
		}
		return r.propose(ctx, term, fsm.RemoveNode{ID: n.ID})
	}
	return nil
}

func (r *Reconciler) propose(ctx context.Context, term uint64, body fsm.Body) error {
	res, err := r.Node.Propose(ctx, term, "", body)
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	return err
}

// RemoveNode takes a node out of the cluster and waits for it. Only the leader can. The
// node hands over what it owns and ends its session; one that does not answer loses its
// session when its lease runs out. Without force it is refused when the removal would
// leave a HAVIP without an owner, or the cluster without a majority. The last voter is
// never removed: it would lose its session and stay in Raft, owning nothing for ever.
func RemoveNode(ctx context.Context, n *Node, name string, force bool, alive func(string) bool) error {
	node, err := n.beginRemoval(ctx, name, force, alive)
	if err != nil {
		return err
	}
	watch, stop := n.Watch()
	defer stop()
	for {
		if _, there := n.State().Nodes[node.ID]; !there {
			return nil
		}
		if _, leads := n.Leading(); !leads {
			return fmt.Errorf("%w: the removal of %s goes on under the next leader; `node list` shows when it is done", ErrUnknownOutcome, node.Name)
		}
		select {
		case <-watch:
		case <-ctx.Done():
			return fmt.Errorf("membership: the removal of %s was begun and goes on; `node list` shows when it is done: %w", node.Name, ctx.Err())
		}
	}
}

// beginRemoval checks and marks the node that goes, one at a time and in one term:
// two removals that do not know of each other could leave no voter that stays.
func (n *Node) beginRemoval(ctx context.Context, name string, force bool, alive func(string) bool) (fsm.Node, error) {
	select {
	case n.removal <- struct{}{}:
		defer n.removal.Unlock()
	case <-ctx.Done():
		return fsm.Node{}, fmt.Errorf("membership: another removal is being begun: %w", ctx.Err())
	}
	term, leads := n.Leading()
	if !leads {
		return fsm.Node{}, ErrNotLeader
	}
	s := n.State()
	node, ok := s.NodeNamed(name)
	if !ok {
		return fsm.Node{}, fsm.Refuse(fsm.CodeNotFound, "no node is called %q; `node list` shows those there are", name)
	}
	voters, _ := n.Voters()
	if refusal := mayRemove(s, voters, node, force, alive); refusal != nil {
		return fsm.Node{}, refusal
	}
	yes := true
	res, err := n.Propose(ctx, term, "", fsm.UpdateNode{ID: node.ID, Removing: &yes})
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	return node, err
}

// mayRemove refuses a removal. Voters whose removal has begun count as gone, and one whose vote rests as one that is
// not there: it stops, though it may still answer.
func mayRemove(s *fsm.State, voters []string, node fsm.Node, force bool, alive func(string) bool) *fsm.Refusal {
	left, up, rests := 0, 0, []string{}
	for _, v := range voters {
		switch n := s.Nodes[v]; {
		case v == node.ID || n.Removing:
			continue
		case n.Resting:
			rests = append(rests, n.Name)
		case alive(v):
			up++
		}
		left++
	}
	if left > 0 && left == len(rests) {
		return fsm.Refuse(fsm.CodeUnsupported, "node %s is the last voter that stays: the vote of %s rests while it is stopped; start it first, and try again when `node list` shows that it votes", node.Name, strings.Join(rests, " and "))
	}
	if left == 0 {
		return fsm.Refuse(fsm.CodeUnsupported, "node %s is the last voter; the cluster ends with it: stop its agent and delete its data directory instead", node.Name)
	}
	if refusal := staysThere(s, node); refusal != nil || force {
		return refusal
	}
	if up < left/2+1 {
		return fsm.Refuse(fsm.CodeUnsupported, "without node %s only %d of %d voters are alive, which is no majority; bring the others back first, or repeat with --force if they are there and only gossip does not see them", node.Name, up, left)
	}
	sess, open := s.SessionOf(node.ID)
	if !open {
		return nil
	}
	for _, v := range s.Claimed(sess.Number) {
		if v.Owner == nil || v.Owner.Session != sess.Number || elsewhere(s, v, node.ID) {
			continue
		}
		return fsm.Refuse(fsm.CodeInUse, "HAVIP %s would have no owner without node %s; `explain %s` says why; repeat with --force to remove the node all the same", v.Name, node.Name, v.Name)
	}
	return nil
}

// staysThere refuses the removal of a node while it owns what an operator has frozen
// there, with force too: nothing but the end of that lets it go, and the removal would
// wait for ever. Maintenance of the node itself ends with its removal.
func staysThere(s *fsm.State, node fsm.Node) *fsm.Refusal {
	sess, open := s.SessionOf(node.ID)
	if !open {
		return nil
	}
	for _, v := range s.Claimed(sess.Number) {
		if v.Owner == nil || v.Owner.Session != sess.Number {
			continue
		}
		refuse := func(what, end string) *fsm.Refusal {
			return fsm.Refuse(fsm.CodeInUse, "%s, so that HAVIP %s stays on node %s; %s ends that", what, v.Name, node.Name, end)
		}
		switch {
		case s.Cluster.Maintenance:
			return refuse("the cluster is in maintenance", "`cluster maintenance off`")
		case v.Maintenance:
			return refuse("the HAVIP is in maintenance", "`havip maintenance "+v.Name+" off`")
		case v.Unmanaged:
			return refuse("the HAVIP is not managed", "`apply` of a file in which it is managed")
		}
	}
	return nil
}

func elsewhere(s *fsm.State, v fsm.HAVIP, node string) bool {
	for _, e := range s.ENIs {
		if e.Node != node && s.Ineligible(v, e, time.Now().UnixNano()) == nil {
			return true
		}
	}
	return false
}
