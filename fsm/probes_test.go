package fsm

import (
	"fmt"
	"net/netip"
	"testing"

	"havip-cluster/internal/limits"
)

// probeStory goes on where keysStory ends: probes of level 4 come up.
func probeStory(t testing.TB) *world {
	w := keysStory(t)
	w.must(CreateHAVIP{Name: "front", IP: addr("10.0.0.190"), Spec: Spec{Probe: "tcp:61000"}})
	w.must(CreateHAVIP{Name: "back", IP: addr("10.0.0.191")})
	w.must(CreateHAVIP{Name: "shop", IP: addr("10.0.0.195")})
	w.must(UpdateHAVIP{ID: w.get("back").ID, Change: Change{Probe: ptr("http:61001/up"), FailPeriod: ptr(3600)}})
	cfg := w.state.DesiredConfig()
	for i := range cfg.HAVIPs {
		if cfg.HAVIPs[i].Name == "back" {
			cfg.HAVIPs[i].Probe = "http:61001/healthy"
		}
	}
	w.must(ApplyConfig{Config: cfg, Note: "another path"})
	return w
}

func TestGoldenProbe(t *testing.T) {
	w := probeStory(t)
	goldenStory(t, w, "probe", "with probes of HAVIPs")
}

// Two HAVIPs never have one port, and a port is given up only while nobody may answer there.
func TestProbePorts(t *testing.T) {
	w := probeStory(t)
	front, back := w.get("front").ID, w.get("back").ID
	if got := w.get("back").Probe; got != "http:61001/healthy" {
		t.Fatalf("the file left %q", got)
	}
	w.refuses(CreateHAVIP{Name: "third", IP: addr("10.0.0.192"), Spec: Spec{Probe: "tcp:61000"}}, CodeInUse, "port 61000 is that of the probe of HAVIP front")
	w.refuses(UpdateHAVIP{ID: back, Change: Change{Probe: ptr("http:61000/up")}}, CodeInUse, "port 61000")
	w.refuses(UpdateHAVIP{ID: back, Change: Change{Probe: ptr("61000")}}, CodeParameter, "neither tcp:PORT nor http:PORT/PATH")
	w.must(UpdateHAVIP{ID: back, Change: Change{Probe: ptr("http:61001/ok")}})

	w.guarded()
	w.open("n1")
	w.guarded()
	w.place("front", "n1/eth0")
	for _, text := range []string{"", "tcp:61009"} {
		w.refuses(UpdateHAVIP{ID: front, Change: Change{Probe: &text}}, CodeInUse, "leaves port 61000 only while nobody answers there: `havip disable")
	}
	cfg := w.state.DesiredConfig()
	for i := range cfg.HAVIPs {
		cfg.HAVIPs[i].Probe = ""
	}
	w.refuses(ApplyConfig{Config: cfg, Note: "no probes"}, CodeInUse, "leaves port 61000")
	w.must(UpdateHAVIP{ID: front, Change: Change{Probe: ptr("http:61000/up")}})
	w.must(UpdateHAVIP{ID: front, Change: Change{Enabled: ptr(false)}})
	w.refuses(UpdateHAVIP{ID: front, Change: Change{Probe: ptr("")}}, CodeInUse, "only while nobody answers") // its owner has not released it
	w.refuses(CreateHAVIP{Name: "third", IP: addr("10.0.0.192"), Spec: Spec{Probe: "tcp:61000"}}, CodeInUse, "port 61000")
	w.releaseAll()
	w.must(UpdateHAVIP{ID: front, Change: Change{Probe: ptr("")}})
	w.must(CreateHAVIP{Name: "third", IP: addr("10.0.0.192"), Spec: Spec{Probe: "tcp:61000"}})
}

func TestProbesAreBounded(t *testing.T) {
	w := probeStory(t)
	w.must(CreateSubnet{Subnet{Name: "wide", VPC: DefaultVPC, CIDR: netip.MustParsePrefix("10.8.0.0/16"), Gateway: addr("10.8.0.1")}})
	for i := range limits.Probes - 2 { // beside those of the story
		v := w.get("front")
		v.ID, v.Name, v.IP = fmt.Sprintf("havip-p%07d", i), fmt.Sprintf("p%d", i), netip.AddrFrom4([4]byte{10, 8, 1, byte(i)})
		v.Subnet = "wide"
		v.Spec = Spec{Probe: fmt.Sprintf("tcp:%d", 1000+i)}
		w.state.HAVIPs[v.ID] = v
	}
	w.refuses(UpdateHAVIP{ID: w.get("shop").ID, Change: Change{Probe: ptr("tcp:9")}}, CodeLimit, "256 HAVIPs have a probe")
	old := edgeStory(t)
	old.refuses(UpdateHAVIP{ID: old.get("edge").ID, Change: Change{Probe: ptr("tcp:1")}}, CodeLevel, "upgrade it first")
}

// checkProbes: no two HAVIPs have one port.
func checkProbes(s *State, bad complain) {
	ports := map[uint16]string{}
	for _, v := range s.HAVIPList() {
		port := v.Probing().Port
		if other, twice := ports[port]; twice && port != 0 {
			bad("HAVIPs %s and %s have port %d for their probes", other, v.Name, port)
		}
		ports[port] = v.Name
	}
}
