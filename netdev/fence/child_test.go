package fence

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	childLease = 500 * time.Millisecond
	// lateMax is how long after the deadline the last answer may be stamped:
	// the way from the fence to the peer, and the reading of two clocks.
	lateMax = 5 * time.Millisecond
	// earlyMax is how long before the deadline the answers may end: nothing
	// with eBPF but the probe's own pace, slackMin and ticks with nftables.
	earlyMax = 100 * time.Millisecond
	// patience is how long a test waits for what must happen; a busy machine may need it, a quiet one never does.
	patience = 20 * time.Second
)

// child is a process that owns a HAVIP until it is killed or stopped.
func child(role string) int {
	env := func(name string) string { return os.Getenv("FENCE_" + name) }
	fail := func(err error) int {
		fmt.Println("child:", err)
		return 1
	}
	switch role {
	case "userns":
		return inUserNamespace(fail)
	case "look":
		return lookAround(env("OWNER"), fail)
	case "caps":
		return withCapabilities(env("CAPS"), env("HOOK"), fail)
	}
	if env("MOUNT") == "bpffs" {
		if err := unix.Mount("bpffs", "/sys/fs/bpf", "bpf", 0, ""); err != nil {
			return fail(err)
		}
	}
	f, _, err := New(Config{Owner: env("OWNER"), Prefer: Kind(env("KIND")), Hook: env("HOOK")})
	if err != nil {
		return fail(err)
	}
	index, _ := strconv.Atoi(env("INDEX"))
	ip := netip.MustParseAddr(env("IP"))
	for _, step := range []func() error{
		func() error { return f.Attach(index) },
		func() error { return f.Guard(ip) },
		func() error { return f.SetDeadline(BootNow() + childLease.Nanoseconds()) },
		func() error { return f.Open(ip) },
	} {
		if err := step(); err != nil {
			return fail(err)
		}
	}
	fmt.Println(f.Deadline())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		deadline, _ := strconv.ParseInt(in.Text(), 10, 64)
		fmt.Println("stored", f.SetDeadline(deadline))
	}
	return 0
}

// lookAround prints what a process finds by query, in its own mount namespace.
func lookAround(owner string, fail func(error) int) int {
	found, err := Find(owner)
	if err != nil {
		return fail(err)
	}
	for _, f := range found {
		r, err := f.Read()
		if err != nil {
			return fail(err)
		}
		fmt.Println(f.Hook(), r.Entries, r.Deadline, r.Devices)
	}
	return 0
}

func inUserNamespace(fail func(error) int) int {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eni0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"}); err != nil {
		return fail(err)
	}
	l, err := netlink.LinkByName("eni0")
	if err != nil {
		return fail(err)
	}
	f, why, err := New(Config{Owner: "userns", Prove: true})
	if err != nil {
		return fail(err)
	}
	if f.Kind() != NFTables || !strings.Contains(why, "tcx is not proved") || !strings.Contains(why, "clsact is not proved") || !strings.Contains(why, "nftables, proved") {
		return fail(fmt.Errorf("kind %s: %s", f.Kind(), why))
	}
	ip := host4(1, 1)
	for _, step := range []func() error{
		func() error { return f.Attach(index(l)) },
		func() error { return f.Guard(ip) },
		func() error { return f.Open(ip) },
		func() error { return f.SetDeadline(BootNow() + time.Minute.Nanoseconds()) },
		func() error { return f.Healthy(index(l)) },
		f.Uninstall,
	} {
		if err := step(); err != nil {
			return fail(err)
		}
	}
	return 0
}

// owner is a running child and the deadline it stored.
type owner struct {
	cmd      *exec.Cmd
	in       interface{ WriteString(string) (int, error) }
	out      *bufio.Reader
	deadline int64
}

// mounts are the mount namespaces that a child runs in: the one of this process,
// one of its own, which ends with it, and one with a bpffs that ends with it.
var mounts = []string{"shared", "own", "bpffs"}

func (w *world) child(role, mount string) *exec.Cmd {
	cmd := exec.Command(os.Args[0]) // inherits the namespaces of this thread
	cmd.Env = append(os.Environ(), "FENCE_TEST_CHILD="+role, "FENCE_OWNER="+w.owner, "FENCE_MOUNT="+mount)
	if mount != "shared" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	return cmd
}

func (w *world) hold(ip netip.Addr, mount string) *owner {
	w.t.Helper()
	w.kernelHas()
	cmd := w.child("hold", mount)
	cmd.Env = append(cmd.Env, "FENCE_KIND="+string(w.kind),
		"FENCE_HOOK="+w.hook, "FENCE_IP="+ip.String(), "FENCE_INDEX="+strconv.Itoa(index(w.eni)))
	r, stdin, err := os.Pipe()
	w.must("pipe", err)
	cmd.Stdin = r
	stdout, err := cmd.StdoutPipe()
	w.must("pipe", err)
	w.must("child", cmd.Start())
	r.Close()
	w.t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	o := &owner{cmd: cmd, in: stdin, out: bufio.NewReader(stdout)}
	line, err := o.out.ReadString('\n')
	w.must("child's answer", err)
	if o.deadline, err = strconv.ParseInt(strings.TrimSpace(line), 10, 64); err != nil {
		w.t.Fatalf("child says %q", line)
	}
	return o
}

// client asks for a HAVIP by ARP every millisecond from the peer.
type client struct {
	s       *socket
	ip      netip.Addr
	answers []int64

	mu   sync.Mutex
	sent []int64
}

// address gives the ENI the HAVIP, so that the node's own stack answers for it.
func (w *world) address(ip netip.Addr) {
	for _, s := range []string{"10.1.255.254/16", ip.String() + "/32"} {
		a, err := netlink.ParseAddr(s)
		w.must("address", err)
		w.must("address", netlink.AddrAdd(w.eni, a))
	}
}

func (w *world) client(ip netip.Addr) *client {
	w.address(ip)
	c := &client{s: w.socket(w.peer), ip: ip}
	tick, stop, done := time.NewTicker(time.Millisecond), make(chan struct{}), make(chan struct{})
	request := plain(0x0806, arpFrame(1, addr("10.1.255.1"), ip)[14:]...)
	copy(request, []byte{255, 255, 255, 255, 255, 255})
	go func() {
		defer close(done)
		for {
			select {
			case <-tick.C:
				c.s.send(request)
				c.mu.Lock()
				c.sent = append(c.sent, BootNow())
				c.mu.Unlock()
			case <-stop:
				return
			}
		}
	}()
	w.t.Cleanup(func() {
		tick.Stop()
		close(stop)
		<-done
	})
	return c
}

// until records answers up to that time and returns those stamped after from.
func (c *client) until(from, boot int64) (n int) {
	for over := false; !over; { // what came in time is read, also by a process that stood still meanwhile
		a, ok := c.s.next()
		over = BootNow() >= boot && (!ok || a.boot >= boot)
		if ok && len(a.frame) >= 42 && a.frame[21] == 2 && netip.AddrFrom4([4]byte(a.frame[28:32])) == c.ip {
			c.answers = append(c.answers, a.boot)
		}
	}
	for _, at := range c.answers {
		if at > from {
			n++
		}
	}
	return n
}

// emulated: the processor is qemu's (jepsen/kernels), thirty times slower than a real one. That an
// answer comes in time is then no test; that none comes after the deadline is.
var emulated = os.Getenv("HAVIP_EMULATED") != ""

// heldTo lets a child hold the client's HAVIP, ends the child in a way, and checks that the answers ran up to the deadline
// and no further. A machine that stands still before the deadline proves nothing: then it is done again.
func (w *world) heldTo(c *client, mount string, end func(*owner)) *owner {
	w.t.Helper()
	for range 5 {
		c.answers = nil
		o := w.hold(c.ip, mount)
		end(o)
		if c.silentAt(w.t, o.deadline) {
			return o
		}
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait()
	}
	w.t.Fatalf("only %d answers before the deadline: nothing was proved", len(c.answers))
	panic("unreachable")
}

// silentAt checks that the answers ran up to the deadline and no further; false: they are too few to prove it.
func (c *client) silentAt(t testing.TB, deadline int64) bool {
	t.Helper()
	late := c.until(deadline+lateMax.Nanoseconds(), deadline+(300*time.Millisecond).Nanoseconds())
	if len(c.answers)-late < 20 {
		if late > 0 {
			t.Errorf("%d answers after the deadline", late)
		}
		return false
	}
	last := time.Duration(c.answers[len(c.answers)-1] - deadline)
	// On a busy host the client itself may have been silent.
	early := 0
	c.mu.Lock()
	for _, at := range c.sent {
		if at > c.answers[len(c.answers)-1] && at < deadline-earlyMax.Nanoseconds() {
			early++
		}
	}
	c.mu.Unlock()
	if emulated && early > 10 {
		t.Logf("%d requests not answered before the deadline: the emulated processor's slowness", early)
		early = 0
	}
	if late > 0 || early > 10 {
		t.Errorf("last of %d answers %v after the deadline, %d late, %d requests not answered before it", len(c.answers), last, late, early)
	}
	t.Logf("last of %d answers %v after the deadline", len(c.answers), last)
	return true
}

// TestKilled: SIGKILL right after opening, in each sort of mount namespace. The
// HAVIP speaks to the deadline and not beyond it, a process in a mount namespace of
// its own finds the fence as it was, and so does the next owner.
func TestKilled(t *testing.T) {
	for _, mount := range mounts {
		t.Run("mounts "+mount, func(t *testing.T) { eachKind(t, func(w *world) { w.killed(mount) }) })
	}
}

func (w *world) killed(mount string) {
	w.wire()
	ip := host4(1, 1)
	c := w.client(ip)
	o := w.heldTo(c, mount, func(o *owner) {
		w.must("kill", o.cmd.Process.Kill())
		_ = o.cmd.Wait()
	})

	out, err := w.child("look", "own").CombinedOutput()
	hook := w.hook
	if hook == "" {
		hook = HookNFTables
	}
	want := fmt.Sprintln(hook, []Entry{{ip, true}}, o.deadline, map[int]error{index(w.eni): nil})
	if err != nil || string(out) != want {
		w.t.Errorf("found %q, error %v, want %q", out, err, want)
	}
	f := w.newFence()
	entries, err := f.Guarded()
	w.must("guarded", err)
	if len(entries) != 1 || entries[0] != (Entry{ip, true}) || f.Deadline() != o.deadline {
		w.t.Errorf("adopted %v until %d, want %v until %d", entries, f.Deadline(), ip, o.deadline)
	}
	now := BootNow()
	w.must("renew", f.SetDeadline(now+time.Minute.Nanoseconds()))
	answered := 0
	for end := time.Now().Add(patience); answered == 0 && time.Now().Before(end); {
		answered = c.until(now, BootNow()+(200*time.Millisecond).Nanoseconds())
	}
	if answered == 0 {
		w.t.Error("no answers after adoption and renewal")
	}
	w.must("shut", f.Shut(ip))
	now = BootNow() + lateMax.Nanoseconds()
	if n := c.until(now, now+(200*time.Millisecond).Nanoseconds()); n > 0 {
		w.t.Errorf("%d answers after Shut", n)
	}
	w.must("uninstall", f.Uninstall())
	w.nothingLeft()
}

// TestStopped: SIGSTOP, and after SIGCONT a renewal that was on its way: its
// time has passed as well, so nothing may open.
func TestStopped(t *testing.T) {
	eachKind(t, func(w *world) {
		w.wire()
		ip := host4(1, 1)
		c := w.client(ip)
		o := w.heldTo(c, "shared", func(o *owner) {
			w.must("stop", o.cmd.Process.Signal(syscall.SIGSTOP))
			late := o.deadline + (100 * time.Millisecond).Nanoseconds()
			_, err := o.in.WriteString(fmt.Sprintln(late))
			w.must("write", err)
		})
		w.must("continue", o.cmd.Process.Signal(syscall.SIGCONT))
		line, err := o.out.ReadString('\n')
		w.must("child's answer", err)
		if line != "stored <nil>\n" {
			w.t.Errorf("child says %q", line)
		}
		now := BootNow()
		if n := c.until(o.deadline+lateMax.Nanoseconds(), now+(200*time.Millisecond).Nanoseconds()); n > 0 {
			w.t.Errorf("%d answers after a late renewal", n)
		}
	})
}
