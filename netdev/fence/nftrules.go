package fence

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The nftables fence is one table of family netdev. Per device and direction it
// has a base chain (in-INDEX-NAME, out-INDEX-NAME) that jumps to the shared
// chain of the direction:
//
//	ingress | egress           frames without a tag, or with an accelerated one
//	ingress-tags | egress-tags frames with one or two 802.1Q tags
//
// Three rules per matcher, drops only, so that no accept of one address hides
// the drop of another: in shut -> drop; in open but no element in gate -> drop;
// in open -> count. shut and open say what was asked for. gate holds one element
// with a timeout, looked up by a constant: the deadline of all open HAVIPs.
type ruleset struct {
	table     *nftables.Table
	ip4, ip6  family
	gate      *nftables.Set  // gateKey, while the deadline lies ahead
	owner     *nftables.Set  // one element: an ownerID, which looks like an address
	announced *nftables.Set  // HAVIP twice: sender and target of a gratuitous ARP
	deadline  *nftables.Set  // one element: nanoseconds of CLOCK_BOOTTIME, big endian
	ports4    *nftables.Set  // whose word the answers of a probe's port are
	ports6    *nftables.Set  // the same for HAVIPs of IPv6
	tags      *nftables.Set  // TPIDs of VLAN tags
	rules     map[string]int // by chain, as installed; Healthy counts again
}

// family is the sets of one address family.
type family struct{ shut, open *nftables.Set }

// gateKey is the constant that the rules look up.
var gateKey = []byte{0, 0, 0, 1}

const (
	layerEther = expr.PayloadBaseLLHeader
	layerIP    = expr.PayloadBaseNetworkHeader

	etherTypeAt = 12
	tagBytes    = 4
)

func newRuleset(name string) *ruleset {
	t := &nftables.Table{Family: nftables.TableFamilyNetdev, Name: name}
	id := uint32(0)
	set := func(name string, key nftables.SetDatatype) *nftables.Set {
		id++
		return &nftables.Set{Table: t, ID: id, Name: name, KeyType: key, KeyByteOrder: binaryutil.BigEndian}
	}
	gate := set("gate", nftables.TypeMark)
	gate.HasTimeout = true
	ports := func(name string, value nftables.SetDatatype) *nftables.Set {
		s := set(name, nftables.TypeInetService)
		s.IsMap, s.DataType = true, value
		return s
	}
	twice, _ := nftables.ConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr) // two types always fit
	return &ruleset{
		table:     t,
		ip4:       family{set("shut4", nftables.TypeIPAddr), set("open4", nftables.TypeIPAddr)},
		ip6:       family{set("shut6", nftables.TypeIP6Addr), set("open6", nftables.TypeIP6Addr)},
		gate:      gate,
		owner:     set("owner", nftables.TypeIP6Addr),
		announced: set("twins", twice),
		deadline:  set("deadline", nftables.TypeTime),
		tags:      set("tags", nftables.TypeEtherType),
		ports4:    ports("ports4", nftables.TypeIPAddr),
		ports6:    ports("ports6", nftables.TypeIP6Addr),
		rules:     map[string]int{},
	}
}

func (r *ruleset) sets() []*nftables.Set {
	return []*nftables.Set{
		r.ip4.shut, r.ip4.open, r.ip6.shut, r.ip6.open, r.gate, r.owner, r.announced, r.deadline, r.tags, r.ports4, r.ports6,
	}
}

// counters names the counter objects of a direction; every one has its prefix.
var counterNames = []string{"all", "open", "announce", "shut", "expired"}

func (r *ruleset) counter(dir direction, name string) string { return dir.String() + "-" + name }

func (r *ruleset) chain(dir direction, suffix string) *nftables.Chain {
	return &nftables.Chain{Table: r.table, Name: dir.String() + suffix}
}

// install queues everything but the base chains. On an existing table it keeps
// all sets and replaces the rules, in the same transaction.
func (r *ruleset) install(c *nftables.Conn, owner ownerID) error {
	c.AddTable(r.table)
	for _, s := range r.sets() {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
	}
	tpids := []nftables.SetElement{{Key: be16(0x8100)}, {Key: be16(0x88a8)}, {Key: be16(0x9100)}}
	if err := c.SetAddElements(r.tags, tpids); err != nil {
		return err
	}
	c.FlushSet(r.owner)
	if err := c.SetAddElements(r.owner, []nftables.SetElement{{Key: owner[:]}}); err != nil {
		return err
	}
	for _, dir := range []direction{ingress, egress} {
		for _, name := range counterNames {
			c.AddObj(&nftables.NamedObj{Table: r.table, Name: r.counter(dir, name), Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
		}
		plain, tagged := r.chain(dir, ""), r.chain(dir, "-tags")
		for _, chain := range []*nftables.Chain{plain, tagged} {
			c.AddChain(chain)
			c.FlushChain(chain)
			r.rules[chain.Name] = 0
		}
		r.fill(c, plain, dir, matchers(dir, layerIP, 0, metaProtocol))
		if dir == egress {
			r.guardPorts(c, plain)
		}
		r.add(c, plain, load(layerEther, etherTypeAt, 2, 1), inSet(r.tags, false), jump(tagged))
		for depth := uint32(1); depth <= 2; depth++ {
			at := etherTypeAt + tagBytes*depth
			r.fill(c, tagged, dir, matchers(dir, layerEther, at+2, etherType(at)))
		}
	}
	return nil
}

// matcher is one place in one sort of frame where a guarded address may stand.
type matcher struct {
	match []expr.Any // that sort of frame
	at    []expr.Any // load the address into register 1
	both  []expr.Any // load sender and target of an ARP frame into register 1; or nil
	ip6   bool
}

// matchers lists the guarded side of the direction; l3 is where the network
// header begins, counted from base. It is the table of DESIGN.md.
func matchers(dir direction, base expr.PayloadBase, l3 uint32, is func(uint16) []expr.Any) []matcher {
	arp, ip4, ip6, nd := uint32(24), uint32(16), uint32(24), byte(135) // targets, destinations
	if dir == egress {
		arp, ip4, ip6, nd = 14, 12, 8, 136 // senders, sources
	}
	arpIs := join(is(unix.ETH_P_ARP), load(base, l3+2, 4, 1), equal(0x08, 0x00, 6, 4)) // RFC 826: IPv4, lengths
	all := []matcher{
		{match: arpIs, at: load(base, l3+arp, 4, 1)},
		{match: is(unix.ETH_P_IP), at: load(base, l3+ip4, 4, 1)},
		{match: is(unix.ETH_P_IPV6), at: load(base, l3+ip6, 16, 1), ip6: true},
	}
	if dir == ingress {
		all[0].both = join(load(base, l3+14, 4, unix.NFT_REG32_00), load(base, l3+24, 4, unix.NFT_REG32_01))
	}
	if base == layerEther {
		icmp6 := join(is(unix.ETH_P_IPV6), load(base, l3+6, 1, 1), equal(unix.IPPROTO_ICMPV6), load(base, l3+40, 1, 1), equal(nd))
		return append(all, matcher{match: icmp6, at: load(base, l3+48, 16, 1), ip6: true})
	}
	// Untagged frames: the kernel has walked the extension headers.
	th := expr.PayloadBaseTransportHeader
	icmp6 := join(is(unix.ETH_P_IPV6), []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}}, equal(unix.IPPROTO_ICMPV6),
		load(th, 0, 1, 1), equal(nd))
	return append(all, matcher{match: icmp6, at: load(th, 8, 16, 1), ip6: true})
}

func (r *ruleset) add(c *nftables.Conn, chain *nftables.Chain, exprs ...[]expr.Any) {
	c.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: join(exprs...)})
	r.rules[chain.Name]++
}

func (r *ruleset) fill(c *nftables.Conn, chain *nftables.Chain, dir direction, ms []matcher) {
	for _, m := range ms {
		fam := r.ip4
		if m.ip6 {
			fam = r.ip6
		}
		if m.both != nil { // only what would be dropped counts as an announcement
			pass := join(m.both, inSet(r.announced, false), r.count(dir, "announce"), verdict(expr.VerdictAccept))
			r.add(c, chain, m.match, m.at, inSet(fam.shut, false), pass)
			r.add(c, chain, m.match, m.at, inSet(fam.open, false), r.gateShut(), pass)
		}
		r.add(c, chain, m.match, m.at, inSet(fam.shut, false), r.count(dir, "shut"), verdict(expr.VerdictDrop))
		r.add(c, chain, m.match, m.at, inSet(fam.open, false), r.gateShut(), r.count(dir, "expired"), verdict(expr.VerdictDrop))
		r.add(c, chain, m.match, m.at, inSet(fam.open, false), r.count(dir, "open"))
	}
}

// gateShut matches when the gate's element has expired or is not there.
func (r *ruleset) gateShut() []expr.Any {
	return join([]expr.Any{&expr.Immediate{Register: 1, Data: gateKey}}, inSet(r.gate, true))
}

// Expressions. Register 1 holds 16 bytes and shares them with the four-byte
// registers NFT_REG32_00 to NFT_REG32_03.

func join(parts ...[]expr.Any) (all []expr.Any) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func load(base expr.PayloadBase, at, n, register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: base, Offset: at, Len: n}}
}

func equal(want ...byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want}}
}

func metaProtocol(etherType uint16) []expr.Any {
	return join([]expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}}, equal(be16(etherType)...))
}

// etherType matches the type field at that offset of the frame. The kernel
// counts an accelerated tag as if it stood in the frame.
func etherType(at uint32) func(uint16) []expr.Any {
	return func(want uint16) []expr.Any { return join(load(layerEther, at, 2, 1), equal(be16(want)...)) }
}

func inSet(s *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID, Invert: invert}}
}

func (r *ruleset) count(dir direction, name string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: r.counter(dir, name)}}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func jump(to *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: to.Name}}
}

func be16(v uint16) []byte { return binaryutil.BigEndian.PutUint16(v) }
