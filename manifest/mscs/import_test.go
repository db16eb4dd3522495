package mscs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
	"havip-cluster/manifest/goldens"
)

// TestGolden imports what the cmdlets print.
func TestGolden(t *testing.T) {
	for _, dir := range goldens.Cases(t, "testdata/golden/*") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got, err := Import(goldens.Sources(t, dir, "*.json"))
			goldens.Check(t, got, err, dir+"/")
		})
	}
}

// TestNothingIsDropped: every object has a finding in its file, and each resource is named.
func TestNothingIsDropped(t *testing.T) {
	looked := 0
	for _, dir := range goldens.Cases(t, "testdata/golden/*") {
		sources := goldens.Sources(t, dir, "*.json")
		got, err := Import(sources)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sources {
			all, err := text(s)
			if err != nil {
				t.Fatal(err)
			}
			objects, err := parse(s.Name, all)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				name := firstOf(o.str("ClusterObject"), o.str("Name"))
				looked++
				found := false
				for _, f := range got.Findings {
					found = found || strings.Contains(strings.ToLower(f.Option), strings.ToLower(name)) && (f.File == s.Name || o.has("ClusterObject"))
				}
				if !found {
					t.Errorf("%s:%d: %q is not in the findings", s.Name, o.line, name)
				}
			}
		}
	}
	if looked < 50 {
		t.Errorf("only %d objects were looked at", looked)
	}
}

func TestBadInput(t *testing.T) {
	const resource = `{"Name":"A","ResourceType":"IP Address","OwnerGroup":"G"}`
	for _, row := range []struct {
		name, text string
		code       fsm.Code
		want       string
	}{
		{"empty", "\n", fsm.CodeMissing, "empty"},
		{"table", "Name   State  OwnerGroup ResourceType\n----   -----  ---------- ------------\nx  Online y z\n", fsm.CodeMalformed, "add `| ConvertTo-Json -Depth 3`"},
		{"clixml", "<Objs Version=\"1.1.0.1\">", fsm.CodeMalformed, "Export-Clixml"},
		{"csv", "#TYPE Microsoft.FailoverClusters\n", fsm.CodeMalformed, "Export-Csv"},
		{"keepalived", "vrrp_instance x {\n}\n", fsm.CodeMalformed, "import keepalived"},
		{"cib", "<cib>\n", fsm.CodeMalformed, "import pacemaker"},
		{"cut off", "[\n" + resource + ",\n{", fsm.CodeMalformed, "no JSON"},
		{"a number", "[\n1\n]", fsm.CodeMalformed, "an object of the cluster was expected"},
		{"no resources", `[{"Name":"N1","NodeWeight":1}]`, fsm.CodeMissing, "no resources were given: `Get-ClusterResource"},
		{"no parameters", resource, fsm.CodeMissing, "Get-ClusterParameter"},
		{"no nodes", "[" + resource + `,{"ClusterObject":"A","Name":"Address","Value":"10.0.0.5"}]`, fsm.CodeMissing, "Get-ClusterNode"},
		{"no address", `[{"Name":"A","ResourceType":"Physical Disk","OwnerGroup":"G"},{"ClusterObject":"A","Name":"x","Value":1},{"Name":"N1","NodeWeight":1}]`, fsm.CodeMissing, "nothing to import"},
		{"odd UTF-16", "\xff\xfea", manifest.CodeEncoding, "cut off"},
	} {
		_, err := Import([]manifest.Source{{Name: "in.json", Data: []byte(row.text)}})
		if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "in.json") || !strings.Contains(fmt.Sprintf("%#v", err), string(row.code)) {
			t.Errorf("%s: %v, want %s %q", row.name, err, row.code, row.want)
		}
	}
	if _, err := Import(nil); err == nil {
		t.Error("nothing was taken")
	}
	twice := manifest.Source{Name: "a", Data: []byte(resource)}
	if _, err := Import([]manifest.Source{twice, twice}); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("a file twice: %v", err)
	}
}

// FuzzImport: any bytes are imported into what can be read back, or refused.
func FuzzImport(f *testing.F) {
	for _, name := range []string{"testdata/golden/faults/all.json", "testdata/golden/one-of-each/group.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`[{"a":1},[2],{"OwnerNodes":{}}] {} "x"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Import([]manifest.Source{{Name: "in.json", Data: data}})
		goldens.Fuzzed(t, got, err)
	})
}
