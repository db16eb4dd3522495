//go:build !race

package words

// race: the race detector is on; it allocates, too.
const race = false
