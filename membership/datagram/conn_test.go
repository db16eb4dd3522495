package datagram

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// A datagram goes there and back, in both families, with its sender's address; a reader is woken by
// stop, writing goes on until close, and then neither does anything.
func TestConn(t *testing.T) {
	for _, at := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")} {
		t.Run(at.String(), func(t *testing.T) {
			a, err := listenUDP(netip.AddrPortFrom(at, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer a.close()
			b, err := listenUDP(netip.AddrPortFrom(at, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer b.close()
			if _, err := listenUDP(a.local); err == nil {
				t.Error("one port twice")
			}
			if err := a.write([]byte("hello"), b.local); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 16)
			n, from, err := b.read(buf)
			if err != nil || !bytes.Equal(buf[:n], []byte("hello")) || from != a.local {
				t.Errorf("%q from %v, want %v, %v", buf[:n], from, a.local, err)
			}
			ended := make(chan error, 1)
			go func() { _, _, err := b.read(buf); ended <- err }()
			time.Sleep(20 * time.Millisecond)
			begin := time.Now()
			b.stop()
			if err := <-ended; !errors.Is(err, net.ErrClosed) || time.Since(begin) > 10*readWait*time.Second {
				t.Errorf("%v after %v", err, time.Since(begin))
			}
			if err := b.write([]byte("more"), a.local); err != nil {
				t.Errorf("after stop: %v", err)
			}
			if n, from, err := a.read(buf); err != nil || n != 4 || from != b.local {
				t.Errorf("%d bytes from %v, %v", n, from, err)
			}
			if err := errors.Join(b.close(), b.close()); err != nil {
				t.Error(err)
			}
			if err := b.write([]byte("x"), a.local); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after close: %v", err)
			}
			if at.Is4() {
				if err := a.write([]byte("x"), netip.MustParseAddrPort("[::1]:9")); err == nil {
					t.Error("IPv4 reached IPv6")
				}
			}
		})
	}
}
