package scenario

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// reachWait is how long it may take until a blocked port is told: five seconds of silence at the lease port, a turn, the tries in a row, gossip.
const reachWait = 15 * time.Second

// dropFrom drops what comes from an address to a port of a host, until the returned function is called.
func (b *Bed) dropFrom(at int, from netip.Addr, protocol byte, port uint16) (heal func()) {
	b.t.Helper()
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: fmt.Sprintf("blocked-%d-%d", protocol, port)}
	do := func(change func(c *nftables.Conn)) {
		b.t.Helper()
		b.must(b.Lab.Node(at).Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			change(c)
			return c.Flush()
		}))
	}
	do(func(c *nftables.Conn) {
		c.AddTable(table)
		chain := c.AddChain(&nftables.Chain{Name: "in", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: from.AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(port >> 8), byte(port)}},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	})
	return func() { b.t.Helper(); do(func(c *nftables.Conn) { c.DelTable(table) }) }
}

// unreached is what status at a node says, "node-2>node-3 7401/tcp raft" each.
func (b *Bed) unreached(at int) (out []string, problems string) {
	b.t.Helper()
	var s struct {
		Problems  []string `json:"problems"`
		Unreached []struct {
			From, To, Protocol, Use string
			Port                    int
		} `json:"unreached"`
	}
	b.must(json.Unmarshal(b.CLI(at, "status", "-o", "json"), &s))
	for _, u := range s.Unreached {
		out = append(out, fmt.Sprintf("%s>%s %d/%s %s", u.From, u.To, u.Port, u.Protocol, u.Use))
	}
	return out, strings.Join(s.Problems, "\n")
}

// FIELD A18: one port of one node is shut for one other node. A third one names both, the port and
// what to do; and it is over when the port is open again. Nothing is told before, and in the log never.
func TestStatusNamesABlockedPort(t *testing.T) {
	long(t)
	for _, c := range []struct {
		name     string
		protocol byte
		port     uint16
		want     []string // of these, at least the first
		says     string
	}{
		{"Raft", unix.IPPROTO_TCP, raftPort, []string{"node-2>node-3 7401/tcp raft"},
			"node node-2 does not reach node node-3 at 7401/tcp (raft): timed out for"},
		{"variant: gossip by UDP", unix.IPPROTO_UDP, gossipPort, []string{"node-2>node-3 7402/udp gossip", "node-3>node-2 7402/udp gossip"},
			"node node-2 does not reach node node-3 at 7402/udp (gossip): no answer for"},
		{"variant: gossip by TCP", unix.IPPROTO_TCP, gossipPort, []string{"node-2>node-3 7402/tcp gossip"},
			"node node-2 does not reach node node-3 at 7402/tcp (gossip): timed out for"},
		{"variant: API", unix.IPPROTO_TCP, 7400, []string{"node-2>node-3 7400/tcp api"},
			"node node-2 does not reach node node-3 at 7400/tcp (api): timed out for"},
		{"variant: words of the lease", unix.IPPROTO_UDP, leasePort, []string{"node-2>node-3 7403/udp lease", "node-3>node-2 7403/udp lease"},
			"node node-2 does not reach node node-3 at 7403/udp (lease): no answer for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			beside(t)
			b := NewBed(t, 3)
			if got, _ := b.unreached(1); len(got) != 0 {
				t.Errorf("nothing is blocked yet, and it says %v", got)
			}
			lines := b.logLines(2) + b.logLines(3)
			start := time.Now()
			heal := b.dropFrom(3, b.Lab.Node(2).IP(0), c.protocol, c.port)
			var got []string
			var problems string
			b.Eventually("node-1 tells of it", func() bool {
				got, problems = b.unreached(1)
				return len(got) >= 1 && got[0] == c.want[0]
			})
			took := time.Since(start)
			t.Logf("told after %s: %v", took.Round(100*time.Millisecond), got)
			if took > reachWait {
				timely(t, "it was told after %s", took)
			}
			if !strings.Contains(problems, c.says) {
				t.Errorf("status says\n%s\nand not %q", problems, c.says)
			}
			if c.port != leasePort { // a node without leases has other things to say
				for _, u := range got {
					if u != c.want[0] && u != c.want[len(c.want)-1] {
						t.Errorf("it also says %s", u)
					}
				}
			}
			heal()
			b.Eventually("it is over", func() bool { got, _ := b.unreached(1); return len(got) == 0 })
			if said := b.logLines(2) + b.logLines(3) - lines; c.port == 7400 && said != 0 {
				t.Errorf("%d lines in the logs of both", said)
			}
		})
	}
}
