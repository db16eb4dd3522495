package membership

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"havip-cluster/fsm"
)

// Somebody without the key sends datagrams and opens connections that speak of 20 MB each. The
// members hear each other meanwhile, little memory is used, and few lines are written.
func TestAFloodAtTheGossipPort(t *testing.T) {
	var state atomic.Pointer[fsm.State]
	state.Store(fsm.New())
	members := func(c *GossipConfig) {
		c.Members = state.Load
		c.tune = func(m *memberlist.Config) {
			hasty(m)
			m.ProbeInterval = time.Hour     // no lines about a member that a busy host holds up
			m.TCPTimeout = 10 * time.Minute // what is closed in time is not closed by this
		}
	}
	a, b := chat(t, "n-a", members), chat(t, "n-b", members)
	state.Store(stateOf(a, b))
	stop := a.rejoin(t, state.Load())
	defer stop()
	eventually(t, "they see each other", func() bool { return a.Alive("n-b") && b.Alive("n-a") })
	before := heap()
	lines := a.log.lines()

	stranger := func(network string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
		if network == "udp" {
			d.LocalAddr = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9)}
		}
		return must[net.Conn](t)(d.Dial(network, a.cfg.Listen.String()))
	}
	label := append([]byte{244, byte(len(a.cfg.Cluster))}, a.cfg.Cluster...) // hasLabelMsg of memberlist
	udp := stranger("udp")
	defer udp.Close()
	var spoofed []net.Conn // from a member's own address
	for range 4 {
		c := must[net.Conn](t)(net.Dial("udp", a.cfg.Listen.String()))
		defer c.Close()
		spoofed = append(spoofed, c)
	}
	for i := range 3000 {
		junk := append(bytes.Clone(label), bytes.Repeat([]byte{byte(i), 1}, 50)...)
		_, _ = udp.Write(junk)
		_, _ = spoofed[i%4].Write(junk)
	}
	closed := 0
	for range 40 {
		c := stranger("tcp")
		defer c.Close()
		head := append(bytes.Clone(label), 10) // encryptMsg
		head = binary.BigEndian.AppendUint32(head, 20<<20)
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err := c.Write(append(head, make([]byte, 1<<20)...))
		if _, end := c.Read(head[:1]); errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(end, os.ErrDeadlineExceeded) {
			break
		}
		closed++ // long before memberlist's own time-out
	}
	if grown := int64(heap()) - int64(before); grown > 24<<20 {
		t.Errorf("the flood costs %d bytes", grown)
	}
	if closed != 40 {
		t.Errorf("only %d of 40 connections with a megabyte were closed", closed)
	}
	if n := a.log.lines() - lines; n > 12 {
		t.Errorf("%d lines", n)
	}
	eventually(t, "a word arrives", func() bool {
		check(t, a.Send(b.node(), []byte("hello")))
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.got) > 0
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Of the lines with one cause one is written in a minute, and then how many there were.
func TestGossipLines(t *testing.T) {
	var out bytes.Buffer
	w := newSlogWriter(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	now := time.Unix(1, 0)
	w.now = func() time.Time { return now }
	for i := range 500 {
		fmt.Fprintf(w, "2026/01/01 00:00:00 [ERR] memberlist: Decrypt packet failed: no installed keys from=192.0.2.%d:%d\n", i%250, i)
		fmt.Fprintf(w, "2026/01/01 00:00:00 [WARN] memberlist: Got ping for unexpected node %d\n", i)
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 2 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	now = now.Add(gossipLinePause)
	fmt.Fprintf(w, "2026/01/01 00:00:00 [ERR] memberlist: Decrypt packet failed: no installed keys from=192.0.2.1:1\n")
	if !bytes.Contains(out.Bytes(), []byte("and 499 more lines like it")) {
		t.Errorf("the others are not counted:\n%s", out.String())
	}
	for i := range 1000 {
		fmt.Fprintf(w, "[ERR] memberlist: %c%c\n", 'a'+rune(i%26), 'a'+rune(i/26))
	}
	if len(w.causes) > gossipCauses+1 {
		t.Errorf("%d causes are remembered", len(w.causes))
	}
}
