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
			got, err := Import(goldens.Read(t, name))
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
		root, err := parse(src)
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
		{"no XML", "primitive v IPaddr2", manifest.CodeSyntax, "f:1:", "cannot be read"},
		{"cut short", "<cib><configuration>\n<resources><primi", manifest.CodeSyntax, "f:2:", "cannot be read"},
		{"cut between", "<cib><configuration>\n", manifest.CodeSyntax, "f:2:", "cannot be read"},
		{"wrong end", "<cib>\n</bic>", manifest.CodeSyntax, "f:2:", "cannot be read"},
		{"two roots", "<configuration/>\n<configuration/>", manifest.CodeSyntax, "f:2:", "after the end"},
		{"UTF-16", "\xfe\xff\x00<", manifest.CodeEncoding, "f:1:1", "UTF-16"},
		{"byte order mark", "\xef\xbb\xbf<cib/>", manifest.CodeEncoding, "f:1:1", "byte order mark"},
		{"Latin-1", "<cib a=\"\xe4\"/>", manifest.CodeEncoding, "f:1:9", "not UTF-8"},
		{"declared Latin-1", "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<cib/>", manifest.CodeSyntax, "f:1:", "encoding"},
		{"huge", "<cib>" + strings.Repeat(" ", manifest.MaxBytes) + "</cib>", fsm.CodeLimit, "f: ", "at most"},
		{"entity bomb", "<!DOCTYPE lolz [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>\n<cib>&b;</cib>", fsm.CodeUnsupported, "f:1:1", "document type"},
		{"external entity", "<!DOCTYPE x SYSTEM \"file:///etc/passwd\">\n<cib/>", fsm.CodeUnsupported, "f:1:1", "document type"},
		{"unknown entity", "<cib>&x;</cib>", manifest.CodeSyntax, "f:1:", "cannot be read"},
		{"deep", strings.Repeat("<a>", 100), fsm.CodeLimit, "f:1:", "nested deeper"},
		{"wide", "<a>" + strings.Repeat("<b/>", MaxElements) + "</a>", fsm.CodeLimit, "f:1:", "more than"},
		{"another document", "<html/>", fsm.CodeMalformed, "f:1:1", "no CIB"},
		{"empty CIB", "<cib/>", fsm.CodeMalformed, "f:1:1", "no CIB"},
		{"attribute twice", "<cib a=\"1\" a=\"2\"/>", fsm.CodeDuplicate, "f:1:1", "twice"},
		{"id twice", cibWith(one+one, ""), fsm.CodeDuplicate, "f:2:1", "is here twice"},
		{"node twice", "<configuration><nodes>\n<node id=\"1\" uname=\"A\"/>\n<node id=\"2\" uname=\"a\"/></nodes></configuration>", fsm.CodeDuplicate, "f:3:1", "node a is here twice"},
		{"address", cibWith(strings.Replace(one, "10.0.0.9", "10.0.0", 1), ""), fsm.CodeMalformed, "f:2:1", `"10.0.0" is not an IP address`},
		{"zone", cibWith(strings.Replace(one, "10.0.0.9", "fe80::1%1", 1), ""), fsm.CodeMalformed, "f:2:1", "fe80::1%1"},
		{"loopback", cibWith(strings.Replace(one, "10.0.0.9", "127.0.0.1", 1), ""), fsm.CodeRange, "f: havips[0].ip", "can be no HAVIP"},
		{"priority", cibWith(meta("priority", "high"), ""), fsm.CodeMalformed, "f:2:1", "not a score"},
		{"stickiness", cibWith(meta("resource-stickiness", "1.5"), ""), fsm.CodeMalformed, "f:2:1", "not a score"},
		{"location without score", cibWith(one, `<rsc_location id="l" rsc="v" node="a"/>`), fsm.CodeMalformed, "f:3:1", "not a score"},
		{"location score", cibWith(one, `<rsc_location id="l" rsc="v" node="a" score="INF"/>`), fsm.CodeMalformed, "f:3:1", `"INF" is not a score`},
		{"pattern", cibWith(one, `<rsc_location id="l" rsc-pattern="(" node="a" score="1"/>`), fsm.CodeMalformed, "f:3:1", "rsc-pattern"},
		{"colocation score", cibWith(one, `<rsc_colocation id="c" rsc="v" with-rsc="v" score="x"/>`), fsm.CodeMalformed, "f:3:1", "not a score"},
	} {
		_, err := Import(manifest.Source{Name: "f", Data: []byte(row.text)})
		goldens.Refused(t, row.name, row.code, row.place, row.why, err)
	}
}

// TestContradiction: two addresses that must be apart and together cannot be imported as
// if they could.
func TestContradiction(t *testing.T) {
	two := one + strings.NewReplacer(`"v"`, `"w"`, `"i"`, `"j"`, `"n"`, `"o"`, "10.0.0.9", "10.0.0.8").Replace(one)
	text := cibWith(two, `<rsc_colocation id="c" rsc="v" with-rsc="w" score="INFINITY"/><rsc_colocation id="d" rsc="v" with-rsc="w" score="-INFINITY"/>`)
	_, err := Import(manifest.Source{Name: "f", Data: []byte(text)})
	goldens.Refused(t, "contradiction", manifest.CodeConflict, "f: groups[1]", "must be apart here, and together", err)
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
