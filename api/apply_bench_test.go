package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// manyHAVIPs is a configuration of about 1 MB: 9,000 new HAVIPs.
func manyHAVIPs() string {
	var b strings.Builder
	b.WriteString("version: 1\nsubnets:\n  - {name: big, cidr: 10.60.0.0/16}\nhavips:\n")
	for i := range 9000 {
		fmt.Fprintf(&b, "  - name: h%d\n    ip: 10.60.%d.%d\n    subnet: big\n    description: the front of a shop, ask Anna\n    prefer: {node-1: 5}\n", i, 1+i/250, 1+i%250)
	}
	return b.String()
}

// BenchmarkApplyWhole is what the leader does for a file of 9,000 new HAVIPs: from its bytes over the log and the state of one
// node to the bytes of the answer. The parts are measured one by one below.
func BenchmarkApplyWhole(b *testing.B) {
	w := newWorld(b)
	file := manyHAVIPs()
	had := w.log.now()
	b.ReportAllocs()
	for b.Loop() {
		w.log.mu.Lock()
		w.log.state = had
		w.log.mu.Unlock()
		resp, answer := w.ask(b, 1, http.MethodPost, "/v1/apply", file)
		if resp.StatusCode != http.StatusOK || len(answer) < 1<<20 {
			b.Fatalf("%d %.300s", resp.StatusCode, answer)
		}
	}
}

func BenchmarkApplyParts(b *testing.B) {
	w := newWorld(b)
	file := []byte(manyHAVIPs())
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
		{"config", func() error { m.ToConfig(); return nil }},
		{"command", func() error { _, err := fsm.NewCommand(now, "", "", body); return err }},
		{"entry", func() error { _, err := cmd.Encode(); return err }},
		{"entry read", func() error { _, err := fsm.DecodeCommand(raw); return err }},
		{"applied", func() error { _, _, err := fsm.Apply(st, st.Index+1, cmd); return err }},
		{"compared", func() error { manifest.Diff(configured(st), configured(next)); return nil }},
	} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(b, part.run())
			}
		})
	}
}
