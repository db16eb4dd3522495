package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"havip-cluster/fsm"
	"havip-cluster/membership/reach"
)

type strict struct{ anybody }

func (strict) sourceOfMember(netip.Addr) bool { return true }

// A member that looks whether the port is reached leaves no trace; the same by a stranger is counted.
func TestAProbeOfTheRaftPortIsNoRefusal(t *testing.T) {
	p := newFounder(t)
	for _, c := range []struct {
		admission admission
		want      uint64
	}{{strict{}, 0}, {anybody{}, 3}} {
		s := must[*tlsStream](t)(listenTLS(netip.AddrPortFrom(loopback, 0), p.cfg.Server, p.cfg.Logger))
		s.serve(c.admission)
		for range 3 {
			check(t, reach.Connect(t.Context(), &net.Dialer{}, s.Addr().String(), nil))
		}
		eventually(t, "they are over", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.conns) == 0 && s.refused.count() >= c.want
		})
		if got := s.refused.count(); got != c.want {
			t.Errorf("%T: %d refusals, want %d", c.admission, got, c.want)
		}
		check(t, s.Close())
	}
}

// A probe of the gossip port is answered, and memberlist says nothing about it.
func TestProbesOfTheGossipPort(t *testing.T) {
	var state atomic.Pointer[fsm.State]
	state.Store(fsm.New())
	members := func(every time.Duration) func(*GossipConfig) {
		return func(c *GossipConfig) {
			c.Members = state.Load
			c.tune = func(m *memberlist.Config) {
				hasty(m)
				// A busy host makes no lines by itself, but for suspicions that the other side refutes.
				m.ProbeInterval, m.SuspicionMult, m.DisableTcpPings = every, 200, true
			}
		}
	}
	a, b := chat(t, "n-a", members(100*time.Millisecond)), chat(t, "n-b", members(time.Hour))
	state.Store(stateOf(a, b))
	stop := a.rejoin(t, state.Load())
	eventually(t, "they see each other", func() bool { return a.Alive("n-b") && b.Alive("n-a") })
	stop()
	said := func() int { return b.log.lines() - b.log.count("Refuting") }
	lines := said()
	check(t, a.tryTCP(t.Context(), b.node()))
	a.Gossip.mu.Lock()
	clear(a.pong)
	a.Gossip.mu.Unlock()
	eventually(t, "it is answered", func() bool { return a.tryUDP(b.node()) == nil }) // hasty waits for 60 ms
	eventually(t, "memberlist's own ping makes another one unnecessary", func() bool {
		a.Gossip.mu.Lock()
		defer a.Gossip.mu.Unlock()
		return time.Since(a.pong["n-b"]) < time.Second
	})
	time.Sleep(200 * time.Millisecond)
	if got := said() - lines; got != 0 {
		t.Errorf("%d lines at the other side", got)
	}
	deaf := b.node() // a port without UDP
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	deaf.ID, deaf.GossipPort = "n-deaf", l.Addr().(*net.TCPAddr).Port
	if err := a.tryUDP(deaf); !errors.Is(err, reach.ErrNoAnswer) {
		t.Errorf("nobody answers there: %v", err)
	}
}

// What one does not reach all others hear, once, and it is not told as a node that comes or goes.
func TestUnreachedTravelsByGossip(t *testing.T) {
	a, b, c := chat(t, "n-a", steady), chat(t, "n-b", steady), chat(t, "n-c", steady)
	all := stateOf(a, b, c)
	defer a.rejoin(t, all)()
	defer b.rejoin(t, all)()
	eventually(t, "they see each other", func() bool { return a.Alive("n-c") && c.Alive("n-a") && b.Alive("n-c") && c.Alive("n-b") })
	if !c.probed("n-a") {
		t.Error("n-a does not say that it expects to be probed")
	}
	c.mu.Lock()
	news := c.news
	c.mu.Unlock()
	list := []reach.Failure{{Probe: reach.Probe{Node: "n-b", Door: reach.Raft}, Why: reach.TimedOut, Since: time.Unix(1_790_000_000, 0)}}
	a.TellUnreached(list)
	eventually(t, "n-c hears it", func() bool { got, more := c.Unreached("n-a"); return slices.Equal(got, list) && more == 0 })
	if a.Status("n-c") != statusAlive || c.Version("n-a") != "v-n-a" {
		t.Errorf("a is %s with %s", c.Status("n-a"), c.Version("n-a"))
	}
	var many []reach.Failure
	for i := range 60 {
		many = append(many, reach.Failure{Probe: reach.Probe{Node: fmt.Sprintf("n-%016x", i), Door: reach.API}, Why: reach.Refused, Since: time.Unix(1_790_000_000, 0)})
	}
	a.TellUnreached(many)
	eventually(t, "n-c hears as much as has room", func() bool {
		got, more := c.Unreached("n-a")
		return len(got) > 10 && len(got)+more == len(many) && slices.Equal(got, many[:len(got)])
	})
	a.TellUnreached(nil)
	eventually(t, "n-c hears that it is over", func() bool { got, more := c.Unreached("n-a"); return len(got)+more == 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.news != news {
		t.Errorf("it was called a change %d times", c.news-news)
	}
}

// Where Raft has just heard a node, no connection is made to look whether its port is reached.
func TestRaftsOwnConnectionsAreProof(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.settle()
	for _, f := range c.followers() {
		eventually(t, "the leader has heard its followers", func() bool {
			leader := c.leader()
			return leader == f || leader.node.heardRaft(f.node.Self(), time.Second)
		})
		if leader := c.leader(); leader.node.heardRaft("n-nobody", time.Hour) {
			t.Error("it has heard a node that does not exist")
		}
	}
	leader, f := c.leader(), c.followers()[0]
	if leader == f { // elected in between
		leader = c.followers()[0]
	}
	f.close()
	eventually(t, "a follower that has stopped is heard no more", func() bool { return !leader.node.heardRaft(f.cfg.Node, 500*time.Millisecond) })
}

// Doors tries whom gossip sees, or who has a session while there is a leader.
func TestWhoIsProbed(t *testing.T) {
	c := startCluster(t, 1)
	p := c.settle()
	g := chat(t, p.cfg.Node, nil)
	d := Doors{Node: p.node, Gossip: g.Gossip, Silent: func() []string { return []string{"n-x"} }}
	if got := d.Peers(); len(got) != 0 {
		t.Errorf("alone, and it probes %v", got)
	}
	if err := d.Try(context.Background(), reach.Probe{Node: "n-x", Door: reach.API}); err != nil {
		t.Errorf("a node that is not in the state: %v", err)
	}
	added := c.admit("node-2", "agent")
	s := p.node.State()
	n, ok := s.NodeNamed("node-2")
	if !ok {
		t.Fatal("no node-2")
	}
	if got := d.Peers(); len(got) != 0 {
		t.Errorf("nobody has seen node-2, and it is probed: %v", got)
	}
	c.openSession(n.ID)
	if got := d.Peers(); len(got) != 1 || got[0] != (reach.Peer{Node: n.ID, Present: true}) {
		t.Errorf("node-2 has a session, and probed are %v", got)
	}
	d.Silent = func() []string { return []string{n.ID} }
	if err := d.Try(t.Context(), reach.Probe{Node: n.ID, Door: reach.Lease}); !errors.Is(err, reach.ErrNoAnswer) {
		t.Errorf("lease: %v", err)
	}
	if err := d.Try(t.Context(), reach.Probe{Node: n.ID, Door: reach.API}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nothing listens at the API port of %s: %v", added.cfg.Node, err)
	}
	if err := d.Try(t.Context(), reach.Probe{Node: n.ID, Door: reach.Raft}); err != nil {
		t.Errorf("Raft of a node that may run an older program is not probed: %v", err)
	}
}
