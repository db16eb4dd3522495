package placement

import (
	"fmt"
	"slices"
)

// The hard rules about one HAVIP and one ENI. They stand here and nowhere else: the solver
// asks firstRule, which has no words and allocates nothing; `explain` and Apply ask
// Ineligible, which puts the same answer into words. The limits and the groups, which
// concern several HAVIPs, are in fits.

// Names of the rules about one HAVIP and one ENI. Users and the journal see them.
const (
	ruleDisabled    = "disabled"
	ruleDeleting    = "deleting"
	ruleOwnAddress  = "own-address"
	ruleUnguarded   = "unguarded"
	ruleNoNode      = "no-node"
	ruleDetached    = "detached"
	ruleOtherSubnet = "other-subnet"
	ruleWitness     = "witness"
	ruleNotInRange  = "not-in-range"
	rulePrimary     = "primary"
	ruleForbidden   = "forbidden"
	ruleBanned      = "banned"
	ruleNotRequired = "not-required"
	ruleRemoving    = "removing"
	ruleStandby     = "standby"
	ruleDrained     = "drained"
	ruleUnhealthy   = "unhealthy"
	ruleNoSession   = "no-session"
	ruleDraining    = "draining"
	ruleLinkDown    = "link-down"
	ruleBehind      = "behind"
	ruleCheck       = "check"
	ruleFailures    = "failures"
	ruleGaveUp      = "gave-up"
)

// RuleNotInRange is the rule that an ENI is outside an enforced range.
const RuleNotInRange = ruleNotInRange

// firstRule returns the first rule for which e must not own v, "" if it may. n is the ENI's
// node, nil if nobody knows it. target is the node's name or the ENI's id, where a rule may
// be about either.
func firstRule(now int64, v *HAVIP, e *ENI, n *Node) (rule, target string) {
	if rule = v.nowhere(); rule != "" {
		return rule, ""
	}
	arrives := v.Owner != e.ID // what it has already, it serves
	switch {
	case arrives && len(v.Waits) > 0:
		return ruleUnguarded, ""
	case n == nil:
		return ruleNoNode, ""
	case e.Detached:
		return ruleDetached, ""
	case !slices.Contains(e.Subnets, v.Subnet):
		return ruleOtherSubnet, ""
	case n.Role == RoleWitness:
		return ruleWitness, ""
	}
	if rule = v.Range.Denies(n.Name, e.ID, e.Primary); rule != "" {
		return rule, ""
	}
	if rule, target = v.ruledOut(now, n.Name, e.ID); rule != "" {
		return rule, target
	}
	if rule = n.refuses(); rule != "" {
		return rule, ""
	}
	switch {
	case !e.Up:
		return ruleLinkDown, ""
	case arrives && n.Behind != 0:
		return ruleBehind, ""
	case v.barredBy(n.Name) != "":
		return ruleCheck, n.Name
	case v.barredByFails(n.Name):
		return ruleFailures, n.Name
	}
	if g, failed := v.GaveUp[e.ID]; failed && g.Holds(now) {
		return ruleGaveUp, e.ID
	}
	return "", ""
}

// nowhere are the rules for which no ENI at all may own it.
func (v *HAVIP) nowhere() string {
	switch {
	case v.Disabled:
		return ruleDisabled
	case v.Deleting:
		return ruleDeleting
	case v.OwnAddress != "":
		return ruleOwnAddress
	}
	return ""
}

// Denies is the rule of an enforced range (R12 to R16) that keeps a HAVIP off an ENI of a
// node, "" if there is none. node is a name.
func (r Range) Denies(node, eni string, primary bool) string {
	switch {
	case !r.Limit:
		return ""
	case len(r.Members) == 0, r.Type == RangeCVM && !slices.Contains(r.Members, node), r.Type == RangeENI && !slices.Contains(r.Members, eni):
		return ruleNotInRange
	case r.Type == RangeENI && primary:
		return rulePrimary
	}
	return ""
}

// ruledOut is what the operator said about this HAVIP and this place.
func (v *HAVIP) ruledOut(now int64, node, eni string) (rule, target string) {
	for _, t := range [2]string{node, eni} {
		if slices.Contains(v.Forbid, t) {
			return ruleForbidden, t
		}
		if _, banned := v.ban(now, t); banned {
			return ruleBanned, t
		}
	}
	if len(v.Require) > 0 && !slices.Contains(v.Require, node) && !slices.Contains(v.Require, eni) {
		return ruleNotRequired, ""
	}
	return "", ""
}

// refuses is why a node may own nothing for now, whatever the HAVIP is.
func (n *Node) refuses() string {
	switch {
	case n.Removing:
		return ruleRemoving
	case n.Standby:
		return ruleStandby
	case n.Draining:
		return ruleDrained
	case n.Health == HealthRed:
		return ruleUnhealthy
	case !n.Alive:
		return ruleNoSession
	case n.Leaving:
		return ruleDraining
	}
	return ""
}

// plain says that no rule tells apart the ENIs of its subnet for this HAVIP, as long as every
// node applies the log.
func (v *HAVIP) plain() bool {
	return len(v.Waits) == 0 && !v.Range.Limit && len(v.Require)+len(v.Forbid)+len(v.Bans)+len(v.GaveUp)+len(v.Fails) == 0 && !v.barredSomewhere()
}

// takes says that an ENI may go on owning a HAVIP of a subnet that has no rules of its own.
func (e *ENI) takes(now int64, subnet string, n *Node) bool {
	rule, _ := firstRule(now, &HAVIP{Subnet: subnet, Owner: e.ID}, e, n)
	return rule == ""
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
	case v.Draining >= MaxDraining:
		return fmt.Sprintf("%d earlier owners have not released it yet: %s", v.Draining, stays)
	}
	return ""
}
