package limits

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The operator's page has this table's numbers.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		"| HAVIPs of a cluster | " + thousands(HAVIPs) + " |",
		fmt.Sprintf("| ENIs of a node, addresses of an ENI | %d, %d;", ENIsPerNode, PrefixesPerENI),
		"| addresses that one fence guards | " + thousands(FenceEntries) + " |",
		fmt.Sprintf("| checks of services, bytes of a result that go into the log | %s, %d |", thousands(Checks), CheckOutput),
		fmt.Sprintf("| tokens of people and programs | %d |", Credentials),
		fmt.Sprintf("| accepted changes that `audit` remembers, refused ones of one node | %s, %d |", thousands(Audited), Refusals),
		fmt.Sprintf("| files of events that one node keeps, size of one | %d, %d MiB |", ChronicleFiles, ChronicleFileBytes>>20),
		fmt.Sprintf("| configurations that one node reads at once, size of one | %d, %d MiB;", Files, FileBytes>>20),
	} {
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/operating.md lacks %q", row)
		}
	}
	if HAVIPs > FenceEntries || ENIsPerNode > FenceDevices || AssignmentsLevel2 > Assignments || Assignments < HAVIPs {
		t.Error("a limit is above one that it must fit into")
	}
}

func thousands(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }
