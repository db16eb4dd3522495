package acceptor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/dchest/siphash"
	"havip-cluster/internal/boottime"
)

const (
	ethernetBytes = 14
	recallBytes   = ethernetBytes + 20 // the kernel wants room for an IP header (bpf_prog_test_run_skb)
	frameBytes    = 120
	headersBytes  = ethernetBytes + 20 + 8
)

// What Try returns: the frame is the process's, or it was answered.
const (
	VerdictPass     = 0xffffffff // TCX_NEXT
	VerdictRedirect = 7          // TC_ACT_REDIRECT
)

// trial is a frame of a session that nobody has: its number is 0.
var trial = Delegation{
	Config: 0x1122334455667788, Length: 20 * time.Millisecond, Promise: time.Hour, Boot: 0x99, Suspended: 0,
	Channel: Channel{
		Number: 0xa1a2a3a4a5a6a7a8, Invitation: 0xb1, Request: [2]uint64{1, 2}, Answer: [2]uint64{3, 4},
		Peer: netip.AddrFrom4([4]byte{192, 0, 2, 1}),
	},
}

// proofsMax is how often the proof is begun at most, should the voters be suspended while it runs.
const proofsMax = 20

// prove shows on frames that are on no wire that the program loaded here does what it should: a renewal that is
// delegated is answered once, stored and not answered after its recall.
func (a *Acceptor) prove(port uint16) (err error) {
	for range proofsMax {
		var was, is acceptorPage
		if err := a.objects.Page.Lookup(uint32(0), &was); err != nil {
			return err
		}
		if err = a.proveBy(was.Word[PageSuspended], port); err == nil {
			return nil
		}
		if lookErr := a.objects.Page.Lookup(uint32(0), &is); lookErr != nil || is.Word[PageSuspended] == was.Word[PageSuspended] {
			return errors.Join(err, lookErr)
		}
		if _, _, recallErr := a.Recall(trial.Session); recallErr != nil {
			return errors.Join(err, recallErr)
		}
	}
	return err
}

// proveBy is prove while the page has this count.
func (a *Acceptor) proveBy(suspended uint64, port uint16) error {
	d := trial
	d.Suspended = int64(suspended)
	before := boottime.Now()
	frame := d.renewal(port, 5, 77)
	for _, step := range []struct {
		what string
		do   func() error
		want uint32
	}{
		{"before it is delegated", nil, VerdictPass},
		{"delegated", func() error { return a.Grant(d) }, VerdictRedirect},
		{"a second time", nil, VerdictPass},
		{"recalled", func() error { return a.takeBack(before) }, VerdictPass},
	} {
		if step.do != nil {
			if err := step.do(); err != nil {
				return fmt.Errorf("a renewal, %s: %w", step.what, err)
			}
		}
		verdict, answer, err := a.Try(frame)
		if err != nil {
			return fmt.Errorf("a renewal, %s: %w", step.what, err)
		}
		if verdict != step.want {
			return fmt.Errorf("a renewal, %s: verdict %d, not %d", step.what, int32(verdict), int32(step.want))
		}
		if verdict == VerdictRedirect && binary.BigEndian.Uint16(answer[headersBytes-8:]) != port {
			return errors.New("an answer that does not come from the port")
		}
	}
	return nil
}

// takeBack recalls the trial, and compares what it has stored with the clock.
func (a *Acceptor) takeBack(before int64) error {
	p, known, err := a.Recall(trial.Session)
	if err != nil {
		return err
	}
	now := boottime.Now()
	if !known || p.Round != 5 || p.Sent != 77 || p.Acked != 1 || p.Heard < before || p.Heard > now || p.Until != p.Heard+int64(trial.Promise) {
		return fmt.Errorf("it promised %+v between %d and %d", p, before, now)
	}
	return nil
}

// Try runs the program on an Ethernet frame that is on no wire. answer is the frame as it was left.
func (a *Acceptor) Try(frame []byte) (verdict uint32, answer []byte, err error) {
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64)}
	verdict, err = a.objects.Accept.Run(&opts)
	return verdict, opts.DataOut, err
}

// renewal is an Ethernet frame with a renewal of the session, as its holder sends it to a device.
func (d *Delegation) renewal(port uint16, round uint64, sent int64) []byte {
	return d.Channel.ethernet(port, d.frame(round, sent))
}

func (d *Delegation) frame(round uint64, sent int64) []byte {
	return d.Channel.tagged(0, d.Channel.Request, 1, d.Session, round, uint64(sent), uint64(d.Length), d.Config, d.Boot)
}

// ethernet is a frame with a datagram from the channel's peer to a device with the address 00:00:00:00:00:00, over IPv4
// or IPv6 as that is.
func (c *Channel) ethernet(port uint16, datagram []byte) []byte {
	b := make([]byte, 12, 256)
	copy(b[6:], []byte{2, 0, 0, 0, 0, 1})
	size := byte(8 + len(datagram))
	if c.Peer.Is4() {
		ip := []byte{0x45, 0, 0, 20 + size, 0, 0, 0, 0, 64, 17, 0, 0}
		b = append(append(append(append(b, 0x08, 0x00), ip...), c.Peer.AsSlice()...), 192, 0, 2, 2)
	} else {
		ip := []byte{0x60, 0, 0, 0, 0, size, 17, 64}
		b = append(append(append(append(b, 0x86, 0xdd), ip...), c.Peer.AsSlice()...), netip.MustParseAddr("2001:db8::2").AsSlice()...)
	}
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, port)
	b = append(b, 0, size, 0, 0) // no checksum
	return append(b, datagram...)
}

// tagged is a tagged frame of the channel (membership/datagram/frame.go) with a fixed message (failover/wire/fixed.go).
func (c *Channel) tagged(answer byte, key [2]uint64, kind byte, message ...uint64) []byte {
	f := make([]byte, 0, frameBytes)
	f = append(f, 1, 2, answer, 0, 0xca, 0xfe, 0, 1) // version, protection, type; the sender's key
	f = binary.BigEndian.AppendUint64(f, 0x1111)     // sender
	f = binary.BigEndian.AppendUint64(f, 0x2222)     // receiver
	f = append(f, 0xca, 0xfe, 0, 2, 0, 0, 0, 0)      // the receiver's key
	for _, v := range append([]uint64{c.Number, c.Invitation, 1, 0x03<<56 | uint64(kind)<<48}, message...) {
		f = binary.BigEndian.AppendUint64(f, v)
	}
	return binary.LittleEndian.AppendUint64(f, siphash.Hash(key[0], key[1], f))
}

// Places in the page, in words of 8 bytes (failover/plane/page.go): the deadline that the agent sees, and how often the
// voters were suspended.
const (
	PageDeadline  = 2
	PageSuspended = 3
)
