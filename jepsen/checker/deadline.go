package checker

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"havip-cluster/jepsen/history"
)

// frameDelay is how long a frame may take from the fence that let it pass to the switch's port
// where it is stamped: the kernel hands it over in a softirq, which waits on a busy machine.
const frameDelay = 50 * time.Millisecond

// NoFrameAfterDeadline checks that a node sends no frame in the name of a HAVIP while its own
// kernel forbids it: from the moment on at which a sample saw the fence shut or the deadline passed,
// up to the last sample that saw the same. An expired run has one deadline, so nothing was
// renewed between two of its samples: one frame is enough. A shut fence may open and shut between
// two samples, and does: a node that has been cut off hears at once that it owns a HAVIP and
// that it does so no more. So while it is shut only frames that go on for longer than samplesApart count,
// past several samples. Frames of the first frameDelay are the measuring error; the message
// names the latest.
//
// It is unknown if frames or fences were not watched at some node, or if there was never both:
// frames of a HAVIP, and a fence that was closed to one.
func NoFrameAfterDeadline(h *history.History) Verdict {
	v := Verdict{Check: "no frame after the deadline", Message: "no frame was captured"}
	if missing := unsampled(h); missing != "" {
		v.Message = missing
		return v
	}
	captured := map[string]bool{}
	for _, s := range h.Series {
		if s.Kind == history.Capturing {
			captured[s.Target] = true
		}
	}
	for _, node := range nodesOf(h) {
		if !captured[node] {
			v.Message = "frames of " + node + " were not captured"
			return v
		}
	}
	if len(h.Frames) == 0 {
		return v
	}
	closed, late, latest, first := closedRuns(h.Kernel), 0, time.Duration(0), ""
	var frames uint64
	for _, f := range h.Frames {
		frames += f.Count
		lag, at := framesWhileClosed(f, closed[[2]string{f.Node, f.HAVIP}])
		latest = max(latest, lag)
		if lag > frameDelay {
			late++
			first = cmp.Or(first, fmt.Sprintf("%s sent for %s %v after its fence was seen closed, at %v", f.Node, f.HAVIP, lag, ns(at)))
		}
	}
	switch {
	case late > 0:
		v.Valid, v.Message = Invalid, fmt.Sprintf("%d times: %s", late, first)
	case len(closed) == 0:
		v.Message = "no fence was ever closed, so no deadline was put to the test"
	default:
		v.Valid = Valid
		v.Message = fmt.Sprintf("%d frames, the latest stamped %v after its fence was seen closed (up to %v is handing over)", frames, latest, frameDelay)
	}
	return v
}

// closedRuns are the times in which a node may not speak for a HAVIP, by both, in order.
func closedRuns(list []history.Kernel) map[[2]string][]history.Kernel {
	runs := map[[2]string][]history.Kernel{}
	for _, k := range list {
		tight := k.State == history.FenceExpired || (k.State == history.FenceShut && k.Widest <= int64(samplesApart))
		if tight && k.Last > k.First {
			key := [2]string{k.Node, k.HAVIP}
			runs[key] = append(runs[key], k)
		}
	}
	for _, list := range runs {
		slices.SortFunc(list, func(a, b history.Kernel) int { return cmp.Compare(a.First, b.First) })
	}
	return runs
}

// framesWhileClosed is how long after the begin of a closed run the run of frames goes on, with
// the time of that frame; 0 if it does not. Within a run of frames there is one at least
// every FramesApart, so only its two ends and overlaps longer than that prove a frame.
func framesWhileClosed(f history.Frames, closed []history.Kernel) (lag time.Duration, at int64) {
	for _, k := range closed {
		if k.First > f.Last {
			break
		}
		if k.State == history.FenceShut && ns(min(f.Last, k.Last)-max(f.First, k.First)) <= samplesApart {
			continue
		}
		var seen int64
		switch {
		case f.Last <= k.Last:
			seen = f.Last
		case k.Last-k.First > history.FramesApart && f.First < k.Last-history.FramesApart:
			seen = k.Last - history.FramesApart // some frame lies between there and Last
		case f.First >= k.First && f.First <= k.Last:
			seen = f.First
		default:
			continue
		}
		if d := ns(seen - k.First); d > lag {
			lag, at = d, seen
		}
	}
	return lag, at
}
