package pacemaker_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"havip-cluster/manifest"
	"havip-cluster/manifest/pacemaker"
)

// policy is a small CIB of three nodes: where its resources run, and what it says.
type policy struct {
	name                             string
	runs                             string // "vip n1, web n1"
	attributes                       string // of n1
	resources, constraints, defaults string
	want                             string // where Pacemaker has the addresses: "vip n2"
	says                             string // a finding
}

// vip is an address resource with meta attributes, such as "resource-stickiness=100".
func vip(id string, last int, meta ...string) string {
	return fmt.Sprintf(`<primitive id="%s" class="ocf" provider="heartbeat" type="IPaddr2"><instance_attributes id="%s-ia"><nvpair id="%s-ip" name="ip" value="10.77.0.%d"/></instance_attributes>%s</primitive>`,
		id, id, id, last, metaOf(id, meta))
}

func service(id string, meta ...string) string {
	return fmt.Sprintf(`<primitive id="%s" class="ocf" provider="heartbeat" type="Dummy">%s</primitive>`, id, metaOf(id, meta))
}

func metaOf(id string, meta []string) string {
	if len(meta) == 0 {
		return ""
	}
	text := `<meta_attributes id="` + id + `-ma">`
	for _, m := range meta {
		name, value, _ := strings.Cut(m, "=")
		text += fmt.Sprintf(`<nvpair id="%s-%s" name="%s" value="%s"/>`, id, name, name, value)
	}
	return text + "</meta_attributes>"
}

func prefers(id, rsc, node, score string) string {
	return fmt.Sprintf(`<rsc_location id="%s" rsc="%s" node="%s" score="%s"/>`, id, rsc, node, score)
}

func with(id, rsc, other, score string) string {
	return fmt.Sprintf(`<rsc_colocation id="%s" rsc="%s" with-rsc="%s" score="%s"/>`, id, rsc, other, score)
}

func byRule(id, rsc, score, conditions string) string {
	return fmt.Sprintf(`<rsc_location id="%s" rsc="%s"><rule id="%s-r" score="%s">%s</rule></rsc_location>`, id, rsc, id, score, conditions)
}

// cib is the whole text, with a status in which everything runs where it is said to.
func (p policy) cib() string {
	var status strings.Builder
	for n := 1; n <= 3; n++ {
		fmt.Fprintf(&status, `<node_state id="%d" uname="n%d" in_ccm="true" crmd="online" join="member" expected="member"><lrm id="%d"><lrm_resources>`, n, n, n)
		for _, one := range strings.Split(p.runs, ", ") {
			id, node, _ := strings.Cut(one, " ")
			if id == "" {
				continue
			}
			kind := "Dummy"
			if strings.Contains(p.resources, `id="`+id+`" class="ocf" provider="heartbeat" type="IPaddr2"`) {
				kind = "IPaddr2"
			}
			op, rc := "monitor", 7
			if node == fmt.Sprintf("n%d", n) {
				op, rc = "start", 0
			}
			fmt.Fprintf(&status, `<lrm_resource id="%s" class="ocf" provider="heartbeat" type="%s"><lrm_rsc_op id="%s_last_0" operation_key="%s_%s_0" operation="%s" crm_feature_set="3.16.2" transition-key="1:1:%d:aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa" transition-magic="0:%d;1:1:%d:aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa" call-id="1" rc-code="%d" op-status="0" interval="0" on_node="n%d" op-digest="f2317cad3d54cec5d7d7aa7d0bf35cf8"/></lrm_resource>`,
				id, kind, id, id, op, op, rc, rc, rc, rc, n)
		}
		status.WriteString(`</lrm_resources></lrm></node_state>`)
	}
	n1 := ""
	if name, value, ok := strings.Cut(p.attributes, "="); ok {
		n1 = fmt.Sprintf(`<instance_attributes id="n1-ia"><nvpair id="n1-%s" name="%s" value="%s"/></instance_attributes>`, name, name, value)
	}
	return `<cib crm_feature_set="3.16.2" validate-with="pacemaker-3.8" epoch="1" num_updates="0" admin_epoch="0" have-quorum="1" dc-uuid="1"><configuration>
<crm_config><cluster_property_set id="o"><nvpair id="o-s" name="stonith-enabled" value="false"/></cluster_property_set></crm_config>
<nodes><node id="1" uname="n1">` + n1 + `</node><node id="2" uname="n2"/><node id="3" uname="n3"/></nodes>
<resources>` + p.resources + `</resources>
<constraints>` + p.constraints + `</constraints>
<rsc_defaults>` + p.defaults + `</rsc_defaults>
</configuration><status>` + status.String() + `</status></cib>`
}

const sticky100 = `<meta_attributes id="rd"><nvpair id="rd-s" name="resource-stickiness" value="100"/></meta_attributes>`

// notN1 forbids n1, as a rule on the name.
const notN1 = `<expression id="e1" attribute="#uname" operation="ne" value="n1"/>`

var policies = []policy{
	{name: "the stickiness of a group holds", runs: "a n2, b n2, web n2", resources: `<group id="g">` + vip("a", 1) + vip("b", 2) + service("web") + `</group>`,
		constraints: prefers("l", "g", "n1", "200"), defaults: sticky100, want: "a n2, b n2"},
	{name: "and gives way to more", runs: "a n2, b n2, web n2", resources: `<group id="g">` + vip("a", 1) + vip("b", 2) + service("web") + `</group>`,
		constraints: prefers("l", "g", "n1", "400"), defaults: sticky100, want: "a n1, b n1"},
	{name: "scores of the members of a group add up", runs: "a n2, b n2", resources: `<group id="g">` + vip("a", 1) + vip("b", 2) + `</group>`,
		constraints: prefers("l", "a", "n1", "150") + prefers("m", "b", "n1", "150"), defaults: sticky100, want: "a n1, b n1"},
	{name: "a service holds its address", runs: "vip n2, db n2", resources: vip("vip", 1) + service("db", "resource-stickiness=500"),
		constraints: with("c", "vip", "db", "INFINITY") + prefers("l", "vip", "n1", "200"), want: "vip n2"},
	{name: "a service draws its address", runs: "vip n2, db n2", resources: vip("vip", 1) + service("db"),
		constraints: with("c", "vip", "db", "INFINITY") + prefers("l", "db", "n3", "200"), want: "vip n3", says: "vip (on one node with db): prefer n3 200"},
	{name: "a ban reaches through two services", resources: vip("vip", 1) + service("db") + service("fs"),
		constraints: with("c", "vip", "db", "INFINITY") + with("d", "db", "fs", "INFINITY") + prefers("l", "fs", "n1", "-INFINITY") + prefers("m", "fs", "n2", "-INFINITY"), want: "vip n3"},
	{name: "a sum below zero bars", resources: vip("vip", 1), constraints: prefers("l", "vip", "n1", "-50") + prefers("m", "vip", "n2", "-INFINITY") + prefers("n", "vip", "n3", "-1"), want: "vip ",
		says: "the sum for n1 is -50, and Pacemaker runs nothing below 0: forbid n1"},
	{name: "and does not while the stickiness outweighs it", runs: "vip n1", resources: vip("vip", 1, "resource-stickiness=100"),
		constraints: prefers("l", "vip", "n1", "-50") + prefers("m", "vip", "n2", "-INFINITY") + prefers("n", "vip", "n3", "-INFINITY"), want: "vip n1", says: "a wish, as the stickiness of 100 keeps"},
	{name: "a rule on the other name", resources: vip("vip", 1), constraints: byRule("l", "vip", "-INFINITY", notN1), want: "vip n1"},
	{name: "a rule on an attribute of the node", attributes: "site=east", resources: vip("vip", 1),
		constraints: byRule("l", "vip", "-INFINITY", `<expression id="e1" attribute="site" operation="ne" value="east"/>`), want: "vip n1"},
	{name: "a rule on an attribute that is there", attributes: "site=east", resources: vip("vip", 1),
		constraints: byRule("l", "vip", "100", `<expression id="e1" attribute="site" operation="defined"/>`), want: "vip n1", says: "vip: prefer n1 100"},
	{name: "a rule on a number", attributes: "rank=7", runs: "vip n2", resources: vip("vip", 1),
		constraints: byRule("l", "vip", "100", `<expression id="e1" attribute="rank" operation="gte" value="7" type="number"/>`), want: "vip n1"},
	{name: "a ban that is past", runs: "vip n1", resources: vip("vip", 1), constraints: byRule("cli-ban-vip-on-n1", "vip", "-INFINITY",
		`<expression id="e1" attribute="#uname" operation="eq" value="n1"/><date_expression id="d" operation="lt" end="2014-01-01"/>`), want: "vip n1", says: "is past"},
	{name: "a ban that lasts", runs: "vip n1", resources: vip("vip", 1), constraints: byRule("cli-ban-vip-on-n1", "vip", "-INFINITY",
		`<expression id="e1" attribute="#uname" operation="eq" value="n1"/><date_expression id="d" operation="lt" end="2099-01-01"/>`) + prefers("m", "vip", "n2", "-INFINITY"), want: "vip n3"},
	{name: "the last of a group is stopped", resources: `<group id="g">` + vip("a", 1) + service("web", "target-role=Stopped") + `</group>`, constraints: prefers("l", "g", "n2", "1"), want: "a n2"},
	{name: "what an address is with is stopped", resources: vip("vip", 1) + service("db", "target-role=Stopped"), constraints: with("c", "vip", "db", "INFINITY"), want: "vip ",
		says: "db, which it is with by c, is stopped"},
	{name: "what is with an address is stopped", resources: vip("vip", 1) + service("db", "target-role=Stopped"), constraints: with("c", "db", "vip", "INFINITY") + prefers("l", "vip", "n2", "1"), want: "vip n2"},
	{name: "defaults for one agent", resources: vip("vip", 1) + service("db"), want: "vip ", says: "its rule is decided for each resource",
		defaults: `<meta_attributes id="rd"><rule id="rd-r" score="INFINITY"><rsc_expression id="rd-e" class="ocf" provider="heartbeat" type="IPaddr2"/></rule><nvpair id="rd-t" name="target-role" value="Stopped"/></meta_attributes>`},
	{name: "defaults for another agent", resources: vip("vip", 1) + service("db"), constraints: prefers("l", "vip", "n2", "1"), want: "vip n2",
		defaults: `<meta_attributes id="rd"><rule id="rd-r" score="INFINITY"><rsc_expression id="rd-e" type="Dummy"/></rule><nvpair id="rd-t" name="target-role" value="Stopped"/></meta_attributes>`},
	{name: "a template's own stickiness", runs: "vip n2", want: "vip n2",
		resources:   `<template id="t" class="ocf" provider="heartbeat" type="IPaddr2"><meta_attributes id="t-ma"><nvpair id="t-s" name="resource-stickiness" value="300"/></meta_attributes></template><primitive id="vip" template="t"><instance_attributes id="i"><nvpair id="n" name="ip" value="10.77.0.1"/></instance_attributes></primitive>`,
		constraints: prefers("l", "vip", "n1", "200")},
	{name: "apart", resources: vip("a", 1) + vip("b", 2), constraints: with("c", "a", "b", "-INFINITY") + prefers("l", "a", "n1", "10") + prefers("m", "b", "n3", "100"), want: "a n1, b n3", says: "neither yields to the other"},
	{name: "stopped and not managed", runs: "vip n2", resources: vip("vip", 1, "target-role=Stopped", "is-managed=false"), want: "vip n2", says: "it is not managed, so Pacemaker does not stop it either"},
}

// places writes owners as "a n1, b ".
func places(owners map[string]string) string {
	var out []string
	for _, id := range sortedKeys(owners) {
		out = append(out, id+" "+owners[id])
	}
	return strings.Join(out, ", ")
}

// TestPolicies: small CIBs are placed as Pacemaker places them; where crm_simulate is
// installed, what is wanted is what it says.
func TestPolicies(t *testing.T) {
	_, missing := exec.LookPath("crm_simulate")
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "cib.xml")
			if err := os.WriteFile(file, []byte(p.cib()), 0o600); err != nil {
				t.Fatal(err)
			}
			now := p.before()
			if missing == nil {
				s, err := simulate(t, file)
				if err != nil {
					t.Fatal(err)
				}
				now = s.Now
				theirs := map[string]string{}
				for id, node := range s.owners() {
					if strings.Contains(p.want, id+" ") {
						theirs[id] = node
					}
				}
				if got := places(theirs); got != p.want {
					t.Errorf("crm_simulate: %q, not %q", got, p.want)
				}
			}
			ours, reasons, err := planned(file, now)
			if err != nil {
				t.Fatal(err)
			}
			if got := places(ours); got != p.want {
				t.Errorf("%q, want %q: %v", got, p.want, reasons)
			}
			got, err := pacemaker.Import(manifest.Source{Name: "f", Data: []byte(p.cib())})
			if err != nil || !strings.Contains(got.Report(), p.says) {
				t.Errorf("%v: no %q in\n%s", err, p.says, got.Report())
			}
		})
	}
}

// before is the state that the CIB tells of, for when crm_simulate cannot say it.
func (p policy) before() clusterStatus {
	var s clusterStatus
	for _, name := range []string{"n1", "n2", "n3"} {
		s.Nodes = append(s.Nodes, simNode{Name: name, Online: true})
	}
	for _, one := range strings.Split(p.runs, ", ") {
		if id, node, ok := strings.Cut(one, " "); ok {
			s.Resources = append(s.Resources, simResource{ID: id, Role: "Started", Nodes: []simNode{{Name: node}}})
		}
	}
	for _, one := range strings.Split(p.want, ", ") {
		id, _, _ := strings.Cut(one, " ")
		if !strings.Contains(p.runs, id+" ") {
			s.Resources = append(s.Resources, simResource{ID: id, Role: "Stopped"})
		}
	}
	return s
}

// TestFollowsARole: what follows the promoted one of several copies is a fault that says so.
func TestFollowsARole(t *testing.T) {
	p := policy{resources: vip("vip", 1) + `<clone id="db-clone"><meta_attributes id="m"><nvpair id="mp" name="promotable" value="true"/></meta_attributes>` + service("db") + `</clone>`,
		constraints: `<rsc_colocation id="c" rsc="vip" with-rsc="db-clone" with-rsc-role="Promoted" score="INFINITY"/>`}
	through := policy{resources: p.resources + service("fs"),
		constraints: `<rsc_colocation id="c" rsc="fs" with-rsc="db-clone" with-rsc-role="Promoted" score="INFINITY"/>` + with("d", "vip", "fs", "INFINITY")}
	for who, one := range map[string]policy{"vip goes": p, "vip (on one node with fs) goes": through} {
		got, err := pacemaker.Import(manifest.Source{Name: "f", Data: []byte(one.cib())})
		if err != nil || !strings.Contains(got.Report(), "fault: rsc_colocation c: "+who+" where db-clone runs (a copy or a role that Pacemaker chose)") {
			t.Errorf("%v\n%s", err, got.Report())
		}
	}
}
