package fsm

import (
	"strings"
	"testing"
)

// cloudStory has every command and field about a cloud of level 4.
func cloudStory(t testing.TB) *world {
	w := trio(t)
	w.upgrade4()
	w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100")})
	w.guarded()
	w.place("web", "n1/eth0")
	w.named("n1", CloudENI{ID: "eni-1a2b3c4d", Instance: "ins-00000001", VPC: "vpc-1", Subnet: "subnet-1"})
	w.named("n2", CloudENI{ID: "eni-2"})
	for _, kind := range []string{"drift", "cloud"} {
		w.must(ReportEvent{Node: nodeID("n1"), Kind: kind, HAVIP: "web", Text: "begins [vip-missing havip-x]: the cloud has none"})
	}
	for i := range 20 { // a golden log has some length
		w.must(UpdateNode{ID: nodeID("n2"), Score: ptr(i)})
	}
	return w
}

// named has a node report what a cloud calls its eth0.
func (w *world) named(node string, c CloudENI) {
	e := eniAt("eth0", w.state.ENIs[node+"/eth0"].Prefixes[0].String(), true)
	e.MAC, e.Cloud = w.state.ENIs[node+"/eth0"].MAC, c
	w.must(ReportENIs{Node: nodeID(node), ENIs: []ENI{e}})
}

func TestGoldenCloud(t *testing.T) {
	w := cloudStory(t)
	goldenStory(t, w, "cloud", "about a cloud")
}

// What a cloud calls an ENI is a report: it stays with the id, and a report without it takes it away.
func TestCloudNames(t *testing.T) {
	w := cloudStory(t)
	if e := w.state.ENIs["n1/eth0"]; e.Cloud.ID != "eni-1a2b3c4d" || e.ID != "n1/eth0" {
		t.Errorf("%+v", e)
	}
	w.named("n1", CloudENI{})
	if e := w.state.ENIs["n1/eth0"]; e.Cloud != (CloudENI{}) {
		t.Errorf("%+v", e)
	}
	e := eniAt("eth0", "10.0.0.11/24", true)
	e.Cloud.ID = strings.Repeat("x", MaxNameRunes+1)
	w.refuses(ReportENIs{Node: nodeID("n1"), ENIs: []ENI{e}}, CodeMalformed, "id of its cloud")
}

// A cluster with a node of an earlier program is told nothing that this one cannot read.
func TestCloudNeedsLevel4(t *testing.T) {
	for _, b := range []Body{
		&ReportENIs{Node: "n", ENIs: []ENI{{Device: "eth0", Cloud: CloudENI{ID: "eni-1"}}}}, &ReportEvent{Kind: "drift"}, &ReportEvent{Kind: "cloud"},
	} {
		if l := levelOf(b); l != 4 {
			t.Errorf("%T is of level %d", b, l)
		}
	}
	if l := levelOf(&ReportEvent{Kind: "conflict"}); l != 1 {
		t.Errorf("an event of before is of level %d", l)
	}
}
