package manifest_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// stage is a cluster whose nodes and networks fit a manifest: a subnet for each address,
// and an ENI of each node in all of them.
func stage(t *testing.T, m manifest.Manifest) *fsm.State {
	t.Helper()
	s := fsm.New()
	s.Cluster = fsm.Cluster{ID: "c-0123456789abcdef", Profile: "lan", Level: 4}
	names := map[string]bool{}
	for _, n := range m.Nodes {
		names[n.Name] = true
	}
	for _, h := range m.HAVIPs {
		for _, n := range h.Range.Members {
			names[n] = true
		}
		for _, n := range append(h.Bans, h.Forbid...) {
			names[n] = true
		}
		for n := range h.Prefer {
			names[n] = true
		}
	}
	var prefixes []netip.Prefix
	for _, h := range m.HAVIPs {
		ip := netip.MustParseAddr(h.IP)
		bits := 24
		if ip.Is6() {
			bits = 64
		}
		p := netip.PrefixFrom(ip, bits).Masked()
		name := fmt.Sprintf("net-%d", len(prefixes))
		known := false
		for _, sub := range s.Subnets {
			known = known || sub.CIDR == p
		}
		if !known {
			// a named gateway, so that the first host may be a HAVIP
			s.Subnets[name] = fsm.Subnet{Name: name, VPC: fsm.DefaultVPC, CIDR: p, Gateway: gatewayOf(p), Auto: true}
			prefixes = append(prefixes, p)
		}
	}
	i := 0
	for name := range names {
		id := fmt.Sprintf("n-%016x", i)
		s.Nodes[id] = fsm.Node{ID: id, Name: name, Role: fsm.RoleVoter}
		e := fsm.ENI{ID: name + "/eth0", Node: id, Device: "eth0", Primary: true, Up: true}
		for n, p := range prefixes {
			e.Prefixes = append(e.Prefixes, netip.PrefixFrom(hostOf(p, 200+i), p.Bits()))
			if n == 0 {
				for sub := range s.Subnets {
					if s.Subnets[sub].CIDR == p {
						e.Subnet = sub
					}
				}
			}
		}
		s.ENIs[e.ID] = e
		i++
	}
	return s
}

func gatewayOf(p netip.Prefix) netip.Addr { return hostOf(p, 199) }

func hostOf(p netip.Prefix, n int) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}

func apply(t *testing.T, s *fsm.State, index uint64, body fsm.ApplyConfig) *fsm.State {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	next, result, err := fsm.Apply(s, index, fsm.Command{Kind: "apply-config", At: now, Body: raw})
	if err != nil || result.Refusal != nil {
		t.Fatalf("apply: %v, %v", err, result.Refusal)
	}
	return next
}

// TestRoundTrip: what each importer made is applied, exported, verified; the export differs
// in nothing from the import, and applying either again changes nothing.
func TestRoundTrip(t *testing.T) {
	var files []string
	for _, pattern := range []string{"keepalived/testdata/golden/*/golden.yaml", "heartbeat/testdata/golden/*/golden.yaml", "pacemaker/testdata/golden/*.golden.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 30 {
		t.Fatalf("%d files", len(files))
	}
	for _, name := range files {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			imported, _, err := manifest.Decode(text)
			if err != nil {
				t.Fatal(err)
			}
			s := apply(t, stage(t, imported), 10, fsm.ApplyConfig{Config: imported.ToConfig(), Prune: true})
			if len(s.HAVIPs) != len(imported.HAVIPs) {
				t.Fatalf("%d HAVIPs, want %d", len(s.HAVIPs), len(imported.HAVIPs))
			}
			exported, found := manifest.Verify(manifest.FromState(s, now).YAML())
			if err := found.Err(); err != nil {
				t.Fatalf("the export does not verify: %v", err)
			}
			if d := manifest.Diff(exported, imported); len(d) > 0 {
				t.Errorf("the export differs from the import:\n%s", d)
			}
			revision := s.Cluster.Revision
			s = apply(t, s, 11, fsm.ApplyConfig{Config: imported.ToConfig(), Prune: true})
			s = apply(t, s, 12, fsm.ApplyConfig{Config: exported.ToConfig(), Prune: true})
			if s.Cluster.Revision != revision {
				t.Errorf("applied again the revision went from %d to %d", revision, s.Cluster.Revision)
			}
		})
	}
}
