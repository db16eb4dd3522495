package checker

import (
	"strings"
	"testing"

	"havip-cluster/jepsen/history"
)

const tms = int64(1e6) // a millisecond

// twoNodes is a history in which both fences and both ports were watched.
func twoNodes(kernel []history.Kernel, frames []history.Frames) *history.History {
	h := &history.History{Runs: []history.Run{{Nodes: []string{"a", "b"}}}, Kernel: kernel, Frames: frames}
	for _, node := range []string{"a", "b"} {
		h.Series = append(h.Series, history.Series{Kind: history.Sampling, Target: node, Count: 100},
			history.Series{Kind: history.Capturing, Target: node})
	}
	return h
}

func sampled(node, state string, first, last int64) history.Kernel {
	return history.Kernel{Node: node, HAVIP: "v", State: state, First: first * tms, Last: last * tms, Widest: 4 * tms, Samples: uint64(last-first)/4 + 1}
}

func TestSingleKernel(t *testing.T) {
	open := func(node string, first, last int64) history.Kernel {
		return sampled(node, history.FenceOpen, first, last)
	}
	wide := open("b", 50, 150)
	wide.Widest = 40 * tms
	other := open("b", 50, 150)
	other.HAVIP = "w"
	for _, c := range []struct {
		name string
		h    *history.History
		want Validity
	}{
		{"empty", &history.History{}, Unknown},
		{"nothing open", twoNodes(nil, nil), Unknown},
		{"one after the other", twoNodes([]history.Kernel{open("a", 0, 100), open("b", 101, 200)}, nil), Valid},
		{"planted: both open", twoNodes([]history.Kernel{open("a", 0, 100), open("b", 90, 200)}, nil), Invalid},
		{"planted: one within the other", twoNodes([]history.Kernel{open("a", 0, 100), open("b", 40, 50)}, nil), Invalid},
		{"two HAVIPs", twoNodes([]history.Kernel{open("a", 0, 100), other}, nil), Valid},
		{"same node twice", twoNodes([]history.Kernel{open("a", 0, 100), open("a", 90, 200)}, nil), Valid},
		{"there and back between two samples", twoNodes([]history.Kernel{open("a", 0, 100), wide}, nil), Valid},
		{"expired beside open", twoNodes([]history.Kernel{open("a", 0, 100), sampled("b", history.FenceExpired, 0, 100)}, nil), Valid},
	} {
		if v := SingleKernel(c.h); v.Valid != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
	unwatched := twoNodes([]history.Kernel{open("a", 0, 100)}, nil)
	unwatched.Runs[0].Nodes = append(unwatched.Runs[0].Nodes, "c")
	if v := SingleKernel(unwatched); v.Valid != Unknown || !strings.Contains(v.Message, "c was never") {
		t.Errorf("a node without samples: %v", v)
	}
}

func TestNoFrameAfterDeadline(t *testing.T) {
	sent := func(node string, first, last int64) history.Frames {
		return history.Frames{Node: node, HAVIP: "v", First: first * tms, Last: last * tms, Count: uint64(last-first) + 1}
	}
	closed := []history.Kernel{sampled("a", history.FenceOpen, 0, 100), sampled("a", history.FenceExpired, 104, 400), sampled("a", history.FenceOpen, 404, 500)}
	shut := []history.Kernel{sampled("a", history.FenceShut, 104, 400)}
	for _, c := range []struct {
		name   string
		kernel []history.Kernel
		frames []history.Frames
		want   Validity
	}{
		{"no frames", closed, nil, Unknown},
		{"never closed", closed[:1], []history.Frames{sent("a", 0, 99)}, Unknown},
		{"silent in time", closed, []history.Frames{sent("a", 0, 102), sent("a", 402, 480)}, Valid},
		{"handed over late", closed, []history.Frames{sent("a", 0, 140)}, Valid},
		{"planted: goes on after the deadline", closed, []history.Frames{sent("a", 0, 200)}, Invalid},
		{"planted: goes on throughout", closed, []history.Frames{sent("a", 0, 500)}, Invalid},
		{"planted: one frame while expired", closed, []history.Frames{sent("a", 0, 100), sent("a", 300, 300)}, Invalid},
		{"open between two samples", shut, []history.Frames{sent("a", 300, 303)}, Valid},
		{"planted: goes on while shut", shut, []history.Frames{sent("a", 300, 316)}, Invalid},
		{"planted: goes on after it was shut", shut, []history.Frames{sent("a", 0, 200)}, Invalid},
		{"the other node", closed, []history.Frames{sent("b", 200, 300)}, Valid},
	} {
		if v := NoFrameAfterDeadline(twoNodes(c.kernel, c.frames)); v.Valid != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
	h := twoNodes(closed, []history.Frames{sent("a", 0, 100)})
	h.Series = h.Series[:3] // b's port was not captured
	if v := NoFrameAfterDeadline(h); v.Valid != Unknown {
		t.Errorf("a node without capture: %v", v)
	}
	if v := NoFrameAfterDeadline(&history.History{}); v.Valid != Unknown {
		t.Errorf("empty: %v", v)
	}
}
