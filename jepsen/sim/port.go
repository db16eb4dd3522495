package sim

import (
	"context"
	"errors"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/membership"
)

// port is the replicated log as the failover package sees it, with the gate in between.
type port struct {
	*membership.Node
	p *process
}

// VoterSet implements failover.Log.
func (l port) VoterSet() lease.VoterSet {
	ids, index := l.Voters()
	set := lease.NewVoterSet(ids)
	set.Index = index
	return set
}

// Leading implements failover.Log, and notes who leads which term.
func (l port) Leading() (uint64, bool) {
	term, leads := l.Node.Leading()
	if leads && !l.p.gate.isDead() {
		l.p.h.w.leads(term, l.p)
	}
	return term, leads
}

// Propose implements failover.Log.
func (l port) Propose(ctx context.Context, term uint64, key string, body fsm.Body) (fsm.Result, error) {
	if !l.p.gate.pass("propose") {
		return fsm.Result{}, errDead
	}
	return l.Node.Propose(ctx, term, key, body)
}

// leaderPatience is that of cmd/havip-cluster.
const leaderPatience = time.Second

// submit carries a command of this node's own life to the leader, as the agent does.
func (p *process) submit(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	return p.forward(ctx, p.node, "", body)
}

// forward proposes here, or at the leader.
func (p *process) forward(ctx context.Context, by, key string, body fsm.Body) (fsm.Result, error) {
	if !p.gate.pass("submit") {
		return fsm.Result{}, errDead
	}
	node := p.raft.Load()
	if node == nil {
		return fsm.Result{}, errNoWay
	}
	if refusal := p.mayOpen(body); refusal != nil {
		return fsm.Result{Refusal: refusal}, nil
	}
	res, err := node.ProposeFor(ctx, by, 0, key, body)
	if !errors.Is(err, membership.ErrNotLeader) {
		return res, err
	}
	leader, known := node.State().Nodes[node.LeaderID()]
	if known && leader.ID != p.node {
		return p.command(ctx, leader, by, key, body)
	}
	if !node.State().Nodes[p.node].Removing {
		return fsm.Result{}, errNoWay
	}
	for _, n := range node.State().NodeList() { // it may have been removed: ask who knows
		if n.ID == p.node {
			continue
		}
		if res, err = p.command(ctx, n, by, key, body); err == nil {
			return res, nil
		}
	}
	return fsm.Result{}, errNoWay
}

// mayOpen is the leader's word on a request for a session.
func (p *process) mayOpen(body fsm.Body) *fsm.Refusal {
	w := p.h.w
	w.mu.Lock()
	m := p.member
	w.mu.Unlock()
	open, is := body.(fsm.OpenSession)
	if _, leads := p.raft.Load().Leading(); !leads || !is || m == nil {
		return nil
	}
	return m.MayOpen(open)
}

type outcome struct {
	res fsm.Result
	err error
}

// command sends a command to another node's API.
func (p *process) command(ctx context.Context, to fsm.Node, by, key string, body fsm.Body) (fsm.Result, error) {
	h := p.h.w.byAddress(to.Address)
	if h == nil {
		return fsm.Result{}, errNoWay
	}
	got, err := stream(p, h.index, "", leaderPatience, func(q *process) (<-chan outcome, error) {
		node := q.raft.Load()
		if node == nil || ctx.Err() != nil {
			return nil, errNoWay
		}
		answer := make(chan outcome, 1)
		q.h.w.wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), leaderPatience)
			defer cancel()
			if refusal := q.mayOpen(body); refusal != nil {
				answer <- outcome{fsm.Result{Refusal: refusal}, nil}
				return
			}
			res, err := node.ProposeFor(ctx, by, 0, key, body)
			answer <- outcome{res, err}
		})
		return answer, nil
	})
	if err != nil {
		return fsm.Result{}, err
	}
	return got.res, got.err
}

// versionOf is what gossip knows of a node's program; of one that is not there, nothing.
func (p *process) versionOf(node string) string {
	w := p.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if h.node == node && h.proc != nil && (h == p.h || w.net.open(h.index, p.h.index)) {
			return versionOf(h.proc.old)
		}
	}
	return ""
}

// alive is what gossip tells: a hint. It is late by nothing, which is the best that gossip
// can be, or wrong at random, which is the worst.
func (p *process) alive(node string) bool {
	w := p.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if node == p.node {
		return true
	}
	if p.h.lies > 0 {
		return p.h.rng.percent(50)
	}
	for _, h := range w.hosts {
		if h.node == node {
			return h.proc != nil && w.net.open(p.h.index, h.index) && w.net.open(h.index, p.h.index)
		}
	}
	return false
}
