package report

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/history"
)

const second = int64(time.Second)

// busy is a run of half an hour with as much going on as a real one.
func busy() *history.History {
	h := &history.History{Runs: []history.Run{{
		Seed: 7, Nodes: []string{"node-1", "node-2", "node-3", "node-4", "node-5"}, HAVIPs: []string{"10.77.0.100", "10.77.0.101"},
		End: 1800 * second, Command: "make jepsen DURATION=30m SEED=7", Start: "2026-01-02T03:04:05Z",
	}}}
	for at := int64(0); at < 1800; at += 2 {
		for i, havip := range h.Runs[0].HAVIPs {
			node := h.Runs[0].Nodes[(at/2+int64(i))%5]
			h.Frames = append(h.Frames, history.Frames{Node: node, HAVIP: havip, First: at * second, Last: (at + 2) * second, Count: 9})
		}
	}
	for i := range int64(300) {
		h.Faults = append(h.Faults, history.Fault{Name: "kill both", Target: "node-1", Begin: i * 6 * second, End: (i*6 + 3) * second})
		for j, node := range h.Runs[0].Nodes {
			h.Marks = append(h.Marks, history.Mark{Kind: history.MarkSession, At: i * 6 * second, Node: node, Value: uint64(i) % 2},
				history.Mark{Kind: history.MarkLeader, At: i * 6 * second, Node: node, Value: uint64((int(i) + j) % 2)})
		}
	}
	h.Series = []history.Series{{Kind: history.Probing, From: "client-1", Target: "10.77.0.100", Every: int64(time.Millisecond)}}
	for i := range int64(3000) {
		p := history.Probe{From: "client-1", Target: "10.77.0.100", Seq: uint64(i), Sent: i * int64(time.Millisecond)}
		if i%1000 > 100 {
			p.Answered, p.Node = p.Sent+1, "node-1"
		}
		h.Probes = append(h.Probes, p)
	}
	return h
}

func TestPage(t *testing.T) {
	var page bytes.Buffer
	verdicts := []checker.Verdict{
		{Check: "single owner", Valid: checker.Valid, Message: "fine"},
		{Check: "evil", Valid: checker.Invalid, Message: `<script>alert("x")</script>`},
		{Check: "blind"},
	}
	if err := Write(&page, busy(), verdicts); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	if page.Len() > 300_000 {
		t.Errorf("half an hour makes %d bytes, want 300 kB at most", page.Len())
	}
	for _, want := range []string{"1 of 3 checks valid", "SEED=7", "make jepsen DURATION=30m", `class="invalid"`, `class="unknown"`, "node-5", "kill both"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := strings.Count(text, "<svg"); n != 10 {
		t.Errorf("%d pictures of 3 minutes in half an hour", n)
	}
	for _, never := range []string{"<script", "nothing found", "http://", "https://", "ZgotmplZ", "NaN", "<no value>"} {
		if strings.Contains(text, never) {
			t.Errorf("the page contains %q", never)
		}
	}
	paths := regexp.MustCompile(` d="([^"]*)"`).FindAllStringSubmatch(text, -1)
	for _, p := range paths {
		if !regexp.MustCompile(`^(M-?[\d.]+ \d+[HV][\d.]+)*$`).MatchString(p[1]) {
			t.Fatalf("no SVG path: %.80q", p[1])
		}
	}
}

// A gap, a lease and an owner are drawn where they were.
func TestPlaces(t *testing.T) {
	h := &history.History{Runs: []history.Run{{Nodes: []string{"a", "b"}, HAVIPs: []string{"v"}, End: 90 * second}}}
	h.Frames = []history.Frames{{Node: "b", HAVIP: "v", First: 0, Last: 90 * second}}
	h.Marks = []history.Mark{{Kind: history.MarkSession, Node: "a", At: 45 * second, Value: 3}, {Kind: history.MarkSession, Node: "a", At: 90 * second}}
	s := strips(h, nil)
	if len(s) != 1 {
		t.Fatalf("%d pictures", len(s))
	}
	x := func(at int) string { return fmt.Sprintf("%.1f", left+width*float64(at)/180) }
	if a := s[0].Lanes[0]; !strings.HasPrefix(a.Lease, "M"+x(45)) || !strings.HasSuffix(a.Lease, "H"+x(90)) || a.Owner[0].Path != "" {
		t.Errorf("lane of a: %+v", a)
	}
	if b := s[0].Lanes[1]; b.Lease != "" || !strings.HasPrefix(b.Owner[0].Path, "M"+x(0)) || !strings.HasSuffix(b.Owner[0].Path, "H"+x(90)) {
		t.Errorf("lane of b: %+v", b)
	}
}

func TestNothingToReport(t *testing.T) {
	if err := Write(&bytes.Buffer{}, &history.History{}, nil); err == nil {
		t.Error("a page about no run")
	}
}
