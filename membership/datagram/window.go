package datagram

const (
	windowWords = 32                     // words of 64 frames each
	windowSize  = 64 * (windowWords - 1) // frames behind the newest that may still come, in the way of RFC 6479
)

// window remembers which frames of a channel have come, so that none counts twice (RFC 4303,
// section 3.4.3; the ring of words is that of RFC 6479). The zero value has seen none.
type window struct {
	newest uint64
	seen   [windowWords]uint64
}

// fresh reports whether a frame has not come yet. It changes nothing: a frame counts only when
// it is authentic.
func (w *window) fresh(number uint64) bool {
	switch {
	case number == 0:
		return false
	case number > w.newest:
		return true
	case w.newest-number >= windowSize:
		return false
	}
	return w.seen[number/64%windowWords]&(1<<(number%64)) == 0
}

// mark notes that an authentic frame has come.
func (w *window) mark(number uint64) {
	if number > w.newest {
		from, to := w.newest/64, number/64
		for i := range min(to-from, windowWords) {
			w.seen[(to-i)%windowWords] = 0
		}
		w.newest = number
	}
	w.seen[number/64%windowWords] |= 1 << (number % 64)
}
