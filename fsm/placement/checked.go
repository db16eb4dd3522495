package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// What the checks of services say, as the placement sees it. A check that bars is no hard
// rule unless its HAVIPs rather go nowhere: where it fails, the place counts as one with a
// fault, which is a reason to leave for a sound one and no reason to leave for another that is
// as bad. So a check that fails everywhere never leaves a HAVIP dark, and nothing moves for it.

// Verdict is what the checks of one HAVIP say of one node. The zero value is nothing against it.
type Verdict struct {
	// Fault says which check that bars fails there and how; "" = none.
	Fault string
	// Bars is Fault of a check whose HAVIPs have no owner rather than a failing one
	// (when-all-fail: drop): a hard rule.
	Bars string
	// Marks are the scores of the checks that fail there, each below 0.
	Marks []Term
	// Awaits says that a check has no result there yet; "" = all have. Then the node counts as
	// unsteady for whoever would come there, and not for the present owner: nothing goes there
	// for a wish before it is known, and nobody leaves for an answer that is only on its way.
	Awaits string
}

// verdict is what the checks of h say of node n, none if nobody knows the node.
func (m *model) verdict(h, n int32) Verdict {
	if n == none || len(m.v[h].Checked) == 0 {
		return Verdict{}
	}
	return m.v[h].Checked[m.nodes[n].Name]
}

// faulty says that e is no sound place for h: its node does not trust it, or a check that bars
// fails there.
func (m *model) faulty(h, e int32) bool {
	return m.enis[e].Fault != "" || m.verdict(h, m.nodeOf[e]).Fault != ""
}

// faultOf is why e is no sound place for h, "" if it is one.
func (m *model) faultOf(h, e int32) string {
	return cmp.Or(m.enis[e].Fault, m.verdict(h, m.nodeOf[e]).Fault)
}

// unchecked says that h would come to a node of which a check says nothing yet.
func (m *model) unchecked(h, n int32) bool {
	return m.verdict(h, n).Awaits != "" && (m.start[h] == none || m.nodeOf[m.start[h]] != n)
}

// shaky says that others come first for h: node n is unsteady, or unchecked.
func (m *model) shaky(h, n int32) bool { return m.suspect[n] || m.unchecked(h, n) }

// marked says that a check takes from the score of the place that h had. A gain that is worth
// the stickiness is then reason enough to leave it, whatever the failback says: failback is
// about coming back, not about leaving.
func (m *model) marked(h int32) bool {
	return m.start[h] != none && len(m.verdict(h, m.nodeOf[m.start[h]]).Marks) > 0
}

// anyMarked says that a check takes from the score of some member's place: all leave as one.
func (m *model) anyMarked(c *cluster) bool { return slices.ContainsFunc(c.members, m.marked) }

// mayMove says whether h may move for a wish now, as far as its policy goes.
func (m *model) mayMove(h int32) bool {
	return mayMove(m.failback[h], m.p.Now) || m.marked(h)
}

// settled says whether node n has been up for the delay of the policy of h, which does not
// hold back what leaves a failing check.
func (m *model) settled(h, n int32) bool {
	return settled(m.failback[h], m.p.Now, m.nodes[n]) || m.marked(h)
}

// barredBy is the rule of the checks for a node: "" if it may own v.
func (v *HAVIP) barredBy(node string) string {
	if len(v.Checked) == 0 {
		return ""
	}
	if v.Checked[node].Bars != "" {
		return ruleCheck
	}
	return ""
}

// barredSomewhere says that a check is a hard rule for some node.
func (v *HAVIP) barredSomewhere() bool {
	for _, c := range v.Checked {
		if c.Bars != "" {
			return true
		}
	}
	return false
}

// tellCheck puts the rule of a check into words.
func (v *HAVIP) tellCheck(o *Obstacle, n *Node) {
	o.Text = fmt.Sprintf("%s (when-all-fail is drop)", v.Checked[n.Name].Bars)
	o.Again = "that check passes on node " + n.Name
}
