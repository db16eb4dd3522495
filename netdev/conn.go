package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// burstMax is how many requests go into one sendmsg. Their answers wait in the receive buffer, each some 1 KB of
	// kernel memory, so they fit into the smallest buffer that a kernel has by default (212,992 bytes).
	burstMax = 128

	// answerBuffer is the receive buffer that is asked for, in bytes.
	answerBuffer = 1 << 20

	// receiveSize holds the largest part of a dump (32 KB, NLMSG_GOODSIZE of the kernel) and every answer.
	receiveSize = 64 << 10

	// staleMax bounds the messages that are read past while an answer is awaited: answers to requests that were given
	// up, and dumps whose reader left. One dump of 10,000 addresses is about 60 messages.
	staleMax = 1 << 16

	// nlaTypeMask is NLA_TYPE_MASK of linux/netlink.h.
	nlaTypeMask = 0x3fff
)

// ErrNoAnswer is returned when the kernel's answer to a request was lost or late: nobody knows whether it was done.
var ErrNoAnswer = errors.New("netdev: the kernel's answer was lost, it is unknown whether the request was done")

// request is one netlink message: type, flags beyond NLM_F_REQUEST and NLM_F_ACK, and what follows the header.
type request struct {
	kind  uint16
	flags uint16
	body  []byte
}

// conn is one netlink socket for requests. It is in no multicast group, so it hears nothing but answers. The mutex makes
// requests one after the other, which is what the kernel does with them anyway.
type conn struct {
	mu   sync.Mutex
	fd   int
	port uint32 // nlmsg_pid of what this socket causes
	seq  uint32 // of the last request
	buf  []byte

	// strict: dumps are filtered by the kernel (4.20). The filters are applied here in any case.
	strict bool
}

// dial opens a socket of a netlink protocol in the network namespace of the calling thread.
func dial(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("netdev: netlink socket: %w", err)
	}
	c := &conn{fd: fd, buf: make([]byte, receiveSize)}
	if err := c.setUp(); err != nil {
		c.close()
		return nil, fmt.Errorf("netdev: netlink socket: %w", err)
	}
	return c, nil
}

func (c *conn) setUp() error {
	if err := unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	name, err := unix.Getsockname(c.fd)
	if err != nil {
		return err
	}
	c.port = name.(*unix.SockaddrNetlink).Pid
	tv := unix.NsecToTimeval(socketTimeout.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv),
		// Answers name the request by its number and do not repeat it.
		unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
		// The kernel adds a sentence to its errors.
		unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1))
	c.strict = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1) == nil
	// Forcing needs CAP_NET_ADMIN of the first user namespace. Without it bursts still fit, see burstMax.
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, answerBuffer) != nil {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, answerBuffer)
	}
	return err
}

func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
}

// batch sends the requests in bursts and returns an error for each, in their order: nil means that the kernel has
// acknowledged it, ErrNoAnswer that its fate is unknown. The kernel takes them one after the other, and one that fails
// does not hold up the next.
func (c *conn) batch(requests []request) []error {
	errs := make([]error, len(requests))
	c.mu.Lock()
	defer c.mu.Unlock()
	for from := 0; from < len(requests); from += burstMax {
		to := min(from+burstMax, len(requests))
		c.burst(requests[from:to], errs[from:to])
	}
	return errs
}

// burst is batch for at most burstMax requests.
func (c *conn) burst(requests []request, errs []error) {
	first := c.seq + 1
	var out []byte
	for _, r := range requests {
		c.seq++
		out = appendMessage(out, r.kind, r.flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK, c.seq, r.body)
	}
	if err := c.send(out); err != nil { // the kernel has looked at none
		for i := range errs {
			errs[i] = err
		}
		return
	}
	open := make([]bool, len(requests))
	for i := range open {
		open[i], errs[i] = true, ErrNoAnswer
	}
	left := len(requests)
	wait, lost := 0, error(nil)
	for range staleMax {
		if left == 0 {
			return
		}
		b, err := c.receive(wait)
		if errors.Is(err, unix.ENOBUFS) { // an answer was dropped; others still wait to be read
			wait, lost = unix.MSG_DONTWAIT, err
			continue
		}
		if err != nil {
			lost = errors.Join(lost, err)
			break
		}
		for m := range messages(b) {
			i := int(m.seq - first)
			if m.kind == unix.NLMSG_ERROR && i >= 0 && i < len(open) && open[i] {
				open[i] = false
				left--
				errs[i] = m.failure()
			}
		}
	}
	for i := range errs {
		if open[i] {
			errs[i] = fmt.Errorf("%w: %w", ErrNoAnswer, lost)
		}
	}
}

// dump asks for a list and calls each for every message of it, which must not keep the bytes. reset is called before
// each attempt. From an interrupted dump nobody may conclude that something is absent, so it is repeated, at most
// dumpAttempts times.
func (c *conn) dump(kind uint16, body []byte, reset func(), each func(kind uint16, body []byte) error) error {
	_, err := whole(func() ([]struct{}, error) {
		reset()
		return nil, c.dumpOnce(kind, body, each)
	})
	return err
}

func (c *conn) dumpOnce(kind uint16, body []byte, each func(kind uint16, body []byte) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	seq, interrupted := c.seq, false
	if err := c.send(appendMessage(nil, kind, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, seq, body)); err != nil {
		return err
	}
	var failed error // the rest is read nevertheless: the kernel refuses a dump while another is under way
	for range staleMax {
		b, err := c.receive(0)
		if errors.Is(err, unix.ENOBUFS) {
			failed = errors.Join(failed, err)
			continue
		}
		if err != nil {
			return errors.Join(failed, err)
		}
		for m := range messages(b) {
			if m.seq != seq {
				continue
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.kind {
			case unix.NLMSG_ERROR:
				return errors.Join(failed, m.failure())
			case unix.NLMSG_DONE:
				failed = errors.Join(failed, m.failure())
				if failed == nil && interrupted {
					return netlink.ErrDumpInterrupted
				}
				return failed
			default:
				if failed == nil {
					failed = each(m.kind, m.body)
				}
			}
		}
	}
	return fmt.Errorf("%w: a dump of more than %d messages", ErrNoAnswer, staleMax)
}

// ask sends one request and calls each for every message of the answer, which must not keep the bytes.
func (c *conn) ask(kind uint16, body []byte, each func(body []byte) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	if err := c.send(appendMessage(nil, kind, unix.NLM_F_REQUEST|unix.NLM_F_ACK, c.seq, body)); err != nil {
		return err
	}
	var failed error
	for range staleMax {
		b, err := c.receive(0)
		if err != nil {
			return errors.Join(failed, err)
		}
		for m := range messages(b) {
			switch {
			case m.seq != c.seq:
			case m.kind == unix.NLMSG_ERROR:
				return errors.Join(failed, m.failure())
			case failed == nil:
				failed = each(m.body)
			}
		}
	}
	return fmt.Errorf("%w: more than %d messages", ErrNoAnswer, staleMax)
}

func (c *conn) send(b []byte) error {
	if c.fd < 0 {
		return fmt.Errorf("netdev: netlink socket: %w", unix.EBADF)
	}
	for {
		err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive returns one datagram of the kernel, valid until the next call.
func (c *conn) receive(flags int) ([]byte, error) {
	for end := time.Now().Add(socketTimeout); ; {
		n, from, err := unix.Recvfrom(c.fd, c.buf, flags|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR) && time.Now().Before(end):
		case err != nil:
			return nil, err
		case n > len(c.buf):
			return nil, fmt.Errorf("%w: a message of %d bytes", ErrNoAnswer, n)
		default:
			// Other processes may send to the socket too.
			if a, ok := from.(*unix.SockaddrNetlink); ok && a.Pid == 0 {
				return c.buf[:n], nil
			}
			if time.Now().After(end) {
				return nil, unix.EAGAIN
			}
		}
	}
}

// message is one netlink message.
type message struct {
	kind  uint16
	flags uint16
	seq   uint32
	port  uint32
	body  []byte
}

// appendMessage appends struct nlmsghdr (u32 length, u16 type, u16 flags, u32 sequence, u32 port) and body, padded.
func appendMessage(b []byte, kind, flags uint16, seq uint32, body []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	return pad(append(b, body...))
}

// messages yields the messages of a datagram. It ends at the first that is malformed.
func messages(b []byte) func(yield func(message) bool) {
	return func(yield func(message) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			n := int(binary.NativeEndian.Uint32(b))
			if n < unix.NLMSG_HDRLEN || n > len(b) {
				return
			}
			m := message{
				binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]),
				binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:]), b[unix.NLMSG_HDRLEN:n],
			}
			if !yield(m) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// failure returns the error of an NLMSG_ERROR or NLMSG_DONE: s32 negative errno, 0 = success. The sentence of an
// extended acknowledgement follows the errno and, in NLMSG_ERROR, the 16 byte header of the request (NETLINK_CAP_ACK).
func (m message) failure() error {
	if len(m.body) < 4 {
		return nil
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.body)))
	if errno == 0 {
		return nil
	}
	const nlmsgerrMsg = 1 // NLMSGERR_ATTR_MSG
	skip := 4
	if m.kind == unix.NLMSG_ERROR {
		skip += unix.NLMSG_HDRLEN
	}
	if m.flags&unix.NLM_F_ACK_TLVS != 0 && len(m.body) > skip {
		text := ""
		_ = attributes(m.body[skip:], func(kind uint16, v []byte) {
			if kind == nlmsgerrMsg {
				text = zeroTerminated(v)
			}
		})
		if text != "" {
			return fmt.Errorf("%w (%s)", errno, text)
		}
	}
	return errno
}

// errAttributes is returned for bytes that are no netlink attributes.
var errAttributes = errors.New("netdev: malformed netlink attributes")

// attributes calls each for every attribute: u16 length, u16 type, value, padding to 4. The flags for nested and
// big-endian attributes are cut off the type.
func attributes(b []byte, each func(kind uint16, value []byte)) error {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return fmt.Errorf("%w: one of %d bytes", errAttributes, n)
		}
		each(binary.NativeEndian.Uint16(b[2:])&nlaTypeMask, b[unix.SizeofRtAttr:n])
		b = b[min(align(n), len(b)):]
	}
	return nil
}

// appendAttribute is the inverse of attributes.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

func appendAttribute32(b []byte, kind uint16, value uint32) []byte {
	return appendAttribute(b, kind, binary.NativeEndian.AppendUint32(nil, value))
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

func pad(b []byte) []byte {
	for len(b) != align(len(b)) {
		b = append(b, 0)
	}
	return b
}

func zeroTerminated(v []byte) string {
	for i, c := range v {
		if c == 0 {
			return string(v[:i])
		}
	}
	return string(v)
}
