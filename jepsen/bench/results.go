package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// results are what one run measured; results.json.
type results struct {
	Set        string         `json:"set"`
	Runs       int            `json:"runs"`
	Date       string         `json:"date"`
	Commit     string         `json:"commit"`
	Kernel     string         `json:"kernel"`
	Cores      int            `json:"cores"`
	CPU        string         `json:"cpu"`
	Keepalived string         `json:"keepalived"`
	Rows       []row          `json:"rows"`
	Costs      []Cost         `json:"costs"`
	Refused    []refusedScene `json:"refused,omitempty"`
	Gates      []verdict      `json:"gates"`
}

// refusedScene is one that the contender did not take.
type refusedScene struct{ Scene, Reason string }

// row is one fault of one contender, all its runs.
type row struct {
	Contender string
	Voters    int
	HAVIPs    int
	Busy      bool
	Fault     string
	GapsMS    []float64
	TwoMS     float64 // two owners for certain, the longest of all runs
	SuspectMS float64
	Changes   int    // of the owner, the most of all runs
	AllChange int    // of all runs together
	Missed    uint64 // ticks of the instruments
}

func (w *row) add(m measured) {
	w.GapsMS = append(w.GapsMS, ms(m.gap))
	w.TwoMS, w.SuspectMS = max(w.TwoMS, ms(m.certain)), max(w.SuspectMS, ms(m.suspect))
	w.Changes, w.AllChange, w.Missed = max(w.Changes, m.changes), w.AllChange+m.changes, w.Missed+m.missed
}

// quantile is the nearest rank of the sorted gaps at q, 0 to 1, in ms; 0 of none.
func (w row) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(w.GapsMS))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func ms(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

// describe names what the figures depend on.
func (r *results) describe() error {
	cmd := exec.Command("keepalived", "--version")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out // it writes to stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("keepalived --version: %w; `make bench` installs the distribution's package", err)
	}
	version, _, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
	r.Keepalived, _, _ = strings.Cut(version, " (")
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	r.Kernel, r.Cores = unix.ByteSliceToString(name.Release[:]), runtime.NumCPU()
	r.Date = time.Now().UTC().Format(time.DateOnly)
	if commit, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(commit))
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			r.CPU = strings.TrimSpace(value)
		}
	}
	return nil
}

// write puts results.json, README.md and the plots into a folder.
func (r *results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "README.md"), []byte(r.page()), 0o644),
		r.draw(dir))
}

// read is the reverse.
func read(path string) (*results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
