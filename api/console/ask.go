package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"havip-cluster/api"
)

// Limits of a question to the API.
const (
	answerMax   = 16 << 20         // bytes of an answer
	readWait    = 2 * time.Second  // for a majority to say what is newest; then the page shows what this node knows
	staleWait   = 10 * time.Second // for what this node knows
	changeWait  = 20 * time.Second // for a change
	removeWait  = 55 * time.Second // for one that waits for a lease; below the API's own limit
	planWait    = 30 * time.Second
	askPatience = "Havip-Patience" // header: milliseconds for which the asker waits
	askTold     = "Havip-Told"     // header of a page that asks for itself again: the index of the change that it was told of
)

// asker asks the API for one visitor and one page. The first read of a page asks for the newest
// state; the others are answered by the same node from what it has applied, which is not older. Where
// no majority answers, that is all there is, and the page says so. A page that asks for itself again because
// it was told of a change is content with a state that holds the change: it waits for no leader.
type asker struct {
	api   http.RoundTripper
	token string
	// behind says why what is shown may not be the newest; "" = it is.
	behind string
	fresh  bool   // the newest state was asked for, or one that holds what the page was told of
	told   uint64 // index that the page was told of; 0 = none
	index  uint64 // of the newest answer
}

// question is one request.
type question struct {
	method, path string
	query        url.Values
	body, into   any
	key          string
	wait         time.Duration
	least        uint64 // an answer from an older state is not read into into
}

// get reads. The path is one of the API, with its names escaped.
func (a *asker) get(ctx context.Context, path string, query url.Values, into any) error {
	_, err := a.read(ctx, path, query, into)
	return err
}

// read is get that also gives the answer's header.
func (a *asker) read(ctx context.Context, path string, query url.Values, into any) (http.Header, error) {
	ask := url.Values{}
	for k, v := range query {
		ask[k] = v
	}
	applied := !atLeader(path)
	if !a.fresh && applied && a.told > 0 {
		ask.Set("consistency", "stale")
		h, err := a.do(ctx, question{method: http.MethodGet, path: path, query: ask, into: into, wait: staleWait, least: a.told})
		if err != nil || indexOf(h) >= a.told {
			a.fresh = err == nil
			return h, err
		}
		ask.Del("consistency") // another node than the one that told
	}
	if !a.fresh {
		a.fresh = true
		h, err := a.do(ctx, question{method: http.MethodGet, path: path, query: ask, into: into, wait: readWait})
		p, refused := errors.AsType[*api.Problem](err)
		if err == nil || refused && p.Status != http.StatusServiceUnavailable || ctx.Err() != nil {
			return h, err
		}
		a.behind = "No majority of the voters answers this node. Below is what it knew last; nothing can be changed now."
	}
	if applied {
		ask.Set("consistency", "stale")
	}
	return a.do(ctx, question{method: http.MethodGet, path: path, query: ask, into: into, wait: staleWait})
}

// atLeader says which reads are not of the state that a node has applied.
func atLeader(path string) bool {
	return path == "/v1/snapshots" || path == "/v1/audit" || path == "/v1/provider" || strings.HasPrefix(path, "/v1/observed")
}

// indexOf is the index of the state that an answer was made from, 0 if it does not say.
func indexOf(h http.Header) uint64 {
	index, err := strconv.ParseUint(h.Get("X-Havip-Index"), 10, 64)
	if err != nil {
		return 0
	}
	return index
}

// post changes. Each form has a key of its own, so that what is sent twice is done once.
func (a *asker) post(ctx context.Context, path string, body, into any, key string) error {
	return a.send(ctx, http.MethodPost, path, nil, body, into, key)
}

// send changes, with any method.
func (a *asker) send(ctx context.Context, method, path string, query url.Values, body, into any, key string) error {
	if key == "" {
		key = rand.Text()
	}
	_, err := a.do(ctx, question{method: method, path: path, query: query, body: body, into: into, key: key, wait: changeWait})
	return err
}

// do sends a question and reads the answer. What it does not know in it, it leaves alone: the API may
// be newer than this page.
func (a *asker) do(ctx context.Context, q question) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	resp, err := a.open(ctx, q, q.wait)
	if err != nil {
		return nil, unreachable(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerMax+1))
	if err != nil {
		return nil, unreachable(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, problemOf(resp.StatusCode, text)
	}
	if len(text) > answerMax {
		return nil, problemf(http.StatusBadGateway, "the answer has more than %d bytes; use the command line", answerMax)
	}
	a.index = max(a.index, indexOf(resp.Header))
	if indexOf(resp.Header) < q.least {
		return resp.Header, nil
	}
	switch into := q.into.(type) {
	case nil:
		return resp.Header, nil
	case *[]byte:
		*into = text
		return resp.Header, nil
	}
	if err := json.Unmarshal(text, q.into); err != nil {
		return nil, problemf(http.StatusBadGateway, "the API's answer to %s is not one that this console knows: %v", q.path, err)
	}
	return resp.Header, nil
}

// open sends a question and gives the answer as it comes. wait 0 is a stream.
func (a *asker) open(ctx context.Context, q question, wait time.Duration) (*http.Response, error) {
	target := "http://api" + q.path
	if len(q.query) > 0 {
		target += "?" + q.query.Encode()
	}
	var body io.Reader
	var length int
	if q.body != nil {
		text, err := json.Marshal(q.body)
		if err != nil {
			return nil, fmt.Errorf("console: encode a question: %w", err)
		}
		body, length = bytes.NewReader(text), len(text)
	}
	r, err := http.NewRequestWithContext(ctx, q.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	if length > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	if q.key != "" {
		r.Header.Set("Idempotency-Key", q.key)
	}
	if wait > 0 {
		r.Header.Set(askPatience, strconv.FormatInt((wait*7/8).Milliseconds(), 10))
	}
	return a.api.RoundTrip(r)
}

// problemOf reads an answer that is an error.
func problemOf(status int, text []byte) *api.Problem {
	p := &api.Problem{}
	if json.Unmarshal(text, p) != nil || p.Code == "" {
		return problemf(status, "the API answers with status %d: %s", status, clip(strings.TrimSpace(string(text))))
	}
	p.Status = status
	return p
}

// unreachable is the problem of an API that does not answer.
func unreachable(err error) *api.Problem {
	return problemf(http.StatusServiceUnavailable, "the agent does not answer: %v", err)
}

// Codes of docs/errors.md for what the console itself refuses.
const (
	codeParameter = "InvalidParameterValue"
	codeChanged   = "UnsupportedOperation.RevisionConflict"
)

func problemf(status int, format string, args ...any) *api.Problem {
	code := api.CodeInternal
	switch status {
	case http.StatusBadRequest:
		code = codeParameter
	case http.StatusConflict:
		code = codeChanged
	}
	return &api.Problem{Status: status, Title: http.StatusText(status), Code: code, Detail: fmt.Sprintf(format, args...)}
}

// pathTo is a path of the API with names in it, each escaped.
func pathTo(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}
