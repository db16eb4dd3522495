package pacemaker

import (
	"fmt"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// pinging is a CIB with one address, a ping resource with these parameters, and one rule about it.
func pinging(params, rule string) manifest.Source {
	return manifest.Source{Name: "f", Data: []byte(`<cib><configuration><crm_config/><nodes><node id="1" uname="n1"/><node id="2" uname="n2"/></nodes><resources>
<primitive id="vip" class="ocf" provider="heartbeat" type="IPaddr2"><instance_attributes id="a"><nvpair id="b" name="ip" value="10.99.1.100"/></instance_attributes></primitive>
<clone id="c"><primitive id="p" class="ocf" provider="pacemaker" type="ping"><instance_attributes id="d">` + params + `</instance_attributes></primitive></clone>
</resources><constraints><rsc_location id="l" rsc="vip">` + rule + `</rsc_location></constraints></configuration></cib>`)}
}

func nv(name, value string) string {
	return fmt.Sprintf(`<nvpair id="nv-%s" name="%s" value="%s"/>`, name, name, value)
}

// Each kind of rule about a measured attribute becomes checks with that effect, or says why not.
func TestPingRules(t *testing.T) {
	expr := func(attribute, operation, value string) string {
		return fmt.Sprintf(`<expression id="e-%s-%s" attribute="%s" operation="%s" value="%s"/>`, attribute, operation, attribute, operation, value)
	}
	rule := func(head string, body ...string) string {
		return `<rule id="r" ` + head + `>` + strings.Join(body, "") + `</rule>`
	}
	one, two := nv("host_list", "10.99.1.1"), nv("host_list", "10.99.1.1 10.99.1.2")+nv("multiplier", "100")
	for _, c := range []struct {
		name, params, rule string
		checks             string // name target effect nodes, each
		says               string
	}{
		{"bars below one", one, rule(`score="-INFINITY"`, expr("pingd", "lt", "1")), "p 10.99.1.1 bar []", "check p, ping of 10.99.1.1, bars vip where it fails"},
		{"bars where nothing is known", one, rule(`score="-INFINITY" boolean-op="or"`, expr("pingd", "not_defined", ""), expr("pingd", "lte", "0")), "p 10.99.1.1 bar []", "bars vip"},
		{"another attribute", one + nv("name", "reach"), rule(`score="-INFINITY"`, expr("reach", "eq", "0")), "p 10.99.1.1 bar []", "bars vip"},
		{"a score while it answers", one, rule(`score="500"`, expr("pingd", "gt", "0")), "p 10.99.1.1 -500 []", "takes 500 from the score of vip"},
		{"a score taken while it does not", one, rule(`score="-300"`, expr("pingd", "lt", "1")), "p 10.99.1.1 -300 []", "takes 300"},
		{"the attribute is the score", two, rule(`score-attribute="pingd"`, expr("pingd", "defined", "")), "p-1 10.99.1.1 -100 [], p-2 10.99.1.2 -100 []", "takes 100"},
		{"every target has to answer", two, rule(`score="-INFINITY"`, expr("pingd", "lt", "200")), "p-1 10.99.1.1 bar [], p-2 10.99.1.2 bar []", "bars vip"},
		{"on one node only", one, rule(`score="-INFINITY"`, expr("#uname", "eq", "n2"), expr("pingd", "lt", "1")), "p 10.99.1.1 bar [n2]", "bars vip"},
		{"some have to answer", two, rule(`score="-INFINITY"`, expr("pingd", "lt", "100")), "", "bars a node only when several of the 2 targets of p do not answer"},
		{"a score for some", two, rule(`score="50"`, expr("pingd", "gt", "0")), "", "counts how many of the 2 targets"},
		{"upside down", one, rule(`score="50"`, expr("pingd", "lt", "1")), "", "reaches less is wished more"},
		{"never", one, rule(`score="50"`, expr("pingd", "lt", "0")), "", "no rule lets pingd move an address"},
		{"no target", nv("dampen", "5s"), rule(`score="-INFINITY"`, expr("pingd", "lt", "1")), "", "host_list is empty"},
		{"a name", nv("host_list", "-bad name-"), rule(`score="-INFINITY"`, expr("pingd", "lt", "2")), "", "can be no check"},
		{"measured by nobody here", one + nv("name", "x"), rule(`score="-INFINITY"`, expr("pingd", "lt", "1")), "", "pingd lt: taken as if the target answered"},
	} {
		got, err := ImportAt(pinging(c.params, c.rule), fieldDay)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var checks []string
		for _, k := range got.Manifest.Checks {
			checks = append(checks, fmt.Sprintf("%s %s %s %v", k.Name, k.Target, k.Effect, k.Nodes))
			if len(k.HAVIPs) != 1 || k.HAVIPs[0] != "vip" || k.Type != string(fsm.CheckPing) {
				t.Errorf("%s: %+v", c.name, k)
			}
		}
		if strings.Join(checks, ", ") != c.checks || !strings.Contains(got.Report(), c.says) {
			t.Errorf("%s: %q, want %q and %q in\n%s", c.name, checks, c.checks, c.says, got.Report())
		}
		if h := got.Manifest.HAVIPs[0]; len(h.Forbid) > 0 {
			t.Errorf("%s: a node that reaches everything is forbidden: %v", c.name, h.Forbid)
		}
		if _, faults := manifest.Verify(got.Manifest.YAML()); faults.Err() != nil {
			t.Errorf("%s: what was made is no configuration: %v", c.name, faults)
		}
	}
}

// The times of a resource are those of the check, within what a check may have.
func TestPingTimes(t *testing.T) {
	for text, want := range map[string]string{"": "0s", "5": "5s", "5s": "5s", "500ms": "500ms", "2min": "2m0s", "10sec": "10s", "-1": "0s", "soon": "0s"} {
		if got, ok := span(text); got.String() != want && (ok || want != "0s") {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
