package scenario

import (
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"havip-cluster/internal/boottime"
)

const (
	balancerPort = 61000
	// balancerWait is how long the balancer waits for an answer; it asks a node again after balancerPause.
	balancerWait  = 150 * time.Millisecond
	balancerPause = 3 * time.Millisecond
	// clockSlack is what two readings of one clock in two programs may differ by.
	clockSlack = 2 * time.Millisecond
)

// asked is one probe of a load balancer that was answered; times are of CLOCK_BOOTTIME.
type asked struct{ began, ended int64 }

// balancer asks every node at its own address, as a load balancer does, until it is stopped.
type balancer struct {
	mu      sync.Mutex
	answers map[int][]asked
	stop    chan struct{}
	group   sync.WaitGroup
}

func (b *Bed) balance(nodes int) *balancer {
	l := &balancer{answers: map[int][]asked{}, stop: make(chan struct{})}
	for i := 1; i <= nodes; i++ {
		at := net.JoinHostPort(b.Lab.Node(i).IP(0).String(), fmt.Sprint(balancerPort))
		l.group.Go(func() {
			_ = b.Lab.Client().Do(func() error {
				for {
					select {
					case <-l.stop:
						return nil
					case <-time.After(balancerPause):
					}
					began := boottime.Now()
					c, err := net.DialTimeout("tcp", at, balancerWait)
					if err != nil {
						continue
					}
					ended := boottime.Now()
					_ = c.Close()
					l.mu.Lock()
					l.answers[i] = append(l.answers[i], asked{began, ended})
					l.mu.Unlock()
				}
			})
		})
	}
	return l
}

// end returns the answers of each node.
func (l *balancer) end() map[int][]asked {
	close(l.stop)
	l.group.Wait()
	return l.answers
}

// since counts the probes that were begun after an instant, and tells the begin of the last one.
func since(list []asked, from int64) (n int, last int64) {
	for _, a := range list {
		if a.began > from {
			n++
			last = a.began
		}
	}
	return n, last
}

// TestProbeOfALoadBalancer: the owner alone answers the probe, to the deadline of its lease and no
// further, whatever becomes of its processes; a frozen one's kernel would go on for ever.
func TestProbeOfALoadBalancer(t *testing.T) {
	long(t)
	beside(t)
	kinds(t, func(t *testing.T, b *Bed, kind string) {
		b.CLI(1, "havip", "update", "web", "--probe", fmt.Sprintf("tcp:%d", balancerPort))
		for _, fault := range []string{"move", "kill", "freeze"} {
			for range Runs(2) {
				b.Place(b.other(b.Leader()))
				b.probeThrough(fault)
			}
		}
	})
}

// probeThrough watches a change of owner with the eyes of a load balancer.
func (b *Bed) probeThrough(fault string) {
	b.t.Helper()
	owner := b.Owner()
	until := b.deadline(owner)
	l := b.balance(3)
	time.Sleep(settleTime)
	anyMoment()
	var at, deadline int64
	switch fault {
	case "move":
		to := b.other(owner)
		b.CLI(to, "havip", "move", "web", "--to", b.Cluster.NodeName(to))
		at, deadline = boottime.Now(), boottime.Now()
	case "kill":
		b.must(b.Cluster.Kill(owner, syscall.SIGKILL))
		at, deadline = boottime.Now(), until()
	case "freeze":
		b.must(b.Cluster.Kill(owner, syscall.SIGSTOP))
		at, deadline = boottime.Now(), until()
	}
	next := b.NewOwner(b.other(owner), owner)
	time.Sleep(2 * Lease)
	if fault == "freeze" {
		b.must(b.Cluster.Kill(owner, syscall.SIGCONT))
		time.Sleep(2 * Lease)
	}
	answers := l.end()
	late, last := since(answers[owner], deadline+clockSlack.Nanoseconds())
	after, _ := since(answers[owner], at)
	before := len(answers[owner]) - after
	b.t.Logf("%s: node-%d answered %d probes before, %d after it", fault, owner, before, after)
	switch {
	case before < 10:
		b.t.Errorf("%s: the owner answered %d probes: nothing was proved", fault, before)
	case late > 0 && fault != "move":
		b.t.Errorf("%s: %d probes that were begun after the deadline were answered, the last %s after it", fault, late, time.Duration(last-deadline))
	case fault == "freeze" && after < 5:
		timely(b.t, "the kernel of the frozen owner answered %d probes before the deadline: the fence was not what ended them", after)
	}
	if len(answers[next]) < 10 {
		b.t.Errorf("%s: the new owner, node-%d, answered %d probes", fault, next, len(answers[next]))
		return
	}
	if both, last := since(answers[owner], answers[next][0].ended); both > 0 {
		b.t.Errorf("%s: node-%d answered %d probes that were begun after the first answer of node-%d, the last %s later",
			fault, owner, both, next, time.Duration(last-answers[next][0].ended))
	}
	for i, list := range answers {
		if i != owner && i != next && len(list) > 0 {
			b.t.Errorf("%s: node-%d, which never owned it, answered %d probes", fault, i, len(list))
		}
	}
	if fault == "kill" {
		b.restart(owner)
	}
	b.WaitSessions(3)
}
