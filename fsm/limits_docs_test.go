package fsm

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The operator's page has these limits as the state has them.
func TestLimitsInDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	thousands := func(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }
	for _, row := range []string{
		fmt.Sprintf("| nodes, of these that vote | %d, %d |", MaxNodes, MaxVoters),
		fmt.Sprintf("| subnets, groups of HAVIPs | %s, %s |", thousands(MaxSubnets), thousands(MaxGroups)),
		fmt.Sprintf("| members of a range, bans of a HAVIP | %d (`range-members`, up to %d), %d |", MaxRangeMembers, RangeMembersCap, MaxBans),
		fmt.Sprintf("| webhooks | %d |", MaxWebhooks),
		fmt.Sprintf("| join tokens that wait | %d |", MaxTokens),
		fmt.Sprintf("| applied configurations to roll back to, all of them | %d, %d MiB |", MaxRevisions, MaxRevisionBytes>>20),
	} {
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/operating.md lacks %q", row)
		}
	}
}
