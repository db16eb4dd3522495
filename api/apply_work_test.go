package api

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
	"havip-cluster/testbed/labtest"
)

// What a leader does for one file, from its bytes to the difference that it answers with, is in proportion to
// the HAVIPs in it. Allocations are counted and not time: a busy machine does not change them.
func TestApplyCostsInProportion(t *testing.T) {
	sized(t)
	const most = 250 // allocations for each HAVIP; measured: 219
	w := newWorld(t)
	per := func(havips int) float64 {
		t.Helper()
		var b strings.Builder
		b.WriteString("version: 1\nsubnets:\n  - {name: big, cidr: 10.60.0.0/16}\nhavips:\n")
		for i := range havips {
			fmt.Fprintf(&b, "  - name: h%d\n    ip: 10.60.%d.%d\n    subnet: big\n", i, 1+i/250, 1+i%250)
		}
		st := w.log.state
		var before, done runtime.MemStats
		runtime.ReadMemStats(&before)
		m, _, err := manifest.DecodeFor(context.Background(), []byte(b.String()))
		must(t, err)
		next, err := after(st, nil, "", fsm.ApplyConfig{Config: m.ToConfig()}, time.Now().UnixNano())
		must(t, err)
		changes := manifest.Between(configured(st), configured(next))
		runtime.ReadMemStats(&done)
		if len(changes) < havips {
			t.Errorf("%d changes of %d HAVIPs", len(changes), havips)
		}
		return float64(done.Mallocs-before.Mallocs) / float64(havips)
	}
	few, many := per(500), per(4000)
	t.Logf("%.0f allocations for each of 500 HAVIPs, %.0f for each of 4,000", few, many)
	if many > most || many > few*1.1 {
		t.Errorf("%.0f allocations for each of 500 HAVIPs, %.0f for each of 4,000, at most %d", few, many, most)
	}
}

// sized is for tests of large inputs with one caller, in which the race detector has nothing to find: they
// run in the pass without it.
func sized(t *testing.T) {
	t.Helper()
	if labtest.Race {
		t.Skip("a large input with one caller: in the pass without the race detector")
	}
}
