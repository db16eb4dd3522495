package keepalived

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
	"havip-cluster/manifest/goldens"
)

// memory is a tree of files for includes.
type memory map[string]string

func (m memory) Glob(pattern string) ([]string, error) {
	if strings.Contains(pattern, "[") {
		return nil, errors.New("syntax error in pattern")
	}
	if _, ok := m[pattern]; ok {
		return []string{pattern}, nil
	}
	return nil, nil
}

func (m memory) ReadFile(name string) ([]byte, error) {
	if m[name] == "unreadable" {
		return nil, errors.New("permission denied")
	}
	return []byte(m[name]), nil
}

func instanceWith(lines string) string {
	return "vrrp_instance V {\nvirtual_router_id 1\ninterface eth0\n" + lines + "\n}\n"
}

func TestBadInput(t *testing.T) {
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for _, row := range []struct {
		name, text string
		files      memory
		code       fsm.Code
		place, why string
	}{
		{"empty", "", nil, fsm.CodeMissing, "n.conf:1:1", "empty"},
		{"UTF-16", "\xff\xfev\x00r\x00", nil, manifest.CodeEncoding, "n.conf:1:1", "UTF-16"},
		{"byte order mark", "\xef\xbb\xbfvrrp_instance V {\n}\n", nil, "", "n.conf:1: fault", "is not a word that keepalived knows"},
		{"Latin-1", "x\n# caf\xe9\n", nil, "", "n.conf:2: changed: encoding", "not UTF-8"},
		{"gzip", "\x1f\x8b\x08", nil, manifest.CodeEncoding, "n.conf: ", "gunzip -c"},
		{"a CIB", "<cib><configuration/></cib>\n", nil, fsm.CodeMalformed, "n.conf:1:1", "import pacemaker"},
		{"haresources", "# x\nn1 IPaddr::10.0.0.1 apache\n", nil, fsm.CodeMalformed, "n.conf:2:1", "import heartbeat"},
		{"corosync.conf", "totem {\n version: 2\n}\n", nil, fsm.CodeMalformed, "n.conf:1:1", "corosync.conf"},
		{"zero byte", "a\x00b", nil, manifest.CodeEncoding, "n.conf:1:2", "zero byte"},
		{"huge", strings.Repeat("#", manifest.MaxBytes+1), nil, fsm.CodeLimit, "n.conf", "at most"},
		{"not closed", "vrrp_instance V {\n state BACKUP\n", nil, "", "n.conf:1: fault", "its block is not closed"},
		{"closed twice", "global_defs {\n}\n}\n", nil, "", "n.conf:3: fault", "closes nothing"},
		{"nothing before {", "\n{\n}\n", nil, "", "n.conf:2: fault", "without anything before"},
		{"open quote", "vrrp_script s {\n script \"/bin/x\n}\n", nil, "", "n.conf:2: fault", "no end"},
		{"deep", many(40, "a%d {\n"), nil, fsm.CodeLimit, "n.conf:17:1", "nested deeper"},
		{"many options", "~SEQ(N, 1, 150000) x\n", nil, fsm.CodeLimit, "n.conf:1:1", "options"},
		{"self-reference", "$A=${A}\nx ${A}\n", nil, fsm.CodeLimit, "n.conf:2:1", "refer to themselves"},
		{"mutual reference", "$A=${B} x\n$B=${A} y\n$A\n", nil, fsm.CodeLimit, "n.conf:3:1", "refer to themselves"},
		{"multi-line self-reference", "$A= \\\n $A \\\n $A\n$A\n", nil, fsm.CodeLimit, "n.conf:4:1", "refer to themselves"},
		{"billion laughs", "$A=" + strings.Repeat("${B}", 100) + "\n$B=" + strings.Repeat("${C}", 100) + "\n$C=" + strings.Repeat("x", 1000) + "\n~SEQ(N,1,1000) $A\n", nil, fsm.CodeLimit, "n.conf:4:1", "longer than"},
		{"definition without end", "$A= \\\n x \\", nil, "", "n.conf:2: fault", "has no end"},
		{"sequence without values", "~SEQ x\n", nil, "", "n.conf:1: fault", "parentheses"},
		{"sequence of words", "~SEQ(N, a, b) x\n", nil, "", "n.conf:1: fault", "not a number"},
		{"sequence without end", "~SEQ(N, 1, -1, 5) x\n", nil, "", "n.conf:1: fault", "never comes"},
		{"sequence of zero steps", "~SEQ(N, 1, 0, 5) x\n", nil, "", "n.conf:1: fault", "never comes"},
		{"endless sequence", "~SEQ(N, 1, 2000000000) x\n", nil, fsm.CodeLimit, "n.conf:1:1", "rounds"},
		{"nested sequences", "~SEQ(A,1,1000) ~SEQ(B,1,1000) ~SEQ(C,1,1000) x\n", nil, fsm.CodeLimit, "n.conf:1:1", "more than"},
		{"list without values", "~LST(N) x\n", nil, "", "n.conf:1: fault", "~LST"},
		{"list of pairs", "~LST({A,B}, {1}) x\n", nil, "", "n.conf:1: fault", "2 names and 1 values"},
		{"include of nothing", "include\n", nil, "", "n.conf:1: fault", "names no file"},
		{"include of itself", "\ninclude n.conf\n", memory{"n.conf": "include n.conf\n"}, "", "n.conf:2: fault", "includes itself"},
		{"include in a ring", "include a\n", memory{"a": "x y\ninclude b\n", "b": "include a\n"}, "", "b:1: fault", "includes itself: n.conf -> a -> b -> a"},
		{"include that cannot be read", "include a\n", memory{"a": "unreadable"}, "", "n.conf:1: fault", "permission denied"},
		{"include of a bad pattern", "include [\n", memory{}, "", "n.conf:1: fault", "pattern"},
		{"include of bad text", "include a\n", memory{"a": "\xff\xfex\n"}, "", "n.conf:1: fault", "UTF-16"},
		{"no name", "vrrp_instance {\n}\n", nil, "", "n.conf:1: fault", "has no name"},
		{"group without name", "vrrp_sync_group {\n}\n", nil, "", "n.conf:1: fault", "has no name"},
		{"no router id", "vrrp_instance V {\n}\n", nil, "", "n.conf:1: fault", "virtual_router_id"},
		{"router id 0", instanceWith("virtual_router_id 0"), nil, "", "n.conf:4: fault", "\"0\" is not a whole number from 1 to 255"},
		{"router id 256", instanceWith("virtual_router_id 256"), nil, "", "n.conf:4: fault", "256"},
		{"router id word", instanceWith("virtual_router_id x"), nil, "", "n.conf:4: fault", "not a whole number"},
		{"priority 300", instanceWith("priority 300"), nil, "", "n.conf:4: fault", "keepalived takes 100"},
		{"priority missing", instanceWith("priority"), nil, "", "n.conf:4: fault", "has no value"},
		{"state", instanceWith("state SLAVE"), nil, "", "n.conf:4: fault", "defaulting to BACKUP"},
		{"advert_int 0", instanceWith("advert_int 0"), nil, "", "n.conf:4: fault", "advert_int 0"},
		{"advert_int NaN", instanceWith("advert_int NaN"), nil, "", "n.conf:4: fault", "NaN"},
		{"preempt_delay 1001", instanceWith("preempt_delay 1001"), nil, "", "n.conf:4: fault", "1001"},
		{"preempt_delay -1", instanceWith("preempt_delay -1"), nil, "", "n.conf:4: fault", "-1"},
		{"address", instanceWith("virtual_ipaddress {\n10.0.0.999\n}"), nil, "", "n.conf:5: fault", "10.0.0.999"},
		{"leading zeros", instanceWith("virtual_ipaddress {\n10.0.0.010\n}"), nil, "", "n.conf:5: fault", "10.0.0.010"},
		{"prefix", instanceWith("virtual_ipaddress {\n10.0.0.9/33\n}"), nil, "", "n.conf:5: fault", "from 0 to 32"},
		{"zone", instanceWith("virtual_ipaddress {\nfe80::1%eth0\n}"), nil, "", "n.conf:5: fault", "fe80::1%eth0"},
		{"IPv4 in IPv6", instanceWith("virtual_ipaddress {\n::ffff:10.0.0.1\n}"), nil, "", "n.conf:5: fault", "::ffff"},
		{"multicast", instanceWith("virtual_ipaddress {\n224.0.0.18\n}"), nil, "", "n.conf:5: fault", "can be no HAVIP"},
		{"peer", instanceWith("unicast_peer {\nhost.example\n}"), nil, "", "n.conf:5: fault", "host.example"},
		{"eleven thousand addresses", instanceWith("virtual_ipaddress {\n~SEQ(A,0,50) ~SEQ(B,0,219) 10.0.${A}.${B}\n}"), nil, fsm.CodeLimit, "n.conf:5:1", "more than 10000 addresses"},
		{"middle not closed", "vrrp_instance V {\n virtual_ipaddress {\n10.0.0.1\n}\nvrrp_instance W {\n}\n", nil, manifest.CodeSyntax, "n.conf:1:1", "not closed before the vrrp_instance of line 5"},
		{"defined twice", instanceWith("") + instanceWith(""), nil, "", "n.conf:6: fault", "is defined above already"},
		{"template", instanceWith("virtual_ipaddress {\n{{ vip }}\n}"), nil, "", "n.conf:5: fault", "is a placeholder"},
		{"template in a name", "vrrp_instance {{ name }} {\nvirtual_router_id 1\n}\n", nil, "", "n.conf:1: fault", "is a placeholder"},
		{"parameter for an address", instanceWith("virtual_ipaddress {\n$VIP\n}"), nil, "", "n.conf:5: fault", "VIP is not defined"},
		{"chance", instanceWith("priority ${_RANDOM 1 9}"), nil, "", "n.conf:4: fault", "random number"},
		{"two on a line", instanceWith("virtual_ipaddress {\n10.0.0.1 10.0.0.2\n}"), nil, "", "n.conf:5: fault", "one address a line"},
		{"long interface", instanceWith("interface " + strings.Repeat("e", 16)), nil, "", "n.conf:4: fault", "more than 15"},
		{"node name", "@" + strings.Repeat("x", 70) + " a\nb c\n", nil, "", "n.conf:2: fault", "is not a word that keepalived knows"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var files Files
			if row.files != nil {
				files = row.files
			}
			got, err := Import([]manifest.Source{{Name: "n.conf", Data: []byte(row.text)}}, Options{Files: files})
			if row.code == "" { // a finding, and the rest of the file is read
				goldens.Found(t, row.name, row.place, row.why, got)
				return
			}
			var faults manifest.Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("error %v", err)
			}
			if f := faults[0]; f.Code != row.code || !strings.HasPrefix(f.Error(), row.place) || !strings.Contains(f.Text, row.why) {
				t.Errorf("%s\nwant %s ... %s (%s)", f, row.place, row.why, row.code)
			}
		})
	}
}

func TestBadSources(t *testing.T) {
	one := manifest.Source{Name: "one.conf", Data: []byte("global_defs {\nrouter_id same\n}\n")}
	for name, row := range map[string]struct {
		sources []manifest.Source
		opt     Options
		why     string
	}{
		"none":           {nil, Options{}, "at least one"},
		"too many":       {make([]manifest.Source, MaxSources+1), Options{}, "at most"},
		"same node":      {[]manifest.Source{one, one}, Options{Nodes: []string{"a", "a"}}, "name the nodes with --node"},
		"same file name": {[]manifest.Source{one, one}, Options{}, "name the nodes with --node"},
	} {
		if _, err := Import(row.sources, row.opt); err == nil || !strings.Contains(err.Error(), row.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzImport: any text gives an import or a fault with its place, and never a manifest
// that is not read back.
func FuzzImport(f *testing.F) {
	f.Add("vrrp_instance V {\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.1\n}\n}\n")
	f.Add("$A= \\\nx\n$A\n@a b c\n~SEQ(N,1,3) v${N}\n")
	f.Add("include a\n\"q\\\"\" 'x' {\n}\n")
	f.Add("vrrp_sync_group G { group { a b } }\nvrrp_instance a{\nvirtual_router_id 9\nvirtual_ipaddress{\n::1/64 dev x\n}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Import([]manifest.Source{{Name: "f", Data: []byte(text)}}, Options{Files: memory{"a": "x y\n"}})
		goldens.Fuzzed(t, got, err)
	})
}
