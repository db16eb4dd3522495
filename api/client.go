package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"havip-cluster/membership/identity"
)

// ErrUnreachable is returned by a Client when no agent answered within its time-out.
var ErrUnreachable = errors.New("no agent reached")

const (
	// DefaultTimeout is how long a Client tries.
	DefaultTimeout = 10 * time.Second
	// localTimeout is how long it tries when nobody listens on the local socket: long
	// enough for a restart of the agent, short enough for a person who forgot to start it.
	localTimeout = time.Second
	retryFirst   = 50 * time.Millisecond // pause before the second attempt; it doubles
	retryMax     = time.Second
	answerMax    = 64 << 20 // bytes of an answer
)

// Client speaks with one node. It repeats what had no answer, with the same
// Idempotency-Key, until Timeout; what was refused it never repeats.
type Client struct {
	// Timeout is of one call; 0 = DefaultTimeout, and as long as the server takes at most
	// (one minute) for a whole configuration.
	Timeout time.Duration
	Program string // said when a node joins: its version with its level of commands
	// Token is shown with every request, "" = none.
	Token string
	// LeasePort is said when a node joins: where it takes the words of the lease; 0 = nowhere.
	LeasePort int

	base  string // scheme and host
	where string // as the user knows it
	local bool
	http  *http.Client
}

// NewLocalClient makes a Client for the unix socket of an agent on this host.
func NewLocalClient(socket string) *Client {
	t := newTransport()
	dialer := &net.Dialer{Timeout: dialTimeout}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", socket)
	}
	return &Client{base: "http://local", where: socket, local: true, http: newHTTP(t)}
}

// NewClient makes a Client for host:port. The TLS configuration decides whom it trusts:
// identity.Identity.ClientTLS for a member, identity.JoinTLS for a node with a token.
func NewClient(address string, conf *tls.Config) *Client {
	t := newTransport()
	t.TLSClientConfig = conf
	return &Client{base: "https://" + address, where: address, http: newHTTP(t)}
}

func newHTTP(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Close gives the idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// NewKey makes a random idempotency key.
func NewKey() string { return rand.Text() }

// call is one request.
type call struct {
	method, path string
	query        url.Values
	key          string
	body         any
	raw          []byte        // a body that is no JSON
	into         any           // *[]byte takes the answer as it is
	patience     time.Duration // where DefaultTimeout is too short; 0 = DefaultTimeout
}

// do sends a request until it has an answer, a refusal, or no time left.
func (c *Client) do(ctx context.Context, r call) error {
	timeout := cmp.Or(c.Timeout, r.patience, DefaultTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body := r.raw
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("api: encode request: %w", err)
		}
	}
	began, pause := time.Now(), retryFirst
	var last error
	for attempt := 0; ; attempt++ {
		err := c.try(ctx, r, body)
		if attempt > 0 && r.method == http.MethodDelete && ExitCode(err) == ExitNotFound {
			return nil // an earlier attempt, whose answer was lost, did it
		}
		if last == nil || ctx.Err() == nil {
			last = err // not the "deadline exceeded" of an attempt that was cut short
		}
		if !c.again(err, began) || !poll(ctx, pause) {
			break
		}
		pause = min(2*pause, retryMax)
	}
	if last == nil {
		return nil
	}
	if _, ok := errors.AsType[*Problem](last); ok {
		return last
	}
	return c.unreachable(last, timeout)
}

// noNode reports whether a socket is that of a data directory without a node: neither bootstrap nor join was
// there. A socket of another name says nothing about its folder.
func noNode(socket string) bool {
	dir := filepath.Dir(socket)
	_, err := os.Lstat(filepath.Join(dir, "identity.json"))
	return socket == identity.SocketPath(dir) && errors.Is(err, os.ErrNotExist)
}

// unreachable says in a sentence why nobody answered, and what to do.
func (c *Client) unreachable(err error, timeout time.Duration) error {
	if c.local {
		switch {
		case errors.Is(err, os.ErrPermission):
			return fmt.Errorf("%w: the socket %s is for root only; run this as root", ErrUnreachable, c.where)
		case errors.Is(err, os.ErrNotExist) && noNode(c.where):
			return fmt.Errorf("%w: there is no node in %s: make the first one with `havip-cluster bootstrap`, every other one with `havip-cluster join`, and then start `havip-cluster agent`; or name another one with --address or --data-dir", ErrUnreachable, filepath.Dir(c.where))
		case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
			return fmt.Errorf("%w: no agent listens on %s; start it with `havip-cluster agent`, or name another one with --address or --data-dir", ErrUnreachable, c.where)
		}
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Errorf("%w: %s did not answer within %s: %w", ErrUnreachable, c.where, timeout, err)
}

// again reports whether an attempt that ended with err is worth another one.
func (c *Client) again(err error, began time.Time) bool {
	if err == nil {
		return false
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		// That a receiver did not take a test is the answer: to ask again would send it another one.
		return p.Status == http.StatusServiceUnavailable || p.Status == http.StatusBadGateway && p.Code != CodeWebhook
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if errors.Is(err, os.ErrPermission) || !temporary(err) {
		return false
	}
	return !c.local || time.Since(began) < localTimeout
}

// temporary is false for a conversation that fails the same way every time: the TLS
// handshake was refused, or the answer is none of ours.
func temporary(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op != "remote error"
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// try is one attempt.
func (c *Client) try(ctx context.Context, r call, body []byte) error {
	resp, err := c.send(ctx, r, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return err
	}
	if p := decodeProblem(resp.StatusCode, answer); p != nil {
		return p
	}
	switch into := r.into.(type) {
	case nil:
		return nil
	case *[]byte:
		*into = answer
		return nil
	}
	if err := json.Unmarshal(answer, r.into); err != nil {
		return problem(resp.StatusCode, CodeInternal, "%s answered something that is not ours (%v); is --address right?", c.where, err)
	}
	return nil
}

// setPatience tells the other side when this one gives up, with an eighth of the time left for the
// answer: so a wait for a leader ends with its reason, and nobody goes on for a caller that has gone.
func setPatience(req *http.Request) {
	if end, ok := req.Context().Deadline(); ok {
		left := time.Until(end) * 7 / 8
		req.Header.Set(headerPatience, strconv.FormatInt(max(1, min(left, time.Hour).Milliseconds()), 10))
	}
}

func (c *Client) send(ctx context.Context, r call, body []byte) (*http.Response, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	switch {
	case r.raw != nil:
		req.Header.Set("Content-Type", "application/yaml")
	case body != nil:
		req.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		req.Header.Set(headerKey, r.key)
	}
	setPatience(req)
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if c.Program != "" {
		req.Header.Set(headerProgram, c.Program)
	}
	if c.LeasePort != 0 {
		req.Header.Set(headerLease, strconv.Itoa(c.LeasePort))
	}
	return c.http.Do(req)
}
