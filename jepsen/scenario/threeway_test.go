package scenario

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/fakecloud"
)

// leaderAnew is how long a cluster that has lost its leader may take until the next one has looked at the cloud, beside a
// look itself: the lease and an election, and the look whether it leads.
const leaderAnew = 3 * time.Second

// TestThreeWay plants a difference in the cloud while something else goes wrong: the three columns tell it within one poll
// of a leader that can look, nobody acts on it, and when it is mended desired, leased and observed are one again. It
// prints the table.
func TestThreeWay(t *testing.T) {
	long(t)
	b := inCloud(t)
	names := []string{b.Cluster.NodeName(1), b.Cluster.NodeName(2), b.Cluster.NodeName(3)}
	b.CLI(1, "havip", "update", "web", "--range", "cvm:"+strings.Join(names, ","))
	b.Eventually("the cloud's ids in eni list", func() bool { return strings.Contains(string(b.CLI(1, "eni", "list")), "eni-lab3") })
	b.CLI(1, "provider", "sync", "--to-cloud")
	b.Place(b.other(b.Owner()))
	b.follows(1, b.Owner())
	none := func() {}
	for _, row := range []struct {
		fault      string
		play, heal func()
		leader     bool // it may be the one that looks
	}{
		{"nothing", none, none, false},
		{"a planned move", func() { b.Place(b.other(b.Owner())) }, none, false},
		{"a cloud that is slow (300 ms)", func() { b.cloud.SetFault(fakecloud.Fault{SlowMS: 300}) }, func() { b.cloud.SetFault(fakecloud.Fault{}) }, false},
		{"the owner is cut off", func() { noDual(t, b.cut(b.Owner())) }, none, true},
		{"the owner's agent is killed", func() { b.killed(b.Owner()) }, none, true},
		{"the leader's agent is killed", func() { b.killed(b.Leader()) }, none, true},
	} {
		for _, drift := range []struct {
			code string
			make func(h fakecloud.HAVIP) *fakecloud.HAVIP
		}{
			{"range-narrower", func(h fakecloud.HAVIP) *fakecloud.HAVIP { h.HaVipAssociationSet = nil; return &h }},
			{"name-differs", func(h fakecloud.HAVIP) *fakecloud.HAVIP { h.HaVipName = "changed-by-hand"; return &h }},
		} {
			limit := cloudSeen
			if row.leader {
				limit += leaderAnew
			}
			changes := b.changes()
			told := b.whenTold(drift.code)
			b.must(b.cloud.Edit(b.HAVIP.String(), drift.make))
			row.play()
			took := <-told
			time.Sleep(2 * cloudPoll)
			acted := b.changes() - changes
			c := b.columns(b.Leader())
			t.Logf("%-30s %-15s told after %5d ms; changes in the cloud by itself: %d; desired %s, leased %s", row.fault, drift.code, took.Milliseconds(), acted, value(c.Desired.ENI), leasedOf(c))
			if took == 0 || took > limit {
				timely(t, "%s, %s: told after %s, want within %s", row.fault, drift.code, took, limit)
			}
			if acted != 0 {
				t.Errorf("%s, %s: %d changes in the cloud that nobody asked for: %+v", row.fault, drift.code, acted, b.cloud.Calls())
			}
			row.heal()
			b.WaitSessions(3)
			b.CLI(1, "provider", "sync", "--to-cloud")
			b.Place(b.other(b.Owner())) // an announcement that the mended range takes
			b.Eventually("the three are one again", func() bool {
				c := b.columns(b.Leader())
				return c.Leased != nil && c.Desired.ENI != nil && *c.Desired.ENI == c.Leased.ENI && c.Observed != nil && c.Observed.Node != nil && *c.Observed.Node == c.Leased.Node && len(c.Drift) == 0
			})
		}
	}
}

// killed kills an agent and starts it again.
func (b *cloudBed) killed(node int) {
	b.t.Helper()
	b.must(b.Cluster.Kill(node, syscall.SIGKILL))
	time.Sleep(2 * time.Second)
	b.must(b.Cluster.Start(node))
}

// whenTold asks whoever leads for the three columns until one has a difference of this code, and says how long that took;
// 0 if nobody tells it.
func (b *cloudBed) whenTold(code string) <-chan time.Duration {
	out := make(chan time.Duration, 1)
	begun, ctx := time.Now(), b.t.Context()
	go func() {
		defer close(out)
		for ctx.Err() == nil && time.Since(begun) < ownedWait {
			for i := 1; i <= 3; i++ {
				text, err := b.Cluster.CLI(i, "havip", "observed", "web", "-o", "json")
				if err == nil && strings.Contains(string(text), fmt.Sprintf("%q", code)) {
					out <- time.Since(begun)
					return
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return out
}

func value(s *string) string {
	if s == nil {
		return "–"
	}
	return *s
}

func leasedOf(c columns) string {
	if c.Leased == nil {
		return "–"
	}
	return c.Leased.ENI
}
