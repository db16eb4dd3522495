package api

import (
	"context"
	"net/http"
	"net/url"
)

// Checks lists the checks of services.
func (c *Client) Checks(ctx context.Context) ([]Check, error) {
	return get[[]Check](ctx, c, "/v1/checks", nil)
}

// Check shows one check.
func (c *Client) Check(ctx context.Context, name string) (Check, error) {
	return get[Check](ctx, c, "/v1/checks/"+url.PathEscape(name), nil)
}

// CreateCheck makes a check.
func (c *Client) CreateCheck(ctx context.Context, b CheckSpec) (Check, error) {
	return change[Check](ctx, c, http.MethodPost, "/v1/checks", nil, b)
}

// UpdateCheck changes a check.
func (c *Client) UpdateCheck(ctx context.Context, name string, b CheckChange) (Check, error) {
	return change[Check](ctx, c, http.MethodPatch, "/v1/checks/"+url.PathEscape(name), nil, b)
}

// DeleteCheck deletes a check.
func (c *Client) DeleteCheck(ctx context.Context, name string) (Done, error) {
	return change[Done](ctx, c, http.MethodDelete, "/v1/checks/"+url.PathEscape(name), nil, nil)
}

// CheckResults says what the checks say of each node; "" is all nodes, or all checks.
func (c *Client) CheckResults(ctx context.Context, node, check string) ([]CheckResult, error) {
	q := url.Values{}
	if node != "" {
		q.Set("node", node)
	}
	if check != "" {
		q.Set("check", check)
	}
	return get[[]CheckResult](ctx, c, "/v1/check-results", q)
}
