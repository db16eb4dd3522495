package netns

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/history"

	"havip-cluster/testbed/labtest"
)

// settle is long enough for the first ARP exchange and some hundred probes.
const settle = 300 * time.Millisecond

// TestMoveByHand: an address removed here and added there after a pause is a gap of that pause
// for the client, and no instant of two owners.
func TestMoveByHand(t *testing.T) { tries(t, moveByHand) }

func moveByHand(t *try) {
	const pause = 80 * time.Millisecond
	l := newLab(t.T, Options{Nodes: 3})
	havip := l.Address(100)
	setAddress(t.T, l.Node(1), 0, havip, true)
	o := observe(t.T, l, havip)
	p := probe(t.T, l, havip)
	time.Sleep(settle)
	removed := time.Now()
	setAddress(t.T, l.Node(1), 0, havip, false)
	time.Sleep(pause)
	setAddress(t.T, l.Node(2), 0, havip, true)
	actual := time.Since(removed)
	time.Sleep(settle)
	p.Stop()
	o.Stop()

	probes, seen := p.Report(5*time.Millisecond), o.Report()
	t.Logf("prober: %+v", probes)
	t.Logf("observer: %+v", seen)
	var gap checker.Gap
	for _, g := range p.Gaps(0) {
		if g.FromNode == "node-1" && g.ToNode == "node-2" {
			gap = g
		}
	}
	if gap.Duration < pause*3/4 || gap.Duration > actual+probes.Blind+50*time.Millisecond {
		t.Errorf("gap %+v, want about %v to %v", gap, pause, actual)
	}
	if want := []string{"node-1", "node-2"}; !slices.Equal(probes.Nodes, want) {
		t.Errorf("answered by %v, want %v", probes.Nodes, want)
	}
	if seen.Certain != 0 || seen.Strange != 0 {
		t.T.Errorf("observer found %+v; want no second owner", seen) // no pause makes that
	}
	if seen.Handovers != 1 {
		t.Errorf("observer found %+v; want one hand-over", seen)
	}
	h := record(p, o)
	if v := checker.Worst(checker.SingleOwner(h), checker.Availability(h, time.Second)); !v.Pass() {
		t.Error(v)
	}
	if v := checker.Availability(h, pause/2); v.Valid == checker.Valid {
		t.Errorf("a budget shorter than the gap passes: %v", v)
	}
}

// TestPlantedSecondOwner: an address deliberately left on two nodes is caught, in the right
// length, by ARP alone and by UDP alone, and stays caught under frame loss.
func TestPlantedSecondOwner(t *testing.T) { tries(t, plantedSecondOwner) }

func plantedSecondOwner(t *try) {
	const double = 60 * time.Millisecond
	l := newLab(t.T, Options{Nodes: 3})
	havip := l.Address(101)
	setAddress(t.T, l.Node(1), 0, havip, true)
	o := observe(t.T, l, havip, l.Address(102))
	labtest.Must(t.T, l.Loss(50)) // must not touch the observer
	time.Sleep(settle)
	added := time.Now()
	setAddress(t.T, l.Node(2), 0, havip, true)
	time.Sleep(double)
	setAddress(t.T, l.Node(1), 0, havip, false)
	actual := time.Since(added)
	time.Sleep(settle)
	o.Stop()
	r := o.Report()
	t.Logf("two owners for %v to %v: %+v", double, actual, r)
	for name, dual := range map[string]checker.Dual{"both": r.Dual, "arp": r.ARP, "udp": r.UDP} {
		if dual.Certain < double/2 || dual.Certain > actual {
			t.Errorf("%s: dual-owner time %v, want at most %v and not much less", name, dual.Certain, actual)
		}
		for _, overlap := range dual.Overlaps {
			if overlap.Nodes != [2]string{"node-1", "node-2"} || overlap.HAVIP != havip.String() {
				t.T.Errorf("%s: %v", name, overlap) // no pause makes that
			}
		}
	}
	if v := checker.SingleOwner(record(nil, o)); v.Valid != checker.Invalid {
		t.Errorf("verdict %v, want invalid", v)
	}
}

// TestPlantedSecondOwnerByARPOnly: a node that only claims the address by ARP, and drops what it
// is sent, is as much a second owner.
func TestPlantedSecondOwnerByARPOnly(t *testing.T) { tries(t, plantedByARPOnly) }

func plantedByARPOnly(t *try) {
	l := labtest.Try(t.T, func() (*Lab, error) { return New(Options{Nodes: 2, ENIs: 2}) })
	t.Cleanup(func() { labtest.Must(t.T, l.Close()) })
	t.Cleanup(labtest.Try(t.T, func() (func(), error) { return l.Node(1).Respond(DefaultPort) }))
	extra := l.Node(2) // without a responder
	havip := l.Address(103)
	setAddress(t.T, l.Node(1), 1, havip, true)
	setAddress(t.T, extra, 0, havip, true)
	o := observe(t.T, l, havip)
	time.Sleep(settle)
	o.Stop()
	r := o.Report()
	if r.ARP.Certain < settle/2 || r.UDP.Certain != 0 || r.Certain < settle/2 {
		t.Errorf("by ARP %v, by UDP %v, together %v", r.ARP.Certain, r.UDP.Certain, r.Certain)
	}
}

// TestUnreachableTarget: nobody has the address, then there is not even a route; both are probes
// without an answer, and end with the context.
func TestUnreachableTarget(t *testing.T) { tries(t, unreachableTarget) }

func unreachableTarget(t *try) {
	l := newLab(t.T, Options{Nodes: 1})
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	nobody := labtest.Try(t.T, func() (*Prober, error) { return l.Probe(ctx, l.Client(), l.Address(110), DefaultPort, 0) })
	foreign := l.Subnet().Addr().As4()
	foreign[0] = 192
	elsewhere := probe(t.T, l, netip.AddrFrom4(foreign))
	<-ctx.Done()
	nobody.Stop()
	elsewhere.Stop()
	for _, p := range []*Prober{nobody, elsewhere} {
		r := p.Report(0)
		if r.Sent < 50 || r.Answered != 0 || r.Gaps != 1 || !p.Gaps(0)[0].Open {
			t.Errorf("%+v: want one open gap", r)
		}
		h := record(p, nil)
		if v := checker.Availability(h, time.Hour); v.Valid != checker.Invalid {
			t.Errorf("nothing was answered, and yet: %v", v)
		}
	}
	if r := elsewhere.Report(0); r.Refused != r.Sent {
		t.Errorf("%d of %d refused without a route", r.Refused, r.Sent)
	}
}

// TestResolution reports how exact the instruments are on this machine, and requires that they
// are not absurd: quiet world, one owner.
func TestResolution(t *testing.T) { tries(t, resolution) }

func resolution(t *try) {
	l := newLab(t.T, Options{Nodes: 3})
	havip := l.Address(104)
	setAddress(t.T, l.Node(1), 0, havip, true)
	p, o := probe(t.T, l, havip), observe(t.T, l, havip)
	time.Sleep(2 * time.Second)
	p.Stop()
	o.Stop()
	probes, seen := p.Report(0), o.Report()
	t.Logf("prober: %+v", probes)
	t.Logf("observer: %+v", seen)
	_, answers := o.History()
	var trips []time.Duration
	for _, a := range answers {
		trips = append(trips, time.Duration(a.Received-a.Sent))
	}
	t.Logf("observer's round trip: median %v, p99 %v", checker.Percentile(trips, 50), checker.Percentile(trips, 99))
	if probes.Answered < probes.Sent/2 || probes.Sent < 500 || seen.Polls < 250 || len(answers) < int(seen.Polls) {
		t.Error("the instruments hardly work")
	}
	if seen.Certain != 0 || seen.Suspect != 0 || seen.Handovers != 0 || seen.Strange != 0 {
		t.T.Errorf("one owner, but %+v", seen) // no pause makes that
	}
}

// record makes a history of a prober's and an observer's records; either may be nil.
func record(p *Prober, o *Observer) *history.History {
	h := &history.History{}
	if p != nil {
		series, probes := p.History()
		h.Series, h.Probes = append(h.Series, series), probes
	}
	if o != nil {
		series, answers := o.History()
		h.Series, h.Answers = append(h.Series, series...), answers
	}
	return h
}
