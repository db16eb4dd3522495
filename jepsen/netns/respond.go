package netns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/ipv4"
)

// DefaultPort is the UDP port of responders.
const DefaultPort = 7007

// A question is magic and a number; its answer is the same followed by the responder's name.
//
//	0      4            12
//	| hv01 | number, BE | name ...
const (
	questionBytes = 12
	answerBytes   = questionBytes + 64
)

var magic = []byte("hv01")

func appendQuestion(b []byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, magic...), number)
}

// parseQuestion returns the number and, of an answer, the name.
func parseQuestion(b []byte) (number uint64, name string, ok bool) {
	if len(b) < questionBytes || !bytes.HasPrefix(b, magic) {
		return 0, "", false
	}
	return binary.BigEndian.Uint64(b[len(magic):]), string(b[questionBytes:]), true
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
		return nil, fmt.Errorf("netns: responder of %s: %w", h.Name, err)
	}
	conn := ipv4.NewPacketConn(socket)
	if err := conn.SetControlMessage(ipv4.FlagDst, true); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("netns: responder of %s: %w", h.Name, err)
	}
	var running sync.WaitGroup
	running.Go(func() { respond(conn, h.Name) })
	return func() { _ = socket.Close(); running.Wait() }, nil
}

// respond ends when the socket is closed.
func respond(conn *ipv4.PacketConn, name string) {
	question, answer := make([]byte, questionBytes), make([]byte, 0, answerBytes)
	for {
		n, control, from, err := conn.ReadFrom(question)
		if err != nil {
			return
		}
		number, _, ok := parseQuestion(question[:n])
		if !ok || control == nil {
			continue
		}
		answer = append(appendQuestion(answer[:0], number), name...)
		_, _ = conn.WriteTo(answer, &ipv4.ControlMessage{Src: control.Dst}, from)
	}
}
