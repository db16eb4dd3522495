package compare

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	ms := time.Millisecond
	text := table{rows: []row{
		{"A", "SIGKILL", []measured{{gap: 3 * ms, certain: 5 * ms, suspect: ms, skippedPolls: 2}, {gap: 9 * ms}, {gap: 4 * ms, skippedProbes: 1}}},
		{"A", "partition", []measured{{gap: 1500 * time.Microsecond}}},
		{"B", "SIGKILL", []measured{{gap: 2 * ms}}},
	}}.markdown()
	for _, want := range []string{
		"| SIGKILL | A | 3 | 4.0 | 9.0 | 5.0 | 1.0 |\n| SIGKILL | B | 1 | 2.0 | 2.0 | 0.0 | 0.0 |\n| partition | A | 1 | 1.5 | 1.5 | 0.0 | 0.0 |\n",
		"missed 3 ticks in 5 runs",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("the median of nothing")
	}
}

// Every contender goes through every fault under the names that the table uses.
func TestNamesAreDistinct(t *testing.T) {
	var names []string
	for _, e := range entries() {
		names = append(names, e.name)
	}
	for _, f := range faults() {
		if f.strike == nil || f.mend == nil {
			t.Errorf("%s: incomplete", f.name)
		}
		names = append(names, f.name)
	}
	sorted := slices.Sorted(slices.Values(names))
	if len(slices.Compact(sorted)) != len(names) {
		t.Errorf("a name twice: %q", names)
	}
}

func TestKeepalivedConfig(t *testing.T) {
	havip := netip.MustParseAddr("10.77.0.100")
	for _, s := range []settings{defaults, tuned} {
		seen := map[string]bool{}
		for node := 1; node <= nodes; node++ {
			text := s.config(node, "eth0", havip)
			for _, want := range []string{"state BACKUP", "nopreempt", "10.77.0.100/32 dev eth0", "advert_int " + s.advert + "\n"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			_, priority, _ := strings.Cut(text, "\n  priority ")
			priority, _, _ = strings.Cut(priority, "\n")
			if seen[priority] {
				t.Errorf("two nodes have priority %s", priority)
			}
			seen[priority] = true
		}
	}
}
