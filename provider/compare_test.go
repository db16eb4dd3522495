package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	now = time.Unix(1_800_000_000, 0)
	yes = true
	no  = false
)

func candidate(n int) Candidate {
	return Candidate{
		Carries: true, Node: fmt.Sprintf("node-%d", n), ENI: fmt.Sprintf("node-%d/eth0", n),
		Cloud: ENI{ID: fmt.Sprintf("eni-%d", n), Instance: fmt.Sprintf("ins-%d", n), VPC: "vpc-1", Subnet: "subnet-a"},
	}
}

// agreed is a HAVIP on node-1 with a range of two of three nodes, in log and cloud.
func agreed() (Cluster, []Observed) {
	web := Want{
		ID: "havip-log", Name: "web", Address: netip.MustParseAddr("10.0.0.100"), Subnet: "net", Limited: true, Primary: true,
		EIP: netip.MustParseAddr("198.51.100.1"), Candidates: []Candidate{candidate(1), candidate(2)},
		Owner: &Owner{Candidate: candidate(1), Epoch: 3, Serving: true, Since: now.Add(-time.Minute)},
	}
	cloud := Observed{
		ID: "havip-cloud", Name: "web", Address: web.Address, VPC: "vpc-1", Subnet: "subnet-a", State: Available, ENI: "eni-1", Instance: "ins-1", EIP: web.EIP,
		Range: []Member{{MemberCVM, "ins-1"}, {MemberCVM, "ins-2"}}, RangeKnown: true, Enforced: &yes, Flushed: "2026-11-29 10:00:00",
	}
	return Cluster{Wants: []Want{web}, ENIs: []Candidate{candidate(1), candidate(2), candidate(3)}, Quota: 10}, []Observed{cloud}
}

// drifts are differences, each with what Compare says of it, and what a sync would do.
var drifts = []struct {
	name  string
	make  func(c *Cluster, o *[]Observed)
	codes []Code
	to    []Op // --to-cloud
	prune []Op // --to-cloud --prune
	from  []Op // --from-cloud
}{
	{name: "none", make: func(*Cluster, *[]Observed) {}},
	{"missing", func(_ *Cluster, o *[]Observed) { *o = nil }, []Code{VIPMissing}, []Op{OpCreate, OpBindEIP}, []Op{OpCreate, OpBindEIP}, nil},
	{"unknown", func(c *Cluster, _ *[]Observed) { c.Wants = nil }, []Code{VIPUnknown}, nil, []Op{OpBlocked}, []Op{OpCreate, OpBindEIP}},
	{"unknown without EIP", func(c *Cluster, o *[]Observed) { c.Wants, (*o)[0].EIP = nil, netip.Addr{} }, []Code{VIPUnknown}, nil, []Op{OpDelete}, []Op{OpCreate}},
	{"narrower", func(_ *Cluster, o *[]Observed) { (*o)[0].Range = (*o)[0].Range[:1] }, []Code{RangeNarrower}, []Op{OpAddRange}, []Op{OpAddRange}, []Op{OpAddRange}},
	{"narrower, not limited here", func(c *Cluster, o *[]Observed) { c.Wants[0].Limited, (*o)[0].Range = false, (*o)[0].Range[:1] }, []Code{RangeNarrower}, []Op{OpAddRange}, []Op{OpAddRange}, nil},
	{"empty and enforced", func(_ *Cluster, o *[]Observed) { (*o)[0].Range = nil }, []Code{RangeNarrower}, []Op{OpAddRange}, []Op{OpAddRange}, []Op{OpAddRange}},
	{"wider", func(_ *Cluster, o *[]Observed) { (*o)[0].Range = append((*o)[0].Range, Member{MemberCVM, "ins-3"}) }, []Code{RangeWider}, nil, []Op{OpRemoveRange}, []Op{OpAddRange}},
	{"a stranger in the range", func(_ *Cluster, o *[]Observed) { (*o)[0].Range = append((*o)[0].Range, Member{MemberCVM, "ins-9"}) }, []Code{RangeWider}, nil, []Op{OpRemoveRange}, []Op{OpBlocked}},
	{"open", func(_ *Cluster, o *[]Observed) { (*o)[0].Enforced = &no }, []Code{RangeOpen}, nil, nil, nil},
	{"range not told", func(_ *Cluster, o *[]Observed) { (*o)[0].Range, (*o)[0].RangeKnown, (*o)[0].Enforced = nil, false, nil }, nil, nil, nil, nil},
	{"ENI range", func(c *Cluster, o *[]Observed) {
		c.Wants[0].Primary, (*o)[0].Range = false, []Member{{MemberENI, "eni-1"}, {MemberENI, "eni-2"}}
	}, nil, nil, nil, nil},
	{"another type of range", func(c *Cluster, o *[]Observed) { c.Wants[0].Primary = false }, []Code{RangeWider}, []Op{OpBlocked}, []Op{OpBlocked}, []Op{OpAddRange}},
	{"subnet", func(_ *Cluster, o *[]Observed) { (*o)[0].Subnet = "subnet-b" }, []Code{SubnetDiffers}, []Op{OpBlocked}, []Op{OpBlocked}, nil},
	{"subnet, no EIP", func(c *Cluster, o *[]Observed) {
		(*o)[0].Subnet, (*o)[0].EIP, c.Wants[0].EIP = "subnet-b", netip.Addr{}, netip.Addr{}
	}, []Code{SubnetDiffers}, []Op{OpBlocked}, []Op{OpDelete, OpCreate}, nil},
	{"owner", func(_ *Cluster, o *[]Observed) { (*o)[0].ENI, (*o)[0].Instance = "eni-2", "ins-2" }, []Code{OwnerDiffers}, nil, nil, nil},
	{"owner, a stranger", func(_ *Cluster, o *[]Observed) { (*o)[0].ENI, (*o)[0].Instance = "eni-9", "ins-9" }, []Code{OwnerDiffers}, nil, nil, nil},
	{"a stranger while nobody owns", func(c *Cluster, o *[]Observed) {
		c.Wants[0].Owner, (*o)[0].ENI, (*o)[0].Instance = nil, "eni-9", "ins-9"
	}, []Code{OwnerDiffers}, nil, nil, nil},
	{"a dead owner's mapping stays", func(c *Cluster, _ *[]Observed) { c.Wants[0].Owner = nil }, nil, nil, nil, nil},
	{"owner of just now", func(c *Cluster, o *[]Observed) {
		c.Wants[0].Owner.Since, (*o)[0].ENI, (*o)[0].Instance = now.Add(-time.Second), "eni-2", "ins-2"
	}, nil, nil, nil, nil},
	{"owner pending", func(c *Cluster, o *[]Observed) {
		c.Wants[0].Owner.Serving, (*o)[0].ENI, (*o)[0].Instance = false, "eni-2", "ins-2"
	}, nil, nil, nil, nil},
	{"nobody's", func(_ *Cluster, o *[]Observed) { (*o)[0].State, (*o)[0].ENI, (*o)[0].Instance = Unbound, "", "" }, []Code{OwnerMissing}, nil, nil, nil},
	{"EIP only here", func(_ *Cluster, o *[]Observed) { (*o)[0].EIP = netip.Addr{} }, []Code{EIPDiffers}, []Op{OpBindEIP}, []Op{OpBindEIP}, []Op{OpUnbindEIP}},
	{"EIP only there", func(c *Cluster, _ *[]Observed) { c.Wants[0].EIP = netip.Addr{} }, []Code{EIPDiffers}, []Op{OpBlocked}, []Op{OpUnbindEIP}, []Op{OpBindEIP}},
	{"EIPs differ", func(c *Cluster, _ *[]Observed) { c.Wants[0].EIP = netip.MustParseAddr("198.51.100.9") }, []Code{EIPDiffers}, []Op{OpBlocked}, []Op{OpUnbindEIP, OpBindEIP}, []Op{OpUnbindEIP, OpBindEIP}},
	{"name", func(_ *Cluster, o *[]Observed) { (*o)[0].Name = "www" }, []Code{NameDiffers}, []Op{OpRename}, []Op{OpRename}, nil},
	{"ENI", func(c *Cluster, _ *[]Observed) { c.ENIs[2].Cloud = ENI{} }, []Code{ENIUnknown}, nil, nil, nil},
	{"quota", func(c *Cluster, o *[]Observed) {
		c.Quota = 1
		w := c.Wants[0]
		w.ID, w.Name, w.Address, w.EIP = "havip-2", "z", netip.MustParseAddr("10.0.0.101"), netip.Addr{}
		c.Wants = append(c.Wants, w)
	}, []Code{Quota, VIPMissing}, []Op{OpCreate}, []Op{OpCreate}, nil},
	{"nothing is known of the ENIs", func(c *Cluster, o *[]Observed) {
		c.Wants[0].Candidates, c.Wants[0].Owner.Candidate.Cloud, c.ENIs, *o = []Candidate{{Node: "node-1", ENI: "node-1/eth0"}}, ENI{}, nil, nil
	}, []Code{VIPMissing}, []Op{OpBlocked}, []Op{OpBlocked}, nil},
}

func TestCompare(t *testing.T) {
	for _, d := range drifts {
		t.Run(d.name, func(t *testing.T) {
			c, o := agreed()
			d.make(&c, &o)
			var codes []Code
			keys := map[string]bool{}
			for _, w := range Compare(c, o, now, 10*time.Second) {
				codes = append(codes, w.Code)
				if w.Message == "" || keys[w.Key()] {
					t.Errorf("without words, or twice: %+v", w)
				}
				keys[w.Key()] = true
			}
			if !slices.Equal(codes, d.codes) {
				t.Errorf("%v, want %v", codes, d.codes)
			}
			for name, s := range map[string]struct {
				got  []Step
				want []Op
			}{"to": {PlanToCloud(c, o, false), d.to}, "prune": {PlanToCloud(c, o, true), d.prune}, "from": {PlanFromCloud(c, o), d.from}} {
				var ops []Op
				for _, step := range s.got {
					ops = append(ops, step.Op)
				}
				if !slices.Equal(ops, s.want) {
					t.Errorf("%s: %v, want %v", name, ops, s.want)
				}
			}
		})
	}
}

// What a warning advises does something about it.
func TestAdviceHelps(t *testing.T) {
	for _, d := range drifts {
		c, o := agreed()
		d.make(&c, &o)
		for _, w := range Compare(c, o, now, 10*time.Second) {
			steps := map[string][]Step{cmdToCloud: PlanToCloud(c, o, false), cmdPrune: PlanToCloud(c, o, true), cmdFromCloud: PlanFromCloud(c, o)}[w.Command]
			if strings.HasPrefix(w.Command, "havip-cluster provider sync") && len(steps) == 0 && w.Code != OwnerDiffers {
				t.Errorf("%s: `%s` for %s does nothing", d.name, w.Command, w.Code)
			}
		}
	}
}

// Without prune a sync takes nothing away in the cloud.
func TestNothingIsTakenAway(t *testing.T) {
	for _, d := range drifts {
		c, o := agreed()
		d.make(&c, &o)
		for _, s := range PlanToCloud(c, o, false) {
			if s.Op == OpDelete || s.Op == OpRemoveRange || s.Op == OpUnbindEIP {
				t.Errorf("%s: %+v", d.name, s)
			}
		}
	}
}

// fakeCloud is a cloud that does what it is told, and refuses one address.
type fakeCloud struct {
	Provider
	log    []string
	refuse string
}

func (k *fakeCloud) do(op, id, token string) error {
	k.log = append(k.log, op+" "+id+" "+token)
	if id == k.refuse {
		return errors.New("refused")
	}
	return nil
}
func (k *fakeCloud) Kind() string { return "fake" }
func (k *fakeCloud) Create(_ context.Context, s Spec, token string) (Observed, error) {
	return Observed{ID: "made-" + s.Address.String()}, k.do("create", s.Address.String(), token)
}
func (k *fakeCloud) Delete(_ context.Context, id, token string) error {
	return k.do("delete", id, token)
}
func (k *fakeCloud) Rename(_ context.Context, id, _, token string) error {
	return k.do("rename", id, token)
}
func (k *fakeCloud) AddRange(_ context.Context, id string, _ []Member, token string) error {
	return k.do("add", id, token)
}
func (k *fakeCloud) RemoveRange(_ context.Context, id string, _ []Member, token string) error {
	return k.do("remove", id, token)
}
func (k *fakeCloud) BindEIP(_ context.Context, id string, _ netip.Addr, token string) error {
	return k.do("bind", id, token)
}
func (k *fakeCloud) UnbindEIP(_ context.Context, id string, _ netip.Addr, token string) error {
	return k.do("unbind", id, token)
}

func TestCarry(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	steps := []Step{
		{Op: OpCreate, Address: a, Spec: Spec{Address: a}}, {Op: OpBindEIP, Address: a, EIP: "198.51.100.1"},
		{Op: OpAddRange, Address: b, CloudID: "havip-b"}, {Op: OpRename, Address: b, CloudID: "havip-b"}, {Op: OpBlocked, Address: b},
	}
	k := &fakeCloud{refuse: "havip-b"}
	var results []string
	for _, o := range Carry(t.Context(), k, steps, func(s Step) string { return string(s.Op) }) {
		results = append(results, o.Result)
	}
	if want := []string{"done", "done", "failed", "left", "blocked"}; !slices.Equal(results, want) {
		t.Errorf("%v, want %v", results, want)
	}
	if want := []string{"create 10.0.0.1 create", "bind made-10.0.0.1 bind-eip", "add havip-b add-range"}; !slices.Equal(k.log, want) {
		t.Errorf("%v, want %v", k.log, want)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if o := Carry(ended, k, steps[:1], func(Step) string { return "" }); o[0].Result != "left" {
		t.Errorf("when the time is over: %+v", o)
	}
}

func TestConfig(t *testing.T) {
	for what, c := range map[string]Config{
		"kind":     {Kind: "azure"},
		"poll":     {Poll: time.Millisecond},
		"settle":   {Settle: time.Hour},
		"endpoint": {Tencent: Tencent{Endpoint: "nowhere"}},
		"metadata": {Tencent: Tencent{Metadata: "file:///etc"}},
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := (Config{Kind: KindTencent, Poll: time.Second}).Check(); err != nil {
		t.Error(err)
	}
}

// Where a call moves addresses there are no HAVIPs to keep: neither range nor subnet nor name is compared, what was not asked
// about is not missing, and no difference names a command that such a provider cannot carry out.
func TestCompareWhereACallMoves(t *testing.T) {
	for _, row := range []struct {
		name string
		make func(c *Cluster, o *Observed)
		code Code
		says string
	}{
		{"agreed", func(*Cluster, *Observed) {}, "", ""},
		{"nobody has it", func(_ *Cluster, o *Observed) { o.State, o.ENI, o.Instance = Unbound, "", "" }, OwnerMissing, "claims it again"},
		{"another node has it", func(_ *Cluster, o *Observed) { o.ENI, o.Instance = "eni-2", "ins-2" }, OwnerDiffers, "claims it again"},
		{"a stranger has it", func(_ *Cluster, o *Observed) { o.ENI, o.Instance = "eni-9", "ins-9" }, OwnerDiffers, "no node of this cluster"},
		{"no EIP there", func(_ *Cluster, o *Observed) { o.EIP = netip.Addr{} }, EIPDiffers, "by the cloud's own means"},
		{"an EIP there alone", func(c *Cluster, _ *Observed) { c.Wants[0].EIP = netip.Addr{} }, EIPDiffers, "no EIP"},
		{"an interface that is not known", func(c *Cluster, _ *Observed) { c.ENIs[1].Cloud = ENI{} }, ENIUnknown, "claims"},
		{"moved a moment ago", func(c *Cluster, o *Observed) {
			o.ENI, o.Instance, c.Wants[0].Owner.Since = "eni-2", "ins-2", now.Add(-time.Second)
		}, "", ""},
	} {
		c, seen := agreed()
		c.Caps, c.Quota = Capabilities{Describe: true, ClaimByAPI: true}, 1
		o := Observed{ID: "eni-1", Address: c.Wants[0].Address, VPC: "vpc-1", Subnet: "subnet-other", State: Available, ENI: "eni-1", Instance: "ins-1", EIP: seen[0].EIP}
		row.make(&c, &o)
		got := Compare(c, []Observed{o}, now, 10*time.Second)
		switch {
		case row.code == "" && len(got) == 0:
		case row.code == "" || len(got) != 1 || got[0].Code != row.code || !strings.Contains(got[0].Message, row.says):
			t.Errorf("%s: %+v", row.name, got)
		case strings.Contains(got[0].Command, "--to-cloud") || strings.Contains(got[0].Message, "announce"):
			t.Errorf("%s: %+v", row.name, got[0])
		}
	}
	c, _ := agreed()
	c.Caps = Capabilities{ClaimByAPI: true}
	if got := Compare(c, nil, now, 0); len(got) != 0 {
		t.Errorf("what was not asked about: %+v", got)
	}
}
