package manifest_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
	"havip-cluster/manifest"
)

const checksFile = `version: 1
nodes:
  - {name: n1, status: alive}
  - {name: n2, status: alive}
enis:
  - {id: n1/eth0, node: n1, device: eth0, subnet: s1, primary: true, up: true}
  - {id: n2/eth0, node: n2, device: eth0, subnet: s1, primary: true, up: true}
subnets:
  - {name: s1, cidr: 10.77.0.0/24}
havips:
  - {name: web, ip: 10.77.0.100, subnet: s1, owner: n1/eth0}
  - {name: db, ip: 10.77.0.101, subnet: s1, owner: n1/eth0}
checks:
  - {name: web-up, type: http, target: "http://127.0.0.1:80/health", interval: 2s, timeout: 1s, rise: 2, fall: 3, effect: bar, havips: [web], results: {n1: failing refused}}
  - {name: gateway, type: ping, target: 10.77.0.1, effect: -50, interval: 500ms}
`

// The example of the interface is read, written and read again, and a plan from it sees the results.
func TestChecksOfAFile(t *testing.T) {
	m, faults := manifest.Verify([]byte(checksFile))
	if len(faults) != 0 {
		t.Fatal(faults)
	}
	if c := m.Checks[1]; c.Effect != "-50" || c.Rise != fsm.DefaultCheckRise {
		t.Errorf("%+v", c)
	}
	canonical := m.Canonical()
	for form, raw := range map[string][]byte{"YAML": canonical.YAML(), "JSON": canonical.JSON()} {
		again, faults := manifest.Verify(raw)
		if len(faults) != 0 || !reflect.DeepEqual(again.Canonical(), canonical) {
			t.Errorf("%s: %v\n%s", form, faults, raw)
		}
		if !bytes.Contains(raw, []byte(map[string]string{"YAML": "effect: -50", "JSON": `"effect": -50`}[form])) {
			t.Errorf("the effect is no number in %s", raw)
		}
	}
	if c := canonical.Checks[0]; c.Name != "gateway" || c.Timeout != "500ms" {
		t.Errorf("its time-out is not within its interval: %+v", c)
	}
	for _, d := range placement.Solve(m.Problem(1)) {
		if want := map[string]string{"web": "n2/eth0", "db": "n1/eth0"}[d.Name]; d.To != want {
			t.Errorf("%s goes to %q, want %q: %s", d.Name, d.To, want, d.Reason)
		}
	}
	changed := m
	changed.Checks = []manifest.Check{canonical.Checks[0]}
	if got := manifest.Diff(m, changed).String(); !strings.HasPrefix(got, "- check web-up") || strings.Count(got, "\n") != 1 {
		t.Error(got)
	}
	if cfg := m.ToConfig(); len(cfg.Checks) != 2 || cfg.Checks[1].Score != -50 || manifest.New().ToConfig().Checks != nil {
		t.Errorf("%+v", cfg.Checks)
	}
}

func TestChecksThatAreWrong(t *testing.T) {
	for given, says := range map[string]string{
		`{name: x, type: tcp, target: "h:1", effect: 5}`:                            "neither bar nor a score below 0",
		`{name: x, type: tcp, target: "h:1", effect: soft}`:                         "neither bar nor a score below 0",
		`{name: x, type: tcp, target: "h:1", interval: 2}`:                          "text is wanted here",
		`{name: x, type: tcp, target: "h:1", interval: soon}`:                       "not a duration",
		`{name: x, type: tcp, target: "h:1", interval: 0s}`:                         "0 is not possible",
		`{name: x, type: tcp, target: "h:1", rise: 0}`:                              "rise 0",
		`{name: x, type: tcp, target: "h:1", when_all_fail: maybe}`:                 "neither keep nor drop",
		`{name: x, type: tcp, target: "h:1", effect: -1, when_all_fail: drop}`:      "the effect bar does",
		`{name: x, type: gopher, target: "h:1"}`:                                    "not a type of check",
		`{name: x, type: tcp, target: "h:1", havips: [nobody]}`:                     "lists no HAVIP",
		`{name: x, type: tcp, target: "h:1", nodes: [n9]}`:                          "lists no node",
		`{name: x, type: tcp, target: "h:1", results: {n1: fine}}`:                  "not known here",
		`{name: web-up, type: tcp, target: "h:1"}`:                                  "here twice",
		`{name: x, type: http, target: "http://h/", headers: ["no header at all"]}`: "not a header",
	} {
		if _, faults := manifest.Verify([]byte(checksFile + "  - " + given + "\n")); len(faults) == 0 || !strings.Contains(faults.Error(), says) {
			t.Errorf("%s: %v, want %q", given, faults, says)
		}
	}
}
