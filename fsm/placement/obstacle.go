package placement

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Obstacle is the first reason why an ENI may not own a HAVIP, in words.
type Obstacle struct {
	Rule string `json:"rule"` // stable name
	Text string `json:"text"`
	// Again says what has to happen until it may, "" if nothing would help.
	Again string `json:"-"`
	// Until is when the rule ends by itself, unix nanoseconds; 0 = it does not.
	Until int64 `json:"-"`
}

// Ineligible returns why e must not own v, or nil. now is the asker's clock in unix
// nanoseconds, n the node of the ENI, nil if nobody knows it. The placement asks before it
// decides, and Apply asks again.
func Ineligible(now int64, v *HAVIP, e *ENI, n *Node) *Obstacle {
	rule, target := firstRule(now, v, e, n)
	if rule == "" {
		return nil
	}
	o := &Obstacle{Rule: rule}
	if n != nil && n.tell(o) || e.tell(o) {
		return o
	}
	v.tell(o, now, target, e, n)
	return o
}

// tell says what a rule about the node means; false for a rule of another kind.
func (n *Node) tell(o *Obstacle) bool {
	activate := fmt.Sprintf("`node activate %s`", n.Name)
	switch o.Rule {
	case ruleWitness:
		o.Text = fmt.Sprintf("node %s is a witness: it votes and owns nothing", n.Name)
	case ruleRemoving:
		o.Text = fmt.Sprintf("node %s is being removed", n.Name)
	case ruleStandby:
		o.Text, o.Again = fmt.Sprintf("node %s is in standby; %s", n.Name, activate), activate
	case ruleDrained:
		o.Text, o.Again = fmt.Sprintf("node %s is being drained or has been; %s", n.Name, activate), activate
	case ruleUnhealthy:
		o.Text, o.Again = fmt.Sprintf("node %s is red: %s", n.Name, cmp.Or(n.HealthReason, "no reason given")), "its health is yellow or green"
	case ruleNoSession:
		o.Text, o.Again = fmt.Sprintf("node %s has no session: it is down, cut off, or has just started", n.Name), "the node is up again"
	case ruleDraining:
		o.Text, o.Again = fmt.Sprintf("node %s is handing over what it owns", n.Name), "the node has started again"
	case ruleBehind:
		o.Text, o.Again = BehindText(n.Name, n.Behind), "it applies the log again"
	default:
		return false
	}
	return true
}

// tell says what a rule about the ENI means; false for a rule of another kind.
func (e *ENI) tell(o *Obstacle) bool {
	switch o.Rule {
	case ruleNoNode:
		o.Text, o.Again = fmt.Sprintf("node %s is not a member", e.Node), "its node joins again"
	case ruleDetached:
		o.Text, o.Again = "the node no longer reports this ENI", "the ENI is attached again"
	case ruleLinkDown:
		o.Text, o.Again = "the link is down", "the link is up"
	default:
		return false
	}
	return true
}

// tell says what a rule about the HAVIP means, alone or for this place.
func (v *HAVIP) tell(o *Obstacle, now int64, target string, e *ENI, n *Node) {
	switch o.Rule {
	case ruleDisabled:
		enable := fmt.Sprintf("`havip enable %s`", v.Name)
		o.Text, o.Again = "the HAVIP is disabled; "+enable, enable
	case ruleDeleting:
		o.Text = "the HAVIP is being deleted"
	case ruleOwnAddress:
		o.Text, o.Again = v.OwnAddress, "its address is free"
	case ruleUnguarded:
		o.Text, o.Again = WaitsForFence(v.Waits), "that fence knows it, or that session is closed"
	case ruleOtherSubnet:
		o.Text = fmt.Sprintf("it is in subnet %s, the HAVIP is in %s", mainSubnet(e.Subnets), v.Subnet)
	case ruleNotInRange:
		v.tellRange(o, e, n)
	case rulePrimary:
		o.Text, o.Again = fmt.Sprintf("it is the primary ENI of node %s, which only a range of type cvm may use", n.Name), "the range is of type cvm"
	case ruleForbidden:
		o.Text, o.Again = fmt.Sprintf("%s is forbidden for HAVIP %s", target, v.Name), "HAVIP "+v.Name+" no longer forbids it"
	case ruleNotRequired:
		o.Text, o.Again = fmt.Sprintf("HAVIP %s requires %s", v.Name, strings.Join(v.Require, " or ")), "HAVIP "+v.Name+" requires it, too"
	case ruleBanned:
		v.tellBan(o, now, target, e, n)
	case ruleCheck:
		v.tellCheck(o, n)
	case ruleFailures:
		v.tellFails(o, n)
	case ruleGaveUp:
		v.tellPause(o, now, e)
	}
}

func (v *HAVIP) tellRange(o *Obstacle, e *ENI, n *Node) {
	joins := "it is in the range: `havip range add " + v.Name + " "
	switch {
	case len(v.Range.Members) == 0:
		o.Text, o.Again = fmt.Sprintf("the range is empty and limited: nobody may own the HAVIP; `havip range add %s ...`", v.Name), joins+"...`"
	case v.Range.Type == RangeCVM:
		o.Text, o.Again = fmt.Sprintf("node %s is not in the range", n.Name), joins+n.Name+"`"
	default:
		o.Text, o.Again = fmt.Sprintf("ENI %s is not in the range", e.ID), joins+e.ID+"`"
	}
}

func (v *HAVIP) tellBan(o *Obstacle, now int64, target string, e *ENI, n *Node) {
	unban, ends := fmt.Sprintf("`havip unban %s %s`", v.Name, target), ""
	if b, _ := v.ban(now, target); b.Until != 0 {
		ends = fmt.Sprintf(" for %s more", time.Duration(b.Until-now).Round(time.Second))
	}
	o.Text, o.Again, o.Until = "it is banned"+ends+"; "+unban, unban, v.bansEnd(now, n.Name, e.ID)
}

// bansEnd is when none of the bans on some targets holds any more; 0 if one does not end.
func (v *HAVIP) bansEnd(now int64, targets ...string) (until int64) {
	for _, target := range targets {
		if b, banned := v.ban(now, target); banned {
			if b.Until == 0 {
				return 0
			}
			until = max(until, b.Until)
		}
	}
	return until
}

func (v *HAVIP) tellFails(o *Obstacle, n *Node) {
	f, limit := v.Fails[n.Name], v.FailureLimit()
	o.Text = fmt.Sprintf("it failed %d times on node %s (limit %d); one is forgotten every %s, or all by `havip clear-failures %s`", f.Count, n.Name, limit, v.FailsAfter(), v.Name)
	o.Again = "enough failures are forgotten"
	if o.Until = f.Ends; f.Ends != 0 {
		o.Until += int64(f.Count-limit) * int64(v.FailsAfter())
	}
}

func (v *HAVIP) tellPause(o *Obstacle, now int64, e *ENI) {
	g := v.GaveUp[e.ID]
	since := g.At
	if since == 0 { // written by a program without At
		since = g.Until - int64(GiveUpPause)
	}
	o.Text = fmt.Sprintf("it failed there %s ago and pauses for %s: %s",
		time.Duration(now-since).Round(time.Second), time.Duration(g.Until-since).Round(time.Second), g.Reason)
	o.Again, o.Until = "the pause is over", g.Until
}

// mainSubnet is the first of some subnets, as users read it.
func mainSubnet(names []string) string {
	if len(names) == 0 || names[0] == "" {
		return "none"
	}
	return names[0]
}
