package faults

import (
	"os"
	"strings"
	"testing"
)

// Each fault has a player, a name of its own, and what it does.
func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Catalogue {
		if f.Name == "" || f.What == "" || seen[f.Name] || !f.Trial && len(f.Bench)+len(f.Sim) == 0 {
			t.Errorf("%+v", f)
		}
		if (!f.Trial && len(f.Bench) == 0 || len(f.Sim) == 0) && f.Why == "" {
			t.Errorf("%s: a player lacks it, and nothing says why", f.Name)
		}
		seen[f.Name] = true
	}
}

func TestTheDesignHasTheCatalogue(t *testing.T) {
	text, err := os.ReadFile("../DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), Markdown()) {
		t.Errorf("jepsen/DESIGN.md has not this table:\n%s", Markdown())
	}
}
