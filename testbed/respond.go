package testbed

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

// askEvery is how often Reaches asks.
const askEvery = 20 * time.Millisecond

// DefaultPort is the UDP port of responders.
const DefaultPort = 7007

// A question is magic and a number; its answer is the same followed by the responder's name.
//
//	0      4            12
//	| hv01 | number, BE | name ...
const (
	QuestionBytes = 12
	AnswerBytes   = QuestionBytes + 64
)

var magic = []byte("hv01")

// AppendQuestion encodes a question.
func AppendQuestion(b []byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, magic...), number)
}

// ParseQuestion decodes a question or an answer: it returns the number and, of an answer, the name.
func ParseQuestion(b []byte) (number uint64, name string, ok bool) {
	if len(b) < QuestionBytes || !bytes.HasPrefix(b, magic) {
		return 0, "", false
	}
	return binary.BigEndian.Uint64(b[len(magic):]), string(b[QuestionBytes:]), true
}

// Respond answers questions on a UDP port of all the host's addresses with the host's name, each
// from the very address that was asked. If that address has gone by then, the kernel refuses to
// send, and there is no answer. stop closes the port and returns when nothing answers any more.
func (h *Host) Respond(port int) (stop func(), err error) {
	var socket *net.UDPConn
	err = h.Do(func() (err error) {
		socket, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: responder of %s: %w", h.Name, err)
	}
	conn := ipv4.NewPacketConn(socket)
	if err := conn.SetControlMessage(ipv4.FlagDst, true); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("testbed: responder of %s: %w", h.Name, err)
	}
	var running sync.WaitGroup
	running.Go(func() { respond(conn, h.Name) })
	return func() { _ = socket.Close(); running.Wait() }, nil
}

// respond ends when the socket is closed.
func respond(conn *ipv4.PacketConn, name string) {
	question, answer := make([]byte, QuestionBytes), make([]byte, 0, AnswerBytes)
	for {
		n, control, from, err := conn.ReadFrom(question)
		if err != nil {
			return
		}
		number, _, ok := ParseQuestion(question[:n])
		if !ok || control == nil {
			continue
		}
		answer = append(AppendQuestion(answer[:0], number), name...)
		_, _ = conn.WriteTo(answer, &ipv4.ControlMessage{Src: control.Dst}, from)
	}
}

// Reaches reports whether a responder at an address answers this host within a time: it asks every 20 ms.
func (h *Host) Reaches(to netip.Addr, port int, within time.Duration) (bool, error) {
	var socket *net.UDPConn
	err := h.Do(func() (err error) {
		socket, err = net.ListenUDP("udp4", nil)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("testbed: %s asks %v: %w", h.Name, to, err)
	}
	defer socket.Close()
	answer := make([]byte, AnswerBytes)
	for i, deadline := 0, time.Now().Add(within); time.Now().Before(deadline); i++ {
		_, _ = socket.WriteToUDPAddrPort(AppendQuestion(nil, uint64(i)), netip.AddrPortFrom(to, uint16(port))) // refused: asked again
		_ = socket.SetReadDeadline(time.Now().Add(askEvery))
		if _, _, err := socket.ReadFromUDPAddrPort(answer); err == nil {
			return true, nil
		}
	}
	return false, nil
}
