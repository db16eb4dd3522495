package netns

import (
	"context"
	"net/netip"
	"time"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/history"
	"havip-cluster/testbed"
)

// Prober is the test bed's, with what the checkers want of it.
type Prober struct{ *testbed.Prober }

// Probe sends one datagram to target every every (0: 1 ms) until ctx ends or Stop is called.
// target is an IPv4 address.
func (l *Lab) Probe(ctx context.Context, from *Host, target netip.Addr, port int, every time.Duration) (*Prober, error) {
	p, err := l.Lab.Probe(ctx, from, target, port, every)
	if err != nil {
		return nil, err
	}
	return &Prober{p}, nil
}

// History returns the probes so far and the series they belong to.
func (p *Prober) History() (history.Series, []history.Probe) {
	from, target := p.From(), p.Target().String()
	seen := p.Probes()
	probes := make([]history.Probe, len(seen))
	for i, s := range seen {
		probes[i] = history.Probe{From: from, Target: target, Seq: uint64(i), Sent: s.Sent, Answered: s.Answered, Node: s.Node}
	}
	return history.Series{Kind: history.Probing, From: from, Target: target, Every: int64(p.Every()), Count: uint64(len(probes))}, probes
}

// Gaps returns the gaps so far of at least shortest, as checker.Gaps defines them.
func (p *Prober) Gaps(shortest time.Duration) []checker.Gap {
	_, probes := p.History()
	return checker.Gaps(probes, p.Every(), shortest)
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
	return ProbeReport{Summary: checker.Summarize(probes, p.Every(), shortest), Refused: p.Refused(), Skipped: p.Skipped()}
}
