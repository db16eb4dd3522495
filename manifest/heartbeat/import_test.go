package heartbeat

import (
	"path/filepath"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
	"havip-cluster/manifest/goldens"
)

// TestGolden imports configurations as they are found in the world.
func TestGolden(t *testing.T) {
	for _, dir := range goldens.Cases(t, "testdata/golden/*") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got, err := Import(goldens.Sources(t, dir, "ha*"))
			goldens.Check(t, got, err, dir+"/")
		})
	}
}

// TestNothingIsDropped: every line of every file has a finding, and every resource.
func TestNothingIsDropped(t *testing.T) {
	looked := 0
	for _, dir := range goldens.Cases(t, "testdata/golden/*") {
		sources := goldens.Sources(t, dir, "ha*")
		got, err := Import(sources)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sources {
			lines, err := newImporter().split(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				words := l.fields[:1]
				if !isSettings(s.Name, lines) {
					words = l.fields[1:]
				}
				for _, w := range words {
					looked++
					found := false
					for _, f := range got.Findings {
						found = found || f.File == s.Name && f.Line == l.number && strings.HasPrefix(f.Option, w)
					}
					if !found {
						t.Errorf("%s:%d: %s is not in the findings", s.Name, l.number, w)
					}
				}
			}
		}
	}
	if looked < 60 {
		t.Errorf("only %d words were looked at", looked)
	}
}

func TestBadInput(t *testing.T) {
	for _, row := range []badRow{
		{"empty", "\n", fsm.CodeMissing, "haresources:1:1", "empty"},
		{"UTF-16", "\xff\xfea\x00", manifest.CodeEncoding, "haresources:1:1", "UTF-16"},
		{"Latin-1", "a \xe4\n", "", "haresources:1: changed: encoding", "not UTF-8"},
		{"huge", strings.Repeat("x", manifest.MaxBytes+1), fsm.CodeLimit, "haresources: ", "at most"},
		{"many lines", strings.Repeat("\nx", MaxLines+5), fsm.CodeLimit, "haresources:100000:1", "lines"},
		{"keepalived.conf", "# x\nvrrp_instance V {\n}\n", fsm.CodeMalformed, "haresources:2:1", "import keepalived"},
		{"a CIB", "<?xml version=\"1.0\"?>\n<cib/>\n", fsm.CodeMalformed, "haresources:1:1", "import pacemaker"},
		{"ends in a continuation", "n1 10.0.0.1 \\", "", "haresources:1: fault", "backslash"},
		{"no node", "IPaddr::10.0.0.1\n", "", "haresources:1: fault", "where the node's name belongs"},
		{"address for a node", "n1 10.0.0.1\n10.0.0.2 n1\n", "", "haresources:2: fault", "where the node's name belongs"},
		{"address", "n1 IPaddr::10.0.0.256\n", "", "haresources:1: fault", "10.0.0.256"},
		{"name for an address", "n1 IPaddr2::www.example.org/24\n", "", "haresources:1: fault", "www.example.org"},
		{"no address", "n1 IPaddr::\n", "", "haresources:1: fault", "is not an IP address"},
		{"netmask 33", "n1 IPaddr::10.0.0.1/33\n", "", "haresources:1: fault", `"33" is no netmask`},
		{"netmask with holes", "n1 IPaddr::10.0.0.1/255.0.255.0\n", "", "haresources:1: fault", "no netmask"},
		{"broadcast address", "n1 IPaddr::10.0.0.255/255.255.255.0\n", "", "haresources:1: fault", "broadcast"},
		{"zone", "n1 IPv6addr::fe80::1%eth0\n", "", "haresources:1: fault", "fe80::1%eth0"},
		{"multicast", "n1 224.0.0.1\n", "", "haresources:1: fault", "can be no HAVIP"},
	} {
		got, err := Import([]manifest.Source{{Name: "haresources", Data: []byte(row.text)}})
		row.check(t, got, err)
	}
	for _, row := range []badRow{
		{"node without a name", "node\n", "", "ha.cf:1: fault", "names no node"},
		{"auto_failback", "auto_failback maybe\n", "", "ha.cf:1: fault", "on, off or legacy"},
		{"auto_failback without a word", "node a\nauto_failback\n", "", "ha.cf:2: fault", "on, off or legacy"},
		{"no haresources", "node a b\n", fsm.CodeMissing, "ha.cf:1:1", "no haresources"},
	} {
		got, err := Import([]manifest.Source{{Name: "ha.cf", Data: []byte(row.text)}})
		row.check(t, got, err)
	}
	_, err := Import(nil)
	if err == nil || !strings.Contains(err.Error(), "give haresources") {
		t.Errorf("no files: %v", err)
	}
}

func FuzzImport(f *testing.F) {
	f.Add("n1 IPaddr::10.0.0.1/24/eth0:0/10.0.0.255 httpd\n", "node n1 n2\nauto_failback on\n")
	f.Add("n1 10.0.0.1 \\\n 10.0.0.2 # x\n", "crm yes\n")
	f.Fuzz(func(t *testing.T, resources, settings string) {
		got, err := Import([]manifest.Source{{Name: "ha.cf", Data: []byte(settings)}, {Name: "haresources", Data: []byte(resources)}})
		goldens.Fuzzed(t, got, err)
	})
}

func TestComingFromIsComplete(t *testing.T) { goldens.ComingFrom(t, directives) }

// check wants the refusal, or without a code the finding.
func (r badRow) check(t *testing.T, got manifest.Import, err error) {
	t.Helper()
	if r.code == "" {
		goldens.Found(t, r.name, r.place, r.why, got)
		return
	}
	goldens.Refused(t, r.name, r.code, r.place, r.why, err)
}

// badRow is an input that must be refused with a code, a place and a reason; without a code
// it is a finding.
type badRow struct {
	name, text string
	code       fsm.Code
	place, why string
}
