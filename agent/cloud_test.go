package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"havip-cluster/fsm"
	"havip-cluster/provider"
	"havip-cluster/provider/observer"
)

// A cloud that does not say what it calls an ENI takes no name away; one that says so does.
func TestNamesStandWhileTheCloudIsSilent(t *testing.T) {
	known := fsm.CloudENI{ID: "eni-1", Instance: "ins-1"}
	s := fsm.New()
	s.Cluster.Level = 4
	s.ENIs["node-1/eth0"] = fsm.ENI{ID: "node-1/eth0", Node: "n-1", Device: "eth0", MAC: "02:00:00:00:00:01", Cloud: known}
	said, answer := false, fsm.CloudENI{}
	p := NewEdgePort(EdgeConfig{Node: "n-1", Log: slog.New(slog.DiscardHandler), Cloud: func(string) (fsm.CloudENI, bool) { return answer, said }})
	e := fsm.ENI{Device: "eth0", MAC: "02:00:00:00:00:01"}
	if got := p.cloudName(s, e); got != known {
		t.Errorf("silent: %+v", got)
	}
	e.MAC = "02:00:00:00:00:02"
	if got := p.cloudName(s, e); got != (fsm.CloudENI{}) {
		t.Errorf("another card in the same slot: %+v", got)
	}
	e.MAC, said, answer.ID = "02:00:00:00:00:01", true, "eni-2"
	if got := p.cloudName(s, e); got != answer {
		t.Errorf("said: %+v", got)
	}
	answer = fsm.CloudENI{}
	if got := p.cloudName(s, e); got != answer {
		t.Errorf("the cloud has it no more: %+v", got)
	}
	s.Cluster.Level = 3
	said = false
	if got := p.cloudName(s, e); got != (fsm.CloudENI{}) {
		t.Errorf("a node of an earlier program would stop at it: %+v", got)
	}
}

// The block of the configuration is checked when it is read: what is wrong changes nothing of a running node.
func TestProviderConfig(t *testing.T) {
	read := func(text string) error {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadConfig(path)
		return err
	}
	if err := read("provider:\n  kind: tencent\n  poll: 5s\n  tencent:\n    region: ap-guangzhou\n"); err != nil {
		t.Error(err)
	}
	for text, word := range map[string]string{
		"provider:\n  kind: azure\n": "tencent", "provider:\n  poll: 1ms\n": "1s", "provider:\n  kind: tencent\n  tencent:\n    endpoint: http://10.0.0.1\n": "https",
		"provider:\n  kind: tencent\n  tencent:\n    secret_key: hush\n": "secret_key",
	} {
		if err := read(text); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if p, err := newProvider(provider.Config{}); p != nil || err != nil {
		t.Errorf("no kind: %v, %v", p, err)
	}
}

// heldBack is a cloud whose calls are held back.
type heldBack struct{}

func (heldBack) Kind() string                                { return provider.KindTencent }
func (heldBack) Caps() provider.Capabilities                 { return provider.Capabilities{Describe: true} }
func (heldBack) Test(context.Context) (provider.Self, error) { return provider.Self{}, nil }
func (heldBack) Circuit() (open bool, opened uint64)         { return true, 3 }

// Each node tells whether it holds its calls to the cloud back, also one that does not lead and has never looked.
func TestCircuitIsShown(t *testing.T) {
	c := &cloud{}
	c.Observer = observer.New(observer.Config{Provider: c.Provider})
	shown := func() map[string]float64 {
		registry := prometheus.NewRegistry()
		registry.MustRegister(cloudMetrics{c})
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				out[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		return out
	}
	if got := shown(); len(got) != 0 {
		t.Errorf("without a provider: %v", got)
	}
	c.provider = heldBack{}
	got := shown()
	if len(got) != 2 || got["havip_provider_circuit_open tencent"] != 1 || got["havip_provider_circuit_opened_total tencent"] != 3 {
		t.Errorf("%v", got)
	}
}
