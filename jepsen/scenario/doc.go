// Package scenario runs whole clusters of the real binary on the real kernel through one
// fault each, and measures what a client and an observer see. The measurements behind the
// README come from here: `make measure` prints them.
package scenario
