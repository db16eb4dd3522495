package plane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"havip-cluster/internal/realtime"
)

// A packet between agent and plane is one byte that says what it is, one with the length of an id, the
// id of a node, and a word of the lease.
const (
	// packetWord: from the plane, a word that the node has said; from the agent, one to say to it, or,
	// with its own id, for the plane itself.
	packetWord = 1 + iota
	// packetGossip: the same by gossip, where nobody proves who spoke; from the agent without an id.
	packetGossip
)

const packetMax = 2 + 255 + 1200 // ports.Post: at most 1200 bytes of word

// packets is one end of a pair of sockets that keeps packets apart (unix(7), SOCK_SEQPACKET). A packet
// for which there is no room is lost, as on the wire.
type packets struct {
	fd int

	mu     sync.RWMutex // held for reading while fd is used
	closed bool
}

func newPackets(f *os.File) (*packets, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("plane: %s is no socket for packets", f.Name())
	}
	return &packets{fd: fd}, nil
}

// put appends a packet to buf.
func put(buf []byte, kind byte, node string, word []byte) []byte {
	buf = append(buf, kind, byte(len(node)))
	return append(append(buf, node...), word...)
}

// parse takes a packet apart; false if it is none.
func parse(b []byte) (kind byte, node, word []byte, ok bool) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return 0, nil, nil, false
	}
	return b[0], b[2 : 2+b[1]], b[2+b[1]:], true
}

var errLost = errors.New("plane: no room for a packet")

var packetRoom = sync.Pool{New: func() any { return new([packetMax]byte) }}

// send sends a packet and never waits.
func (p *packets) send(kind byte, node string, word []byte) error {
	if len(node) > 255 || 2+len(node)+len(word) > packetMax {
		return fmt.Errorf("plane: a packet of %d bytes", 2+len(node)+len(word))
	}
	room := packetRoom.Get().(*[packetMax]byte)
	defer packetRoom.Put(room)
	b := put(room[:0], kind, node, word)
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return os.ErrClosed
	}
	// Without telling Go's scheduler: it never blocks (internal/boottime).
	if _, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(p.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0); errno != 0 {
		if errno == unix.EAGAIN {
			return errLost
		}
		return os.NewSyscallError("sendto", errno)
	}
	return nil
}

// run hands each packet on until the other end or this one is closed. take must not keep what it gets.
func (p *packets) run(take func(kind byte, node, word []byte)) {
	buf := make([]byte, packetMax)
	for {
		n, errno := realtime.Block(unix.SYS_RECVFROM, uintptr(p.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0 || n == 0: // the end
			return
		}
		if kind, node, word, ok := parse(buf[:n]); ok {
			take(kind, node, word)
		}
	}
}

// stop ends run, for good.
func (p *packets) stop() {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.closed {
		_ = unix.Shutdown(p.fd, unix.SHUT_RDWR)
	}
}

// close is for after run has ended.
func (p *packets) close() {
	p.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		_ = unix.Close(p.fd)
	}
}

// Ends are one side's of what joins an agent and its plane.
type Ends struct {
	Control, Words, Page *os.File
}

// Pair makes both sides: the agent's, which it inherits, and the plane's. page is theirs from now on; nil: an
// ordinary one is made.
func Pair(page *os.File) (agent, plane Ends, err error) {
	agent.Page = page
	control, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		agent.Close()
		return Ends{}, Ends{}, os.NewSyscallError("socketpair", err)
	}
	file := func(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }
	agent.Control, plane.Control = file(control[0], "control of the lease plane"), file(control[1], "control of the agent")
	words, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		agent.Close()
		plane.Close()
		return Ends{}, Ends{}, os.NewSyscallError("socketpair", err)
	}
	agent.Words, plane.Words = file(words[0], "words of the lease plane"), file(words[1], "words of the agent")
	if agent.Page == nil {
		if agent.Page, err = newPageFile(); err != nil {
			agent.Close()
			plane.Close()
			return Ends{}, Ends{}, err
		}
	}
	fd, err := unix.FcntlInt(agent.Page.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		agent.Close()
		plane.Close()
		return Ends{}, Ends{}, os.NewSyscallError("fcntl", err)
	}
	plane.Page = file(fd, "lease page")
	return agent, plane, nil
}

// open takes over what the files are of, and closes them.
func (e Ends) open() (page *Page, control net.Conn, words *packets, err error) {
	defer e.Close()
	if page, err = OpenPage(e.Page); err != nil {
		return nil, nil, nil, err
	}
	if control, err = net.FileConn(e.Control); err != nil {
		return nil, nil, nil, fmt.Errorf("plane: %w", err)
	}
	if words, err = newPackets(e.Words); err != nil {
		return nil, nil, nil, errors.Join(err, control.Close())
	}
	return page, control, words, nil
}

// Close closes the files.
func (e Ends) Close() {
	for _, f := range []*os.File{e.Control, e.Words, e.Page} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// Files are the ends in the order in which a child inherits them.
func (e Ends) Files() []*os.File { return []*os.File{e.Control, e.Words, e.Page} }
