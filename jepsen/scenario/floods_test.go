package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
)

const (
	floodMemory = 64 << 20   // bytes that a victim may grow by
	floodLines  = 10         // lines of log in a minute
	floodQuiet  = 10 * Lease // of flood before the owner is cut: what is logged then is the flood's
	floodRuns   = 5          // of a measuring run
)

// flood is one of FIELD S7, S9 and S10: from hosts without any key, at every node.
type flood struct {
	name  string
	start func(b *Bed, from []*netns.Host) (stop func(), size func() string)
}

var floods = []flood{
	{"S7: silent connections to Raft's port", func(b *Bed, from []*netns.Host) (func(), func() string) {
		return b.crowd(from, 7401, 400, false)
	}},
	{"S9: datagrams and heavy streams", (*Bed).floodOfDatagrams},
	{"S10: idle HTTPS connections", func(b *Bed, from []*netns.Host) (func(), func() string) {
		return b.crowd(from, 7400, 1000, true)
	}},
}

// The owner, which leads, is cut off while a flood goes on: it costs what it costs without. What does
// not hang on the machine's time is demanded always: one owner, the HAVIP is served again, little memory,
// few lines. The ratio of the gaps is printed; asked is at most 1.1 on a quiet machine.
func TestFloodsWithTheOwnerCut(t *testing.T) {
	long(t)
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			b := unformedIn(t, netns.Options{Nodes: 3, Clients: 6})
			b.form(3)
			runs := 1
			if measuring() {
				runs = Runs(floodRuns)
			}
			without, with := &Series{Name: "owner and leader cut, no flood"}, &Series{Name: "the same, " + f.name}
			for range runs {
				without.Add(b.cutLeadingOwner())
				with.Add(b.cutUnder(f))
			}
			t.Log(without)
			t.Log(with)
			t.Logf("%s: p50 %.2f, max %.2f times the gap without (asked: 1.10)", f.name,
				with.Quantile(0.5).Seconds()/without.Quantile(0.5).Seconds(), with.Quantile(1).Seconds()/without.Quantile(1).Seconds())
		})
	}
}

func (b *Bed) cutLeadingOwner() Measured {
	b.t.Helper()
	b.Place(b.Leader())
	m := b.cut(b.Owner())
	noDual(b.t, m)
	b.servedAgain()
	return m
}

// servedAgain waits until the owner in the log has the address.
func (b *Bed) servedAgain() {
	b.t.Helper()
	b.Eventually("the HAVIP is served again", func() bool { return b.has(b.Owner()) })
}

// cutUnder does it in the middle of a flood.
func (b *Bed) cutUnder(f flood) Measured {
	b.t.Helper()
	b.Place(b.Leader())
	var before [4]int
	for i := 1; i <= 3; i++ {
		before[i] = b.logLines(i)
	}
	grown := b.growth()
	stop, size := f.start(b, b.Lab.Clients()[1:])
	time.Sleep(floodQuiet)
	for i := 1; i <= 3; i++ {
		if n := b.logLines(i) - before[i]; n > floodLines {
			b.t.Errorf("node-%d wrote %d lines in %s of flood, at most %d a minute are right:\n%s", i, n, floodQuiet, floodLines, b.Cluster.Tail(i))
		}
	}
	m := b.cut(b.Owner())
	stop()
	most := grown()
	b.t.Logf("%s: %s; memory + %.1f MiB at most; gap %s", f.name, size(), float64(most)/(1<<20), m.Gap)
	noDual(b.t, m)
	b.servedAgain()
	if most > floodMemory {
		b.t.Errorf("the memory of a node grew by %d MiB, at most %d are right", most>>20, floodMemory>>20)
	}
	return m
}

// growth samples the memory of all agents until the returned function is called, which says by how much
// one of them grew at most.
func (b *Bed) growth() (most func() int) {
	b.t.Helper()
	var pids, first []int
	for i := 1; i <= 3; i++ {
		pid, err := b.Cluster.AgentPID(i)
		b.must(err)
		now, err := resident(pid)
		b.must(err)
		pids, first = append(pids, pid), append(first, now)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, worst := make(chan error, 1), 0
	go func() {
		for ctx.Err() == nil {
			for i, pid := range pids {
				now, err := resident(pid)
				if err != nil {
					done <- err
					return
				}
				worst = max(worst, now-first[i])
			}
			time.Sleep(50 * time.Millisecond)
		}
		done <- nil
	}()
	return func() int {
		b.t.Helper()
		cancel()
		b.must(<-done)
		return worst
	}
}

// resident is what a process has in memory, in bytes.
func resident(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	return pages * os.Getpagesize(), err
}

// floodOfDatagrams sends some 5,000 datagrams a second to each node, in the name of a stranger and of members, and
// connections to the gossip port that speak of 20 MB each.
func (b *Bed) floodOfDatagrams(from []*netns.Host) (stop func(), size func() string) {
	cluster := b.state(1).Cluster.ID
	var packets [][]byte
	for i, node := range b.Lab.Nodes() {
		for _, source := range []netip.Addr{from[0].IP(0), b.Lab.Node((i+1)%3 + 1).IP(0)} {
			packets = append(packets, floodOf(source, node.IP(0), cluster)...)
		}
	}
	dropped := func() (sum float64) {
		for i := 1; i <= 3; i++ {
			sum += b.metric(i, "havip_datagrams_dropped_total")
		}
		return sum
	}
	before, began := dropped(), time.Now()
	end := b.repeat(from[0], time.Millisecond, 30, packets)
	var streams sync.WaitGroup
	for _, node := range b.Lab.Nodes() {
		streams.Go(func() { b.heavyStreams(node.IP(0), cluster) })
	}
	took := time.Duration(0)
	return func() { end(); took = time.Since(began); streams.Wait() }, func() string {
		n := dropped() - before // the other half goes to the gossip ports
		return fmt.Sprintf("%.0f datagrams dropped at the lease ports in %s, %.0f a second at each node", n, took.Round(time.Second), n/took.Seconds()/3)
	}
}
