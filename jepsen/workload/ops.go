package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"havip-cluster/jepsen/history"
)

// Times of one operation.
const (
	attemptTime = 2500 * time.Millisecond
	opTime      = 8 * time.Second // with all repeats
	repeatPause = 100 * time.Millisecond
)

// Recorder keeps operations in the order in which they ended.
type Recorder struct {
	now func() int64

	mu  sync.Mutex
	ops []history.Op
}

// NewRecorder makes a Recorder on a clock, ns.
func NewRecorder(now func() int64) *Recorder { return &Recorder{now: now} }

// Ops returns what was recorded so far.
func (r *Recorder) Ops() []history.Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops)
}

func (r *Recorder) add(op history.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
}

// request is an operation before it is made.
type request struct {
	verb, name   string // VerbXxx and the object
	method, path string
	body         any
	input        history.Request
	node         int // asked first; repeats go round
}

// havip is the API's view, as far as it is recorded.
type havip struct {
	ID, Name string
	Node     *string
	Session  uint64
	Epoch    uint64
	Enabled  bool
	Deleting bool
	Range    struct{ Members []string }
}

func (v havip) record() history.HAVIP {
	out := history.HAVIP{
		ID: v.ID, Name: v.Name, Session: v.Session, Epoch: v.Epoch, Enabled: v.Enabled, Deleting: v.Deleting, Range: v.Range.Members,
	}
	if v.Node != nil {
		out.Node = *v.Node
	}
	return out
}

// perform makes one operation, repeats included, and records it. A change is repeated at other nodes
// under one key, as a program that lost its answer would; a read is asked once.
func (c *Client) perform(ctx context.Context, r *Recorder, client string, q request) history.Op {
	ctx, cancel := context.WithTimeout(ctx, opTime)
	defer cancel()
	op := history.Op{Client: client, Verb: q.verb, Key: q.name, Input: mustJSON(q.input), Invoke: r.now()}
	key, sent := "", false
	if q.method != http.MethodGet {
		key = fmt.Sprintf("%s-%d", client, op.Invoke)
	}
	for node := q.node; ; node = node%len(c.http) + 1 {
		op.Node = c.cluster.NodeName(node)
		op.Attempts++
		once, done := context.WithTimeout(ctx, attemptTime)
		a, err := c.Do(once, node, q.method, q.path, key, q.body)
		done()
		if settle(&op, a, err, &sent) || key == "" || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(repeatPause):
		}
	}
	op.Return = r.now()
	if op.Outcome == history.Unknown {
		op.Return = 0
	}
	r.add(op)
	return op
}

// settle judges an attempt. It is true if the outcome is certain. sent: a request may have arrived
// that was not answered, so a later refusal says nothing of the effect of the earlier one.
func settle(op *history.Op, a Answer, err error, sent *bool) bool {
	op.Outcome, op.Code = history.Unknown, ""
	switch {
	case errors.Is(err, errNotSent):
		if !*sent {
			op.Outcome = history.Fail
			op.Code = "NotSent"
		}
		return false
	case err != nil, a.Status == http.StatusBadGateway, a.Status == http.StatusServiceUnavailable, a.Status == http.StatusInternalServerError:
		*sent = true
		op.Code = a.Code
		return false
	case a.Status < http.StatusBadRequest:
		op.Outcome, op.Index = history.OK, a.Index
		var view havip
		if json.Unmarshal(a.Body, &view) == nil && view.ID != "" {
			op.Output = mustJSON(view.record())
		}
		return true
	case *sent, strings.Contains(a.Detail, "deleted since"):
		op.Code = a.Code
		return true // refused, but perhaps because an earlier attempt was done
	}
	op.Outcome, op.Code = history.Fail, a.Code
	return true
}

func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("workload: %T has no JSON form: %v", v, err))
	}
	return text
}

// readCLI reads a HAVIP with the command line.
func (c *Client) readCLI(r *Recorder, client, name string, node int) {
	op := history.Op{
		Client: client, Verb: history.VerbRead, Key: name, Node: c.cluster.NodeName(node), Invoke: r.now(), Outcome: history.Unknown, Attempts: 1,
	}
	out, err := c.cluster.CLI(node, "havip", "show", name, "-o", "json", "--timeout", "3s")
	var view havip
	switch code := exitCode(err); {
	case err == nil && json.Unmarshal(out, &view) == nil && view.ID != "":
		op.Outcome, op.Output = history.OK, mustJSON(view.record())
	case code == exitNotFound:
		op.Outcome, op.Code = history.Fail, "ResourceNotFound"
	}
	if op.Outcome != history.Unknown {
		op.Return = r.now()
	}
	r.add(op)
}

// Final reads a HAVIP at a node, as that node has applied the log, when everything is healed.
func (c *Client) Final(ctx context.Context, r *Recorder, name string, node int) history.Op {
	return c.perform(ctx, r, "final", request{
		verb: history.VerbFinal, name: name, method: http.MethodGet, path: "/v1/havips/" + name + "?consistency=stale", node: node,
	})
}

// Create makes a HAVIP and records it; Delete takes it away.
func (c *Client) Create(ctx context.Context, r *Recorder, client, name, ip string, node int, members []string) history.Op {
	body := map[string]any{"name": name, "ip": ip}
	if len(members) > 0 {
		body["range"] = map[string]any{"type": "cvm", "members": members}
	}
	return c.perform(ctx, r, client, request{
		verb: history.VerbCreate, name: name, method: http.MethodPost, path: "/v1/havips", body: body, node: node,
		input: history.Request{IP: ip, Range: members},
	})
}

// Delete deletes a HAVIP, owned or not.
func (c *Client) Delete(ctx context.Context, r *Recorder, client, name string, node int) history.Op {
	return c.perform(ctx, r, client, request{
		verb: history.VerbDelete, name: name, method: http.MethodDelete, path: "/v1/havips/" + name + "?force=true", node: node,
	})
}

// Move moves a HAVIP to a node.
func (c *Client) Move(ctx context.Context, r *Recorder, client, name, to string, node int) history.Op {
	return c.perform(ctx, r, client, request{
		verb: history.VerbMove, name: name, method: http.MethodPost, path: "/v1/havips/" + name + "/move",
		body: map[string]string{"to": to}, node: node, input: history.Request{To: to},
	})
}

// Standby sets a node to own nothing, or takes that back.
func (c *Client) Standby(ctx context.Context, r *Recorder, client, name string, on bool, node int) history.Op {
	verb := map[bool]string{true: history.VerbStandby, false: history.VerbActive}[on]
	return c.perform(ctx, r, client, request{
		verb: verb, name: name, method: http.MethodPatch, path: "/v1/nodes/" + name, body: map[string]bool{"standby": on}, node: node,
	})
}

// Read reads a HAVIP, linearizable or as the node has applied the log.
func (c *Client) Read(ctx context.Context, r *Recorder, client, name string, stale bool, node int) history.Op {
	verb, query := history.VerbRead, ""
	if stale {
		verb, query = history.VerbStale, "?consistency=stale"
	}
	return c.perform(ctx, r, client, request{
		verb: verb, name: name, method: http.MethodGet, path: "/v1/havips/" + name + query, node: node,
	})
}

// Switch enables or disables a HAVIP.
func (c *Client) Switch(ctx context.Context, r *Recorder, client, name string, on bool, node int) history.Op {
	verb := map[bool]string{true: history.VerbEnable, false: history.VerbDisable}[on]
	return c.perform(ctx, r, client, request{
		verb: verb, name: name, method: http.MethodPost, path: "/v1/havips/" + name + "/" + verb, node: node,
	})
}

// ChangeRange adds a node to a range, or removes it.
func (c *Client) ChangeRange(ctx context.Context, r *Recorder, client, name, member string, add bool, node int) history.Op {
	in := history.Request{Remove: []string{member}}
	if add {
		in = history.Request{Add: []string{member}}
	}
	body := map[string]any{"type": "cvm"}
	if add {
		body["add"] = in.Add
	} else {
		body["remove"] = in.Remove
	}
	return c.perform(ctx, r, client, request{
		verb: history.VerbRange, name: name, method: http.MethodPost, path: "/v1/havips/" + name + "/range", body: body, node: node, input: in,
	})
}
