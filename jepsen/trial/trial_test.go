package trial

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/history"
	"havip-cluster/jepsen/mutants/planted"
	"havip-cluster/jepsen/netns"
	"havip-cluster/jepsen/report"
)

func TestMain(m *testing.M) {
	code, done, err := netns.Isolate()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if done {
		os.Exit(code)
	}
	netns.RaisePriority()
	os.Exit(m.Run())
}

// logEnd is how many bytes of each agent's log a failed test shows.
const logEnd = 6000

// attempt builds the binary, with a planted bug if one is named, and leads it through the first
// episodes of a seed.
func attempt(t *testing.T, c Config, mutant string) (*history.History, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "havip-jepsen-") // short: the path of a socket is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		for _, path := range logs {
			if text, err := os.ReadFile(path); err == nil && t.Failed() {
				t.Logf("--- %s, its end:\n%s", filepath.Base(path), text[max(0, len(text)-logEnd):])
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.Binary, c.Dir, c.Log = filepath.Join(dir, "havip-cluster"), dir, t.Logf
	args := []string{"build", "-trimpath", "-o", c.Binary}
	if mutant != "" {
		overlay, err := planted.Overlay(dir, mutant)
		if err != nil {
			t.Fatal(err)
		}
		args, c.Env = append(args, "-overlay", overlay), append(c.Env, "HAVIP_MUTANT="+mutant)
	}
	cmd := exec.Command("go", append(args, "havip-cluster/cmd/havip-cluster")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return Run(t.Context(), c)
}

// A short run of a fixed seed: the faults that test most in the least time, each alone and then in
// pairs. `make jepsen` does all of them, for as long as one likes.
func TestJepsen(t *testing.T) {
	kinds := []string{"kill both", "freeze both", "partition", "kill leader", "one-way out", "failing disk", "hung disk", "other clock"}
	episodes := len(kinds) + 3
	if testing.Short() {
		episodes = 6 // as few as a verdict on growth needs
	}
	h, err := attempt(t, Config{Seed: 4, Nodes: 5, Episodes: episodes, Kinds: kinds}, "")
	if err != nil {
		t.Error(err)
	}
	if len(h.Faults) < episodes/2 {
		t.Errorf("%d faults took place in %d episodes", len(h.Faults), episodes)
	}
	verdicts := checker.All(h, Budgets(Lease, os.Getenv("HAVIP_MEASURE") != ""))
	for _, v := range verdicts {
		t.Log(v)
		if !v.Pass() {
			t.Error(v)
		}
	}
	// What is written is what was judged, and can be drawn.
	var file, page bytes.Buffer
	if err := history.Encode(&file, h); err != nil {
		t.Fatal(err)
	}
	again, err := history.Decode(&file)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range checker.All(again, Budgets(Lease, false)) {
		if v.Valid != checker.All(h, Budgets(Lease, false))[i].Valid {
			t.Errorf("read back: %v", v)
		}
	}
	if err := report.Write(&page, h, verdicts); err != nil || page.Len() == 0 {
		t.Errorf("report of %d bytes: %v", page.Len(), err)
	}
}

func TestConfigRefusals(t *testing.T) {
	for name, c := range map[string]Config{
		"unknown kind":  {Nodes: 5, Episodes: 1, Kinds: []string{"kill bill"}},
		"no kind":       {Nodes: 5, Episodes: 1, Kinds: []string{""}},
		"two nodes":     {Nodes: 2, Episodes: 1},
		"ten nodes":     {Nodes: 10, Episodes: 1},
		"no end":        {Nodes: 5},
		"two ends":      {Nodes: 5, Episodes: 1, Duration: 1},
		"negative time": {Nodes: 5, Duration: -1},
	} {
		if h, err := Run(t.Context(), c); err == nil || h == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

// The checkers see two owners when there are two: the real binary with a planted bug.
func TestJepsenSeesPlantedBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("left out of the short run")
	}
	for mutant, seen := range map[string]func(*history.History) checker.Verdict{
		"handoff-early": checker.SingleKernel, // the next owner does not wait for the former one's release
	} {
		h, err := attempt(t, Config{Seed: 5, Nodes: 3, Episodes: 2, Kinds: []string{"bridge"}}, mutant)
		if err != nil {
			t.Logf("%s: %v", mutant, err)
		}
		if v := seen(h); v.Valid != checker.Invalid {
			t.Errorf("%s was not noticed: %v", mutant, v)
		} else {
			t.Logf("%s: %v", mutant, v)
		}
	}
}
