package compare

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"havip-cluster/jepsen/netns"
)

// bed is a running contender on its lab.
type bed struct {
	lab       *netns.Lab
	contender contender
	havip     netip.Addr
}

// fault breaks the owner and mends it again.
type fault struct {
	name   string
	strike func(b *bed, owner int) error
	mend   func(b *bed, owner int) error
}

// faults are the same for every contender. In each the owner is the victim.
func faults() []fault {
	return []fault{
		{"host loss", func(b *bed, owner int) error { return b.lab.Node(owner).SetLink(0, false) },
			func(b *bed, owner int) error { return b.lab.Node(owner).SetLink(0, true) }},
		{"SIGKILL", func(b *bed, owner int) error { return b.contender.Signal(owner, syscall.SIGKILL) },
			func(b *bed, owner int) error { return b.contender.Restart(owner) }},
		{"SIGSTOP, then SIGCONT", func(b *bed, owner int) error { return b.contender.Signal(owner, syscall.SIGSTOP) },
			func(b *bed, owner int) error { return b.contender.Signal(owner, syscall.SIGCONT) }},
		{"partition", partition, func(b *bed, _ int) error { return b.lab.Heal() }},
		{"clean stop", func(b *bed, owner int) error { return b.contender.Stop(owner) },
			func(b *bed, owner int) error { return b.contender.Restart(owner) }},
	}
}

// partition cuts the owner off from the other nodes; the client reaches both sides.
func partition(b *bed, owner int) error {
	lonely, rest := b.lab.Clients(), b.lab.Clients()
	for i, h := range b.lab.Nodes() {
		if i+1 == owner {
			lonely = append(lonely, h)
			continue
		}
		rest = append(rest, h)
	}
	return b.lab.Partition(lonely, rest)
}

// measured is what client and observer saw from shortly before a fault until after its end.
type measured struct {
	gap                         time.Duration // the longest, as the client sees it
	certain, suspect            time.Duration // two nodes answered; see checker.Dual
	skippedProbes, skippedPolls uint64
}

// ready waits for an owner that stays the same for a while.
func (b *bed) ready(ctx context.Context) (int, error) {
	owner, since := 0, time.Now()
	var why error
	for end := time.Now().Add(readyWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		now, err := b.contender.Owner()
		if err != nil || now != owner {
			owner, since, why = now, time.Now(), err
			continue
		}
		if owner != 0 && time.Since(since) > settle {
			return owner, nil
		}
	}
	return 0, fmt.Errorf("no steady owner within %s: %w", readyWait, errors.Join(why, errors.New("see the log above")))
}

// served waits until the client is answered, and then a while. After a partition Keepalived
// leaves some clients with a stale entry in their ARP cache for seconds.
func (b *bed) served(ctx context.Context, prober *netns.Prober, owner int) error {
	for end := time.Now().Add(readyWait); prober.Report(time.Second).Answered == 0; time.Sleep(20 * time.Millisecond) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(end):
			return fmt.Errorf("the client got no answer within %s before the fault, though node-%d owns %s", readyWait, owner, b.havip)
		}
	}
	time.Sleep(settle)
	return nil
}

// measure runs one fault once.
func (b *bed) measure(ctx context.Context, f fault) (m measured, err error) {
	owner, err := b.ready(ctx)
	if err != nil {
		return m, err
	}
	prober, err := b.lab.Probe(ctx, b.lab.Client(), b.havip, port, 0)
	if err != nil {
		return m, err
	}
	defer prober.Stop()
	observer, err := b.lab.Observe(ctx, []netip.Addr{b.havip}, port, 0)
	if err != nil {
		return m, err
	}
	defer observer.Stop()
	if err := b.served(ctx, prober, owner); err != nil {
		return m, err
	}
	if err := f.strike(b, owner); err != nil {
		return m, err
	}
	select {
	case <-time.After(hold):
	case <-ctx.Done():
		return m, ctx.Err()
	}
	if err := f.mend(b, owner); err != nil {
		return m, err
	}
	time.Sleep(after)
	prober.Stop()
	observer.Stop()
	seen, asked := observer.Report(), prober.Report(time.Millisecond)
	if seen.Strange > 0 {
		return m, fmt.Errorf("the observer got %d answers that no question explains", seen.Strange)
	}
	m.certain, m.suspect = seen.Certain, seen.Suspect
	m.skippedPolls, m.skippedProbes = seen.Skipped, asked.Skipped
	for _, g := range prober.Gaps(2 * time.Millisecond) {
		m.gap = max(m.gap, g.Duration)
	}
	return m, nil
}
