package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// pings numbers the questions of this process.
var pings atomic.Uint32

// ping is good when the address answers an ICMP echo (RFC 792, RFC 4443). Each run has a socket of
// its own, bound to the one it asks, so that no run sees the answers of another.
func ping(to netip.Addr) Probe {
	network, protocol := "ip4:icmp", 1
	var kind, answer icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if to.Is6() {
		network, protocol, kind, answer = "ip6:ipv6-icmp", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	return func(ctx context.Context) (string, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, to.String())
		if err != nil {
			return "", brief(err)
		}
		defer c.Close()
		conn, ok := c.(*net.IPConn)
		if !ok {
			return "", fmt.Errorf("%T is no ICMP socket", c)
		}
		n := pings.Add(1)
		echo := &icmp.Echo{ID: int(n>>16) ^ os.Getpid()&0xffff, Seq: int(n & 0xffff), Data: []byte("havip-cluster check")}
		question, err := (&icmp.Message{Type: kind, Body: echo}).Marshal(nil) // the kernel adds the checksum of IPv6
		if err != nil {
			return "", err
		}
		if err := conn.SetDeadline(deadlineOf(ctx)); err != nil {
			return "", err
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(deadlinePast) })
		defer stop()
		sent := time.Now()
		if _, err := conn.Write(question); err != nil {
			return "", brief(err)
		}
		buf := make([]byte, 1500)
		for {
			got, _, err := conn.ReadFrom(buf) // without the IPv4 header
			if err != nil {
				if ctx.Err() != nil {
					return "", ctx.Err()
				}
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return "", context.DeadlineExceeded
				}
				return "", brief(err)
			}
			m, err := icmp.ParseMessage(protocol, buf[:got])
			if err != nil || m.Type != answer {
				continue
			}
			if e, is := m.Body.(*icmp.Echo); is && e.ID == echo.ID && e.Seq == echo.Seq {
				return fmt.Sprintf("answered in %s", time.Since(sent).Round(10*time.Microsecond)), nil
			}
		}
	}
}
