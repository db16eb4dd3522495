package pacemaker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
	"havip-cluster/manifest/goldens"
)

// TestGolden imports CIBs as they are found in the world.
func TestGolden(t *testing.T) {
	for _, name := range goldens.Cases(t, "testdata/golden/*.xml") {
		t.Run(name, func(t *testing.T) {
			got, err := ImportAt(goldens.Read(t, name), fieldDay)
			goldens.Check(t, got, err, strings.TrimSuffix(name, "xml"))
		})
	}
}

// TestNothingIsDropped: every constraint, every resource outside clones and every cluster
// property has a finding on its line.
func TestNothingIsDropped(t *testing.T) {
	looked := 0
	for _, name := range goldens.Cases(t, "testdata/golden/*.xml") {
		src := goldens.Read(t, name)
		got, err := Import(src)
		if err != nil {
			t.Fatal(err)
		}
		reported := map[int]bool{}
		for _, f := range got.Findings {
			reported[f.Line] = true
		}
		root, err := parse(src, string(src.Data))
		if err != nil {
			t.Fatal(err)
		}
		config := root.child("configuration")
		var want []*element
		want = append(want, config.child("constraints").kids...)
		for _, set := range config.child("crm_config").kids {
			want = append(want, set.kids...)
		}
		for _, r := range config.child("resources").kids {
			switch r.name {
			case "template":
			case "group":
				want = append(want, r.all("primitive")...)
			default:
				want = append(want, r)
			}
		}
		for _, e := range want {
			if looked++; !reportedIn(e, reported) {
				t.Errorf("%s:%d: <%s id=%q> is not in the findings", name, e.line, e.name, e.attr("id"))
			}
		}
	}
	if looked < 60 {
		t.Errorf("only %d elements were looked at", looked)
	}
}

func reportedIn(e *element, reported map[int]bool) bool {
	return reported[e.line] || slices.ContainsFunc(e.kids, func(k *element) bool { return reportedIn(k, reported) })
}

func cibWith(resources, constraints string) string {
	return "<cib><configuration><crm_config/><nodes><node id=\"1\" uname=\"a\"/></nodes>\n<resources>" + resources + "</resources>\n<constraints>" + constraints + "</constraints></configuration></cib>"
}

const one = `<primitive id="v" type="IPaddr2"><instance_attributes id="i"><nvpair id="n" name="ip" value="10.0.0.9"/></instance_attributes></primitive>`

func TestBadInput(t *testing.T) {
	meta := func(name, value string) string {
		return strings.Replace(one, "</primitive>", fmt.Sprintf(`<meta_attributes id="m"><nvpair id="mn" name=%q value=%q/></meta_attributes></primitive>`, name, value), 1)
	}
	for _, row := range []badRow{
		{"empty", " \n", fsm.CodeMissing, "f:1:1", "empty"},
		{"text of crm", "primitive v IPaddr2", fsm.CodeMalformed, "f:1:1", "crm configure show"},
		{"text of pcs", "Cluster Name: x\nResources:\n", fsm.CodeMalformed, "f:1:1", "pcs config"},
		{"text of crm_mon", "Cluster Summary:\n * Stack: corosync\n", fsm.CodeMalformed, "f:1:1", "crm_mon"},
		{"keepalived.conf", "global_defs {\n}\n", fsm.CodeMalformed, "f:1:1", "import keepalived"},
		{"haresources", "n1 IPaddr::10.0.0.1/24\n", fsm.CodeMalformed, "f:1:1", "import heartbeat"},
		{"its own file", "version: 1\nhavips: []\n", fsm.CodeMalformed, "f:1:1", "apply -f"},
		{"bzip2", "BZh91AY", manifest.CodeEncoding, "f: ", "bunzip2 -c"},
		{"another text", "hello\n\n", manifest.CodeSyntax, "f:1:1", "this is no XML"},
		{"cut short", "<cib><configuration>\n<resources><primi", manifest.CodeSyntax, "f:2:", "cannot be read"},
		{"cut between", "<cib><configuration>\n", manifest.CodeSyntax, "f:2:", "cannot be read"},
		{"wrong end", "<cib>\n</bic>", manifest.CodeSyntax, "f:2:", "cannot be read"},
		{"two roots", "<configuration/>\n<configuration/>", manifest.CodeSyntax, "f:2:", "after the end"},
		{"UTF-16", "\xfe\xff\x00<", manifest.CodeEncoding, "f:1:1", "UTF-16"},
		{"declared otherwise", "<?xml version=\"1.0\" encoding=\"EBCDIC-US\"?>\n<cib/>", manifest.CodeEncoding, "f:1:", "save it as UTF-8"},
		{"huge", "<cib>" + strings.Repeat(" ", manifest.MaxBytes) + "</cib>", fsm.CodeLimit, "f: ", "at most"},
		{"entity bomb", "<!DOCTYPE lolz [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>\n<cib>&b;</cib>", fsm.CodeUnsupported, "f:1:1", "document type"},
		{"external entity", "<!DOCTYPE x SYSTEM \"file:///etc/passwd\">\n<cib/>", fsm.CodeUnsupported, "f:1:1", "document type"},
		{"unknown entity", "<cib>&x;</cib>", manifest.CodeSyntax, "f:1:", "cannot be read"},
		{"deep", strings.Repeat("<a>", 100), fsm.CodeLimit, "f:1:", "nested deeper"},
		{"wide", "<a>" + strings.Repeat("<b/>", MaxElements) + "</a>", fsm.CodeLimit, "f:1:", "more than"},
		{"another document", "<html/>", fsm.CodeMalformed, "f:1:1", "no CIB"},
		{"empty CIB", "<cib/>", fsm.CodeMalformed, "f:1:1", "no CIB"},
		{"attribute twice", "<cib a=\"1\" a=\"2\"/>", fsm.CodeDuplicate, "f:1:1", "twice"},
		{"byte order mark", "\xef\xbb\xbf" + cibWith(strings.Replace(one, "10.0.0.9", "10.0.0", 1), ""), "", "f:2: fault", `"10.0.0" is not an IP address`},
		{"Latin-1", cibWith("<!-- \xe4 -->", ""), "", "f:2: changed: encoding", "not UTF-8"},
		{"id twice", cibWith(one+one, ""), "", "f:2: fault", "this id is there already"},
		{"node twice", "<configuration><nodes>\n<node id=\"1\" uname=\"A\"/>\n<node id=\"2\" uname=\"a\"/></nodes></configuration>", "", "f:3: fault", "node a is here twice"},
		{"address", cibWith(strings.Replace(one, "10.0.0.9", "10.0.0", 1), ""), "", "f:2: fault", `"10.0.0" is not an IP address`},
		{"zone", cibWith(strings.Replace(one, "10.0.0.9", "fe80::1%1", 1), ""), "", "f:2: fault", "fe80::1%1"},
		{"loopback", cibWith(strings.Replace(one, "10.0.0.9", "127.0.0.1", 1), ""), "", "f:2: fault", "can be no HAVIP"},
		{"priority", cibWith(meta("priority", "high"), ""), "", "f:2: fault", "not a score"},
		{"stickiness", cibWith(meta("resource-stickiness", "1.5"), ""), "", "f:2: fault", "not a score"},
		{"location without score", cibWith(one, `<rsc_location id="l" rsc="v" node="a"/>`), "", "f:3: fault", "not a score"},
		{"location score", cibWith(one, `<rsc_location id="l" rsc="v" node="a" score="INF"/>`), "", "f:3: fault", `"INF" is not a score`},
		{"location on a stranger", cibWith(one, `<rsc_location id="l" rsc="v" node="b" score="1"/>`), "", "f:3: fault", "no member here"},
		{"pattern", cibWith(one, `<rsc_location id="l" rsc-pattern="(" node="a" score="1"/>`), "", "f:3: fault", "rsc-pattern"},
		{"colocation score", cibWith(one, `<rsc_colocation id="c" rsc="v" with-rsc="v" score="x"/>`), "", "f:3: fault", "not a score"},
	} {
		got, err := Import(manifest.Source{Name: "f", Data: []byte(row.text)})
		if row.code == "" { // a finding, and the rest of the file is read
			goldens.Found(t, row.name, row.place, row.why, got)
			continue
		}
		goldens.Refused(t, row.name, row.code, row.place, row.why, err)
	}
}

// TestContradiction: of two constraints that no placement can keep, the second is left out
// and said to be missing.
func TestContradiction(t *testing.T) {
	two := one + strings.NewReplacer(`"v"`, `"w"`, `"i"`, `"j"`, `"n"`, `"o"`, "10.0.0.9", "10.0.0.8").Replace(one)
	text := cibWith(two, `<rsc_colocation id="c" rsc="v" with-rsc="w" score="INFINITY"/><rsc_colocation id="d" rsc="v" with-rsc="w" score="-INFINITY"/>`)
	got, err := Import(manifest.Source{Name: "f", Data: []byte(text)})
	if err != nil || len(got.Manifest.Groups) != 1 || len(got.Lost()) != 1 {
		t.Fatalf("%v %+v\n%s", err, got.Manifest.Groups, got.Report())
	}
	goldens.Found(t, "contradiction", "f:3: fault: rsc_colocation d", "must be apart here and are on one node", got)
}

// TestLargeGroup: the work and the report grow with the group, not with its square.
func TestLargeGroup(t *testing.T) {
	const members = 5000
	var b strings.Builder
	b.WriteString(`<group id="g">`)
	for n := range members {
		fmt.Fprintf(&b, `<primitive id="p%d" type="IPaddr2"><instance_attributes id="i%d"><nvpair id="n%d" name="ip" value="10.1.%d.%d"/></instance_attributes><meta_attributes id="m%d"><nvpair id="s%d" name="resource-stickiness" value="1"/></meta_attributes></primitive>`,
			n, n, n, n/250, n%250+1, n, n)
	}
	b.WriteString(`</group>`)
	got, err := Import(manifest.Source{Name: "f", Data: []byte(cibWith(b.String(), `<rsc_location id="l" rsc="g" node="a" score="7"/>`))})
	if err != nil || len(got.Manifest.HAVIPs) != members || got.Manifest.HAVIPs[members-1].Prefer["a"] != 7 {
		t.Fatalf("%v: %d HAVIPs", err, len(got.Manifest.HAVIPs))
	}
	if n := len(got.Report()); n > 2000*members {
		t.Errorf("%d bytes are reported", n)
	}
}

func FuzzImport(f *testing.F) {
	f.Add(cibWith(one, `<rsc_location id="l" rsc="v" node="a" score="100"/>`))
	f.Add(cibWith("<group id=\"g\">"+one+"</group>", `<rsc_colocation id="c" rsc="g" with-rsc="v"/>`))
	f.Add(cibWith("<primitive id=\"p\" template=\"t\"/><template id=\"t\" type=\"IPaddr\"/>", "<rsc_order id=\"o\"/>"))
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Import(manifest.Source{Name: "f", Data: []byte(text)})
		goldens.Fuzzed(t, got, err)
	})
}

func TestComingFromIsComplete(t *testing.T) { goldens.ComingFrom(t, parameters, metaRules, properties) }

// badRow is an input that must be refused with a code, a place and a reason.
type badRow struct {
	name, text string
	code       fsm.Code
	place, why string
}
