package netns

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// A node that has a HAVIP is seen to speak for it, also while the switch lets nothing of it
// through; its own address and other nodes are none of the capture's business.
func TestCapture(t *testing.T) { tries(t, captureSees) }

func captureSees(t *try) {
	lab := newLab(t.T, Options{Nodes: 2})
	havip := lab.Address(100)
	capture, err := lab.CaptureHAVIPs([]netip.Addr{lab.Address(101), havip})
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Stop()
	node := lab.Node(2)
	if err := node.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(havip.String() + "/32")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, addr)
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, target := range []netip.Addr{havip, lab.Node(1).IP(0)} {
		prober, err := lab.Probe(ctx, lab.Client(), target, DefaultPort, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		defer prober.Stop()
	}
	begin := lab.Now()
	time.Sleep(200 * time.Millisecond)
	// Cut off, it answers those who are not cut from it: the switch drops, the port still sees.
	if err := lab.Partition([]*Host{node}, []*Host{lab.Node(1), lab.Client()}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	capture.Stop()
	series, frames := capture.History()
	if len(series) != 2 || series[0].Count != 0 || series[1].Count == 0 {
		t.Errorf("series %+v", series)
		return
	}
	var count uint64
	for _, f := range frames {
		if f.Node != "node-2" || f.HAVIP != havip.String() || f.First > f.Last || f.First < begin-int64(time.Second) || f.Last > lab.Now() {
			t.T.Errorf("%+v", f)
		}
		count += f.Count
	}
	if count < 100 {
		t.Errorf("%d frames in 200 ms of probes each millisecond", count)
	}
}
