package owner

import (
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// Each change of an activation is in the lists at once: a HAVIP that is to leave must not be wanted
// for one turn more.
func TestListsFollowEveryChange(t *testing.T) {
	w := newStage(2)
	w.must(w.place(w.web(), "node-a/eth0"))
	log := &wordLog{state: w.head()}
	a := New(Config{
		Node: "A", Log: log, Mail: mailOf("A", log, postman{}), Logger: slog.New(slog.DiscardHandler),
		Clock: func() lease.Instant { return lease.Instant(time.Hour) },
	})
	deadline := lease.Instant(2 * time.Hour)
	v := w.head().HAVIPs[w.web()]
	step := Step{HAVIP: v.ID, Claim: *v.Owner}
	changes := []struct {
		what   string
		do     func()
		wanted int
	}{
		{"activate", func() { a.activate(w.head(), step, deadline) }, 1},
		{"stands", func() { a.stands(v.ID, Stood{}) }, 1},
		{"relabel", func() {
			next := step
			next.Kind, next.Claim.Epoch = StepRelabel, step.Claim.Epoch+1
			a.do(w.head(), next, deadline)
		}, 1},
		{"another lease", func() {
			later := *w.head()
			later.Cluster.LeaseMax *= 2
			log.state = &later
			a.activations.refresh(&later)
		}, 1},
		{"deactivate", func() { a.deactivate(log.state, step) }, 0},
		{"gone", func() { a.gone(a.activations.by[v.ID]) }, 0},
		{"again", func() { a.activate(w.head(), step, deadline) }, 1},
		{"give up", func() { a.giveUp(a.activations.by[v.ID], "no route") }, 0},
	}
	for _, c := range changes {
		c.do()
		got := a.wanted(w.head(), deadline).Activations
		view := a.Activations()
		a.activations.changed()
		if fresh := a.wanted(w.head(), deadline).Activations; !reflect.DeepEqual(got, fresh) || !reflect.DeepEqual(view, a.Activations()) || len(got) != c.wanted {
			t.Errorf("after %s: %+v and %+v, and made anew %+v and %+v", c.what, got, view, fresh, a.Activations())
		}
	}
}

// TestSameENI: a change of any field is noticed, also of one that is added later.
func TestSameENI(t *testing.T) {
	yes, no := true, false
	other := map[reflect.Type]reflect.Value{
		reflect.TypeFor[string](): reflect.ValueOf("other"), reflect.TypeFor[bool](): reflect.ValueOf(true), reflect.TypeFor[fsm.CloudENI](): reflect.ValueOf(fsm.CloudENI{ID: "eni-other"}), reflect.TypeFor[*bool](): reflect.ValueOf(&yes),
		reflect.TypeFor[netip.Addr](): reflect.ValueOf(netip.MustParseAddr("10.0.0.9")), reflect.TypeFor[[]netip.Prefix](): reflect.ValueOf([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}),
	}
	base := fsm.ENI{ID: "n1/eth0"}
	for i := range reflect.TypeFor[fsm.ENI]().NumField() {
		changed := base
		f := reflect.ValueOf(&changed).Elem().Field(i)
		v, known := other[f.Type()]
		if !known {
			t.Fatalf("no other value for a %s", f.Type())
		}
		f.Set(v)
		if sameENI(base, changed) || sameENI(changed, base) || !sameENI(changed, changed) {
			t.Errorf("%s is not compared", reflect.TypeFor[fsm.ENI]().Field(i).Name)
		}
	}
	a, b := base, base
	a.SetPrimary, b.SetPrimary = &yes, &no
	again := yes
	c := a
	if c.SetPrimary = &again; sameENI(a, b) || !sameENI(a, c) {
		t.Error("the operator's word is compared by its place in memory")
	}
}
