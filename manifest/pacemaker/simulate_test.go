package pacemaker_test

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	Now     clusterStatus  `xml:"cluster_status"`
	Revised *clusterStatus `xml:"revised_cluster_status"`
	Scores  []struct {
		Function string `xml:"function,attr"`
		Node     string `xml:"node,attr"`
		Score    string `xml:"score,attr"`
		ID       string `xml:"id,attr"`
	} `xml:"allocations>node_weight"`
	Actions []struct {
		Action   string `xml:"action,attr"`
		Resource string `xml:"resource,attr"`
		Node     string `xml:"node,attr"`
		Dest     string `xml:"dest,attr"`
		Blocked  bool   `xml:"blocked,attr"`
	} `xml:"actions>rsc_action"`
}

// owners says where each resource shall run.
func (s simulated) owners() map[string]string {
	if s.Revised != nil {
		return s.Revised.owners()
	}
	out := s.Now.owners()
	for _, a := range s.Actions {
		switch {
		case a.Blocked:
		case a.Action == "stop":
			out[a.Resource] = ""
		case a.Action == "move" || a.Action == "migrate":
			out[a.Resource] = a.Dest
		case a.Action == "start" || a.Action == "recover":
			out[a.Resource] = cmp.Or(a.Dest, a.Node)
		}
	}
	return out
}

// score is what a node had for a resource when it was placed.
func (s simulated) score(id, node string) string {
	for _, w := range s.Scores {
		if w.ID == id && strings.Contains(w.Function, "primitive") && manifest.NodeName(w.Node) == manifest.NodeName(node) {
			return w.Score
		}
	}
	return "none"
}

type clusterStatus struct {
	Nodes     []simNode     `xml:"nodes>node"`
	Resources []simResource `xml:"resources>resource"`
	Groups    []struct {
		Resources []simResource `xml:"resource"`
	} `xml:"resources>group"`
}

type simNode struct {
	Name     string `xml:"name,attr"`
	Online   bool   `xml:"online,attr"`
	Pending  bool   `xml:"pending,attr"`
	Unclean  bool   `xml:"unclean,attr"`
	Shutdown bool   `xml:"shutdown,attr"`
}

type simResource struct {
	ID    string    `xml:"id,attr"`
	Role  string    `xml:"role,attr"`
	Nodes []simNode `xml:"node"`
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
		if (r.Role == "Started" || r.Role == "Starting") && len(r.Nodes) > 0 {
			out[r.ID] = r.Nodes[0].Name
		}
	}
	return out
}

// simulate runs crm_simulate on a CIB. Some it cannot carry out, and only tells what it
// would do. What Pacemaker 3 calls fencing-enabled, those before it know as stonith-enabled alone, which
// Pacemaker 3 reads as well.
func simulate(t *testing.T, file string) (simulated, error) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		return simulated{}, err
	}
	file = filepath.Join(t.TempDir(), "cib.xml")
	if err := os.WriteFile(file, bytes.ReplaceAll(data, []byte(`name="fencing-`), []byte(`name="stonith-`)), 0o600); err != nil {
		return simulated{}, err
	}
	for _, how := range []string{"--simulate", "--run"} {
		c := exec.Command("crm_simulate", "--xml-file", file, how, "--show-scores", "--output-as=xml")
		c.Env = append(os.Environ(), "TZ=UTC")
		var out []byte
		out, err = c.Output()
		start := strings.Index(string(out), "<pacemaker-result")
		if start < 0 {
			continue
		}
		var s simulated
		err = xml.Unmarshal(out[start:], &s)
		return s, err
	}
	return simulated{}, fmt.Errorf("crm_simulate has no result: %w", err)
}

// planned imports a CIB, gives it the state that crm_simulate found it in, and plans.
func planned(file string, now clusterStatus) (owners, reasons map[string]string, err error) {
	reasons = map[string]string{}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	data = bytes.ReplaceAll(data, []byte(`"127.0.0.`), []byte(`"10.127.0.`)) // test addresses, which can be no HAVIP
	got, err := pacemaker.Import(manifest.Source{Name: file, Data: data})
	if err != nil {
		return nil, nil, err
	}
	m := got.Manifest
	status, leaving := map[string]string{}, map[string]bool{}
	for _, n := range now.Nodes {
		status[manifest.NodeName(n.Name)] = "lost"
		if n.Online && !n.Unclean && !n.Pending {
			status[manifest.NodeName(n.Name)] = "alive"
		}
		leaving[manifest.NodeName(n.Name)] = n.Shutdown
	}
	m.Subnets = []manifest.Subnet{{Name: "s", CIDR: "10.0.0.0/8"}}
	for i := range m.Nodes {
		n := &m.Nodes[i]
		n.Status = cmp.Or(status[n.Name], "lost")
		n.Stopping = leaving[n.Name]
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
		return nil, nil, err
	}
	out := map[string]string{}
	for _, u := range plan.Unplaced {
		reasons[ids[u.HAVIP]] = u.Reason
	}
	for _, u := range plan.Moves {
		reasons[ids[u.HAVIP]] = u.Reason
	}
	for name, owner := range plan.Owners {
		node := ""
		if owner != nil {
			node, _, _ = strings.Cut(*owner, "/")
		}
		out[ids[name]] = node
	}
	return out, reasons, nil
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// tally is how many addresses are where crm_simulate puts them.
type tally struct {
	same, ties, all int
	differs         []string
}

// agreement compares every imported address of a CIB. A tie is another node with the same
// score for Pacemaker, which then counts what all runs where, services too.
func agreement(t *testing.T, file string) (tally, error) {
	t.Helper()
	var sum tally
	s, err := simulate(t, file)
	if err != nil {
		return sum, err
	}
	ours, reasons, err := planned(file, s.Now)
	if err != nil {
		return sum, err
	}
	before, theirs := s.Now.owners(), s.owners()
	for _, id := range sortedKeys(ours) {
		there, known := theirs[id]
		if !known {
			continue // in a clone, or an orphan
		}
		sum.all++
		switch here := ours[id]; {
		case manifest.NodeName(there) == manifest.NodeName(here):
			sum.same++
		case there != "" && here != "" && s.score(id, there) == s.score(id, here) && s.score(id, here) != "none":
			sum.ties++
		default:
			sum.differs = append(sum.differs, fmt.Sprintf("%s %s: was %q, there %q (%s), here %q (%s): %s", filepath.Base(file), id, before[id], there, s.score(id, there), here, s.score(id, here), reasons[id]))
		}
	}
	return sum, nil
}

// TestAgreement compares the placement of imported CIBs with crm_simulate's, where that is
// installed. With PACEMAKER_INPUTS=DIR the inputs of Pacemaker's scheduler tests are looked
// at as well, and the agreement is told; they are too strange to demand all of them.
func TestAgreement(t *testing.T) {
	if _, err := exec.LookPath("crm_simulate"); err != nil {
		t.Skip("crm_simulate (Debian: pacemaker-cli-utils) is not installed")
	}
	var names []string
	for _, pattern := range []string{"testdata/cases/*.xml", "testdata/cases/*.conf", "testdata/golden/*.xml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	sum := survey(t, names, t.Errorf)
	if sum.all < 20 {
		t.Errorf("only %d addresses were compared", sum.all)
	}
	if dir := os.Getenv("PACEMAKER_INPUTS"); dir != "" {
		names, err := filepath.Glob(filepath.Join(dir, "*.xml"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no inputs in %s: %v", dir, err)
		}
		survey(t, names, t.Logf)
	}
}

// withoutMajority are CIBs in whose state nothing may run, here and there.
var withoutMajority = regexp.MustCompile(`have[-_]quorum="(0|false)"`)

func survey(t *testing.T, names []string, differs func(string, ...any)) tally {
	t.Helper()
	var sum tally
	files, silent := 0, 0
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if withoutMajority.Match(data) {
			silent++
			continue
		}
		one, err := agreement(t, name)
		if err != nil {
			if !strings.Contains(err.Error(), "nothing to import") {
				t.Logf("%s: %v", filepath.Base(name), err)
			}
			continue
		}
		if one.all > 0 {
			files++
		}
		sum.same, sum.ties, sum.all = sum.same+one.same, sum.ties+one.ties, sum.all+one.all
		for _, d := range one.differs {
			differs("%s", d)
		}
	}
	t.Logf("%d files (%d more are without a majority): of %d addresses %d are where crm_simulate puts them, %d on a node of the same score, %d elsewhere",
		files, silent, sum.all, sum.same, sum.ties, sum.all-sum.same-sum.ties)
	return sum
}
