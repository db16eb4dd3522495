package netns

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// DropUDP has the packet filter of a host drop what comes in for a UDP port, until undo is called. A program at the
// device sees it before that.
func DropUDP(h *Host, port uint16) (undo func() error, err error) {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "lab-drop"}
	change := func(do func(c *nftables.Conn)) error {
		err := h.Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			do(c)
			return c.Flush()
		})
		if err != nil {
			return fmt.Errorf("netns: packet filter of %s: %w", h.Name, err)
		}
		return nil
	}
	err = change(func(c *nftables.Conn) {
		c.AddTable(table)
		chain := c.AddChain(&nftables.Chain{
			Name: "input", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	})
	return func() error { return change(func(c *nftables.Conn) { c.DelTable(table) }) }, err
}
