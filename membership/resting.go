package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"havip-cluster/fsm"
)

// One of two voters that stops in order would leave a majority of two with one there, and everything would fall
// silent. So it says in the log that its vote rests (fsm.RestVote); the leader, after leadership has gone to
// the one that stays, takes the vote (NextChange); and the one that stops waits until its own log has that. When
// it runs again it says so, and votes when it has caught up, like any replica.

const (
	restPause = 50 * time.Millisecond // between two looks at who votes, and at least between two words
	backPause = time.Second           // between two tries to say that this node runs again, where nothing wakes
	bothStop  = 20                    // looks that find both votes resting, until the node believes that both stop
	// promoteWait is how long the only voter that stops waits, beyond its silence, for another node that is there
	// and about to vote.
	promoteWait = 3 * time.Second
	// promoteLook is how long a node without a vote looks, when its word is in the log, for a promotion that the
	// leader had decided before: longer than one step of the Reconciler.
	promoteLook = reconcileEvery + restPause
)

// ErrVoteKept means that a node stops with its vote: what has no majority without it falls silent.
var ErrVoteKept = errors.New("the vote could not be handed over")

// SubmitOwn carries a command of this node's own life to whoever leads.
type SubmitOwn func(ctx context.Context, body fsm.Body) (fsm.Result, error)

// HandOverVote is called once when this node stops, after it has given away what it owns. With two voters, of which
// this node is one, it returns nil when the other one alone votes, in the log of this node too; leadership has gone
// there before. It also returns nil when there is nothing to hand over: no vote, or three voters and more. The
// only voter waits for a node that is there and about to get a vote; a node about to get the second vote sees to
// it first that it does not. The error says what follows of it.
func (n *Node) HandOverVote(ctx context.Context, submit SubmitOwn, alive func(node string) bool) (to string, err error) {
	if n.State().Level() < 4 {
		return "", nil
	}
	n.declineVote(ctx, submit, alive)
	n.awaitSecond(ctx, alive)
	other, two := n.otherVoter()
	if !two {
		return "", n.aloneWith()
	}
	return n.passVote(ctx, submit, other)
}

// passVote says that this node's vote rests and waits until it does not vote any more, or need not care.
func (n *Node) passVote(ctx context.Context, submit SubmitOwn, other string) (to string, err error) {
	name := n.State().NodeName(other)
	both := 0
	for {
		switch voters, _ := n.Voters(); {
		case !slices.Contains(voters, n.cfg.Node):
			return name, nil
		case len(voters) == 1:
			return "", n.aloneWith() // the other one stops too, and was first
		case len(voters) > 2:
			return "", nil
		}
		nodes := n.State().Nodes
		switch {
		case !nodes[n.cfg.Node].Resting:
			n.say(ctx, submit, fsm.RestVote{Node: n.cfg.Node})
		case nodes[other].Resting:
			if both++; both >= bothStop {
				return "", fmt.Errorf("%w to node %s, which stops too: both have to be started again before anything is served", ErrVoteKept, name)
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w to node %s in time: it falls silent within a lease, until this node is started again", ErrVoteKept, name)
		case <-time.After(restPause):
		}
	}
}

// declineVote keeps a node that stops from becoming the second voter at its end: promoted just then, it would
// leave the other one with two votes and nobody to take one. It returns when the log has for promoteLook that this
// node's vote rests, or when it need not: the node votes, several others do, or it is not to vote.
func (n *Node) declineVote(ctx context.Context, submit SubmitOwn, alive func(node string) bool) {
	var since time.Time // when the word was first seen in the log; zero: it is not there
	for {
		voters, _ := n.Voters()
		me, member := n.State().Nodes[n.cfg.Node]
		if len(voters) > 1 || slices.Contains(voters, n.cfg.Node) || !member || me.Role == fsm.RoleAgent || me.Removing {
			return
		}
		switch {
		case !me.Resting: // also when a word that this node is back came after it
			since = time.Time{}
			if !n.say(ctx, submit, fsm.RestVote{Node: n.cfg.Node}) && !slices.ContainsFunc(voters, alive) {
				return // nobody is there who could promote it
			}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= promoteLook:
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(restPause):
		}
	}
}

// otherVoter is the one with whom this node votes, if exactly two do.
func (n *Node) otherVoter() (string, bool) {
	voters, _ := n.Voters()
	if len(voters) != 2 || !slices.Contains(voters, n.cfg.Node) {
		return "", false
	}
	for _, v := range voters {
		if v != n.cfg.Node {
			return v, true
		}
	}
	return "", false
}

// awaitSecond waits while this node alone votes and another one is about to.
func (n *Node) awaitSecond(ctx context.Context, alive func(node string) bool) {
	ctx, cancel := context.WithTimeout(ctx, silence(n.State().Cluster.LeaseMax)+promoteWait)
	defer cancel()
	for ctx.Err() == nil {
		voters, _ := n.Voters()
		if len(voters) != 1 || voters[0] != n.cfg.Node || !n.willVote(alive) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(restPause):
		}
	}
}

// willVote reports whether a node other than this one is there that may become a voter.
func (n *Node) willVote(alive func(node string) bool) bool {
	for _, m := range n.State().NodeList() {
		if m.ID != n.cfg.Node && m.Role != fsm.RoleAgent && !m.Removing && alive(m.ID) {
			return true
		}
	}
	return false
}

// aloneWith is ErrVoteKept in the only voter of a cluster with other nodes.
func (n *Node) aloneWith() error {
	voters, _ := n.Voters()
	if len(voters) != 1 || voters[0] != n.cfg.Node || len(n.State().Nodes) == 1 {
		return nil
	}
	return fmt.Errorf("%w: no other node votes, so nothing is served or changed until this node is started again; start it first", ErrVoteKept)
}

// say tries once to bring a command of this node's life into the log.
func (n *Node) say(ctx context.Context, submit SubmitOwn, body fsm.Body) bool {
	res, err := submit(ctx, body)
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	if err != nil {
		n.cfg.Logger.Debug("a word about the vote is not in the log yet", "err", err)
	}
	return err == nil
}

// TakeVoteBack says that this node runs again, whenever its own state says that its vote rests, until ctx ends: at
// the node's stop, before HandOverVote.
func (n *Node) TakeVoteBack(ctx context.Context, submit SubmitOwn) {
	watch, stop := n.Watch()
	defer stop()
	for {
		var again <-chan time.Time
		if n.State().Nodes[n.cfg.Node].Resting {
			n.say(ctx, submit, fsm.RestVote{Node: n.cfg.Node, Back: true})
			again = time.After(backPause)
			select { // what is applied wakes below, and so does a new leader
			case <-ctx.Done():
				return
			case <-time.After(restPause):
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-watch:
		}
	}
}
