package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// GraceWait is how long a stopped instrument still listens for the last answers.
const GraceWait = 100 * time.Millisecond

// Probe is one question and what became of it; times are Lab.Now.
// Invariant: Answered == 0 or Sent < Answered.
type Probe struct {
	Sent     int64
	Answered int64  // 0: never
	Node     string // who answered
}

// Prober asks one address again and again, as a client of the service does: through the kernel's
// own routing and ARP cache. A probe that the kernel refuses to send (no route, no neighbour) is a
// probe without an answer.
type Prober struct {
	ticker *Ticker
	lab    *Lab
	from   string
	target netip.AddrPort
	socket *net.UDPConn
	raw    syscall.RawConn // of socket
	end    func()          // stops the sender, then the receiver; runs once

	mu      sync.Mutex
	probes  []Probe // the index is the number of the question
	refused int
}

// Probe sends one datagram to target every every (0: 1 ms) until ctx ends or Stop is called.
// target is an IPv4 address.
func (l *Lab) Probe(ctx context.Context, from *Host, target netip.Addr, port int, every time.Duration) (*Prober, error) {
	if every <= 0 {
		every = time.Millisecond
	}
	if !target.Is4() {
		return nil, fmt.Errorf("testbed: prober: %v is not an IPv4 address", target)
	}
	p := &Prober{lab: l, from: from.Name, target: netip.AddrPortFrom(target, uint16(port))}
	err := from.Do(func() (err error) {
		p.socket, err = net.ListenUDP("udp4", nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: prober at %s: %w", from.Name, err)
	}
	if p.raw, err = p.socket.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.socket.Close())
	}
	if p.ticker, err = NewTicker(every); err != nil {
		return nil, errors.Join(err, p.socket.Close())
	}
	var sender, receiver sync.WaitGroup
	sender.Go(func() { p.ticker.Run(p.send) })
	receiver.Go(p.receive)
	p.end = sync.OnceFunc(func() {
		p.ticker.Stop()
		sender.Wait()
		time.Sleep(GraceWait)
		_ = p.socket.Close()
		receiver.Wait()
	})
	context.AfterFunc(ctx, p.end)
	return p, nil
}

// Stop ends probing, waits for late answers and returns when both goroutines have ended.
func (p *Prober) Stop() { p.end() }

func (p *Prober) send(uint64) {
	p.mu.Lock()
	seq := uint64(len(p.probes))
	p.probes = append(p.probes, Probe{Sent: p.lab.Now()})
	p.mu.Unlock()
	to := &unix.SockaddrInet4{Port: int(p.target.Port()), Addr: p.target.Addr().As4()}
	question, sent := AppendQuestion(make([]byte, 0, QuestionBytes), seq), error(nil)
	// Without waiting: datagrams for a neighbour that never answers fill the send buffer, and the
	// next one would wait there instead of being refused.
	err := p.raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), question, unix.MSG_DONTWAIT, to)
		return true
	})
	if err != nil || sent != nil {
		p.mu.Lock()
		p.refused++
		p.mu.Unlock()
	}
}

// receive ends when the socket is closed. An answer counts only from the address that was asked.
func (p *Prober) receive() {
	buffer := make([]byte, AnswerBytes)
	for {
		n, from, err := p.socket.ReadFromUDPAddrPort(buffer)
		now := p.lab.Now()
		if err != nil {
			return
		}
		seq, node, ok := ParseQuestion(buffer[:n])
		if !ok || netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != p.target {
			continue
		}
		p.mu.Lock()
		if seq < uint64(len(p.probes)) && p.probes[seq].Answered == 0 {
			p.probes[seq].Answered, p.probes[seq].Node = now, node
		}
		p.mu.Unlock()
	}
}

// From is the name of the host that asks.
func (p *Prober) From() string { return p.from }

// Target is the address that is asked.
func (p *Prober) Target() netip.Addr { return p.target.Addr() }

// Every is the time between two probes.
func (p *Prober) Every() time.Duration { return p.ticker.Every() }

// Skipped is how many ticks went without a probe, for want of CPU.
func (p *Prober) Skipped() uint64 { return p.ticker.Skipped() }

// Refused is how many probes the kernel refused to send.
func (p *Prober) Refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// Probes are the probes so far, in the order of sending.
func (p *Prober) Probes() []Probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.probes)
}

// LongestGap is the longest time between the sending of two answered probes with an unanswered one
// between them, less the interval; what came before the first answer and after the last does not count.
func (p *Prober) LongestGap() time.Duration {
	var longest int64
	last, lost := int64(0), false
	for _, probe := range p.Probes() {
		if probe.Answered == 0 {
			lost = true
			continue
		}
		if last != 0 && lost {
			longest = max(longest, probe.Sent-last)
		}
		last, lost = probe.Sent, false
	}
	return max(0, time.Duration(longest)-p.Every())
}
