package fsm

import (
	"strings"
	"testing"

	"havip-cluster/fsm/placement"
)

// A node that has just joined has not told of its ENIs: a range may name it, nothing is placed there, and
// the reason says so. Once it has told, it is judged as ever.
func TestRangeOfANodeThatHasNotToldYet(t *testing.T) {
	w := trio(t)
	r := Range{Type: RangeCVM, Members: []string{"n9"}, Limit: true}
	w.join("n9", RoleAgent, 9)
	w.refuses(CreateHAVIP{Name: "early", IP: addr("10.0.0.110"), Subnet: "net", Range: r}, CodeParameter, "n9 has no ENI in subnet net") // older members judge so
	w.must(UpdateNode{ID: nodeID("n9"), Version: ptr("v4+level.4")})
	w.upgrade4()
	w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.110"), Subnet: "net", Range: r})
	w.guarded()
	decision := func() placement.Decision {
		t.Helper()
		for _, d := range placement.Solve(w.state.Problem(w.at)) {
			if d.Name == "web" {
				return d
			}
		}
		t.Fatal("no decision")
		return placement.Decision{}
	}
	if d := decision(); d.To != "" || !strings.Contains(d.Reason, "not known yet are the ENIs of n9") {
		t.Errorf("%+v", d)
	}
	w.report("n9", eniAt("eth0", "10.0.0.19/24", true))
	w.open("n9")
	w.guarded()
	if d := decision(); d.To != "n9/eth0" {
		t.Errorf("after it told: %+v", d)
	}
	w.joinAt4("n8", RoleAgent, 8)
	w.report("n8", eniAt("eth0", "192.168.9.8/24", true))
	w.refuses(CreateHAVIP{Name: "far", IP: addr("10.0.0.111"), Subnet: "net", Range: Range{Type: RangeCVM, Members: []string{"n8"}, Limit: true}}, CodeParameter, "n8 has no ENI in subnet net")
	w.joinAt4("n7", RoleWitness, 7)
	w.refuses(CreateHAVIP{Name: "never", IP: addr("10.0.0.112"), Subnet: "net", Range: Range{Type: RangeCVM, Members: []string{"n7"}, Limit: true}}, CodeParameter, "witness")
}

// joinAt4 admits a node that reads level 4.
func (w *world) joinAt4(name string, role Role, i int) {
	w.t.Helper()
	n := newNode(name, i)
	n.Version, n.LeasePort, n.Keys = "v4+level.4", 7403, []NodeKey{nodeKey(byte(i))}
	w.must(CreateToken{w.token(name, role)})
	w.must(AddNode{Token: "t-" + name, SecretHash: "secret-" + name, Node: n})
}
