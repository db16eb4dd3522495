package fsm

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Obstacle is the first reason why an ENI may not own a HAVIP.
type Obstacle struct {
	Rule string `json:"rule"` // stable name
	Text string `json:"text"`
}

func (o *Obstacle) code() Code {
	if o.Rule == "not-in-range" {
		return CodeRangeDenied
	}
	return CodeUnsupported
}

// Ineligible returns why eni must not own v, or nil. These are the hard rules: the
// placement asks them before it decides, and Apply asks them again. at is the
// proposer's clock in unix nanoseconds.
func (s *State) Ineligible(v HAVIP, eni ENI, at int64) *Obstacle {
	no := func(rule, format string, args ...any) *Obstacle {
		return &Obstacle{Rule: rule, Text: fmt.Sprintf(format, args...)}
	}
	n, known := s.Nodes[eni.Node]
	sess, open := s.SessionOf(eni.Node)
	owner, mine := s.OwnAddress(v.IP)
	var waits []string // it stays where it is in the meantime
	if v.Owner == nil || v.Owner.ENI != eni.ID {
		waits = s.Unguarded(v)
	}
	switch {
	case !v.Enabled:
		return no("disabled", "the HAVIP is disabled; `havip enable %s`", v.Name)
	case v.Deleting:
		return no("deleting", "the HAVIP is being deleted")
	case mine:
		return no("own-address", "%s", OwnAddressText(v.IP, owner))
	case len(waits) > 0:
		return no("unguarded", "%s", WaitsForFence(waits))
	case !known:
		return no("no-node", "node %s is not a member", eni.Node)
	case eni.Detached:
		return no("detached", "the node no longer reports this ENI")
	case !s.InSubnet(eni, v.Subnet):
		return no("other-subnet", "it is in subnet %s, the HAVIP is in %s", named(eni.Subnet), v.Subnet)
	case n.Role == RoleWitness:
		return no("witness", "node %s is a witness: it votes and owns nothing", n.Name)
	}
	if why := v.outOfRange(n, eni); why != nil {
		return why
	}
	if why := v.ruledOut(n, eni, at); why != nil {
		return why
	}
	switch {
	case n.Removing:
		return no("removing", "node %s is being removed", n.Name)
	case n.Standby:
		return no("standby", "node %s is in standby; `node activate %s`", n.Name, n.Name)
	case n.Draining:
		return no("drained", "node %s is being drained or has been; `node activate %s`", n.Name, n.Name)
	case n.Health == HealthRed:
		return no("unhealthy", "node %s is red: %s", n.Name, cmp.Or(n.HealthReason, "no reason given"))
	case !open:
		return no("no-session", "node %s has no session: it is down, cut off, or has just started", n.Name)
	case sess.Draining:
		return no("draining", "node %s is handing over what it owns", n.Name)
	case !eni.Up:
		return no("link-down", "the link is down")
	case sess.Behind != 0 && (v.Owner == nil || v.Owner.ENI != eni.ID): // what it has already, it serves
		return no("behind", "%s", BehindText(n.Name, sess.Behind))
	}
	return v.failedThere(n, eni, at)
}

// ruledOut is what the operator said about this HAVIP and this place.
func (v HAVIP) ruledOut(n Node, eni ENI, at int64) *Obstacle {
	for _, target := range []string{n.Name, eni.ID} {
		if slices.Contains(v.Forbid, target) {
			return &Obstacle{"forbidden", fmt.Sprintf("%s is forbidden for HAVIP %s", target, v.Name)}
		}
		if b, banned := v.Banned(target, at); banned {
			ends := ""
			if b.Until != 0 {
				ends = fmt.Sprintf(" for %s more", time.Duration(b.Until-at).Round(time.Second))
			}
			return &Obstacle{"banned", fmt.Sprintf("it is banned%s; `havip unban %s %s`", ends, v.Name, target)}
		}
	}
	if len(v.Require) > 0 && !slices.Contains(v.Require, n.Name) && !slices.Contains(v.Require, eni.ID) {
		return &Obstacle{"not-required", fmt.Sprintf("HAVIP %s requires %s", v.Name, strings.Join(v.Require, " or "))}
	}
	return nil
}

// failedThere is what past failures say of a place: a limit on the node, a pause on the ENI.
func (v HAVIP) failedThere(n Node, eni ENI, at int64) *Obstacle {
	if limit, count := v.FailureLimit(), v.FailsOn(n.Name, at); limit > 0 && count >= limit {
		return &Obstacle{"failures", fmt.Sprintf("it failed %d times on node %s (limit %d); one is forgotten every %s, or all by `havip reset-failures %s`", count, n.Name, limit, FailDecay, v.Name)}
	}
	g, ok := v.GaveUp[eni.ID]
	if !ok || !g.Holds(at) {
		return nil
	}
	since := g.At
	if since == 0 { // written by a program without At
		since = g.Until - int64(GiveUpPause)
	}
	return &Obstacle{"gave-up", fmt.Sprintf("it failed there %s ago and pauses for %s: %s",
		time.Duration(at-since).Round(time.Second), time.Duration(g.Until-since).Round(time.Second), g.Reason)}
}

// outOfRange checks rules R12 to R16.
func (v HAVIP) outOfRange(n Node, eni ENI) *Obstacle {
	if !v.Range.Limit {
		return nil
	}
	switch {
	case len(v.Range.Members) == 0:
		return &Obstacle{"not-in-range", fmt.Sprintf("the range is empty and limited: nobody may own the HAVIP; `havip range add %s ...`", v.Name)}
	case v.Range.Type == RangeCVM && !slices.Contains(v.Range.Members, n.Name):
		return &Obstacle{"not-in-range", fmt.Sprintf("node %s is not in the range", n.Name)}
	case v.Range.Type == RangeENI && !slices.Contains(v.Range.Members, eni.ID):
		return &Obstacle{"not-in-range", fmt.Sprintf("ENI %s is not in the range", eni.ID)}
	case v.Range.Type == RangeENI && eni.IsPrimary():
		return &Obstacle{"primary", fmt.Sprintf("it is the primary ENI of node %s, which only a range of type cvm may use", n.Name)}
	}
	return nil
}

func named(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// InSubnet reports whether an ENI is in a subnet: in that which it is said to be in, or,
// unless an operator said so, in each that holds one of its addresses. An ENI with IPv4 and
// IPv6 is in two.
func (s *State) InSubnet(e ENI, subnet string) bool {
	if e.Subnet == subnet || e.SetSubnet != "" {
		return e.Subnet == subnet
	}
	cidr := s.Subnets[subnet].CIDR
	return slices.ContainsFunc(e.Prefixes, func(p netip.Prefix) bool { return cidr.Contains(p.Addr()) })
}
