package api

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// sizedWorld has as many HAVIPs as there may be, all owned and half of them pending.
func sizedWorld(t testing.TB) *world {
	w := newWorld(t)
	for _, n := range w.nodes {
		w.log.apply(t, fsm.ReportENIs{Node: n.id.NodeID, ENIs: []fsm.ENI{{
			Device: "eth0", MAC: n.id.Name, Up: true, Primary: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("172.16.255.%s/12", n.id.Name[5:]))},
		}}}, "")
	}
	cfg := fsm.Config{HAVIPs: []fsm.HAVIPSpec{}}
	for i := range fsm.MaxHAVIPs {
		cfg.HAVIPs = append(cfg.HAVIPs, fsm.HAVIPSpec{Name: fmt.Sprintf("service-%05d", i), IP: netip.AddrFrom4([4]byte{172, 17, byte(i / 250), byte(2 + i%250)})})
	}
	if res := w.log.apply(t, fsm.ApplyConfig{Config: cfg}, ""); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	w.log.place(t)
	var b fsm.Confirm
	for i, v := range w.log.now().HAVIPList() {
		if v.Owner == nil {
			t.Fatal("not placed")
		}
		if i%2 == 0 {
			b.Claims = append(b.Claims, fsm.ConfirmedClaim{HAVIP: v.ID, Epoch: v.Epoch, Session: v.Owner.Session})
		}
	}
	w.log.apply(t, b, "")
	return w
}

// TestReadsOfManyHAVIPs: what a person asks first is answered with work in proportion to the
// number of HAVIPs, and in as many lines as he reads.
func TestReadsOfManyHAVIPs(t *testing.T) {
	sized(t)
	w := sizedWorld(t)
	st, s := w.log.now(), w.servers[0]
	got, err := w.local(0).Status(context.Background(), false)
	must(t, err)
	if got.Owned != fsm.MaxHAVIPs || got.Pending != fsm.MaxHAVIPs/2 || got.Unowned != 0 {
		t.Errorf("%d owned, %d pending, %d unowned", got.Owned, got.Pending, got.Unowned)
	}
	list, err := w.local(0).Placement(context.Background(), nil, false)
	must(t, err)
	if len(list) != fsm.MaxHAVIPs || list[0].State != StateAvailable || list[1].State != StatePending {
		t.Errorf("%d places, the first are %s and %s", len(list), list[0].State, list[1].State)
	}
	for _, row := range []struct {
		what string
		most float64 // allocations for each HAVIP
		do   func()
	}{
		{"status", 2, func() { s.status(st) }},
		{"placement", 8, func() {
			s.placed.Store(nil)
			s.allPlaced(st)
		}},
		{"havip list", 40, func() {
			look := newViewer(st, 0)
			for _, v := range st.HAVIPList() {
				look.havip(v)
			}
		}},
	} {
		if n := testing.AllocsPerRun(1, row.do) / fsm.MaxHAVIPs; n > row.most {
			t.Errorf("%s: %.1f allocations for each HAVIP, at most %.0f", row.what, n, row.most)
		}
	}
	// A state that is asked for again costs nothing, and the next one is looked at anew.
	again := s.allPlaced(st)
	if n := testing.AllocsPerRun(1, func() { s.allPlaced(st) }); n > 0 || &again[0] != &s.allPlaced(st)[0] {
		t.Errorf("the same state again: %.0f allocations", n)
	}
	w.log.apply(t, fsm.CreateSubnet{Subnet: fsm.Subnet{Name: "later", CIDR: netip.MustParsePrefix("10.99.0.0/24")}}, "")
	if after := s.allPlaced(w.log.now()); after[0].Index != w.log.now().Index || after[0].Index == again[0].Index {
		t.Errorf("after a change: as of %d, the log is at %d", after[0].Index, w.log.now().Index)
	}
	// A problem of all of them is told in a few lines.
	late := *st
	late.Cluster.LeaseMax = 0
	if got := s.status(&late); len(got.Problems) > 2*problemsOfAKind || !strings.Contains(strings.Join(got.Problems, "\n"), "4980 more HAVIPs are pending") {
		t.Errorf("%d problems: %q", len(got.Problems), got.Problems[max(0, len(got.Problems)-3):])
	}
}

func BenchmarkReadsOfManyHAVIPs(b *testing.B) {
	w := sizedWorld(b)
	ctx := context.Background()
	for _, row := range []struct {
		what string
		do   func(c *Client) error
	}{
		{"status", func(c *Client) error { _, err := c.Status(ctx, false); return err }},
		{"placement", func(c *Client) error { _, err := c.Placement(ctx, nil, false); return err }},
		{"havips", func(c *Client) error { _, err := c.HAVIPs(ctx); return err }},
	} {
		b.Run(row.what, func(b *testing.B) {
			c := w.local(0)
			for b.Loop() {
				if err := row.do(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestServingInStatus: a HAVIP is pending until its owner says that it serves; what was given
// up comes first; and what waits for a fence says so.
func TestServingInStatus(t *testing.T) {
	w := newWorld(t)
	ctx, c := context.Background(), w.local(0)
	status := func() (Status, string) {
		t.Helper()
		got, err := c.Status(ctx, false)
		must(t, err)
		return got, strings.Join(got.Problems, "\n")
	}
	w.log.slow = true
	v, err := c.CreateHAVIP(ctx, HAVIPSpec{Name: "web", IP: "10.77.0.100"})
	must(t, err)
	if got, words := status(); got.Health != HealthRed || got.Unowned != 1 || !strings.Contains(words, "HAVIP web has no owner: it waits for the fence of node-1, node-2") {
		t.Errorf("%s: %s", got.Health, words)
	}
	if v.State != StateUnbind || len(v.Waits) != 2 || v.Reason != "it waits for the fence of node-1, node-2" {
		t.Errorf("%+v", v)
	}
	w.log.slow = false
	w.log.apply(t, fsm.CreateSubnet{Subnet: fsm.Subnet{Name: "x", CIDR: netip.MustParsePrefix("10.9.0.0/24")}}, "") // the fences follow
	w.log.place(t)
	is := func(want string, pending int) {
		t.Helper()
		list, err := c.Placement(ctx, []string{"web"}, false)
		must(t, err)
		if got, _ := status(); list[0].State != want || got.Pending != pending {
			t.Errorf("%s, %d pending; want %s, %d", list[0].State, got.Pending, want, pending)
		}
	}
	is(StatePending, 1)
	owned := w.log.now().HAVIPs[v.ID]
	w.log.apply(t, fsm.Confirm{Claims: []fsm.ConfirmedClaim{{HAVIP: v.ID, Epoch: owned.Epoch, Session: owned.Owner.Session}}}, "")
	is(StateAvailable, 0)
	w.log.apply(t, fsm.Release{Claims: []fsm.ReleasedClaim{{HAVIP: v.ID, Epoch: owned.Epoch, Session: owned.Owner.Session, Failure: "no route"}}}, "")
	w.log.place(t)
	is(StatePending, 1)
	got, _ := status()
	ago, begins := strings.CutPrefix(got.Problems[0], owned.Owner.ENI+" gave up web (10.77.0.100): no route, ")
	ago, ends := strings.CutSuffix(ago, " ago")
	if age, err := time.ParseDuration(ago); !begins || !ends || err != nil || age > time.Minute {
		t.Errorf("the first problem is %q", got.Problems[0])
	}
	time.Sleep(1100 * time.Millisecond) // more than two leases
	if got, words := status(); got.Health == HealthGreen || !strings.Contains(words, "has not said that it serves") {
		t.Errorf("%s: %s", got.Health, words)
	}
}

// TestAPlanDoesNotWaitForFences: a new HAVIP of a plan goes where it goes once all know it.
func TestAPlanDoesNotWaitForFences(t *testing.T) {
	w := newWorld(t)
	w.log.slow = true
	got, err := w.local(0).Plan(context.Background(), PlanSpec{Changes: "version: 1\nhavips:\n- {name: web, ip: 10.77.0.100}\n"})
	must(t, err)
	if owner := got.Owners["web"]; owner == nil {
		t.Errorf("%+v", got.Result)
	}
}
