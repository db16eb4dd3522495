package main

import (
	"testing"
	"time"

	"havip-cluster/testbed"
)

// Two nodes answered at a time if one answered a question that was sent after the other one's answer had come.
func TestDemoDualOwner(t *testing.T) {
	ms := int64(time.Millisecond)
	answers := func(from, to int64) (list []testbed.Probe) {
		for at := int64(1); at <= 100; at++ {
			p := testbed.Probe{Sent: at * ms}
			if at >= from && at <= to {
				p.Answered, p.Node = at*ms+ms/2, "node"
			}
			list = append(list, p)
		}
		return list
	}
	silent := answers(0, -1)
	for _, row := range []struct {
		name string
		seen [][]testbed.Probe
		dual time.Duration
		n    int
	}{
		{"nobody", [][]testbed.Probe{silent, silent, silent}, 0, 0},
		{"one", [][]testbed.Probe{answers(1, 100), silent, silent}, 0, 100},
		{"a move", [][]testbed.Probe{answers(1, 50), silent, answers(51, 100)}, 0, 100},
		{"a move under way", [][]testbed.Probe{answers(1, 50), answers(50, 100)}, 0, 101},
		{"two owners", [][]testbed.Probe{answers(40, 100), silent, answers(1, 60)}, 19*time.Millisecond + 500*time.Microsecond, 121},
		{"an owner within another one's time", [][]testbed.Probe{answers(1, 100), answers(50, 60)}, 9*time.Millisecond + 500*time.Microsecond, 111},
	} {
		if dual, n := dualOwner(row.seen); dual != row.dual || n != row.n {
			t.Errorf("%s: two owners for %v in %d answers, want %v in %d", row.name, dual, n, row.dual, row.n)
		}
	}
}
