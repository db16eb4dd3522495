package netns

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"havip-cluster/jepsen/history"
	"havip-cluster/netdev/fence"
)

// A real fence goes through its states; the sampler tells them from the pins alone. This also holds the
// layout of the maps, which the sampler knows by their documentation only.
func TestSampler(t *testing.T) {
	lab := newLab(t, Options{Nodes: 2})
	dir, err := os.MkdirTemp("", "hv-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := NewCluster(lab, "/bin/false", dir)
	if err := os.MkdirAll(c.DataDir(1), 0o700); err != nil {
		t.Fatal(err)
	}
	havip := lab.Address(100)
	sampler, err := c.SampleFences([]netip.Addr{havip, lab.Address(101)}, 2*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer sampler.Stop()
	const pause = 40 * time.Millisecond
	err = lab.Node(1).Do(func() error {
		f, _, err := fence.New(fence.Config{Owner: "sample_test", Prefer: fence.EBPF})
		if err != nil {
			return err
		}
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if err := f.Attach(dev.Index); err != nil {
			return err
		}
		time.Sleep(pause)               // nothing is guarded
		last := func() (state string) { // that was sampled
			_, list := sampler.History()
			at := int64(0)
			for _, k := range list {
				if k.Last > at {
					at, state = k.Last, k.State
				}
			}
			return state
		}
		for _, step := range []struct {
			do   func() error
			then string
		}{
			{func() error { return f.Guard(havip) }, "shut"},
			{func() error { return f.SetDeadline(fence.BootNow() + int64(time.Hour)) }, "shut"},
			{func() error { return f.Open(havip) }, "open"},
			{func() error { return f.SetDeadline(fence.BootNow() - 1) }, "expired"},
			{func() error { return f.SetDeadline(fence.BootNow() + int64(time.Hour)) }, "open"},
			{func() error { return f.Shut(havip) }, "shut"},
			{f.Uninstall, "shut"},
		} {
			if err := step.do(); err != nil {
				return err
			}
			for end := time.Now().Add(long); last() != step.then && time.Now().Before(end); { // a busy machine may be late with its samples
				time.Sleep(2 * time.Millisecond)
			}
			time.Sleep(pause)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sampler.Stop()
	series, list := sampler.History()
	slices.SortFunc(list, func(a, b history.Kernel) int { return int(a.First - b.First) })
	var states []string
	for _, k := range list {
		if k.Node != "node-1" || k.HAVIP != havip.String() || k.First > k.Last && k.Samples > 1 || k.Widest > int64(sampleBreak) && k.State != history.FenceExpired {
			t.Errorf("%+v", k)
		}
		states = append(states, k.State)
	}
	// A busy machine may split a run; the order of states stays.
	if got, want := slices.Compact(states), []string{"shut", "open", "expired", "open", "shut"}; !slices.Equal(got, want) {
		t.Errorf("states %v, want %v", got, want)
	}
	if series[0].Count == 0 || series[1].Count != 0 {
		t.Errorf("series %+v: node-2 has no fence", series)
	}
}
