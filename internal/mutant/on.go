//go:build mutants

package mutant

import (
	"os"
	"sync/atomic"
)

var current atomic.Pointer[string]

func init() {
	if name := os.Getenv("HAVIP_MUTANT"); name != "" {
		Set(name)
	}
}

// Set switches on the planted bug called name, and every other one off; the empty
// name switches all off. Tests only.
func Set(name string) { current.Store(&name) }

// Active reports whether the named planted bug is switched on.
func Active(name string) bool {
	p := current.Load()
	return p != nil && *p == name
}
