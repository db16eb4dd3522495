package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/plane"
	"havip-cluster/membership/datagram"
	"havip-cluster/netdev/acceptor"
	"havip-cluster/netdev/fence"
)

// newPage makes the lease page in memory that a program in the kernel reads as well; nil: this host gives none, and
// noPage says why.
func (g *guard) newPage() *os.File {
	f, err := acceptor.NewPage()
	if err != nil {
		g.noPage = err
		return nil
	}
	// The same file is handed to the agent and to the plane; this one stays for the program.
	g.page, g.noPage = dup(f)
	return f
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// openKernel opens the acceptor in the kernel for the lease plane.
func (g *guard) openKernel() func(plane.Start, plane.Carrier, func() int64) (plane.Kernel, error) {
	return func(s plane.Start, c plane.Carrier, suspended func() int64) (plane.Kernel, error) {
		if g.noPage != nil {
			return nil, fmt.Errorf("the lease page is not shared with the kernel: %w", g.noPage)
		}
		g.mu.Lock()
		f := g.fence
		g.mu.Unlock()
		if f != nil && f.Hook() != fence.HookTCX {
			// TCX is asked first, and a fence takes a device with another program before it for a damaged one.
			return nil, fmt.Errorf("the fence is on %s, and a program on TCX would be before it", f.Hook())
		}
		socket, is := c.(*datagram.Socket)
		if !is {
			return nil, fmt.Errorf("no tagged frames by %T", c)
		}
		var deadline *ebpf.Map
		if shared, is := f.(fence.Shared); is {
			deadline = shared.Deadlines()
		}
		a, err := acceptor.Open(g.page, s.Listen.Port(), deadline)
		if err != nil {
			return nil, err
		}
		socket.Offer()
		k := &inKernel{guard: g, acceptor: a, socket: socket, suspended: suspended}
		if counts, err := a.Counter(); err != nil {
			g.log.Info("answers to renewals are counted in the process, not in the kernel", "why", err)
		} else if deadline != nil {
			k.counter = &counter{node: s.Node, kernel: counts, socket: socket, log: g.log}
		}
		return k, nil
	}
}

// inKernel has the acceptor in the kernel keep promises for the voter of the lease plane.
type inKernel struct {
	guard     *guard
	acceptor  *acceptor.Acceptor
	socket    tagger
	suspended func() int64
	counter   *counter      // nil: there is no fence that it could reach
	granted   atomic.Uint64 // by delegations that were recalled
	told      string        // the last fault
}

// tagger knows how a node's tagged frames come.
type tagger interface {
	Tagged(node string) (datagram.Channel, bool)
}

var _ plane.Kernel = (*inKernel)(nil)

func (k *inKernel) Mark() int64 { return k.suspended() }

func (k *inKernel) Grant(d lease.Delegation, mark int64) bool {
	c, tagged := k.socket.Tagged(d.Session.Node)
	if !tagged {
		return false
	}
	return k.acceptor.Grant(acceptor.Delegation{
		Session: d.Session.Number, Config: uint64(d.Config), Length: d.Length, Promise: d.Promise, Boot: uint64(d.Boot), Suspended: mark,
		Channel:  acceptor.Channel{Number: c.Number, Invitation: c.Invitation, Request: c.Request, Answer: c.Answer, Peer: c.Peer},
		Progress: acceptor.Progress{Round: d.Round, Sent: int64(d.Sent), Heard: int64(d.Heard), Until: int64(d.Until)},
	}) == nil
}

func (k *inKernel) Recall(s lease.Session) (lease.Progress, error) {
	p, known, err := k.acceptor.Recall(s.Number)
	k.granted.Add(p.Acked)
	if err == nil && !known {
		err = errors.New("the kernel does not know of it") // so nobody knows what was promised
	}
	return progress(p), err
}

func (k *inKernel) Look(s lease.Session) (lease.Progress, bool) {
	p, known := k.acceptor.Look(s.Number)
	return progress(p), known
}

func progress(p acceptor.Progress) lease.Progress {
	return lease.Progress{Round: p.Round, Sent: lease.Instant(p.Sent), Heard: lease.Instant(p.Heard), Until: lease.Instant(p.Until)}
}

func (k *inKernel) Granted() uint64 { return k.granted.Load() + k.acceptor.Acked() }

func (k *inKernel) Follow(peers []netip.Addr) {
	why := ""
	if err := k.acceptor.Follow(peers); err != nil {
		why = err.Error()
	}
	if why != "" && why != k.told {
		k.guard.log.Warn("renewals are not answered in the kernel everywhere", "err", why)
	}
	k.told = why
}

func (k *inKernel) Where() string {
	var names []string
	for _, index := range k.acceptor.Devices() {
		name := fmt.Sprintf("device %d", index)
		if d, err := net.InterfaceByIndex(index); err == nil {
			name = d.Name
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func (k *inKernel) Counter() shell.Counter {
	if k.counter == nil {
		return nil // a nil *counter would be no nil shell.Counter
	}
	return k.counter
}

func (k *inKernel) Counted() uint64 {
	if k.counter == nil {
		return 0
	}
	return k.counter.kernel.Moved()
}

func (k *inKernel) Close() { k.acceptor.Close() }
