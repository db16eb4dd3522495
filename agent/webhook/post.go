package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"havip-cluster/fsm"
)

const (
	attemptWait = 10 * time.Second // for one POST, whole
	dialWait    = 5 * time.Second
	answerMax   = 64 << 10 // bytes of an answer that are read
	headerMax   = 16 << 10 // bytes of its header
)

// ErrRefused is returned when a webhook's name has an address to which this host must not be led.
var ErrRefused = errors.New("webhook: address is refused")

// metadata are addresses of clouds beside the link-local ones, at which a host gets secrets.
var metadata = []netip.Addr{netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("168.63.129.16")}

// Refuse says why nothing is sent to an address: who may make a webhook must not reach through the
// leader what only that host reaches. allow are prefixes that its root has let in all the same.
func Refuse(ip netip.Addr, allow []netip.Prefix) error {
	ip = ip.Unmap().WithZone("")
	if slices.ContainsFunc(allow, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return nil
	}
	why := ""
	switch {
	case !ip.IsValid() || ip.IsUnspecified():
		why = "it is no address"
	case ip.IsLoopback():
		why = "it is this host itself"
	case ip.IsLinkLocalUnicast(), slices.Contains(metadata, ip):
		why = "clouds give secrets of the host there"
	case ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		why = "it is no single host"
	default:
		return nil
	}
	return fmt.Errorf("%w: %v: %s; webhook_allow in the agent's configuration lets it in", ErrRefused, ip, why)
}

// poster sends single messages.
type poster struct {
	client *http.Client
}

// newPoster makes a poster. allowed are the prefixes to which it sends although Refuse would not;
// roots may be nil, for those of the host.
func newPoster(allowed func() []netip.Prefix, roots *x509.CertPool) *poster {
	dialer := &net.Dialer{Timeout: dialWait, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address) // resolved: what a name is then is what is connected to
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return Refuse(ap.Addr(), allowed())
	}}
	return &poster{&http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{ // no proxy: the address that is judged is the receiver's
			DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout: dialWait, ResponseHeaderTimeout: attemptWait, MaxResponseHeaderBytes: headerMax,
			MaxIdleConns: fsm.MaxWebhooks, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, DisableCompression: true,
		},
	}}
}

// post sends one message. nil: the receiver has taken it (2xx).
func (p *poster) post(ctx context.Context, h fsm.Webhook, id string, body []byte, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, attemptWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook %s: %w", h.Name, err)
	}
	timestamp := strconv.FormatInt(now.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "havip-cluster")
	req.Header.Set(HeaderEvent, id)
	req.Header.Set(HeaderTimestamp, timestamp)
	if h.Secret != "" {
		req.Header.Set(HeaderSignature, "sha256="+Sign(h.Secret, timestamp, body))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		if refused := errors.Is(err, ErrRefused); !refused && ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("webhook %s: no answer within %v", h.Name, attemptWait)
		}
		return fmt.Errorf("webhook %s: %w", h.Name, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, answerMax)) // so that the connection can be used again
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("webhook %s: the answer is %s to another place, which is not followed; name that place in the webhook", h.Name, resp.Status)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return fmt.Errorf("webhook %s: the answer is %s", h.Name, resp.Status)
	}
	return nil
}
