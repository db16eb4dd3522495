//go:build !race

package labtest

// Race says that the race detector is on: what it makes ten times slower or larger, or allocate, cannot be measured then.
const Race = false
