package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"havip-cluster/fsm"
)

// The hard rules about one HAVIP and one ENI. They are fsm.Ineligible said of a Problem;
// a test holds the two together on random states. The limits and the groups, which
// concern several HAVIPs, are in fits.

// obstacle is the first reason against an ENI, with the way out.
type obstacle struct {
	rule, text string
	// again says what has to happen, or until is when it ends by itself.
	again string
	until int64
}

// waits says that a fence has to know the HAVIP before it may come to e.
func (v *HAVIP) waits(e *ENI) bool { return len(v.Waits) > 0 && v.Owner != e.ID }

// newcomer says that a HAVIP would be new on a node that does not apply the log.
func (n *Node) newcomer(v *HAVIP, e *ENI) bool { return n.Behind != 0 && v.Owner != e.ID }

// ineligible returns why an ENI must not own a HAVIP, or nil; n is nil for an ENI of a
// node that nobody knows.
func (p *Problem) ineligible(v *HAVIP, e *ENI, n *Node) *obstacle {
	switch {
	case v.Disabled:
		return &obstacle{"disabled", fmt.Sprintf("the HAVIP is disabled; `havip enable %s`", v.Name), "`havip enable " + v.Name + "`", 0}
	case v.Deleting:
		return &obstacle{"deleting", "the HAVIP is being deleted", "", 0}
	case v.OwnAddress != "":
		return &obstacle{"own-address", v.OwnAddress, "its address is free", 0}
	case v.waits(e):
		return &obstacle{"unguarded", fsm.WaitsForFence(v.Waits), "that fence knows it, or that session is closed", 0}
	case n == nil:
		return &obstacle{"no-node", fmt.Sprintf("node %s is not a member", e.Node), "its node joins again", 0}
	case e.Detached:
		return &obstacle{"detached", "the node no longer reports this ENI", "the ENI is attached again", 0}
	case !slices.Contains(e.Subnets, v.Subnet):
		return &obstacle{"other-subnet", fmt.Sprintf("it is in subnet %s, the HAVIP is in %s", mainSubnet(e.Subnets), v.Subnet), "", 0}
	case n.Role == fsm.RoleWitness:
		return &obstacle{"witness", fmt.Sprintf("node %s is a witness: it votes and owns nothing", n.Name), "", 0}
	}
	if why := outOfRange(v, e, n); why != nil {
		return why
	}
	if why := p.ruledOut(v, e, n); why != nil {
		return why
	}
	if why := nodeState(e, n); why != nil {
		return why
	}
	if n.newcomer(v, e) {
		return &obstacle{"behind", fsm.BehindText(n.Name, n.Behind), "it applies the log again", 0}
	}
	return p.failedThere(v, e, n)
}

func mainSubnet(names []string) string {
	if len(names) == 0 || names[0] == "" {
		return "none"
	}
	return names[0]
}

// outOfRange checks rules R12 to R16.
func outOfRange(v *HAVIP, e *ENI, n *Node) *obstacle {
	if !v.Range.Limit {
		return nil
	}
	joins := "it is in the range: `havip range add " + v.Name
	switch r := v.Range; {
	case len(r.Members) == 0:
		return &obstacle{"not-in-range", fmt.Sprintf("the range is empty and limited: nobody may own the HAVIP; `havip range add %s ...`", v.Name), joins + " ...`", 0}
	case r.Type == fsm.RangeCVM && !slices.Contains(r.Members, n.Name):
		return &obstacle{"not-in-range", fmt.Sprintf("node %s is not in the range", n.Name), joins + " " + n.Name + "`", 0}
	case r.Type == fsm.RangeENI && !slices.Contains(r.Members, e.ID):
		return &obstacle{"not-in-range", fmt.Sprintf("ENI %s is not in the range", e.ID), joins + " " + e.ID + "`", 0}
	case r.Type == fsm.RangeENI && e.Primary:
		return &obstacle{"primary", fmt.Sprintf("it is the primary ENI of node %s, which only a range of type cvm may use", n.Name), "the range is of type cvm", 0}
	}
	return nil
}

// ruledOut is what the operator said about this HAVIP and this place.
func (p *Problem) ruledOut(v *HAVIP, e *ENI, n *Node) *obstacle {
	for _, target := range []string{n.Name, e.ID} {
		if slices.Contains(v.Forbid, target) {
			return &obstacle{"forbidden", fmt.Sprintf("%s is forbidden for HAVIP %s", target, v.Name), "HAVIP " + v.Name + " no longer forbids it", 0}
		}
		if b, banned := v.ban(p.Now, target); banned {
			unban, ends := fmt.Sprintf("`havip unban %s %s`", v.Name, target), ""
			until := p.bansEnd(v, n.Name, e.ID)
			if b.Until != 0 {
				ends = fmt.Sprintf(" for %s more", time.Duration(b.Until-p.Now).Round(time.Second))
			}
			return &obstacle{"banned", "it is banned" + ends + "; " + unban, unban, until}
		}
	}
	if len(v.Require) > 0 && !slices.Contains(v.Require, n.Name) && !slices.Contains(v.Require, e.ID) {
		return &obstacle{"not-required", fmt.Sprintf("HAVIP %s requires %s", v.Name, strings.Join(v.Require, " or ")), "HAVIP " + v.Name + " requires it, too", 0}
	}
	return nil
}

// bansEnd is when none of the bans on some targets holds any more; 0 if one does not end.
func (p *Problem) bansEnd(v *HAVIP, targets ...string) (until int64) {
	for _, target := range targets {
		if b, banned := v.ban(p.Now, target); banned {
			if b.Until == 0 {
				return 0
			}
			until = max(until, b.Until)
		}
	}
	return until
}

// nodeState checks the node and the link; it does not look at the HAVIP.
func nodeState(e *ENI, n *Node) *obstacle {
	if !n.Removing && !n.Standby && !n.Draining && n.Health != fsm.HealthRed && n.Alive && !n.Leaving && e.Up {
		return nil
	}
	activate := fmt.Sprintf("`node activate %s`", n.Name)
	switch {
	case n.Removing:
		return &obstacle{"removing", fmt.Sprintf("node %s is being removed", n.Name), "", 0}
	case n.Standby:
		return &obstacle{"standby", fmt.Sprintf("node %s is in standby; %s", n.Name, activate), activate, 0}
	case n.Draining:
		return &obstacle{"drained", fmt.Sprintf("node %s is being drained or has been; %s", n.Name, activate), activate, 0}
	case n.Health == fsm.HealthRed:
		return &obstacle{"unhealthy", fmt.Sprintf("node %s is red: %s", n.Name, cmp.Or(n.HealthReason, "no reason given")), "its health is yellow or green", 0}
	case !n.Alive:
		return &obstacle{"no-session", fmt.Sprintf("node %s has no session: it is down, cut off, or has just started", n.Name), "the node is up again", 0}
	case n.Leaving:
		return &obstacle{"draining", fmt.Sprintf("node %s is handing over what it owns", n.Name), "the node has started again", 0}
	case !e.Up:
		return &obstacle{"link-down", "the link is down", "the link is up", 0}
	}
	return nil
}

// failedThere is what past failures say of a place: a limit on the node, a pause on the ENI.
func (p *Problem) failedThere(v *HAVIP, e *ENI, n *Node) *obstacle {
	if v.barredByFails(n.Name) {
		f, limit := v.Fails[n.Name], v.failLimit()
		text := fmt.Sprintf("it failed %d times on node %s (limit %d); one is forgotten every %s, or all by `havip reset-failures %s`", f.Count, n.Name, limit, fsm.FailDecay, v.Name)
		until := f.Ends
		if until != 0 {
			until += int64(f.Count-limit) * int64(fsm.FailDecay)
		}
		return &obstacle{"failures", text, "enough failures are forgotten", until}
	}
	g, ok := v.GaveUp[e.ID]
	if !ok || !g.Holds(p.Now) {
		return nil
	}
	since := g.At
	if since == 0 { // written by a program without At
		since = g.Until - int64(fsm.GiveUpPause)
	}
	text := fmt.Sprintf("it failed there %s ago and pauses for %s: %s",
		time.Duration(p.Now-since).Round(time.Second), time.Duration(g.Until-since).Round(time.Second), g.Reason)
	return &obstacle{"gave-up", text, "the pause is over", g.Until}
}

// frozen says why a HAVIP stays as it is, whatever else holds; "" if it does not.
func (p *Problem) frozen(v *HAVIP, owner *Node) string {
	stays := "it stays where it is"
	if v.Owner == "" {
		stays = "it stays without an owner"
	}
	switch {
	case p.Maintenance:
		return "the cluster is in maintenance: " + stays
	case v.Unmanaged:
		return "it is not managed: " + stays
	case v.Maintenance:
		return "the HAVIP is in maintenance: " + stays
	case owner != nil && owner.Maintenance && !owner.Removing:
		return "its node is in maintenance: it stays where it is"
	case v.Draining >= fsm.MaxDraining:
		return fmt.Sprintf("%d earlier owners have not released it yet: %s", v.Draining, stays)
	}
	return ""
}
