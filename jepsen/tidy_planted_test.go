package jepsen_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plant writes a tree of files below a new folder.
func plant(t *testing.T, tree map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range tree {
		full := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func importing(paths ...string) string {
	text := "package x\n"
	for _, p := range paths {
		text += "import _ \"" + p + "\"\n"
	}
	return text
}

// Each row plants one breach and names what must be said about it.
func TestTidyFindsPlantedBreaches(t *testing.T) {
	const m = modulePath
	long := "package x\nfunc Long() {\n" + strings.Repeat("\n", functionLinesMax-1) + "}\n"
	for _, row := range []struct {
		name, file, text, want string
	}{
		{"netdev to fsm", "netdev/a.go", importing(m + "fsm"), "netdev must not import fsm; it may import only internal/... of the project"},
		{"fence to netdev", "netdev/fence/a.go", importing(m + "netdev"), "netdev/fence must not import netdev"},
		{"placement to fsm", "fsm/placement/a.go", importing(m + "fsm"), "fsm/placement must not import fsm"},
		{"placement to lease", "fsm/placement/a.go", importing(m + "failover/lease"), "it may import havip and internal/..."},
		{"membership to netdev", "membership/a.go", importing(m + "netdev"), "membership must not import netdev"},
		{"identity to fsm", "membership/identity/a.go", importing(m + "fsm"), "membership/identity must not import fsm"},
		{"failover to membership", "failover/a.go", importing(m + "membership"), "failover must not import membership"},
		{"owner to leader", "failover/owner/a.go", importing(m + "failover/leader"), "failover/owner must not import failover/leader"},
		{"shell to owner", "failover/lease/shell/a.go", importing(m + "failover/owner"), "failover/lease/shell must not import failover/owner"},
		{"owner to Member", "failover/owner/a.go", importing(m + "failover"), "failover/owner must not import failover;"},
		{"lease to fsm", "failover/lease/a.go", importing(m + "fsm"), "failover/lease must not import fsm"},
		{"api to failover", "api/a.go", importing(m + "failover"), "api must not import failover"},
		{"below api to failover", "api/console/a.go", importing(m + "failover"), "api/console must not import failover"},
		{"checker to sim", "jepsen/checker/a.go", importing(m + "jepsen/sim"), "it may import jepsen/history and internal/..."},
		{"internal to internal", "internal/a/a.go", importing(m + "internal/b"), "it may import nothing of the project"},
		{"binary to jepsen", "cmd/havip-cluster/a.go", importing(m + "jepsen/netns"), "cmd/havip-cluster must not import jepsen/netns"},
		{"test bed to fsm", "testbed/a.go", importing(m + "fsm"), "testbed must not import fsm"},
		{"stranger", "tools/a.go", importing(m + "fsm"), "folder tools is not in the house"},
		{"behind a build tag", "netdev/a.go", "//go:build never\n\n" + importing(m+"fsm"), "netdev must not import fsm"},
		{"clock", "fsm/a.go", "package x\nimport \"time\"\nvar t = time.Now()\n", "fsm/a.go:3: fsm is a pure core: no time.Now;"},
		{"clock by another name", "fsm/a.go", "package x\nimport clock \"time\"\nvar t = clock.Since\n", "no time.Since"},
		{"randomness", "fsm/placement/a.go", importing("math/rand/v2"), "fsm/placement/a.go:2: fsm/placement is a pure core: no import of math/rand/v2"},
		{"lock", "failover/lease/a.go", importing("sync"), "no import of sync;"},
		{"failover that writes to the kernel", "failover/a.go", importing(modulePath + "netdev"), "failover must not import netdev"},
		{"edge that knows the log", "edge/a.go", importing(modulePath + "fsm"), "edge must not import fsm"},
		{"a plan with a clock", "edge/plan.go", "package x\nimport \"time\"\nvar t = time.Now()\n", "time.Now"},
		{"atomics", "failover/lease/a.go", importing("sync/atomic"), "no import of sync/atomic"},
		{"goroutine", "failover/lease/a.go", "package x\nfunc f() { go f() }\n", "no go statement"},
		{"long file", "api/a.go", "package x\n" + strings.Repeat("//\n", fileLinesMax), "api/a.go has 501 lines, the limit is 500"},
		{"long function", "api/a.go", long, "api/a.go:Long has 71 lines, the limit is 70"},
		{"long method", "api/a.go", strings.Replace(long, "func ", "func (*T) ", 1), "api/a.go:Long has 71 lines"},
		{"planted bug", "fsm/a.go", "package x\n\nvar a = mutant.Active(\"fsm-key\")\n", `fsm/a.go:3: "mutant": a planted bug is a patch of jepsen/mutants`},
		{"word of a planted bug", "netdev/a.go", "package x\n// only the Planted bug needs it\n", `netdev/a.go:2: "Planted bug"`},
		{"tag of planted bugs", "api/a.go", "//go:build mutants\n\npackage x\n", `api/a.go:1: "mutant"`},
		{"no design", "fsm/placement/a.go", "package x\n", "fsm/placement/DESIGN.md is missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			tree := map[string]string{row.file: row.text}
			for _, folder := range house {
				if row.name != "no design" {
					tree[folder+"/DESIGN.md"] = "x"
				}
			}
			root := plant(t, tree)
			findings := tidy(root, readTree(t, root), nil)
			if len(findings) != 1 || !strings.Contains(findings[0], row.want) {
				t.Fatalf("want one finding with %q, got %q", row.want, findings)
			}
		})
	}
}

// What is allowed must stay silent: a checker that always finds something proves nothing either.
func TestTidyAcceptsGoodTree(t *testing.T) {
	const m = modulePath
	long := "func f() {\n" + strings.Repeat("\n", functionLinesMax) + "}\n"
	root := plant(t, map[string]string{
		"netdev/a.go":               importing(m+"internal/clock", "sync", "time"),
		"netdev/DESIGN.md":          "x",
		"fsm/placement/a.go":        importing(m+"internal/limits") + "import \"time\"\nvar d = time.Second\nvar t time.Time\n",
		"fsm/placement/b.go":        "package x\nvar time struct{ Now int }\nvar n = time.Now // no package\n",
		"fsm/placement/a_test.go":   importing("math/rand", m+"api"),
		"fsm/placement/DESIGN.md":   "x",
		"failover/a.go":             importing(m+"fsm", m+"failover/leader", m+"failover/lease/shell", m+"failover/owner"),
		"failover/leader/a.go":      importing(m+"fsm", m+"fsm/placement", m+"failover/lease", m+"failover/wire"),
		"failover/DESIGN.md":        "x",
		"failover/leader/DESIGN.md": "x",
		"edge/a.go":                 importing(m+"netdev", m+"netdev/fence", m+"internal/limits"),
		"edge/DESIGN.md":            "x",
		"cmd/x/a.go":                importing(m+"api", m+"agent", m+"testbed"),
		"jepsen/sim/a.go":           importing(m+"failover", m+"jepsen/checker", m+"jepsen/mutants/mutant"),
		"fsm/a_test.go":             "//go:build mutants\n\n" + importing(m+"jepsen/mutants/mutant"),
		"jepsen/sim/DESIGN.md":      "x",
		"netdev/gen.go":             "// Code generated by x. DO NOT EDIT.\n\npackage x\n" + long,
		"api/testdata/a.go":         importing(m + "failover"),
		"bin/a.go":                  "this is not Go",
		".git/a.go":                 "nor this",
	})
	if findings := tidy(root, readTree(t, root), nil); len(findings) != 0 {
		t.Fatalf("findings in a good tree: %q", findings)
	}
}

func TestTidyAllowances(t *testing.T) {
	root := plant(t, map[string]string{
		"cmd/x/a.go": "package x\nfunc Long() {\n" + strings.Repeat("\n", functionLinesMax) + "}\nfunc Short() {}\n",
	})
	allowed := []allowance{
		{"cmd/x/a.go:Long", "one table"},
		{"cmd/x/a.go:Short", "was long once"},
		{"cmd/x/gone.go", ""},
	}
	want := []string{
		"cmd/x/a.go:Short is allowed to be long, but is not: drop the allowance",
		"cmd/x/gone.go is allowed to be long without a reason: give one",
		"cmd/x/gone.go is allowed to be long, but is not: drop the allowance",
	}
	got := tidy(root, readTree(t, root), allowed)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}
