package api

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// manyHAVIPs is a configuration of about 1 MB: 9,000 new HAVIPs, with a description that is words alone or has a comma in it.
func manyHAVIPs(description string) string {
	var b strings.Builder
	b.WriteString("version: 1\nsubnets:\n  - {name: big, cidr: 10.60.0.0/16}\nhavips:\n")
	for i := range 9000 {
		fmt.Fprintf(&b, "  - name: h%d\n    ip: 10.60.%d.%d\n    subnet: big\n    description: %s\n    prefer: {node-1: 5}\n", i, 1+i/250, 1+i%250, description)
	}
	return b.String()
}

// BenchmarkApplyWhole is what the leader does for a file of 9,000 new HAVIPs: from its bytes over the log and the state of one
// node to the bytes of the answer. The parts are measured one by one below.
func BenchmarkApplyWhole(b *testing.B) {
	w := newWorld(b)
	file := manyHAVIPs("the front of a shop")
	had := w.log.now()
	costs(b, func() {
		w.log.mu.Lock()
		w.log.state = had
		w.log.mu.Unlock()
		resp, answer := w.ask(b, 1, http.MethodPost, "/v1/apply", file)
		if resp.StatusCode != http.StatusOK || len(answer) < 1<<20 {
			b.Fatalf("%d %.300s", resp.StatusCode, answer)
		}
	})
}

// costs runs something again and again, and reports the processor's time too: a busy machine changes it less.
func costs(b *testing.B, run func()) {
	b.Helper()
	b.ReportAllocs()
	began := processor(b)
	for b.Loop() {
		run()
	}
	b.ReportMetric(float64((processor(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

func processor(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkApplyParts(b *testing.B) {
	w := newWorld(b)
	file, described := []byte(manyHAVIPs("the front of a shop")), []byte(manyHAVIPs("the shop's front, ask Anna (or Bert)"))
	st := w.log.now()
	m, _, err := manifest.Decode(file)
	must(b, err)
	body := fsm.ApplyConfig{Config: m.ToConfig()}
	now := time.Now().UnixNano()
	cmd, err := fsm.NewCommand(now, "", "", body)
	must(b, err)
	raw, err := cmd.Encode()
	must(b, err)
	next, res, err := fsm.Apply(st, st.Index+1, cmd)
	must(b, err)
	if res.Refusal != nil {
		b.Fatal(res.Refusal)
	}
	b.Logf("a file of %d bytes, an entry of %d", len(file), len(raw))
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"read", func() error { _, _, err := manifest.Decode(file); return err }},
		{"read described", func() error { _, _, err := manifest.Decode(described); return err }},
		{"config", func() error { m.ToConfig(); return nil }},
		{"command", func() error { _, err := fsm.NewCommand(now, "", "", body); return err }},
		{"entry", func() error { _, err := cmd.Encode(); return err }},
		{"entry read", func() error { _, err := fsm.DecodeCommand(raw); return err }},
		{"applied", func() error { _, _, err := fsm.Apply(st, st.Index+1, cmd); return err }},
		{"compared", func() error { manifest.Between(configured(st), configured(next)); return nil }},
	} {
		b.Run(part.name, func(b *testing.B) {
			costs(b, func() { must(b, part.run()) })
		})
	}
}
