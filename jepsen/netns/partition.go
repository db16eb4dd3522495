package netns

import (
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// cuts is what the switch does not forward. The ports of observers are exempt: an observer
// watches both sides of every partition and loses nothing.
type cuts struct {
	mu      sync.Mutex
	conn    *nftables.Conn
	pairs   map[[2]*Host]bool // from, to
	percent float64
}

func (c *cuts) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	conn := c.conn
	c.conn = nil
	return conn.CloseLasting()
}

// Partition cuts the LAN into groups, replacing all earlier cuts. Two hosts reach each other if
// some group holds both, so a client in several groups reaches several sides; a host that no
// group names reaches everybody. Every frame counts, ARP and broadcasts included.
func (l *Lab) Partition(groups ...[]*Host) error {
	named := slices.Concat(groups...)
	pairs := map[[2]*Host]bool{}
	for _, a := range named {
		for _, b := range named {
			together := slices.ContainsFunc(groups, func(g []*Host) bool { return slices.Contains(g, a) && slices.Contains(g, b) })
			if !together {
				pairs[[2]*Host{a, b}] = true
			}
		}
	}
	return l.cuts.change(l, func(c *cuts) { c.pairs = pairs })
}

// OneWay drops what from sends to to, in addition to earlier cuts; the way back stays open.
func (l *Lab) OneWay(from, to *Host) error {
	return l.cuts.change(l, func(c *cuts) {
		if c.pairs == nil {
			c.pairs = map[[2]*Host]bool{}
		}
		c.pairs[[2]*Host{from, to}] = true
	})
}

// Loss drops each frame between nodes and clients with a probability in percent, to a hundredth.
func (l *Lab) Loss(percent float64) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("netns: loss of %v %%, want 0 to 100", percent)
	}
	return l.cuts.change(l, func(c *cuts) { c.percent = percent })
}

// Heal ends partition, one-way cuts and loss. Links set down stay down.
func (l *Lab) Heal() error {
	return l.cuts.change(l, func(c *cuts) { c.pairs, c.percent = nil, 0 })
}

// change applies a change and puts the whole rule set anew, in one transaction.
func (c *cuts) change(l *Lab, edit func(*cuts)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := l.Switch().Do(func() (err error) {
		if c.conn == nil {
			c.conn, err = nftables.New(nftables.AsLasting())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("netns: nftables: %w", err)
	}
	edit(c)
	return c.apply()
}

func (c *cuts) apply() error {
	table := &nftables.Table{Family: nftables.TableFamilyBridge, Name: "lab"}
	c.conn.AddTable(table) // so that there is one to delete
	c.conn.DelTable(table)
	c.conn.AddTable(table)
	chain := c.conn.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	rule := func(exprs ...expr.Any) { c.conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs}) }
	for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		prefix := []byte(observerPrefix) // shorter than a name: nft's "observer*"
		rule(&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: prefix},
			&expr.Verdict{Kind: expr.VerdictAccept})
	}
	ports := &nftables.Set{
		Table: table, Name: "cut", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName),
	}
	if err := c.conn.AddSet(ports, c.elements()); err != nil {
		return fmt.Errorf("netns: nftables: %w", err)
	}
	rule(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 2},
		&expr.Lookup{SourceRegister: 1, SetName: ports.Name, SetID: ports.ID}, &expr.Verdict{Kind: expr.VerdictDrop})
	const all = 10000
	rule(&expr.Numgen{Register: 1, Modulus: all, Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binaryutil.BigEndian.PutUint32(uint32(c.percent * all / 100))},
		&expr.Verdict{Kind: expr.VerdictDrop})
	if err := c.conn.Flush(); err != nil {
		return fmt.Errorf("netns: nftables: %w", err)
	}
	return nil
}

// elements lists the pairs of ports (in, out) that are cut.
func (c *cuts) elements() []nftables.SetElement {
	var list []nftables.SetElement
	for pair := range c.pairs {
		for in := range pair[0].ENIs() {
			for out := range pair[1].ENIs() {
				key := make([]byte, 2*unix.IFNAMSIZ)
				copy(key, pair[0].Port(in))
				copy(key[unix.IFNAMSIZ:], pair[1].Port(out))
				list = append(list, nftables.SetElement{Key: key})
			}
		}
	}
	return list
}
