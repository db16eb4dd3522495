package fsm

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// What level 2 added. Every row begins in a trio whose nodes have all been upgraded.

func upgraded(w *world) { w.upgrade() }

// of makes a body about the HAVIP web.
func of(f func(id string) Body) func(*world) Body {
	return func(w *world) Body { return f(w.get("web").ID) }
}

func done(f func(id string) Body) func(*world) { return func(w *world) { w.must(of(f)(w)) } }

func webAndAPI(w *world) { web(w); w.havip("api", "10.0.0.101"); w.havip("db", "10.0.0.102") }

func grouping(kind GroupKind, hard bool, havips ...string) CreateGroup {
	return CreateGroup{Group{Name: "g", Kind: kind, Hard: hard, HAVIPs: havips}}
}

func group(name string, kind GroupKind, havips ...string) func(*world) {
	return after(CreateGroup{Group{Name: name, Kind: kind, Hard: true, HAVIPs: havips}})
}

// rangeOf gives web a range of nodes n1 and n2.
func rangeOf(w *world) { w.must(update(UpdateHAVIP{Range: ptr(inRange(RangeCVM, "n1", "n2"))})(w)) }

func changing(b ChangeRange) func(*world) Body {
	return of(func(id string) Body { b.ID = id; return b })
}

func provided(p Provider) func(*world) { return after(SetCluster{Provider: &p}) }

func withEIP(ip string) func(*world) {
	return done(func(id string) Body { return BindEIP{id, addr(ip)} })
}

func deleteWeb(w *world) { w.must(DeleteHAVIP{ID: w.get("web").ID}) }

var changeRangeRefusals = []refusal{
	{"unknown HAVIP", nil, does(ChangeRange{ID: "havip-0"}), CodeNotFound, `"havip-0"`},
	{"nothing", web, changing(ChangeRange{}), CodeMissing, "which members"},
	{"a member that is there", all(web, rangeOf), changing(ChangeRange{Add: []string{"n1"}}), CodeAssociated, `"n1" is in the range of HAVIP web already`},
	{"a member twice", all(web, rangeOf), changing(ChangeRange{Add: []string{"n3", "n3"}}), CodeDuplicate, `"n3" twice`},
	{"added and removed", all(web, rangeOf), changing(ChangeRange{Add: []string{"n1"}, Remove: []string{"n1"}}), CodeDuplicate, "twice"},
	{"removed twice", all(web, rangeOf), changing(ChangeRange{Remove: []string{"n1", "n1"}}), CodeDuplicate, "twice"},
	{"removing a stranger", all(web, rangeOf), changing(ChangeRange{Remove: []string{"n3"}}), CodeNotFound, "which holds n1, n2"},
	{"another type", all(web, rangeOf), changing(ChangeRange{Type: RangeENI, Add: []string{"n3/eth1"}}), CodeParameter, "never mixes types (R13)"},
	{"an ENI among nodes", all(web, rangeOf), changing(ChangeRange{Add: []string{"n3/eth1"}}), CodeMismatch, `"n3/eth1" is an ENI`},
	{"no type for an empty range", web, changing(ChangeRange{Add: []string{"n1"}}), CodeParameter, "not a type of range"},
	{"removing the owner", all(owned, rangeOf), changing(ChangeRange{Remove: []string{"n1"}}), CodeInUse, "or use --evict"},
	{"removing all with the owner", all(owned, rangeOf), changing(ChangeRange{Remove: []string{"n1", "n2"}}), CodeInUse, "would leave its range"},
	{"one too many", all(web, rangeOf, provided(Provider{RangeMembers: ptr(2)})), changing(ChangeRange{Add: []string{"n3"}}), CodeLimit, "holds 2 members, 3 asked"},
	{"evicting with too many draining", all(crowded, rangeOf), changing(ChangeRange{Remove: []string{"n1"}, Evict: true}), CodeLimit, "32 earlier owners"},
}

var banRefusals = []refusal{
	{"unknown HAVIP", nil, does(BanHAVIP{ID: "havip-0", Target: "n1"}), CodeNotFound, `"havip-0"`},
	{"nobody", web, of(func(id string) Body { return BanHAVIP{id, "n7", 0} }), CodeNotFound, `"n7" is neither`},
	{"no target", web, of(func(id string) Body { return BanHAVIP{id, "", 0} }), CodeNotFound, `"" is neither`},
	{"into the past", web, of(func(id string) Body { return BanHAVIP{id, "n1", -1} }), CodeRange, "a ban of -1ns"},
	{"for ever and a day", web, of(func(id string) Body { return BanHAVIP{id, "n1", BanMax + 1} }), CodeRange, "or without an end"},
	{"one too many", all(web, filled(func(s *State) {
		for id, v := range s.HAVIPs {
			for i := range MaxBans {
				v.Bans = append(v.Bans, fmt.Sprintf("a%02d", i))
			}
			s.HAVIPs[id] = v
		}
	})), of(func(id string) Body { return BanHAVIP{id, "n1", 0} }), CodeLimit, "65 bans"},
	{"unban what is not banned", web, of(func(id string) Body { return UnbanHAVIP{id, "n1"} }), CodeNotFound, `not banned from "n1"; it is from nothing`},
	{"unban unknown", nil, does(UnbanHAVIP{"havip-0", "n1"}), CodeNotFound, `"havip-0"`},
	{"banned for a while", all(web, done(func(id string) Body { return BanHAVIP{id, "n1", time.Minute} })), moveTo("n1/eth0"), CodeUnsupported, "banned for 1m0s more; `havip unban web n1`"},
	{"banned for ever", all(web, done(func(id string) Body { return BanHAVIP{id, "n1/eth0", 0} })), moveTo("n1/eth0"), CodeUnsupported, "it is banned; `havip unban web n1/eth0`"},
}

var eipRefusals = []refusal{
	{"unknown HAVIP", nil, does(BindEIP{"havip-0", addr("198.51.100.1")}), CodeNotFound, `"havip-0"`},
	{"another one", all(web, withEIP("198.51.100.1")), of(func(id string) Body { return BindEIP{id, addr("198.51.100.2")} }), CodeBindEIP, "already has EIP 198.51.100.1; unbind that first"},
	{"of another HAVIP", all(webAndAPI, func(w *world) { w.must(BindEIP{w.get("api").ID, addr("198.51.100.1")}) }), of(func(id string) Body { return BindEIP{id, addr("198.51.100.1")} }), CodeInUse, "bound to HAVIP api"},
	{"none", web, of(func(id string) Body { return BindEIP{ID: id} }), CodeMalformed, "not an elastic address"},
	{"IPv6", web, of(func(id string) Body { return BindEIP{id, addr("2001:db8::1")} }), CodeMalformed, "IPv4"},
	{"multicast", web, of(func(id string) Body { return BindEIP{id, addr("224.0.0.1")} }), CodeMalformed, "IPv4"},
	{"loopback", web, of(func(id string) Body { return BindEIP{id, addr("127.0.0.1")} }), CodeMalformed, "IPv4"},
	{"unbind none", web, of(func(id string) Body { return UnbindEIP{id} }), CodeUnbindEIP, "has no EIP"},
	{"unbind unknown", nil, does(UnbindEIP{"havip-0"}), CodeNotFound, `"havip-0"`},
	{"create with one that is bound", all(web, withEIP("198.51.100.1")), creating(func(b *CreateHAVIP) { b.EIP = addr("198.51.100.1") }), CodeInUse, "bound to HAVIP web"},
	{"delete with one", all(web, withEIP("198.51.100.1")), of(func(id string) Body { return DeleteHAVIP{ID: id} }), CodeUnsupported, "unbind that first with `havip unbind-eip web`"},
	{"force delete with one", all(owned, withEIP("198.51.100.1")), of(func(id string) Body { return DeleteHAVIP{ID: id, Force: true} }), CodeUnsupported, "unbind that first"},
}

var policyRefusals = []refusal{
	{"required nobody", web, update(UpdateHAVIP{Change: Change{Require: ptr([]string{"n7"})}}), CodeNotFound, `"n7" is neither`},
	{"forbidden nobody", web, update(UpdateHAVIP{Change: Change{Forbid: ptr([]string{"n7"})}}), CodeNotFound, `"n7" is neither`},
	{"required and forbidden", web, update(UpdateHAVIP{Change: Change{Require: ptr([]string{"n1"}), Forbid: ptr([]string{"n1"})}}), CodeParameter, "n1 is both required and forbidden"},
	{"forbidden what is required", all(web, updated(UpdateHAVIP{Change: Change{Require: ptr([]string{"n1"})}})), update(UpdateHAVIP{Change: Change{Forbid: ptr([]string{"n1"})}}), CodeParameter, "say one of the two"},
	{"too many required", web, update(UpdateHAVIP{Change: Change{Require: ptr(manyTargets(MaxTargets + 1))}}), CodeLimit, "65 required"},
	{"too many forbidden", web, update(UpdateHAVIP{Change: Change{Forbid: ptr(manyTargets(MaxTargets + 1))}}), CodeLimit, "65 forbidden"},
	{"stickiness below 0", web, update(UpdateHAVIP{Change: Change{Stickiness: ptr(-1)}}), CodeRange, "a stickiness of -1"},
	{"stickiness without end", web, update(UpdateHAVIP{Change: Change{Stickiness: ptr(ScoreLimit + 1)}}), CodeRange, "0 to 1000000"},
	{"weight below 0", web, update(UpdateHAVIP{Change: Change{Weight: ptr(-1)}}), CodeRange, "a weight of -1"},
	{"weight without end", creatingWeb, creating(func(b *CreateHAVIP) { b.Weight = ptr(ScoreLimit + 1) }), CodeRange, "a weight of 1000001"},
	{"failure limit below 0", web, update(UpdateHAVIP{Change: Change{FailLimit: ptr(-1)}}), CodeRange, "a failure limit of -1"},
	{"window of nothing", web, update(UpdateHAVIP{Change: Change{Failback: ptr("04:00-04:00")}}), CodeParameter, "is empty"},
	{"window past midnight twice", web, update(UpdateHAVIP{Change: Change{Failback: ptr("24:00-25:00")}}), CodeParameter, "a daily window in UTC"},
	{"window with one digit", web, update(UpdateHAVIP{Change: Change{Failback: ptr("2:00-4:00")}}), CodeParameter, "not a failback"},
	{"window without an end", web, update(UpdateHAVIP{Change: Change{Failback: ptr("02:00-")}}), CodeParameter, "not a failback"},
	{"window with a zone", web, update(UpdateHAVIP{Change: Change{Failback: ptr("02:00-04:00+01:00")}}), CodeParameter, "not a failback"},
	{"window with minute 60", web, update(UpdateHAVIP{Change: Change{Failback: ptr("02:60-04:00")}}), CodeParameter, "not a failback"},
	{"forbidden place", all(web, updated(UpdateHAVIP{Change: Change{Forbid: ptr([]string{"n1"})}})), moveTo("n1/eth0"), CodeUnsupported, "n1 is forbidden for HAVIP web"},
	{"forbidden ENI", all(web, updated(UpdateHAVIP{Change: Change{Forbid: ptr([]string{"n1/eth1"})}})), moveTo("n1/eth1"), CodeUnsupported, "n1/eth1 is forbidden"},
	{"not the required place", all(web, updated(UpdateHAVIP{Change: Change{Require: ptr([]string{"n2", "n3/eth0"})}})), moveTo("n3/eth1"), CodeUnsupported, "requires n2 or n3/eth0"},
	{"drained node", all(web, after(DrainNode{ID: "n-n1"})), moveTo("n1/eth0"), CodeUnsupported, "`node activate n1`"},
	{"red node", all(web, after(ReportHealth{"n-n1", HealthRed, "disk full"})), moveTo("n1/eth0"), CodeUnsupported, "node n1 is red: disk full"},
	{"too many failures", all(web, func(w *world) {
		for range (Spec{}).FailureLimit() {
			w.must(RecordFailure{w.get("web").ID, "n-n1", "no answer"})
		}
	}), moveTo("n1/eth0"), CodeUnsupported, "failed 3 times on node n1 (limit 3)"},
	{"pause that doubled", func(w *world) {
		owned(w)
		w.must(update(UpdateHAVIP{Change: Change{FailLimit: ptr(0)}})(w))
		for range 2 {
			w.must(Release{[]ReleasedClaim{{HAVIP: w.get("web").ID, Epoch: w.get("web").Epoch, Session: w.session("n1"), Failure: "no carrier"}}})
			w.at += int64(12 * time.Second)
			if w.get("web").GaveUp["n1/eth0"].Until <= w.at {
				w.place("web", "n1/eth0")
			}
		}
	}, moveTo("n1/eth0"), CodeUnsupported, "failed there 12s ago and pauses for 20s"},
	{"failure of nothing", nil, does(RecordFailure{"havip-0", "n-n1", ""}), CodeNotFound, `"havip-0"`},
	{"failure on nobody", web, of(func(id string) Body { return RecordFailure{id, "n-none", ""} }), CodeNotFound, "n-none is not a member"},
	{"reset of nothing", nil, does(ResetFailures{HAVIP: "havip-0"}), CodeNotFound, `"havip-0"`},
	{"reset on nobody", nil, does(ResetFailures{Node: "n-none"}), CodeNotFound, `"n-none"`},
}

func creatingWeb(*world) {}

func manyTargets(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("x%03d", i))
	}
	return out
}

var weightRefusals = []refusal{
	{"capacity below 0", nil, does(UpdateNode{ID: "n-n1", Capacity: ptr(-1)}), CodeRange, "a capacity of -1"},
	{"capacity without end", nil, does(UpdateNode{ID: "n-n1", Capacity: ptr(ScoreLimit + 1)}), CodeRange, "0 to 1000000"},
	{"capacity and none", nil, does(UpdateNode{ID: "n-n1", Capacity: ptr(1), NoCapacity: true}), CodeParameter, "say one of the two"},
	{"score too high", nil, does(UpdateNode{ID: "n-n1", Score: ptr(ScoreLimit + 1)}), CodeRange, "the score 1000001 for node n1"},
	{"score too low", nil, does(UpdateNode{ID: "n-n1", Score: ptr(-ScoreLimit - 1)}), CodeRange, "-1000001"},
	{"health of nobody", nil, does(ReportHealth{"n-none", HealthRed, ""}), CodeNotFound, "n-none is not a member"},
	{"blue health", nil, does(ReportHealth{"n-n1", "blue", ""}), CodeParameter, `"blue" is not a node's health`},
	{"no health", nil, does(ReportHealth{"n-n1", "", ""}), CodeParameter, "green, yellow or red"},
	{"drain nobody", nil, does(DrainNode{ID: "n1"}), CodeNotFound, `"n1"`},
	{"drain into the past", nil, does(DrainNode{ID: "n-n1", For: -1}), CodeRange, "a deadline of -1ns"},
	{"drain too long", nil, does(DrainNode{ID: "n-n1", For: DrainMax + 1}), CodeRange, "up to 24h0m0s"},
	{"drain twice", after(DrainNode{ID: "n-n1"}), does(DrainNode{ID: "n-n1"}), CodeUnsupported, "`node activate n1` ends that"},
	{"drain what is being removed", after(UpdateNode{ID: "n-n1", Removing: ptr(true)}), does(DrainNode{ID: "n-n1"}), CodeUnsupported, "being removed"},
	{"end of no drain", nil, does(EndDrain{"n-n1", DrainDone}), CodeStale, "is not being drained"},
	{"end of nobody's drain", nil, does(EndDrain{"n-none", DrainDone}), CodeNotFound, `"n-none"`},
	{"end twice", all(after(DrainNode{ID: "n-n1"}), after(EndDrain{"n-n1", DrainDone})), does(EndDrain{"n-n1", DrainDone}), CodeStale, "is not being drained"},
	{"end by a word", after(DrainNode{ID: "n-n1"}), does(EndDrain{"n-n1", "tired"}), CodeParameter, `"tired"`},
	{"end cancelled by the leader", after(DrainNode{ID: "n-n1"}), does(EndDrain{"n-n1", DrainCancelled}), CodeParameter, "done or deadline"},
	{"done too early", all(owned, after(DrainNode{ID: "n-n1"})), does(EndDrain{"n-n1", DrainDone}), CodeInUse, "still has 1 HAVIPs"},
	{"deadline too early", after(DrainNode{ID: "n-n1", For: time.Minute}), does(EndDrain{"n-n1", DrainDeadline}), CodeStale, "has not passed"},
	{"deadline without one", after(DrainNode{ID: "n-n1"}), does(EndDrain{"n-n1", DrainDeadline}), CodeStale, "has not passed"},
	{"activate nobody", nil, does(ActivateNode{"n1"}), CodeNotFound, `"n1"`},
}

var groupRefusals = []refusal{
	{"no name", webAndAPI, does(CreateGroup{Group{Kind: Apart, HAVIPs: []string{"web", "api"}}}), CodeMalformed, "cannot name a group"},
	{"space in the name", webAndAPI, does(CreateGroup{Group{Name: "a b", Kind: Apart, HAVIPs: []string{"web", "api"}}}), CodeMalformed, `"a b" cannot name a group`},
	{"kind", webAndAPI, does(grouping("near", true, "web", "api")), CodeParameter, `"near" is not a kind of group`},
	{"of one", webAndAPI, does(grouping(Apart, true, "web")), CodeParameter, "names 1 HAVIPs; it takes two"},
	{"of none", webAndAPI, does(grouping(Apart, true)), CodeParameter, "it takes two or more"},
	{"of a stranger", webAndAPI, does(grouping(Apart, true, "web", "www")), CodeNotFound, `"www"`},
	{"of one twice", webAndAPI, does(grouping(Apart, true, "web", "web")), CodeDuplicate, "names HAVIP web twice"},
	{"of one under two names", webAndAPI, func(w *world) Body { return grouping(Apart, false, "web", w.get("web").ID) }, CodeDuplicate, "twice"},
	{"of a name that two share", all(webAndAPI, after(CreateHAVIP{Name: "web", IP: addr("10.0.0.150")})), does(grouping(Apart, true, "web", "api")), CodeDuplicate, "2 HAVIPs are called"},
	{"of one being deleted", all(owned, func(w *world) { w.havip("api", "10.0.0.101") }, done(func(id string) Body { return DeleteHAVIP{ID: id, Force: true} })), does(grouping(Apart, true, "web", "api")), CodeUnsupported, "being deleted"},
	{"name taken", all(webAndAPI, group("g", Apart, "web", "api")), does(grouping(Apart, true, "web", "db")), CodeDuplicate, "g exists already"},
	{"too many HAVIPs", webAndAPI, does(grouping(Apart, true, make([]string, MaxGroupMembers+1)...)), CodeLimit, "1001 HAVIPs"},
	{"too many groups", all(webAndAPI, filled(func(s *State) {
		for i := range MaxGroups {
			name := fmt.Sprint("x", i)
			s.Groups[name] = Group{Name: name, Kind: Apart, HAVIPs: []string{s.HAVIPList()[0].ID}}
		}
	})), does(grouping(Apart, true, "web", "api")), CodeLimit, "1000 groups"},
	{"together and apart", all(webAndAPI, group("one", Together, "web", "api")), does(grouping(Apart, true, "web", "api")), CodeParameter, "group g keeps HAVIPs"},
	{"apart and together", all(webAndAPI, group("one", Apart, "web", "api")), does(grouping(Together, true, "web", "api")), CodeParameter, "no node could own both"},
	{"a cycle through three", all(webAndAPI, group("one", Together, "web", "api"), group("two", Apart, "web", "db")), does(grouping(Together, true, "api", "db")), CodeParameter, "(g, one)"},
	{"a cycle that ends apart", all(webAndAPI, group("one", Together, "web", "api"), group("two", Together, "api", "db")), does(grouping(Apart, true, "db", "web")), CodeParameter, "(one, two)"},
	{"delete unknown", nil, does(DeleteGroup{"none"}), CodeNotFound, `"none"`},
}

var clusterRefusals = []refusal{
	{"limit per ENI below 0", nil, does(SetCluster{Limits: &Limits{PerENI: -1}}), CodeRange, "-1 per ENI"},
	{"limit per ENI without end", nil, does(SetCluster{Limits: &Limits{PerENI: MaxHAVIPs + 1}}), CodeRange, "0 (none) to 10000"},
	{"limit per node below 0", nil, does(SetCluster{Limits: &Limits{PerNode: -1}}), CodeRange, "-1 per node"},
	{"limit per node without end", nil, does(SetCluster{Limits: &Limits{PerNode: MaxHAVIPs + 1}}), CodeRange, "10001 per node"},
	{"rebalance", nil, does(SetCluster{Rebalance: ptr("odd")}), CodeParameter, `"odd" is not a rebalance`},
	{"provider", nil, does(SetCluster{Provider: &Provider{Name: "moon"}}), CodeParameter, `"moon" is not a provider profile`},
	{"quota below 0", nil, does(SetCluster{Provider: &Provider{HAVIPsPerVPC: ptr(-1)}}), CodeRange, "-1 HAVIPs per VPC"},
	{"advice below 0", nil, does(SetCluster{Provider: &Provider{HAVIPsPerENI: ptr(-1)}}), CodeRange, "-1 HAVIPs per ENI"},
	{"no range members", nil, does(SetCluster{Provider: &Provider{RangeMembers: ptr(0)}}), CodeRange, "1 to 64"},
	{"too many range members", nil, does(SetCluster{Provider: &Provider{RangeMembers: ptr(65)}}), CodeRange, "65 members of a range"},
	{"announce interval below 0", nil, does(SetCluster{Provider: &Provider{AnnounceInterval: ptr(-time.Second)}}), CodeRange, "an announce interval of -1s"},
	{"announce interval of an hour", nil, does(SetCluster{Provider: &Provider{AnnounceInterval: ptr(time.Hour)}}), CodeRange, "up to 1m0s"},
	{"quarantine below 0", nil, does(SetCluster{Provider: &Provider{Quarantine: ptr(-time.Second)}}), CodeRange, "a quarantine of -1s"},
	{"quarantine of a year", nil, does(SetCluster{Provider: &Provider{Quarantine: ptr(8760 * time.Hour)}}), CodeRange, "up to 24h"},
	{"provider against a HAVIP", func(w *world) {
		w.must(CreateSubnet{Subnet{Name: "gw", CIDR: prefix("10.4.0.0/24"), Gateway: addr("10.4.0.254")}})
		w.must(CreateHAVIP{Name: "first", IP: addr("10.4.0.1")})
	}, does(SetCluster{Provider: &Provider{Name: "tencent"}}), CodeInUse, "HAVIP first could not be there under provider tencent"},
	{"provider against IPv6", func(w *world) {
		w.must(CreateSubnet{subnet("six", "2001:db8::/64")})
		w.must(CreateHAVIP{Name: "six", IP: addr("2001:db8::9")})
	}, does(SetCluster{Provider: &Provider{Name: "tencent"}}), CodeInUse, "not an IPv4 address"},
	{"IPv6 at tencent", all(provided(Provider{Name: "tencent"}), after(CreateSubnet{subnet("six", "2001:db8::/64")})), at("2001:db8::9"), CodeMalformed, "not an IPv4 address"},
	{"first address at tencent", all(provided(Provider{Name: "tencent"}), after(CreateSubnet{Subnet{Name: "gw", CIDR: prefix("10.4.0.0/24"), Gateway: addr("10.4.0.254")}})), at("10.4.0.1"), CodeReserved, "reserved (gateway)"},
	{"a /29 at tencent", provided(Provider{Name: "tencent"}), does(CreateSubnet{subnet("a", "10.4.0.0/29")}), CodeRange, "/16 to /28"},
	{"a /15 at tencent", provided(Provider{Name: "tencent"}), does(CreateSubnet{subnet("a", "10.4.0.0/15")}), CodeRange, "cannot be a subnet of provider tencent"},
	{"an eleventh HAVIP at tencent", all(provided(Provider{Name: "tencent"}), func(w *world) {
		for i := range 10 {
			w.havip(fmt.Sprint("h", i), fmt.Sprintf("10.0.0.%d", 110+i))
		}
	}), at("10.0.0.130"), CodeLimit, "vpc-default has 10 of 10 HAVIPs"},
	{"in quarantine", all(web, deleteWeb), at("10.0.0.100"), CodeInUse, "in quarantine for 1m0s more, because HAVIP web that had it was deleted; wait, or use --reuse-now"},
	{"only one left, in quarantine", func(w *world) {
		w.must(CreateSubnet{subnet("tiny", "10.1.0.0/30")})
		w.must(DeleteHAVIP{ID: w.must(CreateHAVIP{Name: "only", Subnet: "tiny"}).Object})
	}, does(CreateHAVIP{Name: "more", Subnet: "tiny"}), CodeInsufficient, "no free address"},
}

// conf is an ApplyConfig of some HAVIPs.
func conf(havips ...HAVIPSpec) func(*world) Body {
	return does(ApplyConfig{Config: Config{HAVIPs: havips}})
}

var configRefusals = []refusal{
	{"another revision", web, does(ApplyConfig{Expected: ptr(uint64(99))}), CodeConflict, "is at revision 1, not 99"},
	{"no name", nil, conf(HAVIPSpec{IP: addr("10.0.0.100")}), CodeMissing, "havips[0]: a HAVIP needs a name"},
	{"a fault in the second", nil, conf(HAVIPSpec{Name: "a", IP: addr("10.0.0.100")}, HAVIPSpec{Name: "b", IP: addr("10.0.0.100")}), CodeInUse, "havips[1]: 10.0.0.100 is used by HAVIP a"},
	{"one HAVIP twice", web, conf(HAVIPSpec{Name: "web"}, HAVIPSpec{Name: "web"}), CodeDuplicate, "names HAVIP web twice"},
	{"an id of nobody", nil, conf(HAVIPSpec{ID: "havip-0", Name: "x"}), CodeNotFound, `no HAVIP has the id "havip-0"`},
	{"a name of two", all(web, after(CreateHAVIP{Name: "web", IP: addr("10.0.0.150")})), conf(HAVIPSpec{Name: "web"}), CodeDuplicate, "name one by its id"},
	{"another address", web, conf(HAVIPSpec{Name: "web", IP: addr("10.0.0.101")}), CodeUnsupported, "for life; create a new one"},
	{"another subnet", web, conf(HAVIPSpec{Name: "web", Subnet: "other"}), CodeUnsupported, "for life"},
	{"another vpc", web, conf(HAVIPSpec{Name: "web", VPC: "other"}), CodeUnsupported, "for life"},
	{"a reserved address", nil, conf(HAVIPSpec{Name: "a", IP: addr("10.0.0.1")}), CodeReserved, "reserved (gateway)"},
	{"a range of strangers", nil, conf(HAVIPSpec{Name: "a", IP: addr("10.0.0.100"), Range: inRange(RangeCVM, "n7")}), CodeNotFound, `"n7"`},
	{"a failback", nil, conf(HAVIPSpec{Name: "a", IP: addr("10.0.0.100"), Spec: Spec{Failback: "soon"}}), CodeParameter, `havips[0]: "soon"`},
	{"a weight", nil, conf(HAVIPSpec{Name: "a", IP: addr("10.0.0.100"), Spec: Spec{Weight: ptr(-1)}}), CodeRange, "a weight of -1"},
	{"the end of no ban", nil, conf(HAVIPSpec{Name: "a", IP: addr("10.0.0.100"), BanEnds: map[string]int64{"n1": 1}}), CodeParameter, "not in the list of bans"},
	{"an EIP twice", nil, conf(HAVIPSpec{Name: "a", IP: addr("10.0.0.100"), EIP: addr("198.51.100.1")}, HAVIPSpec{Name: "b", IP: addr("10.0.0.101"), EIP: addr("198.51.100.1")}), CodeInUse, "havips[1]: EIP 198.51.100.1 is bound to HAVIP a"},
	{"one being deleted", all(owned, done(func(id string) Body { return DeleteHAVIP{ID: id, Force: true} })), conf(HAVIPSpec{Name: "web"}), CodeUnsupported, "being deleted"},
	{"pruning an EIP", all(web, withEIP("198.51.100.1")), does(ApplyConfig{Prune: true, Config: Config{HAVIPs: []HAVIPSpec{}}}), CodeUnsupported, "unbind that first"},
	{"pruning a subnet in use", web, does(ApplyConfig{Prune: true, Config: Config{Subnets: []Subnet{}}}), CodeInUse, "holds HAVIP web"},
	{"a subnet twice", nil, does(ApplyConfig{Config: Config{Subnets: []Subnet{subnet("a", "10.5.0.0/24"), subnet("a", "10.5.0.0/24")}}}), CodeDuplicate, "names subnet a twice"},
	{"a subnet of another size", nil, does(ApplyConfig{Config: Config{Subnets: []Subnet{subnet("net", "10.0.0.0/25")}}}), CodeUnsupported, "cannot become 10.0.0.0/25"},
	{"a gateway on a HAVIP", web, does(ApplyConfig{Config: Config{Subnets: []Subnet{{Name: "net", CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.100")}}}}), CodeInUse, "HAVIP web: 10.0.0.100 is reserved (gateway)"},
	{"a gateway elsewhere", nil, does(ApplyConfig{Config: Config{Subnets: []Subnet{{Name: "net", CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.9.0.1")}}}}), CodeRange, "gateway 10.9.0.1 is not in"},
	{"a reserved address elsewhere", nil, does(ApplyConfig{Config: Config{Subnets: []Subnet{{Name: "net", CIDR: prefix("10.0.0.0/24"), Reserved: []netip.Addr{addr("10.9.0.1")}}}}}), CodeRange, "reserved address 10.9.0.1"},
	{"too many reserved", nil, does(ApplyConfig{Config: Config{Subnets: []Subnet{{Name: "net", CIDR: prefix("10.0.0.0/24"), Reserved: make([]netip.Addr, MaxReserved+1)}}}}), CodeLimit, "257 reserved"},
	{"a group of strangers", nil, does(ApplyConfig{Config: Config{Groups: []Group{{Name: "g", Kind: Apart, HAVIPs: []string{"x", "y"}}}}}), CodeNotFound, `groups[0]: no HAVIP is called "x"`},
	{"a group twice", webAndAPI, does(ApplyConfig{Config: Config{Groups: []Group{{Name: "g", Kind: Apart, HAVIPs: []string{"web", "api"}}, {Name: "g", Kind: Apart, HAVIPs: []string{"web", "db"}}}}}), CodeDuplicate, "groups[1]"},
	{"groups that contradict", webAndAPI, does(ApplyConfig{Config: Config{Groups: []Group{
		{Name: "a", Kind: Apart, Hard: true, HAVIPs: []string{"web", "api"}}, {Name: "b", Kind: Together, Hard: true, HAVIPs: []string{"web", "api"}},
	}}}), CodeParameter, "no node could own both"},
	{"a node of no name", nil, does(ApplyConfig{Config: Config{Nodes: []NodeSpec{{Name: "n7"}}}}), CodeNotFound, `nodes[0]: no node is called "n7"`},
	{"a node by its id", nil, does(ApplyConfig{Config: Config{Nodes: []NodeSpec{{Name: "n-n1"}}}}), CodeNotFound, `"n-n1"`},
	{"a node twice", nil, does(ApplyConfig{Config: Config{Nodes: []NodeSpec{{Name: "n1"}, {Name: "n1"}}}}), CodeDuplicate, "names node n1 twice"},
	{"a health", nil, does(ApplyConfig{Config: Config{Nodes: []NodeSpec{{Name: "n1", Health: "blue"}}}}), CodeParameter, `nodes[0]: "blue" is not a node's health`},
	{"a capacity", nil, does(ApplyConfig{Config: Config{Nodes: []NodeSpec{{Name: "n1", Capacity: ptr(-1)}}}}), CodeRange, "nodes[0]: a capacity of -1"},
	{"limits", nil, does(ApplyConfig{Config: Config{Limits: &Limits{PerNode: -1}}}), CodeRange, "-1 per node"},
	{"rebalance", nil, does(ApplyConfig{Config: Config{Rebalance: ptr("odd")}}), CodeParameter, `"odd"`},
	{"back to nothing", nil, does(Rollback{To: 7}), CodeNotFound, "no revision 7 to roll back to; kept are nothing"},
	{"back to what is not kept", after(ApplyConfig{Config: Config{Limits: &Limits{PerNode: 1}}}), does(Rollback{To: 7}), CodeNotFound, "kept are 0, 1"},
	{"back, too late", after(ApplyConfig{Config: Config{Limits: &Limits{PerNode: 1}}}), does(Rollback{To: 0, Expected: ptr(uint64(0))}), CodeConflict, "is at revision 1, not 0"},
}

var levelRefusals = []refusal{
	{"an old program joins", func(w *world) { w.upgrade(); invited(w) }, joining(func(*AddNode) {}), CodeLevel, "upgrade its program, then join"},
}

func TestPolicyRefusals(t *testing.T) {
	rows := 0
	for group, list := range map[string][]refusal{
		"change-range": changeRangeRefusals, "ban": banRefusals, "eip": eipRefusals, "policy": policyRefusals, "node": weightRefusals,
		"group": groupRefusals, "cluster": clusterRefusals, "config": configRefusals, "level": levelRefusals,
	} {
		for _, tc := range list {
			rows++
			t.Run(group+"/"+tc.name, func(t *testing.T) {
				w := trio(t)
				upgraded(w)
				if tc.given != nil {
					tc.given(w)
				}
				w.refuses(tc.body(w), tc.code, tc.says)
			})
		}
	}
	if rows < 120 {
		t.Errorf("only %d ways to be refused", rows)
	}
	t.Logf("%d rows", rows)
}

// While one node runs an older program, every command and every field that it could not
// read is refused, by name, before it is in the log.
func TestNothingNewUnderAnOldNode(t *testing.T) {
	w := trio(t)
	owned(w)
	for _, n := range []string{"n1", "n3", "w"} {
		w.must(UpdateNode{ID: nodeID(n), Version: ptr("v2+level.2")})
	}
	id := w.get("web").ID
	bodies := level2Bodies()
	bodies = append(bodies,
		&CreateHAVIP{Name: "x", IP: addr("10.0.0.105"), Spec: Spec{Weight: ptr(1)}}, &CreateHAVIP{Name: "x", IP: addr("10.0.0.105"), Spec: Spec{Failback: "02:00-04:00"}},
		&UpdateHAVIP{ID: id, Evict: true}, &UpdateHAVIP{ID: id, Change: Change{Failback: ptr("02:00-04:00")}}, &UpdateHAVIP{ID: id, Change: Change{Managed: ptr(true)}},
		&UpdateNode{ID: "n-n1", Score: ptr(0)}, &Place{[]Assignment{{HAVIP: id, Detail: "x"}}},
		&CloseSession{Session: 1, Place: []Assignment{{HAVIP: id, Detail: "x"}}},
		&AddNode{Node: Node{Capacity: ptr(1)}},
	)
	for _, b := range bodies {
		c := w.command("", b)
		if refusal := w.state.Admits(c); refusal == nil || refusal.Code != CodeLevel || !strings.Contains(refusal.Message, "node n2 runs") {
			t.Errorf("%s %s: %v", b.kind(), c.Body, refusal)
		}
		w.refuses(b, CodeLevel, "node n2 runs a version that cannot read this (command level 2")
	}
	for _, entry := range w.log[:len(w.log)-len(bodies)] {
		if entry[0] != 1 {
			t.Errorf("an entry of version %d: %s", entry[0], entry[1:])
		}
	}
	w.must(UpdateNode{ID: nodeID("n2"), Version: ptr("v2+level.2")})
	w.must(UpdateNode{ID: nodeID("n1"), Score: ptr(5)})
	if w.log[len(w.log)-1][0] != 2 || w.state.Level() != 2 {
		t.Errorf("level %d, entry of version %d", w.state.Level(), w.log[len(w.log)-1][0])
	}
}
