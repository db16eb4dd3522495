package scenario

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"havip-cluster/jepsen/netns"
)

// An attack takes something of the agent away, as another program with root's rights may.
type attack struct {
	name string
	do   func(b *Bed, h *netns.Host) error
}

var (
	flushAddress = attack{"ip addr flush", func(b *Bed, _ *netns.Host) error { return netlink.AddrDel(eth0(), hostAddr(b.HAVIP)) }}
	flushRuleset = attack{"nft flush ruleset", func(*Bed, *netns.Host) error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.FlushRuleset()
		return c.Flush()
	}}
	deleteClsact = attack{"tc qdisc del clsact", func(*Bed, *netns.Host) error {
		return netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: eth0().Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}})
	}}
	detachTCX = attack{"the TCX programs are detached", func(_ *Bed, h *netns.Host) error { return netns.Unfence(h, 0) }}
)

// deleteTables deletes each table of nftables, and fails where there is none.
func deleteTables() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		return errors.New("there is no table to delete")
	}
	for _, table := range tables {
		c.DelTable(table)
	}
	return c.Flush()
}

// both attacks, one right after the other.
func both(x, y attack) attack {
	return attack{x.name + " and " + y.name, func(b *Bed, h *netns.Host) error {
		return joinErr(x.do(b, h), y.do(b, h))
	}}
}

// Somebody takes the fence, the address, or both away while the owner serves: they are put
// back, and in no case do two nodes answer. The same while the agent is stopped between two of
// its turns, and when it, or its guard alone, dies right after.
func TestAttacks(t *testing.T) {
	long(t)
	for _, c := range []struct {
		fence string
		takes attack // the fence
	}{{"tcx", detachTCX}, {"clsact", deleteClsact}, {"nftables", flushRuleset}} {
		t.Run(c.fence, func(t *testing.T) {
			b := unformed(t, 3)
			b.Cluster.AgentArgs = append(b.Cluster.AgentArgs, "--fence", c.fence)
			b.form(3)
			time.Sleep(2 * Lease)
			for _, a := range []attack{flushAddress, c.takes, both(c.takes, flushAddress), both(flushAddress, c.takes)} {
				b.attacked(a)
				b.attackedBetweenTurns(a)
			}
			b.attackedAndDead(c.takes, func(node int) { b.must(b.Cluster.KillAgent(node)) })
			b.attackedAndDead(c.takes, func(node int) {
				gone, err := b.Cluster.KillGuard(node)
				b.must(err)
				<-gone
			})
		})
	}
}

// whole demands that the owner serves, and its fence stands, before long.
func (b *Bed) whole(what string, parts int) {
	b.t.Helper()
	b.Eventually("after "+what+": the fence and the address", func() bool {
		owner := b.Owner()
		return b.has(owner) && b.fenceParts(owner) >= parts
	})
}

// attacked does it once, to an owner that runs.
func (b *Bed) attacked(a attack) {
	b.t.Helper()
	owner := b.Owner()
	h, parts := b.Lab.Node(owner), b.fenceParts(owner)
	m := b.Watch(func() {
		b.must(h.Do(func() error { return a.do(b, h) }))
		time.Sleep(3 * Lease) // a reading of everything comes once a second
		b.whole(a.name, parts)
	})
	noDual(b.t, m)
	b.t.Logf("%-70s gap %s", a.name, m.Gap.Round(100*time.Microsecond))
	if m.Gap > 100*time.Millisecond {
		timely(b.t, "%s: a gap of %s", a.name, m.Gap)
	}
}

// attackedBetweenTurns stops the agent for half a lease, and does it meanwhile.
func (b *Bed) attackedBetweenTurns(a attack) {
	b.t.Helper()
	owner := b.Owner()
	h, parts := b.Lab.Node(owner), b.fenceParts(owner)
	m := b.Watch(func() {
		anyMoment()
		b.signalAgent(owner, syscall.SIGSTOP)
		b.must(h.Do(func() error { return a.do(b, h) }))
		time.Sleep(Lease / 2)
		b.signalAgent(owner, syscall.SIGCONT)
		time.Sleep(3 * Lease)
		b.whole(a.name+" while the agent was stopped", parts)
	})
	noDual(b.t, m)
	b.t.Logf("%-70s gap %s", a.name+", the agent is stopped meanwhile", m.Gap.Round(100*time.Microsecond))
}

// attackedAndDead does it, and kills one of the two processes at once.
func (b *Bed) attackedAndDead(a attack, kill func(node int)) {
	b.t.Helper()
	b.Place(b.other(b.Leader()))
	owner := b.Owner()
	h := b.Lab.Node(owner)
	m := b.Watch(func() {
		b.must(h.Do(func() error { return a.do(b, h) }))
		kill(owner)
		b.NewOwner(b.other(owner), owner)
		time.Sleep(Lease)
	})
	noDual(b.t, m)
	b.ended(owner)
	if b.has(owner) {
		b.t.Errorf("%s, then one process dies: the address is still on node-%d", a.name, owner)
	}
	b.restart(owner)
}

// Nothing happens, so nothing is done: no work, and not a line in the log.
func TestIdleAgentsRest(t *testing.T) {
	beside(t)
	const during = 10 * time.Second
	kinds(t, func(t *testing.T, b *Bed, kind string) {
		time.Sleep(3 * time.Second)
		var before [4]time.Duration
		var logs [4]int
		for i := 1; i <= 3; i++ {
			before[i], logs[i] = b.worked(i), len(b.logged(i))
		}
		time.Sleep(during)
		for i := 1; i <= 3; i++ {
			used := b.worked(i) - before[i]
			share := 100 * used.Seconds() / during.Seconds()
			t.Logf("%s: node-%d (owner node-%d, leader node-%d) used %s in %s, %.1f %% of a core", kind, i, b.Owner(), b.Leader(), used, during, share)
			switch {
			case share > 20: // a loop that never waits uses all
				t.Errorf("node-%d has nothing to do and uses %.1f %% of a core", i, share)
			case share > 10: // heartbeats, renewals and gossip take some 4 to 7 %, most of it at the leader
				timely(t, "node-%d has nothing to do and uses %.1f %% of a core", i, share)
			}
			if said := b.logged(i)[logs[i]:]; len(said) > 0 {
				timely(t, "node-%d has nothing to say and says:\n%s", i, said)
			}
		}
	})
}

// logged is what a node has logged.
func (b *Bed) logged(node int) string {
	b.t.Helper()
	text, err := os.ReadFile(b.Cluster.LogPath(node))
	b.must(err)
	return string(text)
}

// worked is the processor time of a node's two processes.
func (b *Bed) worked(node int) time.Duration {
	b.t.Helper()
	const tick = 10 * time.Millisecond // USER_HZ is 100 on all Linux that Go runs on
	guard, err := b.Cluster.GuardPID(node)
	b.must(err)
	agent, err := b.Cluster.AgentPID(node)
	b.must(err)
	var sum time.Duration
	for _, pid := range []int{guard, agent} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		b.must(err)
		// The name, in brackets, may have blanks; utime and stime are the 12th and 13th after it.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, f := range fields[11:13] {
			n, err := strconv.Atoi(f)
			b.must(err)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}
