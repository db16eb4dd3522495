package membership

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

// observationsMax is how many of Raft's observations may wait for their reader; one that finds no place is lost.
const observationsMax = 16 + fsm.MaxNodes

// Propose commits a command through this node, which must lead. term 0 means any term.
// The error is ErrNotLeader (nothing happened), ErrUnknownOutcome, or that of a halted
// machine; a refusal by the rules is in the Result.
func (n *Node) Propose(ctx context.Context, term uint64, key string, body fsm.Body) (fsm.Result, error) {
	return n.ProposeFor(ctx, n.cfg.Node, term, key, body)
}

// ProposeFor is Propose in the name of another node.
func (n *Node) ProposeFor(ctx context.Context, by string, term uint64, key string, body fsm.Body) (fsm.Result, error) {
	if err := n.mayLead(); err != nil {
		return fsm.Result{}, err
	}
	c, err := fsm.NewCommand(n.cfg.Wall().UnixNano(), by, key, body)
	if err != nil {
		return fsm.Result{}, err
	}
	if caller := CallerOf(ctx); caller != nil {
		if refusal := n.State().Permits(*caller, body); refusal != nil {
			return fsm.Result{Refusal: refusal}, nil
		}
		if n.State().Level() >= 4 {
			c.Caller = caller
		}
	}
	// A level never sinks, so a state that lags behind the log can only refuse too much.
	if refusal := n.State().Admits(c); refusal != nil {
		return fsm.Result{Refusal: refusal}, nil
	}
	c.Term = term
	raw, err := c.Encode()
	if err != nil {
		if refusal := (*fsm.Refusal)(nil); errors.As(err, &refusal) {
			return fsm.Result{Refusal: refusal}, nil
		}
		return fsm.Result{}, err
	}
	if len(c.Body) >= knownFrom {
		defer n.Machine.expect(&c)()
	}
	f, err := wait(ctx, func() raft.ApplyFuture { return n.raft.Apply(raw, applyTimeout) })
	if err != nil {
		if errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			n.absent.free()
		}
		return fsm.Result{}, outcome(err)
	}
	n.tellCommit(f.Index())
	switch r := f.Response().(type) {
	case fsm.Result:
		return r, nil
	case error:
		return fsm.Result{}, r
	default:
		return fsm.Result{}, fmt.Errorf("membership: the machine answered with %T", r)
	}
}

// callerKey is the context key of who asks for a command.
type callerKey struct{}

// WithCaller says who asks for the commands that are proposed under the context. They are
// refused when the caller may not, and carry the caller from level 4 on. Without one a command
// is the node's own or the leader's.
func WithCaller(ctx context.Context, caller fsm.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// CallerOf is who asks, nil for nobody.
func CallerOf(ctx context.Context) *fsm.Caller {
	if c, ok := ctx.Value(callerKey{}).(fsm.Caller); ok {
		return &c
	}
	return nil
}

// mayLead returns nil in a leader that is up to date and can read its log.
func (n *Node) mayLead() error {
	if _, ok := n.Leading(); !ok {
		return ErrNotLeader
	}
	return n.Halted()
}

// tellCommit tells the other servers of an entry that this node has just committed. Only one of the
// term in which it still leads is told: there its word is the leader's.
func (n *Node) tellCommit(index uint64) {
	if c, own := n.ownCommit(index); own { // otherwise the next leader tells, or has told
		n.notifier.tell(c)
	}
}

// tellResumed tells one server, which did not answer heartbeats and does again, how far this node has committed as
// the leader. By itself Raft says so with its next word, up to two CommitTimeouts later, and that is lost when it goes
// into a pipe that broke meanwhile.
func (n *Node) tellResumed(id raft.ServerID) {
	c, own := n.ownCommit(n.raft.CommitIndex())
	if !own {
		return
	}
	for _, s := range n.notifier.servers() {
		if s.ID == id {
			n.notifier.tellServer(s, c, true)
		}
	}
}

// ownCommit is a committed entry, if it is of the term in which this node leads.
func (n *Node) ownCommit(index uint64) (committed, bool) {
	term, leads := n.Leading()
	of, there := n.entryTerm(index)
	return committed{term, index}, leads && there && of == term
}

// wait starts something that Raft does and waits for it, but not longer than the context:
// Raft's own limits cover a place in its queue only. What was started goes on.
func wait[F raft.Future](ctx context.Context, start func() F) (F, error) {
	type ended struct {
		f   F
		err error
	}
	var none F
	if err := ctx.Err(); err != nil {
		return none, err
	}
	done := make(chan ended, 1)
	go func() {
		f := start()
		done <- ended{f, f.Error()}
	}()
	select {
	case e := <-done:
		return e.f, e.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func outcome(err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrEnqueueTimeout) {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// WaitIndex waits until this node's state has an index.
func (n *Node) WaitIndex(ctx context.Context, index uint64) (*fsm.State, error) {
	ch, stop := n.Watch()
	defer stop()
	for {
		if s := n.State(); s.Index >= index {
			return s, nil
		}
		if err := n.Halted(); err != nil {
			return nil, err
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return nil, fmt.Errorf("membership: this node has applied the log up to %d, not yet %d: %w", n.State().Index, index, ctx.Err())
		}
	}
}
