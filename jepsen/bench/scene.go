package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"havip-cluster/jepsen/history"
	"havip-cluster/jepsen/netns"
)

// scene is one contender on a lab of its own, with what is done to it there.
type scene struct {
	contender kind
	voters    int
	havips    int
	busy      bool // eight busy loops all along
	cost      bool // what it needs while nothing changes is measured, too
	faults    []string
}

func (s scene) String() string {
	text := fmt.Sprintf("%s, %d nodes, %d addresses", s.contender.name, s.voters, s.havips)
	if s.busy {
		text += ", busy"
	}
	return text
}

// bed is a running contender on its lab.
type bed struct {
	scene     scene
	lab       *netns.Lab
	contender contender
	havips    []netip.Addr
	swarm     *netns.Swarm // asks for all of many
	burners   []*exec.Cmd
}

const (
	probeEvery   = time.Millisecond
	observeEvery = 2 * time.Millisecond
	watched      = 2 // of many addresses, by the observer
	// questionsPerSecond is what client and responders, in one process, carry beside the nodes.
	questionsPerSecond = 20_000
	roundMin           = 10 * time.Millisecond
	firstAddress       = 512 // above the first one of the subnet
)

// measured is what client and observer saw from shortly before a fault until after its end.
type measured struct {
	gap              time.Duration // until all was served again, as the client sees it
	certain, suspect time.Duration // two nodes answered; see checker.Dual
	changes          int           // how often another node began to answer
	missed           uint64        // ticks of the instruments, for want of CPU
}

// play forms the cluster, and puts it through its faults.
func (s scene) play(ctx context.Context, runs int, r *results) (err error) {
	dir, err := os.MkdirTemp("", "havip-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	room, err := neighbours(4 * s.havips)
	if err != nil {
		return err
	}
	defer room()
	lab, err := netns.New(netns.Options{Nodes: s.voters, Subnet: netip.MustParsePrefix("10.80.0.0/16")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	for _, h := range lab.Nodes() {
		stop, err := h.Respond(port)
		if err != nil {
			return err
		}
		defer stop()
	}
	b := &bed{scene: s, lab: lab, havips: lab.Sequence(firstAddress, s.havips)}
	if b.contender, err = s.contender.make(lab, dir); err != nil {
		return err
	}
	defer func() {
		if err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, b.contender.Tail())
		}
		err = errors.Join(err, b.calm(), b.contender.Close())
	}()
	var refused *refusal
	if err := b.contender.Start(b.havips); errors.As(err, &refused) {
		r.Refused = append(r.Refused, refusedScene{Scene: s.String(), Reason: refused.reason})
		fmt.Fprintf(os.Stderr, "%s: refused: %s\n", s, refused.reason)
		return nil
	} else if err != nil {
		return err
	}
	return b.all(ctx, runs, r)
}

// all measures what the scene asks for.
func (b *bed) all(ctx context.Context, runs int, r *results) error {
	if b.scene.havips > 1 {
		if err := b.ask(ctx); err != nil {
			return err
		}
		defer func() { b.swarm.Stop() }()
	}
	if b.scene.cost {
		if err := b.cost(ctx, r); err != nil {
			return fmt.Errorf("cost: %w", err)
		}
	}
	if b.scene.busy {
		if err := b.burn(); err != nil {
			return err
		}
	}
	for _, name := range b.scene.faults {
		f, ok := faultCalled(name)
		if !ok {
			return fmt.Errorf("no fault is called %q", name)
		}
		w := row{Contender: b.scene.contender.name, Voters: b.scene.voters, HAVIPs: b.scene.havips, Busy: b.scene.busy, Fault: name}
		for range runs {
			m, err := b.measure(ctx, f)
			if errors.Is(err, errNotOffered) {
				break
			}
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			w.add(m)
			fmt.Fprintf(os.Stderr, "%s, %s: gap %s, two owners %s (suspect %s), %d changes, %d ticks missed\n", b.scene, f.name,
				m.gap.Round(100*time.Microsecond), m.certain.Round(time.Millisecond), m.suspect.Round(100*time.Microsecond), m.changes, m.missed)
		}
		if len(w.GapsMS) > 0 {
			r.Rows = append(r.Rows, w)
		}
	}
	return nil
}

// ready waits until the owners are where the fault wants them, and stay there for a while.
func (b *bed) ready(ctx context.Context, f fault) (victim int, err error) {
	was, since := 0, time.Now()
	for end := time.Now().Add(readyWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		now, failed := b.victim(f)
		if failed != nil || now != was {
			was, since, err = now, time.Now(), failed
			if errors.Is(failed, errNotOffered) {
				return 0, failed
			}
			continue
		}
		if was != 0 && time.Since(since) > settle && (b.swarm == nil || b.halves()) {
			return was, nil
		}
	}
	return 0, fmt.Errorf("not ready within %s: %w", readyWait, errors.Join(err, errors.New("see the log above")))
}

// victim is the node that the fault shall meet, with an error while all is not in its place.
func (b *bed) victim(f fault) (int, error) {
	owner, err := b.contender.Owner()
	if err != nil {
		return 0, err
	}
	l, leads := b.contender.(leading)
	if !leads {
		if f.lead == theOne || f.lead == noOwnerHit || f.name == plannedMove {
			return 0, errNotOffered
		}
		return owner, nil
	}
	leader, err := l.Lead()
	if err != nil {
		return 0, err
	}
	if b.scene.havips > 1 { // whoever owns nothing is made the leader, by itself
		if f.lead == theOne || f.name == plannedMove {
			return 0, errNotOffered
		}
		if leader != 1 {
			return 0, fmt.Errorf("node-%d leads, not the one without addresses", leader)
		}
		if f.lead == noOwnerHit {
			return leader, nil
		}
		return owner, nil
	}
	switch {
	case f.lead == theOne && leader != owner:
		return 0, errors.Join(l.Move(leader), errors.New("the owner does not lead"))
	case (f.lead == notTheOne || f.lead == noOwnerHit) && leader == owner:
		return 0, errors.Join(l.Move(owner%b.scene.voters+1), errors.New("the owner leads"))
	case f.lead == noOwnerHit:
		return leader, nil
	}
	return owner, nil
}

// ask starts the client for many addresses, and waits until each has answered.
func (b *bed) ask(ctx context.Context) (err error) {
	round := max(roundMin, time.Duration(len(b.havips))*time.Second/questionsPerSecond)
	b.swarm, err = b.lab.Swarm(ctx, b.lab.Client(), b.havips, port, round)
	if err != nil {
		return err
	}
	for end := time.Now().Add(2 * readyWait); b.swarm.Report(0).Dark > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("%d of %d addresses are dark: %s", b.swarm.Report(0).Dark, len(b.havips), b.swarm.Report(0))
		}
	}
	return nil
}

// halves: nodes 2 and 3 own half of the addresses each.
func (b *bed) halves() bool {
	r := b.swarm.Report(0)
	return r.Dark == 0 && r.By[b.lab.Node(2).Name] >= len(b.havips)/2 && r.By[b.lab.Node(3).Name] >= len(b.havips)/2
}

// measure runs one fault once.
func (b *bed) measure(ctx context.Context, f fault) (m measured, err error) {
	victim, err := b.ready(ctx, f)
	if err != nil {
		return m, err
	}
	prober, err := b.lab.Probe(ctx, b.lab.Client(), b.havips[0], port, probeEvery)
	if err != nil {
		return m, err
	}
	defer prober.Stop()
	observer, err := b.lab.Observe(ctx, b.havips[:min(watched, len(b.havips))], port, observeEvery)
	if err != nil {
		return m, err
	}
	defer observer.Stop()
	if err := b.served(ctx, prober, victim); err != nil {
		return m, err
	}
	if b.swarm != nil {
		b.swarm.Reset()
	}
	at := b.lab.Now()
	heal, err := f.strike(b, victim)
	if err != nil {
		return m, err
	}
	hold := f.hold
	if hold == 0 {
		hold = time.Duration(b.scene.contender.patience) * time.Second
	}
	select {
	case <-time.After(hold):
	case <-ctx.Done():
		return m, ctx.Err()
	}
	if b.swarm != nil {
		if m.gap, err = b.lastServed(ctx, at); err != nil {
			return m, err
		}
	}
	if err := heal(); err != nil {
		return m, err
	}
	time.Sleep(after)
	prober.Stop()
	observer.Stop()
	return m, b.read(&m, prober, observer)
}

// lastServed waits until every address answers again, and returns how long after at the last one did.
func (b *bed) lastServed(ctx context.Context, at int64) (time.Duration, error) {
	for end := time.Now().Add(readyWait); ; time.Sleep(100 * time.Millisecond) {
		r := b.swarm.Report(at)
		switch {
		case r.Dark == 0:
			return r.Last, nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case time.Now().After(end):
			return 0, fmt.Errorf("%d of %d addresses are not served again within %s", r.Dark, len(b.havips), readyWait)
		}
	}
}

// read takes what the instruments saw.
func (b *bed) read(m *measured, prober *netns.Prober, observer *netns.Observer) error {
	seen := observer.Report()
	if seen.Strange > 0 {
		return fmt.Errorf("the observer got %d answers that no question explains", seen.Strange)
	}
	m.certain, m.suspect = seen.Certain, seen.Suspect
	m.missed = seen.Skipped + prober.Report(probeEvery).Skipped
	if b.swarm == nil {
		for _, g := range prober.Gaps(2 * probeEvery) {
			m.gap = max(m.gap, g.Duration)
		}
	}
	_, probes := prober.History()
	m.changes = changes(probes)
	return nil
}

// changes is how often another node than before answered.
func changes(probes []history.Probe) (n int) {
	last := ""
	for _, p := range probes {
		if p.Answered == 0 {
			continue
		}
		if last != "" && p.Node != last {
			n++
		}
		last = p.Node
	}
	return n
}

// served waits until the client is answered, and then a while. After a partition Keepalived leaves some
// clients with a stale entry in their ARP cache for seconds.
func (b *bed) served(ctx context.Context, prober *netns.Prober, victim int) error {
	for end := time.Now().Add(readyWait); prober.Report(time.Second).Answered == 0; time.Sleep(20 * time.Millisecond) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(end):
			return fmt.Errorf("the client got no answer within %s before the fault at node-%d", readyWait, victim)
		}
	}
	time.Sleep(settle / 2)
	return nil
}

// neighbours raises the machine's limit of its neighbour cache until the returned function is called.
func neighbours(n int) (back func(), err error) {
	var undo []func()
	back = func() {
		for _, f := range undo {
			f()
		}
	}
	for _, i := range []string{"3", "2", "1"} {
		path := "/proc/sys/net/ipv4/neigh/default/gc_thresh" + i
		old, err := os.ReadFile(path)
		if err != nil {
			return back, err
		}
		var have int
		if _, err := fmt.Sscan(strings.TrimSpace(string(old)), &have); err != nil || have >= n {
			continue
		}
		if err := os.WriteFile(path, fmt.Append(nil, n), 0); err != nil {
			return back, err
		}
		undo = append(undo, func() { _ = os.WriteFile(path, old, 0) })
	}
	return back, nil
}
