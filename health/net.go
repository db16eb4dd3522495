package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

// tcp is good when a connection is taken. It is cut with a reset, so that nothing is left behind.
func tcp(target string) Probe {
	if to, err := netip.ParseAddrPort(target); err == nil && to.Addr().Zone() == "" {
		return func(ctx context.Context) (string, error) {
			if err := connect(ctx, to); err != nil {
				return "", err
			}
			return "connected", nil
		}
	}
	return func(ctx context.Context) (string, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", target)
		if err != nil {
			return "", brief(err)
		}
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // it is only about the port that would stay in TIME_WAIT
		}
		return "connected", c.Close()
	}
}

// brief takes the addresses, which the check has already, out of an error.
func brief(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && !errors.Is(err, context.DeadlineExceeded) && op.Err != nil {
		return op.Err
	}
	return err
}

// web is good when the answer's status and body are as expected. Each run has a connection of its
// own, as a client has; no proxy is ever used, whatever the environment says, and no redirect followed.
func web(k fsm.Check) Probe {
	statuses, _ := fsm.ParseStatuses(k.Status)
	transport := &http.Transport{
		Proxy: nil, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: limits.CheckRead,
		// A check asks whether the service answers, and of services on this very host; whom they can
		// prove to be is another question, which Verify asks.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: !k.Verify, ServerName: k.SNI}, //nolint:gosec // see above
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.Target, nil)
		if err != nil {
			return "", err
		}
		req.Header.Set("User-Agent", "havip-cluster-check")
		for _, line := range k.Headers {
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			if strings.EqualFold(name, "host") {
				req.Host = value
			} else {
				req.Header.Set(name, value)
			}
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", brief(err)
		}
		defer resp.Body.Close()
		if !expected(statuses, resp.StatusCode) {
			return "", fmt.Errorf("status %d, expected %s", resp.StatusCode, k.Status)
		}
		if k.Body == "" {
			return fmt.Sprintf("status %d", resp.StatusCode), nil
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, limits.CheckRead))
		if err != nil {
			return "", err
		}
		if !strings.Contains(string(text), k.Body) {
			return "", fmt.Errorf("status %d, and the first %d bytes do not hold %q", resp.StatusCode, len(text), k.Body)
		}
		return fmt.Sprintf("status %d, body as expected", resp.StatusCode), nil
	}
}

func expected(statuses []fsm.StatusRange, status int) bool {
	for _, r := range statuses {
		if r.Low <= status && status <= r.High {
			return true
		}
	}
	return false
}

// deadlineOf is when a context ends, for a connection.
func deadlineOf(ctx context.Context) time.Time {
	at, _ := ctx.Deadline()
	return at
}

// deadlinePast is a deadline that ends what waits.
var deadlinePast = time.Unix(1, 0)
