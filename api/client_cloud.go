package api

import (
	"context"
	"net/http"
	"net/url"

	"havip-cluster/provider"
)

// Provider shows the provider of the leader.
func (c *Client) Provider(ctx context.Context) (ProviderView, error) {
	return get[ProviderView](ctx, c, "/v1/provider", nil)
}

// TestProvider has the node that is asked ask the cloud once.
func (c *Client) TestProvider(ctx context.Context) (ProviderTest, error) {
	return change[ProviderTest](ctx, c, http.MethodPost, "/v1/provider/test", nil, nil)
}

// SyncProvider makes cloud and log agree, or says what that takes.
func (c *Client) SyncProvider(ctx context.Context, b SyncRequest) ([]provider.Outcome, error) {
	return change[[]provider.Outcome](ctx, c, http.MethodPost, "/v1/provider/sync", nil, b)
}

// Observed is what log, lease and cloud say of each HAVIP.
func (c *Client) Observed(ctx context.Context) ([]ObservedHAVIP, error) {
	return get[[]ObservedHAVIP](ctx, c, "/v1/observed", nil)
}

// ObservedOf is what they say of one.
func (c *Client) ObservedOf(ctx context.Context, havip string) (ObservedHAVIP, error) {
	return get[ObservedHAVIP](ctx, c, "/v1/observed/"+url.PathEscape(havip), nil)
}
