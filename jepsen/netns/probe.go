package netns

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

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/history"
)

// graceWait is how long a stopped prober or observer still listens for the last answers.
const graceWait = 100 * time.Millisecond

// Prober asks one address again and again, as a client of the service does: through the kernel's
// own routing and ARP cache. A probe that the kernel refuses to send (no route, no neighbour) is a
// probe without an answer.
type Prober struct {
	ticker *ticker
	lab    *Lab
	from   string
	target netip.AddrPort
	socket *net.UDPConn
	raw    syscall.RawConn // of socket
	end    func()          // stops the sender, then the receiver; runs once

	mu      sync.Mutex
	probes  []history.Probe // the index is the probe's Seq
	refused int
}

// Probe sends one datagram to target every every (0: 1 ms) until ctx ends or Stop is called.
// target is an IPv4 address.
func (l *Lab) Probe(ctx context.Context, from *Host, target netip.Addr, port int, every time.Duration) (*Prober, error) {
	if every <= 0 {
		every = time.Millisecond
	}
	if !target.Is4() {
		return nil, fmt.Errorf("netns: prober: %v is not an IPv4 address", target)
	}
	p := &Prober{lab: l, from: from.Name, target: netip.AddrPortFrom(target, uint16(port))}
	err := from.Do(func() (err error) {
		p.socket, err = net.ListenUDP("udp4", nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netns: prober at %s: %w", from.Name, err)
	}
	if p.raw, err = p.socket.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.socket.Close())
	}
	if p.ticker, err = newTicker(every); err != nil {
		return nil, errors.Join(err, p.socket.Close())
	}
	var sender, receiver sync.WaitGroup
	sender.Go(func() { p.ticker.run(p.send) })
	receiver.Go(p.receive)
	p.end = sync.OnceFunc(func() {
		p.ticker.stop()
		sender.Wait()
		time.Sleep(graceWait)
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
	p.probes = append(p.probes, history.Probe{From: p.from, Target: p.target.Addr().String(), Seq: seq, Sent: p.lab.Now()})
	p.mu.Unlock()
	to := &unix.SockaddrInet4{Port: int(p.target.Port()), Addr: p.target.Addr().As4()}
	question, sent := appendQuestion(make([]byte, 0, questionBytes), seq), error(nil)
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
	buffer := make([]byte, answerBytes)
	for {
		n, from, err := p.socket.ReadFromUDPAddrPort(buffer)
		now := p.lab.Now()
		if err != nil {
			return
		}
		seq, node, ok := parseQuestion(buffer[:n])
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

// History returns the probes so far and the series they belong to.
func (p *Prober) History() (history.Series, []history.Probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	probes := slices.Clone(p.probes)
	return history.Series{
		Kind: history.Probing, From: p.from, Target: p.target.Addr().String(), Every: int64(p.ticker.every), Count: uint64(len(probes)),
	}, probes
}

// Gaps returns the gaps so far of at least shortest, as checker.Gaps defines them.
func (p *Prober) Gaps(shortest time.Duration) []checker.Gap {
	_, probes := p.History()
	return checker.Gaps(probes, p.ticker.every, shortest)
}

// ProbeReport condenses what a prober saw.
type ProbeReport struct {
	checker.Summary
	Refused int    // probes that the kernel refused to send
	Skipped uint64 // ticks without a probe, for want of CPU
}

// Report condenses what was seen so far, with the gaps of at least shortest.
func (p *Prober) Report(shortest time.Duration) ProbeReport {
	_, probes := p.History()
	r := ProbeReport{Summary: checker.Summarize(probes, p.ticker.every, shortest)}
	r.Skipped = p.ticker.skippedTicks()
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Refused = p.refused
	return r
}
