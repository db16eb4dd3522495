package scenario

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/jepsen/netns"
)

// How a child learns that it is one of a crowd: the targets, how many connections to each, and whether each third one
// makes its handshake.
const (
	crowdTargets = "HAVIP_CROWD"
	crowdEach    = "HAVIP_CROWD_EACH"
	crowdTLS     = "HAVIP_CROWD_TLS"
	crowdNice    = 19
)

// crowd holds so many connections to a port of each node, from several hosts. Who is sent away comes
// again. The hosts of a crowd would have processors of their own: here each is a process that takes what the
// nodes and the instruments leave.
func (b *Bed) crowd(from []*netns.Host, port uint16, each int, handshakes bool) (stop func(), size func() string) {
	b.t.Helper()
	var targets []string
	for _, node := range b.Lab.Nodes() {
		targets = append(targets, netip.AddrPortFrom(node.IP(0), port).String())
	}
	self, err := os.Executable()
	b.must(err)
	type member struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out strings.Builder
	}
	var members []*member
	for _, h := range from {
		m := &member{cmd: h.Command(self)}
		m.cmd.Env = append(os.Environ(), crowdTargets+"="+strings.Join(targets, ","), fmt.Sprint(crowdEach, "=", each/len(from)), fmt.Sprint(crowdTLS, "=", handshakes))
		m.cmd.Stdout, m.cmd.Stderr = &m.out, os.Stderr
		m.in, err = m.cmd.StdinPipe()
		b.must(err)
		b.must(h.Start(m.cmd))
		members = append(members, m)
	}
	made, refused := 0, 0
	stop = sync.OnceFunc(func() {
		for _, m := range members {
			_ = m.in.Close() // the word to end
		}
		for _, m := range members {
			if err := m.cmd.Wait(); err != nil {
				b.t.Errorf("one of the crowd: %v", err)
			}
			var some, none int
			if _, err := fmt.Sscan(m.out.String(), &some, &none); err != nil {
				b.t.Errorf("one of the crowd said %q: %v", m.out.String(), err)
			}
			made, refused = made+some, refused+none
		}
	})
	return stop, func() string {
		return fmt.Sprintf("%d connections held at each of 3 nodes, %d made, %d not", each, made, refused)
	}
}

// runCrowd is one host of a crowd, until its standard input ends. It prints how many connections were made, and how many not.
func runCrowd(targets string) (code int) {
	each, err := strconv.Atoi(os.Getenv(crowdEach))
	if err == nil {
		err = unix.Setpriority(unix.PRIO_PROCESS, 0, crowdNice) // threads that come later have it from this one
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var made, refused atomic.Int64
	for _, target := range strings.Split(targets, ",") {
		for n := range each {
			secure := os.Getenv(crowdTLS) == "true" && n%3 == 0
			all.Go(func() {
				for ctx.Err() == nil {
					if holdOne(ctx, target, secure) {
						made.Add(1)
					} else {
						refused.Add(1)
					}
					pauseFor(ctx, time.Second)
				}
			})
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	all.Wait()
	fmt.Println(made.Load(), refused.Load())
	return 0
}

// holdOne makes a connection and holds it until it is closed, here or there.
func holdOne(ctx context.Context, target string, secure bool) bool {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		return false
	}
	release := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer release()
	defer c.Close()
	if secure {
		// An attacker proves nothing and believes everything.
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		if s.HandshakeContext(ctx) == nil {
			_, _ = s.Read(make([]byte, 1))
		}
		return true
	}
	_, _ = c.Read(make([]byte, 1))
	return true
}

func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
