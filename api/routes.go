package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

// Consistency is the parameter of every read.
type Consistency struct {
	Consistency string `query:"consistency" enum:"linearizable,stale" default:"linearizable" doc:"stale: what this node has applied, without asking the leader"`
}

func (c *Consistency) stale() bool { return c.Consistency == "stale" }

// Key is the parameter of every change.
type Key struct {
	Key string `header:"Idempotency-Key" maxLength:"128" doc:"A repeat with the same key and content is done once"`
}

// reply is an answer: the body, and the index of the state that it was made from.
type reply[T any] struct {
	Index    uint64 `header:"X-Havip-Index" doc:"Raft index of the state that the answer was made from"`
	Revision uint64 `header:"X-Havip-Revision" doc:"How often the configuration had changed by then"`
	Body     T
}

// answer is a reply made from a state.
func answer[T any](st *fsm.State, body T) *reply[T] {
	return &reply[T]{Index: st.Index, Revision: st.Cluster.Revision, Body: body}
}

// read registers a GET. show makes the answer from one state.
func read[I any, P interface {
	*I
	stale() bool
}, T any](s *Server, path, id, summary string, show func(st *fsm.State, in *I) (T, error)) {
	op := huma.Operation{Method: http.MethodGet, Path: path, OperationID: id, Summary: summary, Errors: readErrors}
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*reply[T], error) {
		st := s.Backend.State()
		if !P(in).stale() {
			var err error
			if st, err = s.newest(ctx); err != nil {
				return nil, err
			}
		}
		if refusal := still(ctx, st); refusal != nil {
			return nil, refusal
		}
		body, err := show(st, in)
		if err != nil {
			return nil, problemOf(err)
		}
		return answer(st, body), nil
	})
}

// newest is the Backend's Linearizable with the patience that changes have, too: a new
// leader is usually there within a second.
func (s *Server) newest(ctx context.Context) (*fsm.State, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	st, err := s.Backend.Linearizable(ctx) // which looks for a leader as long as that
	if err == nil {
		return st, nil
	}
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError {
		p = problemOf(fmt.Errorf("%w: %w", ErrNoLeader, err)) // reading fails for no other reason
	}
	return nil, p
}

var (
	readErrors  = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable}
	writeErrors = append([]int{http.StatusForbidden, http.StatusConflict, http.StatusBadGateway}, readErrors...)
)

// write registers a change that is answered with 200. act does it, at the leader; show makes the
// answer from the state that holds it.
func write[I, T any](s *Server, method, path, id, summary string,
	act func(ctx context.Context, in *I) (fsm.Result, error), show func(st *fsm.State, in *I, res fsm.Result) (T, error)) {
	register(s, huma.Operation{Method: method, Path: path, OperationID: id, Summary: summary}, act, show)
}

// create registers a POST that makes something and is answered with 201; otherwise it is write.
func create[I, T any](s *Server, path, id, summary string,
	act func(ctx context.Context, in *I) (fsm.Result, error), show func(st *fsm.State, in *I, res fsm.Result) (T, error)) {
	register(s, huma.Operation{Method: http.MethodPost, Path: path, OperationID: id, Summary: summary, DefaultStatus: http.StatusCreated}, act, show)
}

func register[I, T any](s *Server, op huma.Operation,
	act func(ctx context.Context, in *I) (fsm.Result, error), show func(st *fsm.State, in *I, res fsm.Result) (T, error)) {
	op.Errors, op.MaxBodyBytes, op.BodyReadTimeout = writeErrors, -1, -1
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*reply[T], error) {
		res, err := act(ctx, in)
		if err != nil {
			return nil, problemOf(err)
		}
		if res.Refusal != nil {
			return nil, problemOf(res.Refusal)
		}
		st := s.Backend.State() // the leader has applied what it acknowledges
		body, err := show(st, in, res)
		if err != nil {
			return nil, problemOf(err)
		}
		return answer(st, body), nil
	})
}

// done is the show of changes that leave nothing behind.
func done[I any](_ *fsm.State, _ *I, res fsm.Result) (Done, error) {
	return Done{Object: res.Object, Index: res.Index, Repeated: res.Repeated}, nil
}

// errNothing is returned by a prepare when the state is already as it was asked for.
var errNothing = errors.New("api: nothing to do")

// prepare turns a request into a command, by a state in which it looks up names.
type prepare func(st *fsm.State) (fsm.Body, error)

// commit proposes what make makes of the leader's state, once it is known that Apply
// would do it there. A leader that was deposed does not know it yet and may look at an old
// state; its proposal then fails by itself, but a refusal or a "nothing to do" would not.
// So those are given only after a second look, at a state that is certainly the newest.
func (s *Server) commit(ctx context.Context, key string, make prepare) (fsm.Result, error) {
	return s.commitIf(ctx, key, make, nil)
}

// commitIf is commit for a command that is not done if unless, which is asked once what Apply would
// say is known to be yes, gives a reason.
func (s *Server) commitIf(ctx context.Context, key string, make prepare, unless func() *fsm.Refusal) (fsm.Result, error) {
	body, err := tried(s.Backend.State(), who(ctx), key, make)
	if err != nil {
		st, stErr := s.newest(ctx)
		if stErr != nil {
			return fsm.Result{}, stErr
		}
		body, err = tried(st, who(ctx), key, make)
		if errors.Is(err, errNothing) {
			return fsm.Result{Index: st.Index}, nil
		}
		if err != nil {
			return fsm.Result{}, err
		}
	}
	if unless != nil {
		if refusal := unless(); refusal != nil {
			return fsm.Result{Refusal: refusal}, nil
		}
	}
	return s.Backend.Propose(ctx, body, key)
}

// encodeFrom is the size of a body, in bytes, from which a dry run looks whether the entry is not too
// large: half of what an entry may have at the lowest level.
const encodeFrom = limits.CommandBytesLevel2 / 2

// tried makes a command and asks Apply what it would say: the same rules twice, for a
// quick answer here and for the truth in the log, which what is refused never gets into.
func tried(st *fsm.State, w *fsm.Caller, key string, make prepare) (fsm.Body, error) {
	body, err := make(st)
	if err != nil {
		return nil, err
	}
	once, err := fsm.Prepare(body)
	if err != nil {
		return nil, err
	}
	_, err = after(st, w, key, once, time.Now().UnixNano())
	return once, err
}

// after gives the state as it would be with a command of a caller done at a time; nil: nobody
// asks for it. A refusal is an error.
func after(st *fsm.State, w *fsm.Caller, key string, body fsm.Body, at int64) (*fsm.State, error) {
	cmd, err := fsm.NewCommand(at, "", key, body)
	if err != nil {
		return nil, err
	}
	if w != nil {
		if refusal := st.Permits(*w, body); refusal != nil {
			return nil, refusal
		}
		if st.Level() >= 4 {
			cmd.Caller = w
		}
	}
	if len(cmd.Body) > encodeFrom { // whether it fits into an entry is known when it is written down
		if _, err := cmd.Encode(); err != nil {
			return nil, err
		}
	}
	next, res, err := fsm.Apply(st, st.Index+1, cmd)
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	return next, err
}

// one is a prepare that looks nothing up.
func one(body fsm.Body) prepare {
	return func(*fsm.State) (fsm.Body, error) { return body, nil }
}

// commitList is commit for a command that replaces a whole list computed from the present
// one (bans, range): one at a time, else the later of two would undo the other. All of
// them pass through the leader, so one place is enough.
func (s *Server) commitList(ctx context.Context, key string, make prepare) (fsm.Result, error) {
	select {
	case s.lists <- struct{}{}:
		defer func() { <-s.lists }()
	case <-ctx.Done():
		return fsm.Result{}, ctx.Err()
	}
	return s.commit(ctx, key, make)
}

// routes registers every operation.
func (s *Server) routes() {
	s.clusterRoutes()
	s.nodeRoutes()
	s.networkRoutes()
	s.havipRoutes()
	s.policyRoutes()
	s.checkRoutes()
	s.cloudRoutes()
	s.configRoutes()
	s.accessRoutes()
	s.webhookRoutes()
	s.auditRoutes()
	s.internalRoutes()
	s.keyRoutes()
	s.snapshotRoutes()
	s.selfRoute()
}
