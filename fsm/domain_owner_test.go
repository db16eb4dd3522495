package fsm

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The range of a HAVIP.
var rangeRows = []domainRow{
	{"R11", "ten members at most, none twice", func(_ *testing.T, w *world) {
		w.refuses(CreateHAVIP{Name: "x", IP: addr("10.0.0.100"), Range: inRange(RangeCVM, strings.Fields("a b c d e f g h i j k")...)}, CodeLimit, "holds 10 members, 11 asked")
		w.refuses(CreateHAVIP{Name: "x", IP: addr("10.0.0.100"), Range: inRange(RangeCVM, "n1", "n1")}, CodeDuplicate, "a member twice")
		web(w)
		rangeOf(w)
		w.refuses(changing(ChangeRange{Add: []string{"n2"}})(w), CodeAssociated, "already")
	}},
	{"R12", "limited and empty: nobody may own it, and that is said", func(t *testing.T, w *world) {
		w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: Range{Limit: true}})
		w.refuses(Place{[]Assignment{w.to("web", "n1/eth0")}}, CodeRangeDenied, "nobody may own the HAVIP")
		want(t, w.warned("web", "the range is empty and limited") && w.hasEvent("warning", "the range is empty"), "%v", w.state.Warnings(w.get("web")))
	}},
	{"R12", "without the limit any ENI of the subnet may own", func(t *testing.T, w *world) {
		web(w)
		for _, eni := range []string{"n1/eth0", "n3/eth1"} {
			want(t, w.why("web", eni) == "", "%s: %s", eni, w.why("web", eni))
		}
	}},
	{"R12", "switched on while the owner is outside", refusing(owned, update(UpdateHAVIP{Range: ptr(inRange(RangeCVM, "n2"))}), CodeInUse, "would leave its range")},
	{"R13", "an ENI among nodes", refusing(all(web, rangeOf), changing(ChangeRange{Type: RangeENI, Add: []string{"n3/eth1"}}), CodeParameter, "never mixes types")},
	{"R13", "emptied, a range takes another type", func(t *testing.T, w *world) {
		web(w)
		rangeOf(w)
		w.must(changing(ChangeRange{Remove: []string{"n1", "n2"}})(w))
		w.must(changing(ChangeRange{Type: RangeENI, Add: []string{"n3/eth1"}})(w))
		want(t, w.get("web").Range.Type == RangeENI, "%+v", w.get("web").Range)
	}},
	{"R14", "an ENI that is not attached", refusing(func(w *world) { w.report("n1", eniAt("eth0", "10.0.0.11/24", true)) }, ranged(RangeENI, "n1/eth1"), CodeParameter, "not attached")},
	{"R15", "a primary ENI", refusing(nil, ranged(RangeENI, "n1/eth0"), CodeParameter, "primary ENI of node n1; use a range of type cvm")},
	{"R16", "a node brings every ENI, the primary and tomorrow's, too", func(t *testing.T, w *world) {
		web(w)
		rangeOf(w)
		w.report("n1", eniAt("eth0", "10.0.0.11/24", true), eniAt("eth1", "10.0.0.21/24", false), eniAt("eth9", "10.0.0.31/24", false))
		for eni, rule := range map[string]string{"n1/eth0": "", "n1/eth1": "", "n1/eth9": "", "n3/eth0": "not-in-range"} {
			want(t, w.why("web", eni) == rule, "%s: %s", eni, w.why("web", eni))
		}
	}},
	{"R16", "a node without an ENI there", refusing(nil, ranged(RangeCVM, "w"), CodeParameter, "witness")},
	{"R17", "an ENI of another subnet", refusing(func(w *world) {
		w.report("n1", eniAt("eth0", "10.0.0.11/24", true), eniAt("eth1", "10.3.0.2/24", false))
	}, ranged(RangeENI, "n1/eth1"), CodeParameter, "in subnet net-10.3.0.0-24; the HAVIP is in net")},
	{"R22", "the owner does not leave the range by accident", refusing(all(owned, rangeOf), changing(ChangeRange{Remove: []string{"n1"}}), CodeInUse, "n1/eth0 owns HAVIP web and would leave its range")},
	{"R22", "evicted, it releases first", func(t *testing.T, w *world) {
		all(owned, rangeOf)(w)
		w.must(changing(ChangeRange{Remove: []string{"n1"}, Evict: true})(w))
		v := w.get("web")
		want(t, v.Owner == nil && len(v.Draining) == 1 && slices.Equal(v.Range.Members, []string{"n2"}), "%+v", v)
		w.place("web", "n2/eth0") // and activates when n1 has released
	}},
	{"R22", "evicted with nobody left", func(t *testing.T, w *world) {
		all(owned, rangeOf)(w)
		w.must(changing(ChangeRange{Remove: []string{"n1", "n2"}, Evict: true})(w))
		want(t, w.get("web").Owner == nil && len(w.get("web").Draining) == 1, "%+v", w.get("web"))
	}},
	{"R28", "members that are all on one node", func(t *testing.T, w *world) {
		w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeENI, "n1/eth1")})
		w.report("n1", eniAt("eth0", "10.0.0.11/24", true), eniAt("eth1", "10.0.0.21/24", false), eniAt("eth2", "10.0.0.31/24", false))
		w.must(changing(ChangeRange{Add: []string{"n1/eth2"}})(w))
		want(t, w.warned("web", "all members of the range are on node n1"), "%v", w.state.Warnings(w.get("web")))
	}},
	{"E10", "claims under an empty range do not fill the journal", func(t *testing.T, w *world) {
		w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: Range{Limit: true}})
		n := len(w.state.Events)
		for range 5 {
			w.refuses(Place{[]Assignment{w.to("web", "n1/eth0")}}, CodeRangeDenied, "empty")
		}
		want(t, len(w.state.Events) == n, "%d more events", len(w.state.Events)-n)
	}},
	{"E11", "a range of one", func(t *testing.T, w *world) {
		w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeCVM, "n1")})
		want(t, w.warned("web", "no failover target"), "%v", w.state.Warnings(w.get("web")))
	}},
	{"E12", "a detached member stays listed and returns", func(t *testing.T, w *world) {
		w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeENI, "n1/eth1", "n2/eth1")})
		w.report("n1", eniAt("eth0", "10.0.0.11/24", true))
		want(t, w.why("web", "n1/eth1") == "detached" && slices.Contains(w.get("web").Range.Members, "n1/eth1"), "%s", w.why("web", "n1/eth1"))
		w.report("n1", eniAt("eth0", "10.0.0.11/24", true), eniAt("eth1", "10.0.0.21/24", false))
		want(t, w.why("web", "n1/eth1") == "", "%s", w.why("web", "n1/eth1"))
	}},
	{"E13", "an owner's ENI that is detached is not eligible, and its claim has to be released", func(t *testing.T, w *world) {
		web(w)
		w.place("web", "n1/eth1")
		w.report("n1", eniAt("eth0", "10.0.0.11/24", true))
		want(t, w.why("web", "n1/eth1") == "detached", "%s", w.why("web", "n1/eth1"))
		w.place("web", "n2/eth1")
		want(t, len(w.get("web").Draining) == 1 && w.get("web").Epoch == 2, "%+v", w.get("web"))
	}},
	{"E14", "an ENI at another node is another ENI", func(t *testing.T, w *world) {
		w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100"), Range: inRange(RangeENI, "n1/eth1")})
		w.report("n1", eniAt("eth0", "10.0.0.11/24", true))
		w.report("n2", eniAt("eth0", "10.0.0.12/24", true), eniAt("eth1", "10.0.0.22/24", false), eniAt("eth2", "10.0.0.21/24", false))
		want(t, w.why("web", "n1/eth1") == "detached" && w.why("web", "n2/eth2") == "not-in-range", "%s, %s", w.why("web", "n1/eth1"), w.why("web", "n2/eth2"))
	}},
	{"E15", "a node that is removed stays listed, and is not eligible", func(t *testing.T, w *world) {
		web(w)
		rangeOf(w)
		w.must(CloseSession{Session: w.session("n2")})
		want(t, w.why("web", "n2/eth0") == "no-session", "%s", w.why("web", "n2/eth0"))
		w.must(RemoveNode{"n-n2"})
		want(t, slices.Contains(w.get("web").Range.Members, "n2"), "%+v", w.get("web").Range)
	}},
	{"E16", "a member that is no ENI of the subnet", refusing(nil, ranged(RangeENI, "w/eth0"), CodeNotFound, `"w/eth0"`)},
	{"E17", "two ENIs of one node", func(t *testing.T, w *world) {
		owned(w)
		w.place("web", "n1/eth1")
		v := w.get("web")
		want(t, len(v.Draining) == 1 && v.Draining[0].ENI == "n1/eth0" && v.Owner.ENI == "n1/eth1", "the new claim waits for the old one: %+v", v)
	}},
	{"E18", "another type under an owner, in one step", func(t *testing.T, w *world) {
		web(w)
		rangeOf(w)
		w.place("web", "n1/eth1")
		w.must(update(UpdateHAVIP{Range: ptr(inRange(RangeENI, "n1/eth1", "n3/eth1"))})(w))
		want(t, w.get("web").Owner != nil, "the owner is in both ranges")
		w.refuses(update(UpdateHAVIP{Range: ptr(inRange(RangeENI, "n3/eth1"))})(w), CodeInUse, "would leave its range")
		w.must(update(UpdateHAVIP{Range: ptr(inRange(RangeENI, "n3/eth1")), Evict: true})(w))
		want(t, w.get("web").Owner == nil, "not evicted")
	}},
	{"E19", "all members removed at once: nothing is", func(t *testing.T, w *world) {
		all(owned, rangeOf)(w)
		w.refuses(changing(ChangeRange{Remove: []string{"n2", "n1"}})(w), CodeInUse, "would leave")
		want(t, len(w.get("web").Range.Members) == 2, "%+v", w.get("web").Range)
	}},
	{"E20", "a full range: the result counts", func(t *testing.T, w *world) {
		w.must(SetCluster{Provider: &Provider{RangeMembers: ptr(2)}})
		web(w)
		rangeOf(w)
		w.refuses(changing(ChangeRange{Add: []string{"n3"}})(w), CodeLimit, "holds 2 members, 3 asked")
		w.must(changing(ChangeRange{Add: []string{"n3"}, Remove: []string{"n2"}})(w))
		want(t, slices.Equal(w.get("web").Range.Members, []string{"n1", "n3"}), "%+v", w.get("web").Range)
	}},
	{"E21", "one member in two ranges", func(t *testing.T, w *world) {
		w.must(SetCluster{Provider: &Provider{HAVIPsPerENI: ptr(1)}})
		webAndAPI(w)
		w.place("web", "n1/eth0")
		want(t, !w.warned("web", "advises"), "warned of one")
		w.place("api", "n1/eth0")
		want(t, w.warned("web", "ENI n1/eth0 owns 2 HAVIPs, provider lan advises 1"), "%v", w.state.Warnings(w.get("web")))
	}},
}

// Who owns a HAVIP, and who did.
var ownerRows = []domainRow{
	{"R19", "a claim from an old epoch, or of a session that has ended", func(_ *testing.T, w *world) {
		owned(w)
		late := w.to("web", "n2/eth0")
		w.place("web", "n3/eth0")
		w.refuses(Place{[]Assignment{late}}, CodeStale, "at epoch 2, the placement was computed from 1")
		late = w.to("web", "n2/eth0")
		w.open("n2")
		w.refuses(Place{[]Assignment{late}}, CodeStale, "is not open")
	}},
	{"R19", "the announce interval is the provider's", func(t *testing.T, w *world) {
		want(t, w.state.Cluster.Provider.Rules().AnnounceInterval == 0, "lan has one")
		w.must(SetCluster{Provider: &Provider{Name: "tencent"}})
		want(t, w.state.Cluster.Provider.Rules().AnnounceInterval == 5*time.Second, "%+v", w.state.Cluster.Provider.Rules())
		w.must(SetCluster{Provider: &Provider{Name: "tencent", AnnounceInterval: ptr(time.Second)}})
		want(t, w.state.Cluster.Provider.Rules().AnnounceInterval == time.Second, "%+v", w.state.Cluster.Provider.Rules())
	}},
	{"R20", "a release names the claim, and may be repeated", func(t *testing.T, w *world) {
		owned(w)
		claim := ReleasedClaim{HAVIP: w.get("web").ID, Epoch: 1, Session: w.session("n1")}
		other := claim
		other.Session = w.session("n2")
		w.must(Release{[]ReleasedClaim{other}})
		want(t, w.get("web").Owner != nil, "somebody else released it")
		w.must(Release{[]ReleasedClaim{claim}})
		w.must(Release{[]ReleasedClaim{claim}})
		want(t, w.get("web").Owner == nil, "%+v", w.get("web"))
	}},
	{"R21", "ENI and node are both there or neither", func(t *testing.T, w *world) {
		owned(w)
		o := w.get("web").Owner
		want(t, o.Node == w.state.ENIs[o.ENI].Node && o.Session == w.session("n1"), "%+v", o)
		w.must(CloseSession{Session: w.session("n1")})
		want(t, w.get("web").Owner == nil && w.get("web").Last == "n1/eth0", "%+v", w.get("web"))
	}},
	{"R27", "more HAVIPs on an ENI than the provider advises", func(t *testing.T, w *world) {
		w.must(SetCluster{Provider: &Provider{Name: "tencent"}})
		for i, name := range strings.Fields("a b c d e f") {
			w.must(CreateHAVIP{Name: name, Subnet: "net"})
			w.place(name, "n1/eth0")
			want(t, w.warned(name, "advises 5 at most") == (i == 5), "%d owned: %v", i+1, w.state.Warnings(w.get(name)))
		}
	}},
	{"E29", "where it failed it pauses longer each time, and is barred after the limit", func(t *testing.T, w *world) {
		web(w)
		var pauses []time.Duration
		for range (Spec{}).FailureLimit() {
			w.place("web", "n1/eth0")
			v := w.get("web")
			w.must(Release{[]ReleasedClaim{{HAVIP: v.ID, Epoch: v.Epoch, Session: w.session("n1"), Failure: "no carrier"}}})
			pauses = append(pauses, time.Duration(w.get("web").GaveUp["n1/eth0"].Until-w.at))
			w.at += int64(pauses[len(pauses)-1])
		}
		want(t, slices.Equal(pauses, []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second}), "%v", pauses)
		want(t, w.why("web", "n1/eth1") == "failures" && w.why("web", "n2/eth0") == "", "the other ENI of the node: %s", w.why("web", "n1/eth1"))
		w.at += int64(FailDecay)
		want(t, w.why("web", "n1/eth0") == "", "one is forgotten: %s", w.why("web", "n1/eth0"))
	}},
	{"E29", "a node that loses its sessions counts as flapping, one that ends them does not", func(t *testing.T, w *world) {
		for range FlapLimit {
			want(t, !w.node("n1").Flapping(w.at), "too early: %+v", w.node("n1").Flaps)
			w.open("n1") // its process was killed
		}
		w.must(CloseSession{Session: w.session("n2"), Released: true})
		w.must(CloseSession{Session: w.session("n3")})
		want(t, w.node("n1").Flapping(w.at) && w.node("n2").Flaps.Count == 0 && w.node("n3").Flaps.Count == 1, "%+v", w.state.NodeList())
		want(t, !w.node("n1").Flapping(w.at+int64(FailDecay)), "for ever")
		w.must(ResetFailures{Node: "n-n1"})
		want(t, w.node("n1").Flaps == FailCount{} && w.node("n3").Flaps.Count == 1, "%+v", w.state.NodeList())
	}},
	{"E29", "failures cleared", func(t *testing.T, w *world) {
		web(w)
		for range 9 {
			w.must(RecordFailure{w.get("web").ID, "n-n1", "x"})
			w.must(RecordFailure{w.get("web").ID, "n-n2", "x"})
		}
		w.must(ResetFailures{HAVIP: w.get("web").ID, Node: "n-n1"})
		want(t, w.why("web", "n1/eth0") == "" && w.why("web", "n2/eth0") == "failures", "%s, %s", w.why("web", "n1/eth0"), w.why("web", "n2/eth0"))
		w.must(ResetFailures{})
		want(t, w.get("web").Fails == nil && w.hasEvent("failures-cleared", "every HAVIP on every node"), "%+v", w.get("web"))
	}},
	{"E31", "after a full stop the last owner is remembered", func(t *testing.T, w *world) {
		owned(w)
		for _, n := range []string{"n1", "n2", "n3"} {
			w.must(CloseSession{Session: w.session(n)})
		}
		want(t, w.get("web").Owner == nil && w.get("web").Last == "n1/eth0", "%+v", w.get("web"))
	}},
	{"E32", "deleted while the owner is cut off: it goes when the session is closed", func(t *testing.T, w *world) {
		owned(w)
		w.must(DeleteHAVIP{ID: w.get("web").ID, Force: true})
		want(t, len(w.state.HAVIPs) == 1, "gone before its owner")
		w.must(CloseSession{Session: w.session("n1")})
		q := w.state.Quarantine["vpc-default/10.0.0.100"]
		want(t, len(w.state.HAVIPs) == 0 && q.Until == w.at+int64(time.Minute), "%v %+v", w.state.HAVIPs, q)
	}},
}
