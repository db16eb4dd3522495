package membership

import (
	"bytes"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"havip-cluster/fsm"
	"havip-cluster/internal/doorbook"
)

// Gossip as each of the four: the table of docs/doors.md. The key was replaced when they were removed.
func TestDoorbook(t *testing.T) {
	t.Parallel()
	var state atomic.Pointer[fsm.State]
	members := func(c *GossipConfig) { steady(c); c.Members = state.Load }
	state.Store(fsm.New())
	a, b := chat(t, "n-a", members), chat(t, "n-b", members)
	fresh := bytes.Repeat([]byte{8}, 32)
	with := func(id, ip string, key []byte) *chatter {
		return chat(t, id, func(c *GossipConfig) {
			steady(c)
			c.Keys, c.Members = [][]byte{key}, fsm.New
			c.Listen = netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(freePorts(t, 1)[0]))
		})
	}
	four := map[string]*chatter{
		doorbook.RemovedVoter: with("n-v", "127.0.0.1", gossipKey), doorbook.RemovedAgent: with("n-x", "127.0.0.1", gossipKey),
		doorbook.Agent: with("n-d", "127.0.0.1", fresh), doorbook.Stranger: with("n-z", "127.0.0.9", bytes.Repeat([]byte{9}, 32)),
	}
	state.Store(stateOf(a, b, four[doorbook.Agent]))
	for _, c := range []*chatter{a, b} {
		check(t, c.SetKeys([][]byte{fresh}))
	}
	stop := b.rejoin(t, state.Load())
	eventually(t, "the members see each other", func() bool { return a.Alive("n-b") })
	stop()
	kinds := []struct {
		name string
		do   func(c *chatter)
		done func(c *chatter) bool
	}{
		{"a word for `failover`", func(c *chatter) { _ = c.Send(a.node(), []byte("word of "+c.id)) }, func(c *chatter) bool {
			return slices.ContainsFunc(a.heard(), func(w string) bool { return w == "word of "+c.id })
		}},
		{"to be seen (a stream, and what memberlist says by itself)", func(c *chatter) { c.Join([]string{"n-a/" + a.cfg.Listen.String()}) }, func(c *chatter) bool { return a.Alive(c.id) }},
		{"good-bye of itself", func(c *chatter) { c.bid(a, c.id) }, func(c *chatter) bool {
			a.Gossip.mu.Lock()
			defer a.Gossip.mu.Unlock()
			return a.Gossip.bye[c.id]
		}},
	}
	table := doorbook.NewTable("message")
	for _, k := range kinds {
		table.Row(func(who string) string {
			c, member := four[who], who == doorbook.Agent
			k.do(c)
			if member {
				eventually(t, who+": "+k.name, func() bool { k.do(c); return k.done(c) })
				return "heard"
			}
			throughout(t, 300*time.Millisecond, who+": not heard: "+k.name, func() bool { return !k.done(c) })
			return doorbook.Refused
		}, k.name)
	}
	if err := doorbook.Check("gossip", table); err != nil {
		t.Error(err)
	}
}

// bid says good-bye in the name of a node.
func (c *chatter) bid(to *chatter, id string) {
	n := to.node()
	_ = c.list.SendToAddress(memberlist.Address{Addr: hostPort(n.Address, n.GossipPort), Name: n.ID}, append([]byte{goodBye}, id...))
}

func (c *chatter) heard() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.got {
		out = append(out, string(w))
	}
	return out
}
