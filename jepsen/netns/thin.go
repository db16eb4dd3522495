package netns

import (
	"slices"

	"havip-cluster/jepsen/history"
)

const (
	thinNear = 8   // polls before and after anything of interest that are kept
	thinBeat = 500 // of the dull polls one in so many is kept, to show that the world moved
)

// Thin forgets the dull among the answers so far: those to polls that one and the same node answered,
// with all polls around. What checker.DualOwner finds does not change by it. An observer that
// runs for long calls it every few seconds.
func (o *Observer) Thin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, thin(o.answers)...)
	o.answers = nil
}

// thin keeps the answers to polls near a change, a loss or an end of the list.
func thin(answers []history.Answer) []history.Answer {
	byHAVIP := map[string]map[uint64]string{} // poll: the node that answered alone, or "" for several
	for _, a := range answers {
		polls := byHAVIP[a.HAVIP]
		if polls == nil {
			polls = map[uint64]string{}
			byHAVIP[a.HAVIP] = polls
		}
		if node, seen := polls[a.Poll]; seen && node != a.Node {
			polls[a.Poll] = ""
		} else if !seen {
			polls[a.Poll] = a.Node
		}
	}
	return slices.DeleteFunc(slices.Clone(answers), func(a history.Answer) bool {
		return a.Poll%thinBeat != 0 && dull(byHAVIP[a.HAVIP], a)
	})
}

func dull(polls map[uint64]string, a history.Answer) bool {
	for n := a.Poll - min(a.Poll, thinNear); n <= a.Poll+thinNear; n++ {
		if node, seen := polls[n]; !seen || node != a.Node {
			return false
		}
	}
	return true
}
