package testbed

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	ns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one machine of the LAN: a network namespace with its ENIs.
type Host struct {
	Name string // node-1, client-1, ...
	lab  *Lab
	ns   ns.NsHandle
	enis []eni
}

// eni is one interface of a host and the port of the switch at the other end of its cable.
type eni struct {
	ip   netip.Addr
	mac  net.HardwareAddr
	port string // link name in the switch's namespace, at most 15 bytes
	// device is the link name in the host, after a Plug under another one.
	device string
}

// errExited is what Do returns if its function ended the goroutine instead of returning.
var errExited = errors.New("testbed: function did not return")

// IP is the own address of an ENI, counted from 0.
func (h *Host) IP(eni int) netip.Addr { return h.enis[eni].ip }

// MAC is the hardware address of an ENI, counted from 0.
func (h *Host) MAC(eni int) net.HardwareAddr { return h.enis[eni].mac }

// ENIs is how many ENIs the host has, those of Cable on the LAN among them.
func (h *Host) ENIs() int { return len(h.enis) }

// Port is the link name, in the switch, of the other end of an ENI's cable.
func (h *Host) Port(eni int) string { return h.enis[eni].port }

// Namespace is the descriptor of the host's network namespace; it is the lab's, to be used and not closed.
func (h *Host) Namespace() int { return int(h.ns) }

// Device is the link name of an ENI within the host.
func (h *Host) Device(eni int) string {
	if d := h.enis[eni].device; d != "" {
		return d
	}
	return fmt.Sprintf("eth%d", eni)
}

// Do runs f in the host's network namespace: sockets that f opens belong to it for good. f runs
// on a goroutine and a thread of its own and must not hand work to other goroutines, which would
// run elsewhere, nor call testing.T.FailNow. Any number of calls may run at the same time. The
// thread is given back only if it could return to its own namespace, else it is discarded.
func (h *Host) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errExited
		defer func() { done <- err }()
		runtime.LockOSThread()
		if err = h.enter(); err != nil {
			runtime.UnlockOSThread()
			return
		}
		defer h.leave()
		err = errExited
		err = f()
	}()
	return <-done
}

// enter moves the calling thread, which must be locked, into the host.
func (h *Host) enter() error {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	if h.lab.closed {
		return ErrClosed
	}
	if err := ns.Set(h.ns); err != nil {
		return fmt.Errorf("testbed: enter %s: %w", h.Name, err)
	}
	return nil
}

// leave moves the thread back and unlocks it. If it cannot (a root of a user namespace may leave
// a namespace of the machine and not come back), the thread stays locked and ends with its goroutine.
func (h *Host) leave() {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	if !h.lab.closed && ns.Set(h.lab.origin) == nil {
		runtime.UnlockOSThread()
	}
}

// Command prepares a child process for Start: its own process group, and SIGKILL for it when this
// process dies. Calling its own Start would run it outside the host.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Start starts a command within the host. The caller waits for it with cmd.Wait. It sees the
// machine's files, /sys included: that shows the devices of the machine, not those of the host.
//
// The kernel sends the death signal when the *thread* that made the child ends, so a thread is kept
// for each child until it has exited.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	}
	pidfd := -1
	cmd.SysProcAttr.PidFD = &pidfd
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := h.enter(); err != nil {
			runtime.UnlockOSThread()
			started <- err
			return
		}
		defer h.leave()
		ordinary(true) // a child inherits the priority of the thread that makes it
		err := cmd.Start()
		ordinary(false)
		if err == nil && pidfd < 0 {
			err = errors.Join(errors.New("testbed: kernel without pidfd"), cmd.Process.Kill())
		}
		if err != nil {
			started <- err
			return
		}
		pid := cmd.Process.Pid
		h.lab.setChild(pid, cmd)
		started <- nil
		AwaitExit(pidfd)
		h.lab.setChild(pid, nil)
	}()
	return <-started
}

// setChild remembers a running child, or forgets it if cmd is nil.
func (l *Lab) setChild(pid int, cmd *exec.Cmd) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cmd == nil {
		delete(l.children, pid)
		return
	}
	l.children[pid] = cmd.Process
	if l.closed {
		_ = cmd.Process.Kill()
	}
}

// AwaitExit blocks the calling thread until the process of a pidfd has exited, waited for or not, and closes it.
func AwaitExit(pidfd int) {
	defer unix.Close(pidfd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if n > 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
			return
		}
	}
}

// SetLink pulls or plugs the cable of an ENI at the switch: the host sees its carrier go or come.
// It returns when it does, which takes up to a second of the kernel's own delay when plugging in.
func (h *Host) SetLink(eni int, up bool) error {
	err := h.lab.sw.Do(func() error {
		port, err := netlink.LinkByName(h.enis[eni].port)
		if err != nil {
			return err
		}
		if up {
			return netlink.LinkSetUp(port)
		}
		return netlink.LinkSetDown(port)
	})
	if err != nil {
		return fmt.Errorf("testbed: link of %s: %w", h.Name, err)
	}
	return h.waitCarrier(eni, up)
}

// Carrier reports whether an ENI has a link, as the host itself sees it.
func (h *Host) Carrier(eni int) (bool, error) {
	var up bool
	err := h.Do(func() error {
		link, err := netlink.LinkByName(h.Device(eni))
		if err == nil {
			up = link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 && link.Attrs().OperState == netlink.OperUp
		}
		return err
	})
	return up, err
}

// waitCarrier waits until the ENI has a link and the switch forwards frames of its port, or neither.
func (h *Host) waitCarrier(eni int, up bool) error {
	deadline := time.Now().Add(carrierWait)
	for {
		carrier, err := h.Carrier(eni)
		if err != nil {
			return err
		}
		port := false
		err = h.lab.sw.Do(func() error {
			link, err := netlink.LinkByName(h.enis[eni].port)
			if err == nil {
				port = link.Attrs().OperState == netlink.OperUp
			}
			return err
		})
		if err != nil {
			return err
		}
		if carrier == up && port == up {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("testbed: link of %s: carrier %v, port %v after %v, want %v", h.Name, carrier, port, carrierWait, up)
		}
		time.Sleep(time.Millisecond)
	}
}
