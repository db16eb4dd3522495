package pacemaker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"havip-cluster/manifest"
	"havip-cluster/manifest/goldens"
)

const casesDir = "testdata/cases"

// cases are inputs from the field; what is right stands beside each (.expect).
var cases = []goldens.Case{
	{Name: "p01-group-stickiness", Want: []string{"stickiness: 301", "failback: never", "it adds up over what is on one node with it (fs 100, vip 100, web 100)"}},
	{Name: "p03-location-on-template", Want: []string{"name: vip\n", "name: vip2\n", "members: [n2, n3]", "vip: forbid n1", "vip2: forbid n1"}, Never: []string{"concerns no address", "members: [n1"}},
	{Name: "p05-together-through-service", Want: []string{"kind: together, hard: true, havips: [v4, v6]", "prefer: {n3: 1000}"}},
	{Name: "p06-stopped-member", Want: []string{"enabled: false", "fs, before it in group g, is stopped (target-role)"}},
	{Name: "p07-collocated-false", Want: []string{"ip: 10.77.0.1", "ip: 10.77.0.2"}, Never: []string{"groups:"}},
	{Name: "p11-cloud-agent", Lost: true, Want: []string{"holds the address 10.77.0.100, which the cloud's own routes or interfaces move", "nothing to import"}, Never: []string{"not an address"}},
	{Name: "p13-set-score", Want: []string{"stickiness: 5001"}},
	{Name: "p15-crm-configure", Files: []string{"p15-crm-configure.txt"}, Lost: true, Want: []string{"the text of `crm configure show`; give the XML that `cibadmin -Q` prints"}},
	{Name: "p17-pacemaker-result", Want: []string{"ip: 10.77.0.1", "bans: [n2]", "prefer: {n1: 1000000}"}},
	{Name: "pcmk-crmsh-text", Files: []string{"pcmk-crmsh-text.conf"}, Lost: true, Want: []string{"pcmk-crmsh-text.conf:1:1: this is the text of `crm configure show`", "cibadmin -Q"}, Never: []string{"EOF"}},
	{Name: "pcmk-fence-device", Files: []string{"pcmk-fence-device.conf"}, Want: []string{"name: vip\n", "left out: primitive fence1 (fence_ipmilan): no fencing device is needed"}, Never: []string{"on-acquire"}},
	{Name: "pcmk-fencing-enabled", Files: []string{"pcmk-fencing-enabled.conf"}, Want: []string{"fault: fencing-enabled=false: without fencing a node that hangs and comes back", "left out: fencing-enabled=false: no fencing device is needed"}},
	{Name: "pcmk-group-sibling", Files: []string{"pcmk-group-sibling.conf"}, Want: []string{"changed: rsc_location not-on-n1: vip (on one node with web): forbid n1", "forbid: [n1]"}, Never: []string{"concerns no address"}},
	{Name: "pcmk-latin1-header", Files: []string{"pcmk-latin1-header.conf"}, Want: []string{"ip: 10.99.1.100"}},
	{Name: "pcmk-lifetime-ban", Files: []string{"pcmk-lifetime-ban.conf"}, Want: []string{"bans: [n1]", `ban_ends: {n1: "2099-12-12T19:05:37Z"}`, "fault: rsc_location cli-ban-vip-on-n1: vip bans n1 until 2099-12-12T19:05:37Z", "`havip ban --for`"}, Never: []string{"daily window"}},
	{Name: "pcmk-no-address", Files: []string{"pcmk-no-address.conf"}, Lost: true, Want: []string{"nothing to import: the CIB has no address"}},
	{Name: "pcmk-ns-ipaddr2", Files: []string{"pcmk-ns-ipaddr2.conf"}, Lost: true, Want: []string{"left out: primitive vip (ns_IPaddr2): holds the address 10.99.1.100 in the network namespace haproxy; that agent is not known"}, Never: []string{"not an address"}},
	{Name: "pcmk-pingd-and-uname", Files: []string{"pcmk-pingd-and-uname.conf"}, Want: []string{"prefer: {n1: 1000000}", "check_gateway: true"}},
	{Name: "pcmk-schema06", Files: []string{"pcmk-schema06.conf"}, Want: []string{"ip: 10.99.1.100", "stickiness: 101", "fault: stonith-enabled=false", "cibadmin --upgrade"}, Never: []string{"has no parameter ip"}},
}

// fieldDay is when the cases are read: before the ends of their rules.
var fieldDay = time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)

// TestFieldCases imports what was found in the field.
func TestFieldCases(t *testing.T) {
	goldens.EveryCase(t, casesDir, cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			file := c.Name + ".xml"
			if len(c.Files) > 0 {
				file = c.Files[0]
			}
			got, err := ImportAt(goldens.Read(t, filepath.Join(casesDir, file)), fieldDay)
			goldens.Field(t, c, casesDir, got, err)
		})
	}
}

// TestRulesWithDates: what has ended is left out as past, what ends is a ban that ends.
func TestRulesWithDates(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(casesDir, "pcmk-lifetime-ban.conf"))
	if err != nil {
		t.Fatal(err)
	}
	date := `operation="lt" end="2099-12-12 14:05:37 -05:00"`
	for _, row := range []struct {
		name, date string
		now        time.Time
		bans       int
		why        string
	}{
		{"before its end", date, fieldDay, 1, "until 2099-12-12T19:05:37Z"},
		{"after its end", date, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), 0, "ended on 2099-12-12T19:05:37Z and is past"},
		{"at its end", date, time.Date(2099, 12, 12, 19, 5, 37, 0, time.UTC), 0, "is past"},
		{"within a span", `operation="in_range" start="2020-01-01" end="2030-01-01"`, fieldDay, 1, "until 2030-01-01T00:00:00Z"},
		{"before it begins", `operation="gt" start="2050-001"`, fieldDay, 0, "begins on 2050-01-01T00:00:00Z"},
		{"for ever since", `operation="gt" start="2020-01-01"`, fieldDay, 1, "until `havip unban`"},
		{"at times", `operation="date_spec"`, fieldDay, 0, "holds at times only"},
		{"no date", `operation="lt" end="soon"`, fieldDay, 0, "cannot be told"},
	} {
		text := strings.Replace(string(data), date, row.date, 1)
		got, err := ImportAt(manifest.Source{Name: "f", Data: []byte(text)}, row.now)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if h := got.Manifest.HAVIPs[0]; len(h.Bans) != row.bans || len(h.Forbid) > 0 || !strings.Contains(got.Report(), row.why) {
			t.Errorf("%s: %+v\n%s", row.name, h, got.Report())
		}
	}
}
