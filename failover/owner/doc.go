// Package owner decides what this node may answer for, and makes its interfaces show exactly that: the
// hand-off (Handoff, pure) and the one writer to the interfaces (Agent).
package owner
