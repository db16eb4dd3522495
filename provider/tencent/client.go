package tencent

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"havip-cluster/provider"
)

// Client is Tencent Cloud as one host sees it.
type Client struct {
	config    provider.Tencent
	endpoint  *url.URL
	meta      *metadata
	keys      *keyring
	limiter   *rate.Limiter
	breaker   breaker
	transport http.RoundTripper
	now       func() time.Time
	// sleep waits, or returns the error of a context that ends before.
	sleep func(ctx context.Context, d time.Duration) error

	mu   sync.Mutex
	here *provider.Self // of the metadata service, once it has answered
}

var (
	_ provider.Provider    = (*Client)(nil)
	_ provider.Describer   = (*Client)(nil)
	_ provider.Inventory   = (*Client)(nil)
	_ provider.Provisioner = (*Client)(nil)
	_ provider.EIPBinder   = (*Client)(nil)
	_ provider.Circuit     = (*Client)(nil)
)

// New makes a client. It sends nothing.
func New(c provider.Tencent) (*Client, error) {
	endpoint, err := parseEndpoint(cmp.Or(c.Endpoint, defaultEndpoint))
	if err != nil {
		return nil, err
	}
	meta := newMetadata(cmp.Or(c.Metadata, defaultMetadata))
	dialer := &net.Dialer{Timeout: callTimeout}
	return &Client{
		config: c, endpoint: endpoint, meta: meta,
		keys:    &keyring{file: c.CredentialsFile, role: c.Role, meta: meta, getenv: os.Getenv, now: time.Now},
		limiter: rate.NewLimiter(callRate, callBurst),
		transport: bounded{&http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: callTimeout,
			MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: metadataMax, ForceAttemptHTTP2: true,
		}},
		now: time.Now, sleep: sleep,
	}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Kind implements provider.Provider.
func (c *Client) Kind() string { return provider.KindTencent }

// Circuit implements provider.Circuit.
func (c *Client) Circuit() (open bool, opened uint64) { return c.breaker.state(c.now()) }

// Caps implements provider.Provider.
func (c *Client) Caps() provider.Capabilities {
	return provider.Capabilities{
		Describe: true, Keep: true, Range: true, RangeTypes: []string{provider.MemberCVM, provider.MemberENI}, MaxMembers: membersMax,
		EIP: true, Async: true,
	}
}

// Test implements provider.Provider: it asks the metadata service where the host is, and the API for one HAVIP.
func (c *Client) Test(ctx context.Context) (provider.Self, error) {
	self, err := c.self(ctx)
	if err != nil && (c.config.Region == "" || c.config.VPC == "") {
		return self, err
	}
	self.Region, self.VPC = cmp.Or(c.config.Region, self.Region), cmp.Or(c.config.VPC, self.VPC)
	self.Endpoint = c.endpoint.String()
	keys, err := c.keys.get(ctx)
	if err != nil {
		return self, err
	}
	self.Credentials = keys.from
	var page havipPage
	return self, c.call(ctx, "DescribeHaVips", describe{Filters: []filter{{"vpc-id", []string{self.VPC}}}, Limit: 1}, &page, repeatable)
}

// self asks the metadata service once.
func (c *Client) self(ctx context.Context) (provider.Self, error) {
	c.mu.Lock()
	known := c.here
	c.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	s, err := c.meta.self(ctx)
	if err != nil {
		return provider.Self{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.here = &s
	return s, nil
}

func (c *Client) region(ctx context.Context) (string, error) {
	if c.config.Region != "" {
		return c.config.Region, nil
	}
	s, err := c.self(ctx)
	return s.Region, err
}

func (c *Client) vpc(ctx context.Context) (string, error) {
	if c.config.VPC != "" {
		return c.config.VPC, nil
	}
	s, err := c.self(ctx)
	return s.VPC, err
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// notFound: the cloud does not have what a call names.
func notFound(err error) bool { return hasCode(err, "ResourceNotFound") }

func hasCode(err error, code string) bool {
	e, ok := errors.AsType[*provider.Error](err)
	return ok && e.Code == code
}
