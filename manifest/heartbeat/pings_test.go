package heartbeat

import (
	"fmt"
	"strings"
	"testing"

	"havip-cluster/manifest"
)

// Ping nodes are checks where ipfail lets them move addresses, or say why not.
func TestPingNodes(t *testing.T) {
	const ipfail = "respawn hacluster /usr/lib/heartbeat/ipfail\n"
	for _, c := range []struct {
		name, settings, checks, says string
	}{
		{"with ipfail", "ping 10.99.1.1\n" + ipfail, "ping-10.99.1.1 10.99.1.1 fall 3", "bars every HAVIP on a node where it fails"},
		{"without", "ping 10.99.1.1\n", "", "without ipfail (respawn) Heartbeat moves nothing for it. To let it: `check create gateway --type ping --target 10.99.1.1 --effect bar`"},
		{"deadping", "deadping 30\nping 10.99.1.1\n" + ipfail, "ping-10.99.1.1 10.99.1.1 fall 15", "deadping 30: 15 failures in a row, one every 2s"},
		{"deadping in ms", ipfail + "deadping 500ms\nping 10.99.1.1\n", "ping-10.99.1.1 10.99.1.1 fall 1", "1 failures in a row"},
		{"deadping of nothing", "deadping 30\n", "", "no check is made of a ping node"},
		{"deadping that is none", "deadping soon\nping 10.99.1.1\n" + ipfail, "ping-10.99.1.1 10.99.1.1 fall 3", `"soon" is no time`},
		{"several", "ping 10.99.1.1 fd00::1\n" + ipfail, "ping-10.99.1.1 10.99.1.1 fall 3, ping-fd00--1 fd00::1 fall 3", "each of the 2 checks bars by itself"},
		{"a group of one", "ping_group up 10.99.1.1\n" + ipfail, "ping-10.99.1.1 10.99.1.1 fall 3", "bars every HAVIP"},
		{"a group", "ping_group up 10.99.1.1 10.99.1.2\n" + ipfail, "", "counts as reached while one of its 2 addresses answers"},
		{"nothing named", "ping\n" + ipfail, "", "names no address"},
		{"no address", "ping -x-\n" + ipfail, "", "can be no check"},
		{"another program", "ping 10.99.1.1\nrespawn hacluster /usr/lib/heartbeat/dopd\n", "", "without ipfail"},
	} {
		got, err := Import([]manifest.Source{
			{Name: "ha.cf", Data: []byte("node n1 n2\nauto_failback off\n" + c.settings)}, {Name: "haresources", Data: []byte("n1 10.99.1.100\n")},
		})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var checks []string
		for _, k := range got.Manifest.Checks {
			checks = append(checks, fmt.Sprintf("%s %s fall %d", k.Name, k.Target, k.Fall))
		}
		if strings.Join(checks, ", ") != c.checks || !strings.Contains(got.Report(), c.says) {
			t.Errorf("%s: %q, want %q and %q in\n%s", c.name, checks, c.checks, c.says, got.Report())
		}
		if _, faults := manifest.Verify(got.Manifest.YAML()); faults.Err() != nil {
			t.Errorf("%s: what was made is no configuration: %v", c.name, faults)
		}
	}
}
