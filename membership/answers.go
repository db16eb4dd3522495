package membership

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// errNoVote is the reason for taking an answer for lost.
var errNoVote = errors.New("membership: the answer has a later term and comes from a node without a vote")

// voterTerms is Raft's transport in which a term counts only when a voter says it. Raft
// (v1.8.0, replication.go) steps down for every answer with a later term, whoever gave it, so a
// replica or a node of role agent could depose each leader. An answer with a later term from
// a node that is no voter in the latest configuration of this node's log, committed or not, is taken
// for lost: Raft is made for lost answers, so nothing that it promises depends on this. It is judged when it comes,
// so a node that is made a voter counts from then on, and one that is removed no longer.
type voterTerms struct {
	votingTransport
	votes func(raft.ServerID) bool
	// told is called for each answer that is taken for lost.
	told func(error)
}

// judge returns an error for an answer that is to be taken for lost.
func (v voterTerms) judge(id raft.ServerID, asked, answered uint64) error {
	if answered <= asked || v.votes(id) {
		return nil
	}
	err := fmt.Errorf("%w: node %s is in term %d, this one in %d; if the node is sound, it follows again after the next elections "+
		"(restart the leader's agent), or remove it and join it again", errNoVote, id, answered, asked)
	v.told(err)
	return err
}

// AppendEntries implements raft.Transport.
func (v voterTerms) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := v.votingTransport.AppendEntries(id, to, req, resp); err != nil {
		return err
	}
	return v.judge(id, req.Term, resp.Term)
}

// InstallSnapshot implements raft.Transport.
func (v voterTerms) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := v.votingTransport.InstallSnapshot(id, to, req, resp, data); err != nil {
		return err
	}
	return v.judge(id, req.Term, resp.Term)
}

// RequestVote implements raft.Transport. Raft asks voters alone; who loses its vote meanwhile
// has no word either.
func (v voterTerms) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := v.votingTransport.RequestVote(id, to, req, resp); err != nil {
		return err
	}
	return v.judge(id, req.Term, resp.Term)
}

// RequestPreVote implements raft.WithPreVote.
func (v voterTerms) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := v.votingTransport.RequestPreVote(id, to, req, resp); err != nil {
		return err
	}
	return v.judge(id, req.Term, resp.Term)
}

// AppendEntriesPipeline implements raft.Transport.
func (v voterTerms) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := v.votingTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	p := &judgedPipeline{AppendPipeline: inner, id: id, terms: v, out: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go p.run() // ends with Close, which Raft calls whenever a pipeline ends
	return p, nil
}

// judgedPipeline passes answers on, one after the other, and ends with the first one after which Raft takes no more:
// a later term, no success, or none at all.
//
// Raft itself ends a pipeline only when its sender looks whether the reader of answers has ended (v1.8.0,
// pipelineReplicate). If an entry to be sent is found first, and two requests are under way, the sender waits for the reader for ever,
// and that server gets heartbeats and no entry until leadership ends (hashicorp/raft issues 611 and 612).
type judgedPipeline struct {
	raft.AppendPipeline
	id     raft.ServerID
	terms  voterTerms
	out    chan raft.AppendFuture
	closed chan struct{}
	once   sync.Once
}

func (p *judgedPipeline) run() {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			if f.Error() == nil { // else there is no answer
				if err := p.terms.judge(p.id, f.Request().Term, f.Response().Term); err != nil {
					f = lostAnswer{f, err}
				}
			}
			last := f.Response().Term > f.Request().Term || !f.Response().Success
			select {
			case p.out <- f:
			case <-p.closed:
				return
			}
			if last {
				_ = p.Close()
				return
			}
		case <-p.closed:
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *judgedPipeline) Consumer() <-chan raft.AppendFuture { return p.out }

// Close implements raft.AppendPipeline.
func (p *judgedPipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}

// lostAnswer is an answer that nobody got. Raft does not look at the error of a pipeline's answer
// (v1.8.0, pipelineDecode), so the response is what it is when the connection breaks: empty, which ends the pipeline.
type lostAnswer struct {
	raft.AppendFuture
	err error
}

// Error implements raft.Future.
func (l lostAnswer) Error() error { return l.err }

// Response implements raft.AppendFuture.
func (l lostAnswer) Response() *raft.AppendEntriesResponse { return &raft.AppendEntriesResponse{} }

// termLinePause is between two lines about terms that do not count.
const termLinePause = time.Minute

// termLines logs terms that do not count: the first one, then one in a minute with the count of the others. A
// node may answer a thousand times a second.
type termLines struct {
	log *slog.Logger

	mu   sync.Mutex
	at   time.Time
	more int
}

func (l *termLines) tell(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() && time.Since(l.at) < termLinePause {
		l.more++
		return
	}
	l.log.Warn("raft: the term of a node without a vote does not count", "reason", reason, "more", l.more)
	l.at, l.more = time.Now(), 0
}

// votes reports whether a node is a voter in the latest configuration of the log, committed or not.
func (l *ledger) votes(id raft.ServerID) bool {
	list, _ := l.latest()
	s, listed := find(list, string(id))
	return listed && s.Suffrage == raft.Voter
}
