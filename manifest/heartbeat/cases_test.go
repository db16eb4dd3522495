package heartbeat

import (
	"path/filepath"
	"testing"

	"havip-cluster/manifest"
	"havip-cluster/manifest/goldens"
)

const casesDir = "testdata/cases"

// cases are inputs from the field; what is right stands beside each (.expect).
var cases = []goldens.Case{
	{Name: "hb-address-as-node", Files: []string{"hb-address-as-node.ha.cf", "hb-address-as-node.conf"}, Lost: true,
		Want:  []string{"hb-address-as-node.conf:1: fault: 10.99.1.11: stands where the node's name belongs", "ip: 10.99.1.101", "members: [n1, n2]", "prefer: {n2: 100}"},
		Never: []string{"ip: 10.99.1.100", "ip: 10.99.1.11\n"}},
	{Name: "hb-capital-on", Files: []string{"hb-capital-on.ha.cf", "hb-capital-on.conf"}, Want: []string{"failback: immediate", "ip: 10.99.1.100", "members: [n1, n2]", "prefer: {n1: 100}"}},
	{Name: "hb-no-address", Lost: true, Want: []string{"nothing to import: haresources holds no address"}},
	{Name: "hb-one-node", Want: []string{"ip: 10.99.1.100", "members: [n1]", ":1: fault: node n1: nobody can take over", "ha.cf names"}},
}

// TestFieldCases imports what was found in the field.
func TestFieldCases(t *testing.T) {
	goldens.EveryCase(t, casesDir, cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			files := c.Files
			if len(files) == 0 {
				files = []string{c.Name + ".conf"}
			}
			var sources []manifest.Source
			for _, f := range files {
				sources = append(sources, goldens.Read(t, filepath.Join(casesDir, f)))
			}
			got, err := Import(sources)
			goldens.Field(t, c, casesDir, got, err)
		})
	}
}
