package identity

import "time"

// warnSteps are the times left at which a warning begins, or that part of a short life.
var warnSteps = []struct {
	left time.Duration
	part time.Duration
}{{7 * 24 * time.Hour, 16}, {30 * 24 * time.Hour, 8}, {60 * 24 * time.Hour, 4}}

// WarnStep returns which warning a certificate with so much of its life left deserves: 0 = none,
// 1 = 60 days, 2 = 30 days, 3 = 7 days, WarnEnded = it has ended. Of a short life it is the last quarter,
// eighth and sixteenth.
func WarnStep(left, life time.Duration) int {
	if left <= 0 {
		return WarnEnded
	}
	for i, w := range warnSteps {
		if left < min(w.left, life/w.part) {
			return len(warnSteps) - i
		}
	}
	return 0
}

// WarnEnded is the step of a certificate that has ended.
const WarnEnded = 4
