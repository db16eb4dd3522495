package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"havip-cluster/internal/limits"
)

func (c chooser) targets() []string {
	var out []string
	for range c.number("targets", 0, 2) {
		out = append(out, c.target())
	}
	return out
}

// small is mostly a number that is allowed.
func (c chooser) small() int { return c.number("small", -1, 5) }

func (c chooser) eip() netip.Addr {
	return pick(c, "eip", []netip.Addr{addr("198.51.100.1"), addr("198.51.100.2"), {}, addr("224.0.0.9"), addr("2001:db8::9")})
}

func (c chooser) updateNode(node string) UpdateNode {
	b := UpdateNode{
		ID: node, Standby: maybe(c, "standby", c.flag), Maintenance: maybe(c, "maintenance", c.flag), Removing: maybe(c, "removing", c.flag),
		Version: maybe(c, "version", func() string {
			return pick(c, "program", []string{"v2+level.2", "v1", "v9+level.9", "v3+level.3", "x+level.0"})
		}),
	}
	if c.chance("weights", 4) {
		b.Capacity, b.NoCapacity, b.Score = maybe(c, "capacity", c.small), c.chance("no capacity", 3), maybe(c, "score", c.small)
	}
	return b
}

func (c chooser) group() Group {
	g := Group{
		Name: pick(c, "group", []string{"g1", "g2", "g3", "g4", "g5", ""}), Kind: pick(c, "kind of group", []GroupKind{Together, Apart, "near"}),
		Hard: c.flag(),
	}
	ids := append(slices.Sorted(maps.Keys(c.s.HAVIPs)), "web", "nobody")
	if c.flag() && len(c.s.HAVIPs) > 1 {
		g.HAVIPs = ids[:2]
		return g
	}
	for range c.number("in group", 1, 3) {
		g.HAVIPs = append(g.HAVIPs, pick(c, "grouped", ids))
	}
	return g
}

func (c chooser) groupName() string {
	return pick(c, "group", append(slices.Sorted(maps.Keys(c.s.Groups)), "none"))
}

// members are of the range of a HAVIP, or may become it.
func (c chooser) members(v HAVIP) []string {
	var out []string
	for range c.number("members", 0, 2) {
		out = append(out, pick(c, "member", append(slices.Clone(v.Range.Members), "n1", "n2", "n3", "n2/eth1", "n3/eth1")))
	}
	return out
}

func (c chooser) provider() Provider {
	return Provider{
		Name: pick(c, "provider", []string{"lan", "tencent", "", "moon"}), HAVIPsPerVPC: maybe(c, "quota", func() int { return c.number("quota", -1, 12) }),
		RangeMembers: maybe(c, "range members", func() int { return c.number("range members", 0, 12) }),
		Quarantine:   maybe(c, "quarantine", func() time.Duration { return time.Duration(c.number("quarantine", -1, 9)) * time.Second }),
	}
}

// config is the present configuration with some of it changed, left out or made up.
func (c chooser) config() Config {
	cfg := c.s.DesiredConfig()
	for i := range cfg.HAVIPs {
		h := &cfg.HAVIPs[i]
		switch c.number("change", 1, 8) {
		case 1:
			h.Priority, h.Disabled = c.small(), c.flag()
		case 2:
			h.Range = c.memberRange()
		case 3:
			h.ID = ""
		case 4:
			h.EIP = c.eip()
		case 5:
			h.Name, h.Weight = c.name(), ptr(c.small())
		}
	}
	if c.chance("leave out", 3) && len(cfg.HAVIPs) > 0 {
		cfg.HAVIPs = cfg.HAVIPs[1:]
	}
	if c.chance("a new one", 3) {
		cfg.HAVIPs = append(cfg.HAVIPs, HAVIPSpec{Name: fmt.Sprint("new", c.number("new", 0, 3)), IP: c.addr(), Subnet: "net"})
	}
	if c.chance("groups", 2) {
		cfg.Groups = append(cfg.Groups, c.group())
	} else if c.flag() {
		cfg.Groups = nil
	}
	if len(cfg.Nodes) > 0 {
		cfg.Nodes[0].Score = c.small()
	}
	if c.chance("no subnets", 2) {
		cfg.Subnets = nil
	}
	cfg.Limits = &Limits{PerENI: c.small()}
	return cfg
}

// expected is a revision that somebody may have seen.
func (c chooser) expected() *uint64 {
	return maybe(c, "expected", func() uint64 { return c.s.Cluster.Revision + uint64(c.number("off", 0, 1)) })
}

func (c chooser) revision() uint64 {
	of := []uint64{99999}
	for _, r := range c.s.Revisions {
		of = append([]uint64{r.Number}, of...)
	}
	return pick(c, "revision", of)
}

// policyDraws draws the commands of level 2.
func (c chooser) policyDraws(node string) map[string]func() Body {
	return map[string]func() Body{
		"change-range": func() Body {
			id := c.havip()
			v := c.s.HAVIPs[id]
			return ChangeRange{id, pick(c, "type", []RangeType{"", RangeCVM, RangeENI}), c.members(v), c.members(v), c.flag()}
		},
		"ban-havip": func() Body {
			return BanHAVIP{c.havip(), c.target(), time.Duration(c.number("minutes", -1, 10)) * time.Minute}
		},
		"unban-havip": func() Body {
			ids := []string{c.havip()}
			for _, v := range c.s.HAVIPList() {
				if len(v.Bans) > 0 {
					ids = append([]string{v.ID}, ids...)
				}
			}
			id := pick(c, "with bans", ids)
			return UnbanHAVIP{id, pick(c, "banned", append(slices.Clone(c.s.HAVIPs[id].Bans), "n1"))}
		},
		"bind-eip":       func() Body { return BindEIP{c.havip(), c.eip()} },
		"unbind-eip":     func() Body { return UnbindEIP{c.havip()} },
		"record-failure": func() Body { return RecordFailure{c.havip(), node, "drawn"} },
		"reset-failures": func() Body {
			return ResetFailures{pick(c, "of", []string{"", c.havip()}), pick(c, "on", []string{"", node})}
		},
		"report-health": func() Body {
			return ReportHealth{node, pick(c, "health", []Health{HealthGreen, HealthYellow, HealthRed, "blue"}), "drawn"}
		},
		"drain-node": func() Body { return DrainNode{node, time.Duration(c.number("deadline", -1, 5)) * time.Second} },
		"end-drain": func() Body {
			drained := slices.DeleteFunc(c.s.NodeList(), func(n Node) bool { return !n.Draining || n.Drain.Result != "" })
			ids := []string{node}
			for _, n := range drained {
				ids = append([]string{n.ID}, ids...)
			}
			return EndDrain{pick(c, "drained", ids), pick(c, "result", []string{DrainDone, DrainDeadline, "tired"})}
		},
		"activate-node": func() Body { return ActivateNode{node} },
		"create-group":  func() Body { return CreateGroup{c.group()} },
		"delete-group":  func() Body { return DeleteGroup{c.groupName()} },
		"set-cluster": func() Body {
			return SetCluster{
				Maintenance: maybe(c, "frozen", c.flag), Limits: maybe(c, "limits", func() Limits { return Limits{PerENI: c.small(), PerNode: c.small()} }),
				Rebalance: maybe(c, "rebalance", func() string { return pick(c, "rebalance", []string{"never", "even", "odd"}) }),
				Provider:  maybe(c, "provider", c.provider),
			}
		},
		"apply-config": func() Body {
			return ApplyConfig{Expected: c.expected(), Config: c.config(), Prune: c.flag(), Note: "drawn"}
		},
		"rollback": func() Body { return Rollback{c.revision(), c.expected()} },
	}
}

func (c chooser) openSession(node string, last uint64) OpenSession {
	b := OpenSession{Node: node, Last: last, Attempt: "drawn"}
	if c.s.Level() >= 3 || c.chance("says what it guards", 4) {
		b.Guarded = c.guardedIndex()
	}
	if c.s.Level() >= 4 && c.chance("longer first lease", 4) {
		b.Lease = pick(c, "first lease", []time.Duration{time.Millisecond, 300 * time.Millisecond, limits.OpeningLongest, time.Second, -1})
	}
	return b
}

// guardedIndex is mostly one that is enough.
func (c chooser) guardedIndex() uint64 {
	return pick(c, "guarded", []uint64{c.s.Index, c.s.Cluster.GuardIndex, c.s.Index + 2, 0, 1})
}

// edgeDraws draws the commands of level 3.
func (c chooser) edgeDraws(node string, session uint64) map[string]func() Body {
	return map[string]func() Body{
		"report-guarded": func() Body { return ReportGuarded{node, session, c.guardedIndex()} },
		"confirm": func() Body {
			var b Confirm
			for range c.number("confirmed", 0, 3) {
				v := c.s.HAVIPs[c.havip()]
				claim := ConfirmedClaim{HAVIP: v.ID, Epoch: v.Epoch, Session: c.session()}
				if v.Owner != nil && !c.chance("another claim", 4) {
					claim.Epoch, claim.Session = v.Owner.Epoch, v.Owner.Session
				}
				b.Claims = append(b.Claims, claim)
			}
			return b
		},
		"close-sessions": func() Body {
			b := CloseSessions{Sessions: slices.Sorted(maps.Keys(c.s.Sessions)), Place: c.assignments()}
			for len(b.Sessions) > 0 && c.flag() {
				b.Sessions = b.Sessions[1:]
			}
			if c.chance("unsorted", 6) {
				b.Sessions = append(b.Sessions, 1)
			}
			return b
		},
		"record-failovers": func() Body {
			var b RecordFailovers
			for range c.number("timelines", 0, 2) {
				b.Failovers = append(b.Failovers, c.failover())
			}
			return b
		},
	}
}
