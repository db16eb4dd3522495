package guard

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/plane"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
	"havip-cluster/membership/datagram"
	"havip-cluster/membership/identity"
	"havip-cluster/netdev/fence"
)

// fenceWait is how long the plane waits for the fence that the guard opens at the agent's first message.
const fenceWait = time.Second

// planeWait is how long a guard waits for the end of an earlier one's lease plane: of one whose agent is dead it comes
// at once, unless that guard stands still.
const planeWait = 3 * time.Second

// lockPlane takes the data directory for this guard's lease plane before there is an agent. Else an agent that
// died while its guard stood still could be followed by another one, whose log acknowledges voters that the program in the
// kernel, which goes on for the old guard, never hears of.
func lockPlane(dir string, wait time.Duration) (release func(), err error) {
	for end := time.Now().Add(wait); ; time.Sleep(wait / 100) {
		release, err = identity.LockPlane(dir)
		if !errors.Is(err, identity.ErrLocked) || time.Now().After(end) {
			return release, err
		}
		unlock, err := identity.Lock(dir)
		if err != nil {
			return nil, err // an agent that lives: this names its process
		}
		unlock()
	}
}

// planeFD is the first of the three files of the lease plane that the agent inherits after the pipe.
const planeFD = childFD + 1

// PlaneEnds takes over what joins this agent and the lease plane in its guard. Once NewClient has found one.
func PlaneEnds() plane.Ends {
	var files [3]*os.File
	for i, name := range []string{"control of the lease plane", "messages of the lease plane", "lease page"} {
		fd := planeFD + i
		unix.CloseOnExec(fd)
		files[i] = os.NewFile(uintptr(fd), name)
	}
	return plane.Ends{Control: files[0], Words: files[1], Page: files[2]}
}

// serve runs the lease plane for the agent until stop is called.
func (g *guard) serve(ends plane.Ends) (stop func(), err error) {
	p := realtime.New()
	server, err := plane.NewServer(ends, plane.Host{
		Open: openDatagrams(g), Fence: g.planeFence, Kernel: g.openKernel(), Logger: g.log, Plane: p, Clock: ports.Boot,
	})
	if err != nil {
		return nil, err
	}
	if err := realtime.TuneScheduler(realtime.PlaneSpare); err != nil {
		g.log.Debug("the guard wakes more often than it has to", "err", err)
	}
	p.RaiseProcess()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Run()
	}()
	return func() { server.Stop(); <-done }, nil
}

// openDatagrams opens the socket of the messages of the lease.
func openDatagrams(g *guard) func(plane.Start, func() *fsm.State, func() []plane.Key, func(string, []byte), *realtime.Plane) (plane.Carrier, error) {
	return func(s plane.Start, state func() *fsm.State, keys func() []plane.Key, receive func(string, []byte), p *realtime.Plane) (plane.Carrier, error) {
		var known keyCache
		return datagram.Open(datagram.Config{
			Cluster: s.Cluster, Node: s.Node, Listen: s.Listen, State: state, Logger: g.log, Plane: p, Receive: receive,
			Keys: func() ([]identity.DatagramKey, error) { return known.of(keys()) },
		})
	}
}

// keyCache makes the node's keys of what the agent has told of them.
type keyCache struct {
	told []plane.Key
	keys []identity.DatagramKey
}

func (s *keyCache) of(told []plane.Key) ([]identity.DatagramKey, error) {
	if len(told) == len(s.told) && (len(told) == 0 || &told[0] == &s.told[0]) {
		return s.keys, nil
	}
	var keys []identity.DatagramKey
	for _, k := range told {
		secret, err := ecdh.P256().NewPrivateKey(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("guard: the key of certificate %s: %w", k.Certificate, err)
		}
		keys = append(keys, identity.NewDatagramKey(k.Certificate, secret))
	}
	s.told, s.keys = told, keys
	return keys, nil
}

// errNoFence is of an agent without a fence, or with one for which a deadline is a transaction.
var errNoFence = errors.New("guard: the lease plane needs a fence of the kind ebpf")

// planeFence is the fence that the agent installed, once it is open here.
func (g *guard) planeFence() (shell.Fence, error) {
	select {
	case <-g.prepared:
	case <-time.After(fenceWait):
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if shared, is := g.fence.(fence.Shared); is {
		return deadlineOf{g.log, shared}, nil
	}
	return nil, errNoFence
}

// deadlineOf stores the deadline: one memory store.
type deadlineOf struct {
	log   *slog.Logger
	fence fence.Shared
}

var _ shell.SharedFence = deadlineOf{}

func (d deadlineOf) SetDeadline(t lease.Instant) { d.told(d.fence.SetDeadline(int64(t))) }

func (d deadlineOf) Extend(t lease.Instant) { d.told(d.fence.Extend(int64(t))) }

func (d deadlineOf) Expire(now lease.Instant) lease.Instant {
	return lease.Instant(d.fence.Expire(int64(now)))
}

func (d deadlineOf) told(err error) {
	if err != nil {
		d.log.Error("the fence did not take the deadline", "err", err)
	}
}
