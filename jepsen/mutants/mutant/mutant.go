// Package mutant is the switch of the planted bugs. The patches of jepsen/mutants call it, so
// it is linked where these are applied and nowhere else.
package mutant

import (
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

var current atomic.Pointer[string]

// spared: $HAVIP_MUTANT_UNPROVED is set, and this process is the child of a fence's proof
// ($HAVIP_FENCE_PROOF). A bug that the proof notices would never come to serve.
var spared = os.Getenv("HAVIP_MUTANT_UNPROVED") != "" && os.Getenv("HAVIP_FENCE_PROOF") != ""

func init() {
	if spared {
		return
	}
	if name := os.Getenv("HAVIP_MUTANT"); name != "" {
		Set(name)
	}
}

// Set switches on the planted bug called name, and every other one off; the empty
// name switches all off. It panics if the bug is not in this build, where nothing
// could notice it.
func Set(name string) {
	if name != "" && !slices.Contains(planted, name) {
		panic("mutant: this build has no planted bug " + name + "; make mutants applies its patch (jepsen/mutants/DESIGN.md)")
	}
	current.Store(&name)
}

// Active reports whether the named planted bug is switched on. Any goroutine.
func Active(name string) bool {
	p := current.Load()
	return p != nil && *p == name
}

// $HAVIP_MUTANT_PAUSE, "point=duration": a window between two instructions that
// is too short to be hit in a test, made wide.
var pausePoint, pauseLength = func() (string, time.Duration) {
	point, length, _ := strings.Cut(os.Getenv("HAVIP_MUTANT_PAUSE"), "=")
	d, err := time.ParseDuration(length)
	if err != nil || spared {
		return "", 0
	}
	return point, d
}()

// Pause waits at the named point, if the environment says so. It is no bug by itself.
func Pause(point string) {
	if point == pausePoint && point != "" {
		time.Sleep(pauseLength)
	}
}
