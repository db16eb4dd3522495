package pacemaker_test

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/api"
	"havip-cluster/manifest"
	"havip-cluster/manifest/pacemaker"
)

// simulated is what crm_simulate says of a CIB, in the XML that it prints.
type simulated struct {
	Now     clusterStatus `xml:"cluster_status"`
	Revised clusterStatus `xml:"revised_cluster_status"`
}

type clusterStatus struct {
	Nodes []struct {
		Name        string `xml:"name,attr"`
		Online      bool   `xml:"online,attr"`
		Standby     bool   `xml:"standby,attr"`
		Maintenance bool   `xml:"maintenance,attr"`
		Pending     bool   `xml:"pending,attr"`
		Unclean     bool   `xml:"unclean,attr"`
		Shutdown    bool   `xml:"shutdown,attr"`
		Type        string `xml:"type,attr"`
	} `xml:"nodes>node"`
	Resources []simResource `xml:"resources>resource"`
	Groups    []struct {
		Resources []simResource `xml:"resource"`
	} `xml:"resources>group"`
}

type simResource struct {
	ID    string `xml:"id,attr"`
	Role  string `xml:"role,attr"`
	Agent string `xml:"resource_agent,attr"`
	Nodes []struct {
		Name string `xml:"name,attr"`
	} `xml:"node"`
}

// owners says where each resource outside clones runs, "" where nowhere.
func (s clusterStatus) owners() map[string]string {
	out := map[string]string{}
	list := slices.Clone(s.Resources)
	for _, g := range s.Groups {
		list = append(list, g.Resources...)
	}
	for _, r := range list {
		out[r.ID] = ""
		if r.Role == "Started" && len(r.Nodes) > 0 {
			out[r.ID] = r.Nodes[0].Name
		}
	}
	return out
}

// simulate runs crm_simulate on a CIB, at a time that is far from every date in one.
func simulate(t *testing.T, file string) (simulated, error) {
	t.Helper()
	c := exec.Command("crm_simulate", "--xml-file", file, "--simulate", "--output-as=xml")
	c.Env = append(os.Environ(), "CIB_shadow=", "TZ=UTC")
	out, err := c.Output()
	var s simulated
	if start := strings.Index(string(out), "<pacemaker-result"); start >= 0 {
		if err := xml.Unmarshal(out[start:], &s); err != nil {
			return s, err
		}
		return s, nil
	}
	return s, fmt.Errorf("crm_simulate printed no result: %w", err)
}

// planned imports a CIB, gives it the state that crm_simulate found it in, and plans.
func planned(file string, now clusterStatus) (map[string]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	got, err := pacemaker.Import(manifest.Source{Name: file, Data: data})
	if err != nil {
		return nil, err
	}
	m := got.Manifest
	status := map[string]string{}
	for _, n := range now.Nodes {
		status[manifest.NodeName(n.Name)] = "lost"
		if n.Online && !n.Unclean && !n.Pending && !n.Shutdown {
			status[manifest.NodeName(n.Name)] = "alive"
		}
	}
	m.Subnets = []manifest.Subnet{{Name: "s", CIDR: "10.0.0.0/8"}}
	for i := range m.Nodes {
		n := &m.Nodes[i]
		n.Status = cmp.Or(status[n.Name], "lost")
		n.Since = "2001-01-01T00:00:00Z"
		m.ENIs = append(m.ENIs, manifest.ENI{ID: n.Name + "/eth0", Node: n.Name, Device: "eth0", Subnet: "s", Primary: true, Up: true})
	}
	ids := map[string]string{}
	for id, owner := range now.owners() {
		ids[manifest.Label(id)] = id
		for i := range m.HAVIPs {
			if h := &m.HAVIPs[i]; h.Name == manifest.Label(id) && owner != "" && status[manifest.NodeName(owner)] == "alive" {
				h.Owner = manifest.NodeName(owner) + "/eth0"
			}
		}
	}
	for i := range m.HAVIPs {
		m.HAVIPs[i].Subnet = "s"
	}
	plan, err := api.PlanOffline(m, nil, api.PlanSpec{}, time.Now())
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name, owner := range plan.Owners {
		node := ""
		if owner != nil {
			node, _, _ = strings.Cut(*owner, "/")
		}
		out[ids[name]] = node
	}
	return out, nil
}

// agreement compares every imported address of a CIB.
func agreement(t *testing.T, file string) (same, all int, differs []string, err error) {
	t.Helper()
	s, err := simulate(t, file)
	if err != nil {
		return 0, 0, nil, err
	}
	ours, err := planned(file, s.Now)
	if err != nil {
		return 0, 0, nil, err
	}
	before, theirs := s.Now.owners(), s.Revised.owners()
	for _, id := range sorted(ours) {
		if _, there := theirs[id]; !there {
			continue
		}
		all++
		if manifest.NodeName(theirs[id]) == manifest.NodeName(ours[id]) {
			same++
			continue
		}
		differs = append(differs, fmt.Sprintf("%s %s: was %q, there %q, here %q", filepath.Base(file), id, before[id], theirs[id], ours[id]))
	}
	return same, all, differs, nil
}

func sorted(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// TestAgreement compares the placement of imported CIBs with crm_simulate's, where that is
// installed. With PACEMAKER_INPUTS=DIR the inputs of Pacemaker's scheduler tests are looked
// at as well, and the agreement is told; they are too strange to demand all of them.
func TestAgreement(t *testing.T) {
	if _, err := exec.LookPath("crm_simulate"); err != nil {
		t.Skip("crm_simulate (Debian: pacemaker-cli-utils) is not installed")
	}
	if dir := os.Getenv("PACEMAKER_INPUTS"); dir != "" {
		survey(t, dir)
	}
}

func survey(t *testing.T, dir string) {
	names, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no inputs in %s: %v", dir, err)
	}
	var same, all, files, whole int
	for _, name := range names {
		s, a, differs, err := agreement(t, name)
		if err != nil {
			if !strings.Contains(err.Error(), "nothing to import") {
				t.Logf("%s: %v", filepath.Base(name), err)
			}
			continue
		}
		if a == 0 {
			continue
		}
		files++
		same, all = same+s, all+a
		if len(differs) == 0 {
			whole++
		}
		for _, d := range differs {
			t.Log(d)
		}
	}
	t.Logf("%d of %d addresses are where crm_simulate puts them; %d of %d files agree whole", same, all, whole, files)
}
