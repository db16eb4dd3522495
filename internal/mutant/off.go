//go:build !mutants

// Package mutant plants known bugs in a test build, one per safety rule, so that
// the checkers can be shown to catch them. In an ordinary build Active is the
// constant false and every planted bug is removed by the compiler.
package mutant

// Active reports whether the named planted bug is switched on. It is always false
// without the build tag "mutants".
func Active(string) bool { return false }

// Pause does nothing without the build tag "mutants".
func Pause(string) {}
