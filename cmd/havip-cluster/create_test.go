package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"havip-cluster/api"
	"havip-cluster/membership/identity"
)

// asking answers as a cluster with these subnets, nodes and ENIs, and keeps the HAVIP that was asked for.
func asking(t *testing.T, subnets []api.Subnet, nodes []api.Node, enis []api.ENI, most int) (dir string, asked *api.HAVIPSpec) {
	t.Helper()
	answers := map[string]any{"/v1/subnets": subnets, "/v1/nodes": nodes, "/v1/enis": enis, "/v1/cluster": api.Cluster{Provider: api.Provider{RangeMembers: most}}}
	return answering(t, func() map[string]any { return answers })
}

// answering answers as a cluster with what it has at each question, and keeps the HAVIP that was asked for.
func answering(t *testing.T, answers func() map[string]any) (dir string, asked *api.HAVIPSpec) {
	t.Helper()
	dir, asked = t.TempDir(), &api.HAVIPSpec{}
	l, err := api.ListenLocal(identity.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(r.Body).Decode(asked); err != nil || r.URL.Path != "/v1/havips" {
				t.Errorf("POST %s: %v", r.URL.Path, err)
			}
			_ = json.NewEncoder(w).Encode(api.HAVIP{})
			return
		}
		_ = json.NewEncoder(w).Encode(answers()[r.URL.Path])
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return dir, asked
}

// What `havip create` fills in, and what it says of it.
func TestCreateFillsIn(t *testing.T) {
	lan := api.Subnet{Name: "lan", VPC: "v", CIDR: "10.77.0.0/24"}
	far := api.Subnet{Name: "far", VPC: "w", CIDR: "10.78.0.0/24"}
	node := func(name, role string) api.Node { return api.Node{Name: name, Role: role} }
	eni := func(n, subnet string, addresses ...string) api.ENI {
		return api.ENI{ID: n + "/eth0", Node: n, Subnet: &subnet, Addresses: addresses}
	}
	nodes := []api.Node{node("n2", "voter"), node("n1", "voter"), node("n3", "agent"), node("w", "witness"), node("new", "agent")}
	enis := []api.ENI{eni("n1", "lan"), eni("n2", "far", "10.77.0.12/24"), eni("n3", "far", "10.78.0.13/24")}
	for _, c := range []struct {
		typed   string
		subnets []api.Subnet
		most    int
		subnet  string
		members []string // of a range that is enforced; nil: the request names none
		says    string
	}{
		{"--ip 10.77.0.100", []api.Subnet{far, lan}, 10, "", []string{"n1", "n2", "new"}, "web is limited to the nodes of today: n1, n2, new."},
		{"", []api.Subnet{lan}, 10, "lan", []string{"n1", "n2", "new"}, "from lan, the only subnet"},
		{"--vpc w", []api.Subnet{lan, far}, 10, "far", []string{"n2", "n3", "new"}, "from far, the only subnet"},
		{"--ip 10.77.0.100", []api.Subnet{lan}, 2, "", nil, "3 nodes are more than the 2 that a range holds"},
		{"--ip 10.77.0.100 --range node:n1,n2", []api.Subnet{lan}, 10, "", []string{"n1", "n2"}, ""},
		{"--ip 10.77.0.100 --range cvm:n1,n2", []api.Subnet{lan}, 10, "", []string{"n1", "n2"}, ""},
		{"--ip 10.99.0.100", []api.Subnet{lan}, 10, "", nil, ""}, // no subnet holds it: the cluster says so
	} {
		dir, asked := asking(t, c.subnets, nodes, enis, c.most)
		var stdout, stderr bytes.Buffer
		if code := run(append(strings.Fields("havip create web "+c.typed), "--data-dir", dir), &stdout, &stderr); code != 0 {
			t.Fatalf("%s: %d %s", c.typed, code, &stderr)
		}
		var members []string
		if r := asked.Range; r != nil {
			if members = r.Members; r.Type != "cvm" || r.Limit == nil || !*r.Limit {
				t.Errorf("%s: %+v", c.typed, r)
			}
		}
		if asked.Subnet != c.subnet || !reflect.DeepEqual(members, c.members) || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s: asked for %+v with the members %q, and said %q; want %+v", c.typed, *asked, members, &stderr, c)
		}
		if c.says == "" && strings.Contains(stderr.String(), "limited") {
			t.Errorf("%s: %s", c.typed, &stderr)
		}
	}
	for _, open := range []string{"--no-range-limit", "--range any"} {
		dir, asked := asking(t, []api.Subnet{lan}, nodes, enis, 10)
		var out bytes.Buffer
		if code := run(append(strings.Fields("havip create web "+open), "--data-dir", dir), &out, &out); code != 0 || asked.Range == nil || *asked.Range.Limit || len(asked.Range.Members) > 0 {
			t.Errorf("%s: %d, %+v %s", open, code, asked.Range, &out)
		}
	}
	for says, subnets := range map[string][]api.Subnet{"there are far, lan": {lan, far}, "there is no subnet": {}} {
		dir, asked := asking(t, subnets, nodes, enis, 10)
		var stdout, stderr bytes.Buffer
		if code := run([]string{"havip", "create", "web", "--data-dir", dir}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), says) || asked.Name != "" {
			t.Errorf("%d %q, want %q", code, &stderr, says)
		}
	}
}

// In the first second after `bootstrap` the node has not told of its networks: both forms wait for it.
func TestCreateWaitsForASubnet(t *testing.T) {
	subnet := "lan"
	for _, typed := range []string{"", "--ip 10.77.0.100"} {
		for tries := 1; ; tries++ { // a busy host may stand still for as long as it waits
			var asks atomic.Int32
			answers := func() map[string]any {
				subnets, enis := []api.Subnet{}, []api.ENI{}
				if asks.Add(1) > 8 { // some rounds later
					subnets, enis = []api.Subnet{{Name: subnet, CIDR: "10.77.0.0/24"}}, []api.ENI{{ID: "n1/eth0", Node: "n1", Subnet: &subnet}}
				}
				return map[string]any{"/v1/subnets": subnets, "/v1/nodes": []api.Node{{Name: "n1", Role: "voter"}}, "/v1/enis": enis, "/v1/cluster": api.Cluster{Provider: api.Provider{RangeMembers: 10}}}
			}
			dir, asked := answering(t, answers)
			var stdout, stderr bytes.Buffer
			code := run(append(strings.Fields("havip create web "+typed), "--data-dir", dir), &stdout, &stderr)
			if code == 0 && asked.Name == "web" && asked.Range != nil && len(asked.Range.Members) == 1 {
				break
			}
			if tries == 3 {
				t.Errorf("%q: %d, asked for %+v: %s", typed, code, asked, &stderr)
				break
			}
		}
	}
}

// The type of a range's members may be left out where one is added or taken out, as `explain` advises.
func TestNamedMembers(t *testing.T) {
	for typed, want := range map[string][]string{
		"n1": {"cvm", "n1"}, "n1,n2": {"cvm", "n1", "n2"}, "n1/eth0": {"eni", "n1/eth0"}, "node:n1": {"cvm", "n1"}, "cvm:n1": {"cvm", "n1"}, "eni:eni-42": {"eni", "eni-42"},
	} {
		kind, members, err := namedMembers(typed)
		if got := append([]string{kind}, members...); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, %v", typed, got, err)
		}
	}
	for _, typed := range []string{"vm:n1", "n1,,n2", "node:", ","} {
		if kind, members, err := namedMembers(typed); err == nil {
			t.Errorf("%s: %s %q", typed, kind, members)
		}
	}
}
