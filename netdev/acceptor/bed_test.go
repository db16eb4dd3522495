package acceptor

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/dchest/siphash"
	"golang.org/x/sys/unix"

	"havip-cluster/testbed/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m, "", nil) }

const port = 7403

// bed is an acceptor on no device, with the page of its voter.
type bed struct {
	*testing.T
	*Acceptor
	page []int64
	file *os.File
}

func newBed(t *testing.T) *bed {
	t.Helper()
	f, err := NewPage()
	labtest.Must(t, err)
	t.Cleanup(func() { f.Close() })
	memory, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	labtest.Must(t, err)
	t.Cleanup(func() { _ = unix.Munmap(memory) })
	a, err := Open(f, port, nil)
	if !labtest.KernelFrom(6, 6) {
		if err == nil || !strings.Contains(err.Error(), "Linux 6.6") {
			t.Fatalf("opened on a kernel without TCX: %v", err)
		}
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("%+v (these tests need root, they do not skip for want of it)", err)
	}
	t.Cleanup(a.Close)
	return &bed{t, a, unsafe.Slice((*int64)(unsafe.Pointer(&memory[0])), 512), f}
}

var (
	peer4 = netip.MustParseAddr("192.0.2.1")
	peer6 = netip.MustParseAddr("2001:db8::1")
)

// delegation is one of session 7, of which round 100 was acknowledged.
func delegation() Delegation {
	return Delegation{
		Session: 7, Config: 0xc0c0c0c0c0c0c0c0, Length: 20 * time.Millisecond, Promise: 22400 * time.Microsecond, Boot: 0xb0b0,
		Channel:  Channel{Number: 0xdeadbeef00000001, Invitation: 0xfeed, Request: [2]uint64{11, 12}, Answer: [2]uint64{13, 14}, Peer: peer4},
		Progress: Progress{Round: 100, Sent: 5000},
	}
}

func (b *bed) grant(d Delegation) {
	b.Helper()
	if err := b.Grant(d); err != nil {
		b.Fatal(err)
	}
}

// answers reports whether the program answers a frame.
func (b *bed) answers(frame []byte) bool {
	b.Helper()
	verdict, _, err := b.Try(frame)
	if err != nil {
		b.Fatal(err)
	}
	if verdict != VerdictPass && verdict != VerdictRedirect {
		b.Fatalf("verdict %d", int32(verdict))
	}
	return verdict == VerdictRedirect
}

func (b *bed) progress(session uint64) Progress {
	b.Helper()
	p, known := b.Look(session)
	if !known {
		b.Fatalf("session %d is not delegated", session)
	}
	return p
}

// checksum fills in the UDP checksum of a frame (RFC 768, RFC 8200 section 8.1).
func checksum(frame []byte) []byte {
	at, sum := udpAt(frame), uint32(0)
	frame[at+6], frame[at+7] = 0, 0
	sum = sumOf(frame)
	binary.BigEndian.PutUint16(frame[at+6:], ^uint16(sum))
	return frame
}

// sumOf is the sum over pseudo header and datagram, folded: 0xffff if the checksum in it is right.
func sumOf(frame []byte) uint32 {
	at := udpAt(frame)
	addresses := frame[ethernetBytes+12 : ethernetBytes+20]
	if at != ethernetBytes+20 {
		addresses = frame[ethernetBytes+8 : ethernetBytes+40]
	}
	udp := frame[at:]
	sum := uint32(17 + len(udp))
	for _, part := range [][]byte{addresses, udp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}

func udpAt(frame []byte) int {
	if frame[12] == 0x08 {
		return ethernetBytes + 20
	}
	return ethernetBytes + 40
}

// acknowledged is the answer that a frame should get: what is turned round, and its tag.
func acknowledged(frame []byte, d *Delegation) []byte {
	out := append([]byte(nil), frame...)
	swap := func(i, j, n int) {
		for k := range n {
			out[i+k], out[j+k] = out[j+k], out[i+k]
		}
	}
	at := udpAt(frame)
	swap(0, 6, 6)
	if at == ethernetBytes+20 {
		swap(ethernetBytes+12, ethernetBytes+16, 4)
	} else {
		swap(ethernetBytes+8, ethernetBytes+24, 16)
	}
	swap(at, at+2, 2)
	f := at + 8
	out[f+2] = 1       // an answer
	swap(f+4, f+24, 4) // keys
	swap(f+8, f+16, 8) // nodes
	out[f+8*7+1] = 2   // an acknowledgement
	tag := f + frameBytes - 8
	binary.LittleEndian.PutUint64(out[tag:], siphash.Hash(d.Channel.Answer[0], d.Channel.Answer[1], out[f:tag]))
	if out[at+6] != 0 || out[at+7] != 0 {
		checksum(out)
	}
	return out
}
