//go:build race

package datagram

// race: the race detector is on; it allocates, too.
const race = true
