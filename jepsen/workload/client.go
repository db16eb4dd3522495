// Package workload asks a cluster for changes and answers, as programs and operators do: by HTTP
// on the agents' local sockets and by the command line. It records every operation and
// shares no code with the product.
package workload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"havip-cluster/jepsen/netns"
)

const answerMax = 8 << 20 // bytes

// Client asks the agents of a cluster.
type Client struct {
	cluster *netns.Cluster
	http    []*http.Client // by node
}

// NewClient makes a Client for all nodes of the cluster's lab.
func NewClient(c *netns.Cluster) *Client {
	client := &Client{cluster: c}
	for i := range c.Lab.Nodes() {
		socket := filepath.Join(c.DataDir(i+1), "havip.sock")
		client.http = append(client.http, &http.Client{Transport: &http.Transport{
			// An agent that is killed leaves connections behind, so none is used twice.
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		}})
	}
	return client
}

// Answer is what an agent said.
type Answer struct {
	Status int
	Code   string // of a refusal
	Detail string
	Index  uint64
	Body   []byte
}

// errNotSent says that nobody listened: the request has certainly no effect.
var errNotSent = errors.New("workload: request was not sent")

// Do sends one request to the agent of node i (from 1). body is encoded as JSON; nil: none.
func (c *Client) Do(ctx context.Context, i int, method, path, key string, body any) (Answer, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return Answer{}, fmt.Errorf("workload: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, bytes.NewReader(text))
	if err != nil {
		return Answer{}, fmt.Errorf("workload: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := c.http[i-1].Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
			return Answer{}, fmt.Errorf("%w: %w", errNotSent, err)
		}
		return Answer{}, fmt.Errorf("workload: %w", err)
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode}
	if a.Body, err = io.ReadAll(io.LimitReader(resp.Body, answerMax)); err != nil {
		return a, fmt.Errorf("workload: %w", err)
	}
	a.Index, _ = strconv.ParseUint(resp.Header.Get("X-Havip-Index"), 10, 64)
	if a.Status >= http.StatusBadRequest {
		var problem struct{ Code, Detail string }
		if err := json.Unmarshal(a.Body, &problem); err != nil {
			return a, fmt.Errorf("workload: HTTP %d: %w", a.Status, err)
		}
		a.Code, a.Detail = problem.Code, problem.Detail
	}
	return a, nil
}

// Get decodes an answer into v, within a time.
func (c *Client) Get(i int, path string, timeout time.Duration, v any) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	a, err := c.Do(ctx, i, http.MethodGet, path, "", nil)
	switch {
	case err != nil:
		return err
	case a.Status != http.StatusOK:
		return fmt.Errorf("workload: %s: %s: %s", path, a.Code, a.Detail)
	}
	return json.Unmarshal(a.Body, v)
}
