package fence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"havip-cluster/testbed/labtest"
)

// variant is a kind of fence under test. Every shared test runs on all.
type variant struct {
	name string
	kind Kind
	hook string
}

var variants = []variant{
	{"tcx", EBPF, HookTCX},
	{"clsact", EBPF, HookClsact},
	{"nftables", NFTables, ""},
}

// inWorld runs f on a thread of its own in a new network and mount namespace,
// which end with the thread. Lack of permission is a failure, never a skip.
func inWorld(t testing.TB, f func(w *world)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread dies with its namespaces
		enter(t)
		f(&world{t: t, owner: "node-a"})
	}()
	<-done
}

func enter(t testing.TB) {
	t.Helper()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		t.Fatalf("namespaces: %v (the fence's tests need root)", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("private mounts: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatalf("lo: %v", err)
	}
}

// eachKind runs f in a world per variant with a fence in it.
func eachKind(t *testing.T, f func(w *world)) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.variant = v
				f(w)
			})
		})
	}
}

// world is a node's ENI with a peer at the other end of the wire.
type world struct {
	t testing.TB
	variant
	owner string
	clock func() int64
	eni   netlink.Link
	peer  netlink.Link
	tap   netlink.Link // in the bridged world: sees what passed the ENI's ingress
}

func (w *world) must(what string, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

func (w *world) config() Config {
	w.kernelHas()
	return Config{Owner: w.owner, Prefer: w.kind, Hook: w.hook, Clock: w.clock}
}

// kernelHas skips what this kernel is too old for, by its version alone: whatever else is missing is a failure.
func (w *world) kernelHas() {
	need := map[string][2]int{"tcx": {6, 6}, "nftables": {5, 16}}[w.name]
	if !kernelFrom(need) {
		w.t.Skipf("%s needs Linux %d.%d", w.name, need[0], need[1])
	}
}

// haveTCX reports whether this kernel is new enough for TCX.
func haveTCX() bool { return kernelFrom([2]int{6, 6}) }

func kernelFrom(need [2]int) bool { return labtest.KernelFrom(need[0], need[1]) }

// atOnce calls f n times at the same time, each on a thread in this world's namespaces.
func (w *world) atOnce(n int, f func() error) error {
	var spaces []int
	for _, kind := range []string{"net", "mnt"} {
		fd, err := unix.Open("/proc/thread-self/ns/"+kind, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s namespace: %w", kind, err)
		}
		defer unix.Close(fd)
		spaces = append(spaces, fd)
	}
	errs := make([]error, n)
	var all, ready sync.WaitGroup
	ready.Add(n)
	for i := range errs {
		all.Go(func() {
			runtime.LockOSThread()                // never unlocked: the thread ends here
			errs[i] = unix.Unshare(unix.CLONE_FS) // without it there is no other mount namespace
			for _, fd := range spaces {
				errs[i] = errors.Join(errs[i], unix.Setns(fd, 0))
			}
			ready.Done()
			ready.Wait()
			if errs[i] == nil {
				errs[i] = f()
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (w *world) newFence() Fence {
	w.t.Helper()
	f, why, err := New(w.config())
	w.must("New", err)
	if f.Kind() != w.kind || why == "" {
		w.t.Fatalf("New: kind %s (%s), want %s", f.Kind(), why, w.kind)
	}
	return f
}

func (w *world) veth(name, peer string) (a, b netlink.Link) {
	w.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	w.must("veth", netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer}))
	a, b = w.up(name), w.up(peer)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // until the kernel's worker has seen the carrier, frames are lost
		up := true
		for _, device := range []string{name, peer} {
			l, err := netlink.LinkByName(device)
			w.must(device, err)
			up = up && l.Attrs().OperState == netlink.OperUp
		}
		if up {
			return a, b
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s and %s have no carrier", name, peer)
		}
	}
}

func (w *world) up(name string) netlink.Link {
	w.t.Helper()
	l, err := netlink.LinkByName(name)
	w.must(name, err)
	w.must("up", netlink.LinkSetUp(l))
	return l
}

// wire makes eni and peer.
func (w *world) wire() { w.eni, w.peer = w.veth("eni0", "peer0") }

// bridged also forwards what enters the ENI to tap: a bridge port takes a frame
// only behind the fence, whereas a packet socket on the ENI itself is before it.
func (w *world) bridged() {
	w.wire()
	port, tap := w.veth("port0", "tap0")
	w.tap = tap
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	off := false
	br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
	w.must("bridge", netlink.LinkAdd(br))
	w.up("br0")
	w.must("enslave", netlink.LinkSetMaster(w.eni, br))
	w.must("enslave", netlink.LinkSetMaster(port, br))
	// A bent frame may bear the receiver's MAC as its source; a bridge that
	// learned it would send what follows back the way it came.
	for _, l := range []netlink.Link{w.eni, port} {
		w.must("learning off", netlink.LinkSetLearning(l, false))
	}
}

func index(l netlink.Link) int { return l.Attrs().Index }

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

// socket is a packet socket on one device; it sees all frames of both ways.
type socket struct {
	t  testing.TB
	fd int
}

func (w *world) socket(l netlink.Link) *socket {
	w.t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	w.must("socket", err)
	w.t.Cleanup(func() { unix.Close(fd) })
	w.must("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index(l)}))
	w.must("buffer", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20))
	w.must("stamp", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	tv := unix.NsecToTimeval((20 * time.Millisecond).Nanoseconds())
	w.must("timeout", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	return &socket{w.t, fd}
}

func (s *socket) send(frame []byte) {
	if _, err := unix.Write(s.fd, frame); err != nil && err != unix.ENOBUFS {
		s.t.Errorf("send %x: %v", frame, err) // ENOBUFS is what a packet socket makes of a drop
	}
}

// arrival is a received frame and the kernel's stamp on CLOCK_BOOTTIME.
type arrival struct {
	frame []byte
	boot  int64
}

// next returns the next arriving frame, false after 20 ms without one.
func (s *socket) next() (arrival, bool) {
	buf, oob := make([]byte, 4096), make([]byte, 256)
	for {
		n, oobn, _, from, err := unix.Recvmsg(s.fd, buf, oob, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return arrival{}, false
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		return arrival{buf[:n], bootOf(oob[:oobn])}, true
	}
}

func bootOf(oob []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		if err == nil && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			ts := (*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			for { // again, where the thread stood still between the two clocks
				now, wall := BootNow(), time.Now().UnixNano()
				if BootNow()-now < time.Millisecond.Nanoseconds() {
					return now - (wall - ts.Nano())
				}
			}
		}
	}
	return BootNow()
}

// arrived injects the frames at from and returns which of them came out at to,
// told apart by the nonce at the end of each (see nonce).
func arrived(from, to *socket, frames [][]byte) map[int]bool {
	seen := map[int]bool{}
	sentinel := nonce(plain(0x88b5), len(frames)) // local experimental EtherType
	for i, f := range append(frames[:len(frames):len(frames)], sentinel) {
		from.send(nonce(f, i))
	}
	for quiet := 0; quiet < 3 || quiet < 1000 && !seen[len(frames)]; { // a busy host takes its time
		a, ok := to.next()
		if !ok {
			quiet++
			continue
		}
		if at := bytes.LastIndex(a.frame, nonceMark); at >= 0 && at+len(nonceMark)+4 <= len(a.frame) {
			seen[int(binary.BigEndian.Uint32(a.frame[at+len(nonceMark):]))] = true
		}
	}
	if !seen[len(frames)] {
		from.t.Errorf("the sentinel frame did not arrive: the wire is wedged")
	}
	return seen
}

var nonceMark = []byte("havipfence")

func nonce(frame []byte, i int) []byte {
	return binary.BigEndian.AppendUint32(append(frame[:len(frame):len(frame)], nonceMark...), uint32(i))
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// host is the HAVIP number i of a block that says its state.
func host4(block byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, block, byte(i >> 8), byte(i)})
}

func host6(block byte, i int) netip.Addr {
	return addr(fmt.Sprintf("2001:db8:%x::%x", block, i))
}

// TestMain also plays the child processes of the tests.
func TestMain(m *testing.M) {
	if ProofChild() {
		return
	}
	if role := os.Getenv("FENCE_TEST_CHILD"); role != "" {
		runtime.LockOSThread()
		os.Exit(child(role))
	}
	os.Exit(m.Run())
}
