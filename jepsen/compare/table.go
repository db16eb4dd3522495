package compare

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// table is the result: one row for each contender and fault.
type table struct{ rows []row }

type row struct {
	contender, fault string
	runs             []measured
}

// quantile is the nearest rank of the sorted values at q, 0 to 1; 0 of no values.
func quantile(values []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (r row) of(field func(measured) time.Duration) []time.Duration {
	var list []time.Duration
	for _, m := range r.runs {
		list = append(list, field(m))
	}
	return list
}

// markdown has times in ms. Two owners is the largest of all runs.
func (t table) markdown() string {
	var b strings.Builder
	b.WriteString("| fault | contender | runs | gap p50, ms | gap max, ms | two owners max, ms | suspect max, ms |\n")
	b.WriteString("|---|---|---:|---:|---:|---:|---:|\n")
	var names []string
	for _, r := range t.rows {
		if !slices.Contains(names, r.fault) {
			names = append(names, r.fault)
		}
	}
	var missed, runs uint64
	for _, name := range names {
		for _, r := range t.rows {
			if r.fault != name {
				continue
			}
			gaps := r.of(func(m measured) time.Duration { return m.gap })
			fmt.Fprintf(&b, "| %s | %s | %d | %s | %s | %s | %s |\n", r.fault, r.contender, len(r.runs), ms(quantile(gaps, 0.5)), ms(quantile(gaps, 1)),
				ms(quantile(r.of(func(m measured) time.Duration { return m.certain }), 1)),
				ms(quantile(r.of(func(m measured) time.Duration { return m.suspect }), 1)))
			for _, m := range r.runs {
				missed += m.skippedPolls + m.skippedProbes
				runs++
			}
		}
	}
	fmt.Fprintf(&b, "\nEach fault lasts %s and hits the owner; client (every 1 ms) and observer (every 2 ms) also watch %s after its end.\n", hold, after)
	fmt.Fprintf(&b, "The instruments missed %d ticks in %d runs.\n", missed, runs)
	return b.String()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }

// machine names what the figures depend on.
func machine() (string, error) {
	cmd := exec.Command("keepalived", "--version")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out // it writes to stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("keepalived --version: %w; `make compare` installs the distribution's package", err)
	}
	version, _, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return fmt.Sprintf("%d nodes and a client on one bridge, Linux %s, %d cores; %s.", nodes, unix.ByteSliceToString(name.Release[:]), runtime.NumCPU(), version), nil
}
