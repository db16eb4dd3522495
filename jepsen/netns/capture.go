package netns

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"havip-cluster/jepsen/history"
)

// Capture records when a node sends frames in the name of a HAVIP: ARP with it as the sender, or IPv4
// with it as the source. It listens at the switch's port of each node, before partitions and
// loss, and takes the kernel's own times of receipt there.
type Capture struct {
	lab   *Lab
	files []*os.File
	end   func()

	mu   sync.Mutex
	open map[[2]string]*history.Frames
	done []history.Frames
}

// CaptureHAVIPs starts a capture for some HAVIPs (IPv4) at all nodes. Stop ends it.
func (l *Lab) CaptureHAVIPs(havips []netip.Addr) (*Capture, error) {
	c := &Capture{lab: l, open: map[[2]string]*history.Frames{}}
	var running sync.WaitGroup
	c.end = sync.OnceFunc(func() {
		for _, f := range c.files {
			_ = f.Close()
		}
		running.Wait()
	})
	for _, node := range l.Nodes() {
		for eni := range node.ENIs() {
			var file *os.File
			err := l.Switch().Do(func() (err error) {
				file, err = portSocket(node.Port(eni), havips)
				return err
			})
			if err != nil {
				c.end()
				return nil, fmt.Errorf("netns: capture at %s: %w", node.Port(eni), err)
			}
			c.files = append(c.files, file)
			running.Go(func() { c.receive(file, node.Name, node.MAC(eni)) })
		}
	}
	return c, nil
}

// Stop returns when the capture has ended.
func (c *Capture) Stop() { c.end() }

// History returns the series, one for each node, and the runs of frames so far.
func (c *Capture) History() ([]history.Series, []history.Frames) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := append([]history.Frames(nil), c.done...)
	for _, f := range c.open {
		list = append(list, *f)
	}
	var series []history.Series
	for _, node := range c.lab.Nodes() {
		s := history.Series{Kind: history.Capturing, From: "switch", Target: node.Name}
		for _, f := range list {
			if f.Node == node.Name {
				s.Count += f.Count
			}
		}
		series = append(series, s)
	}
	return series, list
}

// portSocket opens a packet socket at a link of the calling thread's namespace that
// sees only frames in the name of a HAVIP.
func portSocket(port string, havips []netip.Addr) (*os.File, error) {
	link, err := net.InterfaceByName(port)
	if err != nil {
		return nil, err
	}
	filter, err := bpf.Assemble(sourceFilter(havips))
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "capture")
	program := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		program[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBytes)
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.BigEndian.Uint16([]byte{unix.ETH_P_ALL & 0xff, 0}), Ifindex: link.Index})
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// sourceFilter accepts ARP from and IPv4 of the given addresses.
func sourceFilter(havips []netip.Addr) []bpf.Instruction {
	n := uint8(len(havips))
	list := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv4, SkipTrue: 3 + n},
		bpf.LoadAbsolute{Off: etherBytes + 12, Size: 4}, // IPv4 source
		bpf.Jump{Skip: 1},
		bpf.LoadAbsolute{Off: etherBytes + 14, Size: 4}, // ARP sender
	}
	for i, havip := range havips {
		list = append(list, bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(havip.AsSlice()), SkipTrue: n - uint8(i)})
	}
	return append(list, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 64})
}

// receive ends when the file is closed.
func (c *Capture) receive(file *os.File, node string, mac net.HardwareAddr) {
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	frame, control := make([]byte, 64), make([]byte, 128)
	for {
		var n, oobn int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, _, failed = unix.Recvmsg(int(fd), frame, control, 0)
			return failed != unix.EAGAIN
		})
		if err != nil || failed != nil {
			return
		}
		wall, now := time.Now().UnixNano(), c.lab.Now()
		stamp, ok := stampOf(control[:oobn])
		if havip, sent := senderOf(frame[:n], mac); sent && ok {
			c.add(node, havip.String(), now-max(0, wall-stamp))
		}
	}
}

// stampOf is the kernel's time of receipt, on the wall clock, ns.
func stampOf(control []byte) (int64, bool) {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, false
	}
	for _, m := range list {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			return int64(binary.NativeEndian.Uint64(m.Data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(m.Data[8:])), true
		}
	}
	return 0, false
}

// senderOf is the address in whose name a frame speaks, if it comes from the node itself:
// the port sees the frames to it, too.
func senderOf(frame []byte, mac net.HardwareAddr) (netip.Addr, bool) {
	if len(frame) < etherBytes+20 || net.HardwareAddr(frame[6:12]).String() != mac.String() {
		return netip.Addr{}, false
	}
	at := etherBytes + 12
	if binary.BigEndian.Uint16(frame[12:]) == etherARP {
		at = etherBytes + 14
	}
	return netip.AddrFrom4([4]byte(frame[at : at+4])), true
}

func (c *Capture) add(node, havip string, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [2]string{node, havip}
	if run := c.open[key]; run != nil {
		if at-run.Last <= history.FramesApart {
			run.Last = max(run.Last, at)
			run.Count++
			return
		}
		c.done = append(c.done, *run)
	}
	c.open[key] = &history.Frames{Node: node, HAVIP: havip, First: at, Last: at, Count: 1}
}
