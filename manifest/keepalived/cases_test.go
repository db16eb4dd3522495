package keepalived

import (
	"path/filepath"
	"testing"

	"havip-cluster/manifest"
	"havip-cluster/manifest/goldens"
)

const casesDir = "testdata/cases"

// cases are inputs from the field; what is right stands beside each (.expect).
var cases = []goldens.Case{
	{Name: "k01-include-missing", Files: []string{"k01-include-missing-lb1.conf", "k01-include-missing-lb2.conf"}, Lost: true,
		Want:  []string{"lb1.conf:4: fault: include conf.d/*.conf: no file matches here", "lb2.conf:4: fault: include conf.d/*.conf", "--root"},
		Never: []string{"goes on without it"}},
	{Name: "k03-include-condition", Want: []string{"ip: 10.77.0.100", "members: [lb1]", "inc/vip.conf:6"}},
	{Name: "k03-include-variable", Want: []string{"ip: 10.77.0.100", "inc/vip.conf:6"}},
	{Name: "k03-include-braces", Want: []string{"ip: 10.77.0.100", "inc/vip.conf:6", "k03-include-braces.conf:1: left out", "no file matches inc/other.conf"}},
	{Name: "k05-track-uplink", Want: []string{"ip: 10.77.0.100", ":5: changed: track_interface eth1: check link-eth1, effect bar", "/sys/class/net/eth1/operstate"}, Never: []string{"taken: track_interface"}},
	{Name: "k07-lower-case-state", Files: []string{"k07-lower-case-state-lb1.conf", "k07-lower-case-state-lb2.conf"}, Nodes: []string{"lb1", "lb2"},
		Want: []string{"failback: never", "lb1.conf:4: fault: state master", "defaulting to BACKUP"}, Never: []string{"failback: immediate"}},
	{Name: "k09-mixed-families", Want: []string{"ip: 10.77.0.100", ":7: fault: 2001:db8::100", "address family must match"}, Never: []string{"ip: \"2001", "taken: 2001", "groups:"}},
	{Name: "k11-one-file-preempt-delay", Want: []string{"failback: 30s"}, Never: []string{"failback: never"}},
	{Name: "k13-same-vrid-twice", Want: []string{":8: fault: virtual_router_id: 51", "keepalived does not start"}},
	{Name: "k15-unknown-global", Lost: true, Want: []string{":2: fault: garp_master_dealy 3: is not a word that keepalived knows", "did you mean `vrrp_garp_master_delay`"}, Never: []string{"a setting of the keepalived process"}},
	{Name: "ka-ah-master-nopreempt", Files: []string{"ka-ah-master-nopreempt.conf", "ka-ah-master-nopreempt.n2.conf"}, Nodes: []string{"n1", "n2"},
		Want: []string{"failback: never", "ka-ah-master-nopreempt.conf:2: fault: state MASTER", "taken: nopreempt"}, Never: []string{"failback: immediate", "fault: nopreempt"}},
	{Name: "ka-empty-argument", Want: []string{"ip: 10.99.1.100", ":4: fault: unicast_src_ip: has no value; keepalived 2.2 refuses the file for it"}, Never: []string{`"" is not an IP address`}},
	{Name: "ka-encoding-comment", Want: []string{"ip: 10.99.1.100", ":1: changed: encoding"}, Never: []string{"fault"}},
	{Name: "ka-env", Want: []string{"ip: 10.99.1.100", ":4: fault: priority ${_ENV PRIO}: is an environment variable", "put its value in"}, Never: []string{"prefer:"}},
	{Name: "ka-extra-brace", Want: []string{"ip: 10.99.1.100", ":8: fault: }"}},
	{Name: "ka-impossible-169", Want: []string{"ip: 10.99.1.100", ":5: left out: 169.254.0.7/24: it is link-local"}, Never: []string{"groups:", "taken: 169"}},
	{Name: "ka-impossible-fe80", Want: []string{"ip: 10.99.1.100", `ip: "2001:db8:1::100"`, ":12: left out: fe80::7: it is link-local"}, Never: []string{"groups:", "fault"}},
	{Name: "ka-impossible-zero", Lost: true, Want: []string{"ip: 10.99.1.100", ":6: fault: 0.0.0.0: can be no HAVIP; left out"}, Never: []string{"taken: 0.0.0.0", "havips["}},
	{Name: "ka-include-only", Lost: true, Want: []string{":4: fault: include /etc/keepalived/conf.d/*.conf: no file matches here", "run the import there"}, Never: []string{"goes on without it"}, Root: "testdata/none"},
	{Name: "ka-interface-address", Want: []string{"ip: 10.99.1.100", ":2: fault: interface 10.99.1.11: 10.99.1.11 is an address, not an interface; keepalived on Linux does not start"}, Never: []string{"changed: interface"}},
	{Name: "ka-interface-parameter", Want: []string{"ip: 10.99.1.100", ":2: fault: interface ${nic}: the parameter nic is not defined in this file"}, Never: []string{"changed: interface"}},
	{Name: "ka-missing-last-brace", Want: []string{"ip: 10.99.1.100", ":1: fault: vrrp_instance V: its block is not closed"}},
	{Name: "ka-multicast-source", Want: []string{"ip: 10.99.1.100", ":4: fault: mcast_src_ip 224.0.0.1: 224.0.0.1 is a multicast address and can be no source"}, Never: []string{"--advertise"}},
	{Name: "ka-negated-condition", Want: []string{"ip: 10.99.1.100", "ip: 10.99.1.101", "members: [a, b]", "members: [b]", "prefer: {a: 150, b: 100}", "name all nodes with --node"}},
	{Name: "ka-network-address", Lost: true, Want: []string{":5: fault: 10.99.1.0/24: can be no HAVIP", ":6: fault: 10.99.2.255/24: can be no HAVIP", "broadcast address", "nothing to import"}, Never: []string{"taken: 10.99"}},
	{Name: "ka-no-blank", Lost: true, Want: []string{":1: fault: vrrp_instanceV: is not a word that keepalived knows here; it ignores the whole block; did you mean `vrrp_instance V`?", "nothing to import"}},
	{Name: "ka-no-vip", Lost: true, Want: []string{"has no virtual_ipaddress", "its notify script may be what moves the address", "nothing to import"}, Never: []string{"range"}},
	{Name: "ka-node-from-file-name", Want: []string{"changed: node ka-node-from-file-name: there is no router_id, so the node is called ka-node-from-file-name after the file; give its name with --node"}},
	{Name: "ka-old-unicast", Want: []string{"ip: 10.99.1.100", ":4: fault: vrrp_unicast_bind", ":5: fault: vrrp_unicast_peer", "old patch for unicast_src_ip", "old patch for unicast_peer", "10.99.1.12: the file of the node with this address is missing"}},
	{Name: "ka-one-file-failback", Want: []string{"failback: immediate", "prefer: {ka-one-file-failback: 150}"}, Never: []string{"failback: never"}},
	{Name: "ka-partial-list", Files: []string{"ka-partial-list.conf", "ka-partial-list.n2.conf"}, Nodes: []string{"n1", "n2"},
		Want: []string{"prefer: {n1: 120, n2: 100}", "members: [n1, n2]", "members: [n2]"}, Never: []string{"groups:"}},
	{Name: "ka-placeholder-at-peers", Lost: true, Want: []string{"ip: 10.99.1.100", ":6: fault: @PEER1@: is a placeholder", ":7: fault: @PEER2@: is a placeholder", "members: [ka-placeholder-at-peers]"}, Never: []string{"members: [peer"}},
	{Name: "ka-placeholder-at", Lost: true, Want: []string{"ip: 10.99.1.100", ":7: fault: @SECOND_VIP@: is a placeholder", "members: [ka-placeholder-at]"}, Never: []string{"second-vip"}},
	{Name: "ka-repeated-finding", Want: []string{"ip: 10.99.1.100", ":6: "}},
	{Name: "ka-script-defined-later", Want: []string{"ip: 10.99.1.100", `:8: fault: track_script chk: is defined below its use, so keepalived 2.2 ignores it ("track script chk not found"): it never ran`}},
	{Name: "ka-state-slave", Want: []string{"ip: 10.99.1.100", `:2: fault: state SLAVE: keepalived says "unknown state 'SLAVE', defaulting to BACKUP"`}},
}

func importCase(t *testing.T, c goldens.Case) (manifest.Import, error) {
	t.Helper()
	files := c.Files
	if len(files) == 0 {
		files = []string{c.Name + ".conf"}
	}
	var sources []manifest.Source
	for _, f := range files {
		sources = append(sources, goldens.Read(t, filepath.Join(casesDir, f)))
	}
	opt := Options{Files: disk{}, Nodes: c.Nodes}
	if c.Root != "" {
		opt.Roots = []string{c.Root}
	}
	return Import(sources, opt)
}

// TestFieldCases imports what was found in the field.
func TestFieldCases(t *testing.T) {
	goldens.EveryCase(t, casesDir, cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			got, err := importCase(t, c)
			goldens.Field(t, c, casesDir, got, err)
			seen := map[manifest.Finding]bool{}
			for n, f := range got.Findings {
				if seen[f] {
					t.Errorf("twice: %s", f)
				}
				seen[f] = true
				if n > 0 && got.Findings[n-1].File == f.File && got.Findings[n-1].Line > f.Line {
					t.Errorf("not in the order of the lines: %s", f)
				}
			}
		})
	}
}

// TestRoots: what an include names on the node is read below the root of that node.
func TestRoots(t *testing.T) {
	absolute := manifest.Source{Name: "n.conf", Data: []byte("include /etc/keepalived/conf.d/*.conf\n")}
	escaping := manifest.Source{Name: "n.conf", Data: []byte("include /../../../../cases_test.go\n")}
	relative := []manifest.Source{
		goldens.Read(t, filepath.Join(casesDir, "k01-include-missing-lb1.conf")), goldens.Read(t, filepath.Join(casesDir, "k01-include-missing-lb2.conf")),
	}
	roots := []string{casesDir + "/root/lb1", casesDir + "/root/lb2"}
	got, err := Import(relative, Options{Files: disk{}, Roots: roots})
	if err != nil || len(got.Lost()) > 0 || len(got.Manifest.HAVIPs) != 2 {
		t.Fatalf("%v\n%s", err, goldens.Outcome(got, err))
	}
	for _, h := range got.Manifest.HAVIPs {
		if len(h.Range.Members) != 2 || h.Prefer["lb1"] != 150 || h.Prefer["lb2"] != 100 {
			t.Errorf("%+v", h)
		}
	}
	got, err = Import([]manifest.Source{absolute}, Options{Files: disk{}, Roots: roots[:1]})
	if err != nil || len(got.Manifest.HAVIPs) != 2 {
		t.Errorf("an absolute include: %v\n%s", err, got.Report())
	}
	if got, err = Import([]manifest.Source{escaping}, Options{Files: disk{}, Roots: roots[:1]}); err == nil || len(got.Lost()) != 1 {
		t.Errorf("an include left its root: %v\n%s", err, got.Report())
	}
}
