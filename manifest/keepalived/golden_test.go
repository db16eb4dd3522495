package keepalived

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"havip-cluster/manifest"
	"havip-cluster/manifest/goldens"
)

// disk follows includes below the folder of a case.
type disk struct{}

func (disk) Glob(pattern string) ([]string, error) {
	names, err := filepath.Glob(pattern)
	slices.Sort(names)
	return names, err
}
func (disk) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

// TestGolden imports configurations as they are found in the world.
func TestGolden(t *testing.T) {
	for _, dir := range goldens.Cases(t, "testdata/golden/*") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got, err := Import(goldens.Sources(t, dir, "*.conf"), Options{Files: disk{}})
			goldens.Check(t, got, err, dir+"/")
		})
	}
}

// TestNothingIsDropped walks every option of every case: it, something in its block, or
// the block around it must be in the findings.
func TestNothingIsDropped(t *testing.T) {
	options := 0
	for _, dir := range goldens.Cases(t, "testdata/golden/*") {
		got, err := Import(goldens.Sources(t, dir, "*.conf"), Options{Files: disk{}})
		if err != nil {
			t.Fatal(err)
		}
		reported := map[place]bool{}
		for _, f := range got.Findings {
			reported[place{f.File, f.Line}] = true
		}
		for _, src := range goldens.Sources(t, dir, "*.conf") {
			var ignored manifest.Import
			tree, err := newParser(disk{}, "main", &ignored).parse(src)
			if err != nil {
				t.Fatal(err)
			}
			for _, top := range tree {
				if _, whole := topRules[top.key()]; whole {
					options++
					if !reported[top.place] {
						t.Errorf("%s:%d: the block %s is not in the findings", top.file, top.line, top)
					}
					continue
				}
				for _, o := range top.block {
					options++
					if !accounted(o, reported) {
						t.Errorf("%s:%d: %s is not in the findings", o.file, o.line, o)
					}
				}
			}
		}
	}
	if options < 200 {
		t.Errorf("only %d options were looked at", options)
	}
}

func accounted(s *statement, reported map[place]bool) bool {
	return reported[s.place] || slices.ContainsFunc(s.block, func(c *statement) bool { return accounted(c, reported) })
}

// TestVendorFaults: what DOMAIN.md section 4.1 says about the vendor's example.
func TestVendorFaults(t *testing.T) {
	got, err := Import(goldens.Sources(t, "testdata/golden/vendor-example", "*.conf"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	report := got.Report()
	for _, want := range []string{
		"fault: nopreempt: `state MASTER` makes keepalived drop nopreempt",
		"fault: preempt_delay 10: `state MASTER` makes keepalived drop preempt_delay",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("no finding %q in\n%s", want, report)
		}
	}
	if h := got.Manifest.HAVIPs[0]; h.IP != "172.16.16.12" || h.Failback != "never" || len(h.Range.Members) != 2 || h.Prefer != nil {
		t.Errorf("HAVIP %+v", h)
	}
}

// TestEffective is the table of what keepalived makes of state, nopreempt, preempt_delay
// and priority together.
func TestEffective(t *testing.T) {
	head := "vrrp_instance V {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.9\n}\n"
	low := manifest.Source{Name: "low.conf", Data: []byte(head + "state BACKUP\npriority 50\n}\n")}
	for _, row := range []struct{ lines, failback, fault string }{
		{"state BACKUP", "immediate", ""},
		{"state MASTER", "immediate", ""},
		{"state BACKUP\nnopreempt", "never", ""},
		{"state MASTER\nnopreempt", "immediate", "drop nopreempt"},
		{"state BACKUP\nnopreempt\npriority 255", "immediate", "priority 255 makes keepalived drop"},
		{"state BACKUP\npreempt_delay 300", "5m", ""},
		{"state BACKUP\npreempt_delay 1.5", "1.5s", ""},
		{"state BACKUP\npreempt_delay 0", "immediate", ""},
		{"state MASTER\npreempt_delay 300", "immediate", "drop preempt_delay"},
		{"state BACKUP\nnopreempt\npreempt_delay 300", "never", "nopreempt cancels"},
		{"state BACKUP\nstrict_mode\npreempt_delay 300", "immediate", "strict mode cancels"},
		{"state BACKUP\nnopreempt\npreempt", "immediate", ""},
		{"state BACKUP\npriority 50", "never", ""},
	} {
		high := manifest.Source{Name: "high.conf", Data: []byte(head + row.lines + "\n}\n")}
		if !strings.Contains(row.lines, "priority") {
			high.Data = []byte(head + row.lines + "\npriority 150\n}\n")
		}
		got, err := Import([]manifest.Source{high, low}, Options{})
		if err != nil {
			t.Errorf("%q: %v", row.lines, err)
			continue
		}
		if f := got.Manifest.HAVIPs[0].Failback; f != row.failback {
			t.Errorf("%q: failback %s, want %s", row.lines, f, row.failback)
		}
		if row.fault != "" && !strings.Contains(got.Report(), row.fault) {
			t.Errorf("%q: no finding %q in\n%s", row.lines, row.fault, got.Report())
		}
	}
}

// TestEveryOptionIsKnown: each option of the tables is accounted for when it stands alone.
func TestEveryOptionIsKnown(t *testing.T) {
	for key, r := range instanceOptions {
		if r.text == "" && r.kind != manifest.Taken {
			t.Errorf("%s: %s without a reason", key, r.kind)
		}
	}
	for key, r := range topRules {
		got, err := Import([]manifest.Source{{Name: "n.conf", Data: []byte(key + " x {\n y z\n}\n")}}, Options{})
		if err == nil || got.Findings[0].Text == "" || r.text == "" || strings.Contains(got.Report(), "fault") {
			t.Errorf("%s: %v, findings %v", key, err, got.Findings)
		}
	}
}

func TestComingFromIsComplete(t *testing.T) { goldens.ComingFrom(t, instanceOptions, groupOptions) }
