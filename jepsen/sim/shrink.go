package sim

import "slices"

// Shrink drops events as long as the schedule still fails, first many at once, then one
// by one, and returns what is left and how often it was played. fails plays one; at most
// tries times.
func Shrink(s Schedule, tries int, fails func(Schedule) bool) (Schedule, int) {
	played := 0
	try := func(events []Event) bool {
		if played >= tries {
			return false
		}
		played++
		t := s
		t.Events = events
		return fails(t)
	}
	for size := max(1, len(s.Events)/2); size >= 1; size /= 2 {
		for i := len(s.Events) - size; i >= 0; i -= size { // late ones first: they often have no part in it
			if rest := slices.Delete(slices.Clone(s.Events), i, min(i+size, len(s.Events))); try(rest) {
				s.Events = rest
				i = min(i, len(s.Events))
			}
		}
	}
	return s, played
}
