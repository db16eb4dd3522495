package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// ApplyOptions are how a configuration is applied.
type ApplyOptions struct {
	DryRun, Prune bool
	Expected      *uint64 // the revision that it was made from; nil = what the file says
	Note          string
}

func (o ApplyOptions) query() url.Values {
	q := url.Values{}
	if o.DryRun {
		q.Set("dry_run", "true")
	}
	if o.Prune {
		q.Set("prune", "true")
	}
	if o.Expected != nil {
		q.Set("expected", strconv.FormatUint(*o.Expected, 10))
	}
	if o.Note != "" {
		q.Set("note", o.Note)
	}
	return q
}

// Apply makes the configuration what a file says, YAML or JSON.
func (c *Client) Apply(ctx context.Context, file []byte, o ApplyOptions) (Applied, error) {
	var out Applied
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/apply", query: o.query(), key: NewKey(), raw: append([]byte{}, file...), into: &out, patience: requestTimeout})
	return out, err
}

// Rollback makes the configuration what it was at a revision. Of the options only DryRun
// and Expected count.
func (c *Client) Rollback(ctx context.Context, number uint64, o ApplyOptions) (Applied, error) {
	var out Applied
	q := ApplyOptions{DryRun: o.DryRun, Expected: o.Expected}.query()
	err := c.do(ctx, call{method: http.MethodPost, path: fmt.Sprintf("/v1/revisions/%d/rollback", number), query: q, key: NewKey(), into: &out, patience: requestTimeout})
	return out, err
}

// Revisions lists the configurations that can be rolled back to.
func (c *Client) Revisions(ctx context.Context) ([]Revision, error) {
	return get[[]Revision](ctx, c, "/v1/revisions", nil)
}

// Export gives the whole configuration as a file, in format yaml or json.
func (c *Client) Export(ctx context.Context, format string) ([]byte, error) {
	return get[[]byte](ctx, c, "/v1/export", url.Values{"format": {format}})
}

// Snapshot gives the whole replicated state, as fsm.ReadSnapshot reads it.
func (c *Client) Snapshot(ctx context.Context) ([]byte, error) {
	return get[[]byte](ctx, c, "/v1/snapshot", nil)
}

// Metrics gives what Prometheus reads from the node that is asked.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	return get[[]byte](ctx, c, "/metrics", nil)
}

// LogTail gives the newest lines of the log of the node that is asked, over its local socket.
func (c *Client) LogTail(ctx context.Context) ([]byte, error) {
	return get[[]byte](ctx, c, "/debug/log", nil)
}

// Goroutines gives the stacks of the goroutines of the node that is asked, over its local socket.
func (c *Client) Goroutines(ctx context.Context) ([]byte, error) {
	return get[[]byte](ctx, c, "/debug/pprof/goroutine", url.Values{"debug": {"2"}})
}

// Plan says what would be placed where.
func (c *Client) Plan(ctx context.Context, b PlanSpec) (Plan, error) {
	var out Plan
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/plan", body: b, into: &out, patience: requestTimeout})
	return out, err
}
