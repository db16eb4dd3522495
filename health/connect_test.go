package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
	"havip-cluster/testbed/labtest"
)

// patience is how long a test waits for what must happen; a busy machine may need it, a quiet one never does.
const patience = 20 * time.Second

func TestMain(m *testing.M) { labtest.Main(m, "", nil) }

// full listens at a port whose queue has no place more, and returns its address and the socket.
func full(t *testing.T) (string, int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", own.(*unix.SockaddrInet4).Port)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return address, fd
}

// A service that answers later than connect(2) returns is waited for, until the end of the run and no longer.
func TestConnectWaits(t *testing.T) {
	t.Parallel()
	address, fd := full(t)
	to := netip.MustParseAddrPort(address)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := connect(ctx, to); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answers: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := connect(ctx, to); !errors.Is(err, context.Canceled) {
		t.Errorf("the check ends: %v", err)
	}
	time.AfterFunc(100*time.Millisecond, func() { // the kernel asks again after a second
		if c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); err == nil {
			_ = unix.Close(c)
		}
	})
	if err := connect(t.Context(), to); err != nil {
		t.Errorf("it answers at last: %v", err)
	}
}

func TestConnectIPv6AndMapped(t *testing.T) {
	t.Parallel()
	for network, host := range map[string]string{"tcp6": "[::1]", "tcp4": "[::ffff:127.0.0.1]"} {
		l, err := net.Listen(network, map[string]string{"tcp6": "[::1]:0", "tcp4": "127.0.0.1:0"}[network])
		if err != nil {
			t.Skip(err)
		}
		target := fmt.Sprintf("%s:%d", host, l.Addr().(*net.TCPAddr).Port)
		good(t, tcp(target))
		_ = l.Close()
		bad(t, tcp(target), "connection refused")
	}
}

// Runs begin together, never later than their interval says, and not much sooner.
func TestRunsBeginTogether(t *testing.T) {
	k := fsm.Check{Interval: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 1}
	m := NewMachine(k, 0)
	instants := map[Instant]bool{}
	for i := range 100 {
		began := 7*time.Second + time.Duration(i)*time.Millisecond
		due := m.Due(began, float64(i)/100)
		if wait := due - began; wait > k.Interval || wait < k.Interval*88/100-time.Millisecond {
			t.Errorf("%v after %v", wait, began)
		}
		instants[due] = true
	}
	if len(instants) > 9 {
		t.Errorf("100 runs begin at %d instants", len(instants))
	}
}
