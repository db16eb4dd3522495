package tencent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	tcerr "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/errors"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"

	"havip-cluster/provider"
)

// repeat says which calls may be sent twice.
type repeat bool

const (
	// repeatable: sent twice, it does no more than once. Reads, and what is so by a ClientToken or by what it says.
	repeatable repeat = true
	once       repeat = false
)

// call does one action and decodes its answer into out. params are marshalled as they are. It waits for its turn,
// and tries a repeatable call up to callTries times when the cloud does not answer, throttles or fails inside.
func (c *Client) call(ctx context.Context, action string, params, out any, again repeat) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return fmt.Errorf("tencent: %s: %w", action, err)
	}
	pause := backOff
	for try := 1; ; try++ {
		err := c.try(ctx, action, raw, out)
		if err == nil || ctx.Err() != nil || try == callTries || !retry(err, again) {
			return named(action, err)
		}
		if err := c.sleep(ctx, pause/2+time.Duration(rand.Int64N(int64(pause/2)))); err != nil {
			return named(action, err)
		}
		pause = min(2*pause, backOffMax)
	}
}

func named(action string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("tencent: %s: %w", action, err)
}

// retry says whether another try may help and does no harm.
func retry(err error, again repeat) bool {
	if e, refused := errors.AsType[*provider.Error](err); refused {
		// What was throttled was not begun.
		return throttled(e.Code) || bool(again) && strings.HasPrefix(e.Code, "InternalError")
	}
	return bool(again) && errors.Is(err, provider.ErrUnavailable)
}

func throttled(code string) bool {
	return code == "RequestLimitExceeded" || strings.HasPrefix(code, "RequestLimitExceeded.")
}

// try sends an action once.
func (c *Client) try(ctx context.Context, action string, raw []byte, out any) error {
	if err := c.breaker.allow(c.now()); err != nil {
		return err
	}
	err := c.send(ctx, action, raw, out)
	refusal, refused := errors.AsType[*provider.Error](err)
	switch {
	case refused && strings.HasPrefix(refusal.Code, "AuthFailure"):
		c.keys.forget()
		err = fmt.Errorf("%w: %w", provider.ErrCredentials, err)
		c.breaker.answered()
	case err == nil, refused, errors.Is(err, provider.ErrCredentials):
		c.breaker.answered()
	case ctx.Err() != nil:
		c.breaker.abandoned()
	default:
		c.breaker.silent(c.now(), err.Error())
	}
	return err
}

func (c *Client) send(ctx context.Context, action string, raw []byte, out any) error {
	if err := c.limiter.Wait(ctx); err != nil {
		return fmt.Errorf("%w: no turn within the time: %w", provider.ErrUnavailable, err)
	}
	region, err := c.region(ctx)
	if err != nil {
		return err
	}
	keys, err := c.keys.get(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req := tchttp.NewCommonRequest(service, version, action)
	if err := req.SetActionParameters(raw); err != nil {
		return err
	}
	req.SetContext(ctx)
	res := tchttp.NewCommonResponse()
	sdk := common.NewCommonClient(common.NewTokenCredential(keys.id, keys.key, keys.token), region, c.profile()).WithHttpTransport(c.transport)
	if err := sdk.Send(req, res); err != nil {
		return failure(err)
	}
	var envelope struct{ Response json.RawMessage }
	if err := json.Unmarshal(res.GetBody(), &envelope); err != nil {
		return fmt.Errorf("%w: its answer cannot be read: %w", provider.ErrUnavailable, err)
	}
	if err := json.Unmarshal(envelope.Response, out); err != nil {
		return fmt.Errorf("%w: its answer cannot be read: %w", provider.ErrUnavailable, err)
	}
	return nil
}

// profile switches off what the vendor's client would do by itself: its sleeps cannot be ended.
func (c *Client) profile() *profile.ClientProfile {
	p := profile.NewClientProfile()
	p.Language = "en-US"
	p.DisableRegionBreaker = true
	p.HttpProfile.Scheme = c.endpoint.Scheme
	p.HttpProfile.Endpoint = c.endpoint.Host
	p.HttpProfile.ReqTimeout = int(2 * callTimeout / time.Second) // the context ends it before
	return p
}

// failure translates an error of the vendor's client: its own are about the way to the cloud, others are the
// cloud's refusal.
func failure(err error) error {
	e, ok := errors.AsType[*tcerr.TencentCloudSDKError](err)
	if !ok {
		return fmt.Errorf("%w: %w", provider.ErrUnavailable, err)
	}
	if strings.HasPrefix(e.Code, "ClientError") {
		text := e.Message
		if cause := errors.Unwrap(err); cause != nil {
			text = cause.Error()
		}
		return fmt.Errorf("%w: %s", provider.ErrUnavailable, clip(text, 300))
	}
	return &provider.Error{Code: clip(e.Code, 128), Message: clip(e.Message, 300), Request: clip(e.RequestId, 64)}
}

// bounded refuses answers that are too long, and redirects, which would carry signed headers elsewhere.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		_ = res.Body.Close()
		return nil, fmt.Errorf("it redirects (%s), which is not followed", res.Status)
	}
	// Nothing but JSON is an answer; what says otherwise would be parsed by another path of the vendor's client.
	res.Header.Set("Content-Type", "application/json")
	res.Body = &boundedBody{res.Body, answerMax}
	return res, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("its answer has more than %d bytes", answerMax)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// parseEndpoint takes https anywhere and http on loopback, where tests are.
func parseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("provider: tencent: endpoint: %q is not https://HOST", text)
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("provider: tencent: endpoint: %q: only https, or http on loopback, where nobody listens on the way", text)
	}
	return u, nil
}
