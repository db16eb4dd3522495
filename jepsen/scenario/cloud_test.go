package scenario

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"havip-cluster/jepsen/fakecloud"
)

const (
	cloudPort = 18080
	cloudPoll = time.Second
	// cloudSeen is how long something may take to be told: a poll, the look whether this node leads, and the question.
	cloudSeen = cloudPoll + 1500*time.Millisecond
	// cloudBack is how long a cloud that was down may be left alone after it is back: the longest pause of the circuit
	// breaker, and a look.
	cloudBack = 45 * time.Second
)

// cloudBed is a Bed whose hosts are instances of a cloud: each finds API and metadata service on its own loopback, and
// the fabric sees what is announced on the switch.
type cloudBed struct {
	*Bed
	cloud  *fakecloud.Cloud
	frames atomic.Int64 // announcements that the fabric saw
}

// inCloud starts a cloud around a lab of three hosts, and a cluster on them.
func inCloud(t *testing.T) *cloudBed {
	t.Helper()
	b := &cloudBed{Bed: unformed(t, 3)}
	c := fakecloud.Config{
		MACUpper: true, TaskMS: 200, EIPs: []string{"198.51.100.7"}, Subnets: []fakecloud.Subnet{{ID: "subnet-lab", CIDR: netip.PrefixFrom(b.HAVIP, 24).Masked()}},
	}
	for i, h := range b.Lab.Nodes() {
		c.ENIs = append(c.ENIs, fakecloud.ENI{
			ID: fmt.Sprintf("eni-lab%d", i+1), MAC: h.MAC(0).String(), Subnet: "subnet-lab", Instance: fmt.Sprintf("ins-lab%d", i+1), Primary: true, Addresses: []netip.Addr{h.IP(0)},
		})
	}
	c.ENIs = append(c.ENIs, fakecloud.ENI{ID: "eni-stranger", MAC: "02:ff:00:00:00:99", Subnet: "subnet-lab", Instance: "ins-stranger", Primary: true})
	b.cloud = fakecloud.New(c)
	for i, h := range b.Lab.Nodes() {
		var l net.Listener
		b.must(h.Do(func() (err error) {
			l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", cloudPort))
			return err
		}))
		s := &http.Server{Handler: b.cloud.Handler(fmt.Sprintf("ins-lab%d", i+1)), ReadHeaderTimeout: time.Second}
		t.Cleanup(func() { _ = s.Close() })
		go func() { _ = s.Serve(l) }()
	}
	b.fabric()
	config := filepath.Join(b.Cluster.Dir, "agent.yaml")
	text := fmt.Sprintf("provider:\n  kind: tencent\n  poll: %s\n  settle: 1s\n  tencent:\n    endpoint: http://127.0.0.1:%d\n    metadata: http://127.0.0.1:%d\n", cloudPoll, cloudPort, cloudPort)
	b.must(os.WriteFile(config, []byte(text), 0o600))
	b.Cluster.AgentArgs = append(b.Cluster.AgentArgs, "--config", config)
	b.form(3)
	return b
}

// fabric hands the cloud what is announced, and counts it.
func (b *cloudBed) fabric() {
	var stop func() error
	h := b.Lab.Client()
	b.must(h.Do(func() (err error) {
		stop, err = b.cloud.Hear(h.Device(0), func() { b.frames.Add(1) })
		return err
	}))
	b.t.Cleanup(func() { _ = stop() })
}

// columns are the three of one HAVIP.
type columns struct {
	Desired  struct{ ENI *string }
	Leased   *struct{ ENI, Node string }
	Observed *struct {
		ENI, Instance, EIP, Flushed string
		Node                        *string
	}
	Drift []struct{ Code, Command string }
}

func (b *cloudBed) columns(at int) (c columns) {
	b.t.Helper()
	out, err := b.Cluster.CLI(at, "havip", "observed", "web", "-o", "json")
	if err != nil || json.Unmarshal(out, &c) != nil {
		return columns{}
	}
	return c
}

// follows waits until the cloud is seen to send the traffic to a node, and says how long that took.
func (b *cloudBed) follows(at, owner int) time.Duration {
	b.t.Helper()
	begun := time.Now()
	b.Eventually(fmt.Sprintf("the cloud follows to node %d", owner), func() bool {
		c := b.columns(at)
		return c.Observed != nil && c.Observed.Node != nil && *c.Observed.Node == b.Cluster.NodeName(owner) && len(c.Drift) == 0
	})
	return time.Since(begun)
}

// changes counts the calls that changed something in the cloud.
func (b *cloudBed) changes() (n int) {
	for _, c := range b.cloud.Calls() {
		if !strings.HasPrefix(c.Action, "Describe") {
			n++
		}
	}
	return n
}

// drifts plants a difference: it is told within a poll, changes neither cloud nor owner, and ends by the command.
func (b *cloudBed) drifts(code string, plant, mend func()) {
	b.t.Helper()
	owner, changes := b.Owner(), b.changes()
	begun := time.Now()
	plant()
	told := func() bool {
		for _, d := range b.columns(b.Leader()).Drift {
			if d.Code == code {
				return true
			}
		}
		return false
	}
	b.Eventually(code, told)
	if took := time.Since(begun); took > cloudSeen {
		timely(b.t, "%s was told after %s, want within %s", code, took, cloudSeen)
	}
	b.Eventually("an event of "+code, func() bool { return hasLine(string(b.CLI(1, "events")), "drift", "begins", code) })
	for i := range b.Lab.Nodes() {
		b.Eventually("yellow", func() bool { return hasLine(string(problems(b.CLI(i+1, "status"))), "cloud", "web") })
	}
	time.Sleep(2 * cloudPoll)
	if now := b.changes(); now != changes {
		b.t.Errorf("%s: %d changes in the cloud that nobody asked for: %+v", code, now-changes, b.cloud.Calls())
	}
	if now := b.Owner(); now != owner {
		b.t.Errorf("%s: the HAVIP moved from node %d to %d", code, owner, now)
	}
	mend()
	b.Eventually("the end of "+code, func() bool { return !told() && hasLine(string(b.CLI(1, "events")), "drift", "ends", code) })
}

// TestCloud: a HAVIP is made in a cloud, fails over there, and what people and strangers change in the cloud is told
// within one look and never acted on. A cloud that is down, slow, throttling or refuses signatures costs a failover
// nothing.
func TestCloud(t *testing.T) {
	long(t)
	b := inCloud(t)
	names := []string{b.Cluster.NodeName(1), b.Cluster.NodeName(2), b.Cluster.NodeName(3)}
	b.CLI(1, "havip", "update", "web", "--range", "cvm:"+strings.Join(names, ","))
	b.Eventually("the cloud's ids in eni list", func() bool {
		out := string(b.CLI(1, "eni", "list"))
		return strings.Contains(out, "eni-lab1") && strings.Contains(out, "eni-lab2") && strings.Contains(out, "eni-lab3")
	})
	b.CLI(2, "provider", "test")
	if !contains(b.CLI(3, "provider", "sync", "--to-cloud", "--dry-run"), "create") || len(b.cloud.HAVIPs()) != 0 {
		t.Error("a dry run does not say what it would make, or makes it")
	}
	b.CLI(3, "provider", "sync", "--to-cloud")
	if v := b.cloud.HAVIPs(); len(v) != 1 || !v[0].CheckAssociate || len(v[0].HaVipAssociationSet) != 3 {
		t.Fatalf("made in the cloud: %+v", v)
	}
	b.Place(b.other(b.Owner())) // the fabric has heard nothing since
	t.Logf("observed follows a move after %s", b.follows(1, b.Owner()))

	t.Run("failover", func(t *testing.T) {
		owner := b.Owner()
		noDual(t, b.cut(owner))
		if took := b.follows(b.other(owner), b.Owner()); took > cloudSeen {
			timely(t, "observed follows after %s, want within %s", took, cloudSeen)
		}
	})
	t.Run("EIP", func(t *testing.T) {
		b.CLI(2, "havip", "bind-eip", "web", "198.51.100.7")
		b.Eventually("the EIP in the cloud", func() bool { return b.cloud.HAVIPs()[0].AddressIp == "198.51.100.7" })
		b.Eventually("its event", func() bool { return hasLine(string(b.CLI(1, "events")), "cloud", "was bound to") })
		b.CLI(2, "havip", "unbind-eip", "web")
		b.Eventually("no EIP in the cloud", func() bool { return b.cloud.HAVIPs()[0].AddressIp == "" })
	})
	t.Run("drift", func(t *testing.T) { b.playDrift(t) })
	t.Run("faults", func(t *testing.T) { b.playFaults(t) })
}

// shouts has a station announce the HAVIP five times a second until the test ends.
func (b *cloudBed) shouts(mac string) {
	ctx := b.t.Context()
	go func() {
		for ctx.Err() == nil {
			b.cloud.Announce(mac, b.HAVIP)
			time.Sleep(200 * time.Millisecond)
		}
	}()
}

func (b *cloudBed) playDrift(t *testing.T) {
	sync := func(args ...string) func() {
		return func() { b.CLI(1, append([]string{"provider", "sync", "--to-cloud"}, args...)...) }
	}
	edit := func(change func(h fakecloud.HAVIP) *fakecloud.HAVIP) func() {
		return func() { b.must(b.cloud.Edit(b.HAVIP.String(), change)) }
	}
	b.drifts("range-narrower", edit(func(h fakecloud.HAVIP) *fakecloud.HAVIP {
		h.HaVipAssociationSet = h.HaVipAssociationSet[:1]
		return &h
	}), sync())
	stranger := fakecloud.Association{InstanceId: "ins-stranger", HaVipId: b.cloud.HAVIPs()[0].HaVipId, InstanceType: "CVM"}
	b.drifts("range-wider", edit(func(h fakecloud.HAVIP) *fakecloud.HAVIP {
		h.HaVipAssociationSet = append(h.HaVipAssociationSet, stranger)
		return &h
	}), sync("--prune"))
	b.drifts("owner-differs", func() {
		edit(func(h fakecloud.HAVIP) *fakecloud.HAVIP {
			h.HaVipAssociationSet = append(h.HaVipAssociationSet, stranger)
			return &h
		})()
		b.shouts("02:ff:00:00:00:99") // once would be over with the owner's next announcement
	}, sync("--prune")) // then the fabric takes it from the owner alone
	b.drifts("vip-missing", edit(func(fakecloud.HAVIP) *fakecloud.HAVIP { return nil }), sync())
	b.follows(1, b.Owner())
}

func (b *cloudBed) playFaults(t *testing.T) {
	plain := b.cut(b.Owner())
	noDual(t, plain)
	for name, fault := range map[string]fakecloud.Fault{"down": {Down: true}, "slow": {SlowMS: 3000}, "throttling": {Throttle: true}, "signature": {Signature: true}} {
		b.cloud.SetFault(fault)
		if fault.SlowMS == 0 { // a slow one is seen, only later
			b.Eventually(name+" is told", func() bool {
				return hasLine(string(problems(b.CLI(b.Leader(), "status"))), "the cloud (tencent) has not been seen")
			})
		}
		m := b.cut(b.Owner())
		noDual(t, m)
		t.Logf("cloud %s: gap %s; without %s", name, m.Gap, plain.Gap)
		if m.Gap > 2*plain.Gap+Lease {
			timely(t, "cloud %s: the failover took %s, %s without", name, m.Gap, plain.Gap)
		}
		b.cloud.SetFault(fakecloud.Fault{})
		for end := time.Now().Add(cloudBack); ; time.Sleep(500 * time.Millisecond) {
			if !hasLine(string(problems(b.CLI(b.Leader(), "status"))), "the cloud (tencent)") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("cloud %s: still told %s after it has ended", name, cloudBack)
			}
		}
	}
}
