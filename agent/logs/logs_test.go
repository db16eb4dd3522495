package logs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// output is what a Sink has written, when all is.
type output struct {
	t   *testing.T
	s   *Sink
	buf bytes.Buffer
}

func (o *output) String() string {
	o.t.Helper()
	if !o.s.Flush(20 * time.Second) {
		o.t.Fatal("it is not written")
	}
	return o.buf.String()
}

func (o *output) Len() int { return len(o.String()) }

func newTest(t *testing.T) (*slog.Logger, *Sink, *output, *time.Time) {
	t.Helper()
	now := time.Unix(1_700_000_000, 0)
	out := &output{t: t}
	l, s := New(&out.buf, slog.LevelInfo)
	out.s, s.now = s, func() time.Time { return now }
	return l, s, out, &now
}

// TestADayWithOnePeerOff: what Raft says each 10 s of a peer that is off is a line a minute with a
// count, whatever its error and pause say; another peer is another fault.
func TestADayWithOnePeerOff(t *testing.T) {
	l, _, out, now := newTest(t)
	l = l.With("node", "n1")
	said := 0
	for end := now.Add(24 * time.Hour); now.Before(end); *now = now.Add(2 * time.Second) {
		l.Info("raft: failed to heartbeat to", "peer", "10.77.0.13:7401", "backoff time", now.String(), "error", fmt.Errorf("dial: try %d", said))
		l.Warn("a word of 10.77.0.13:7403 was not heard", "n", said)
		said++
	}
	lines := strings.Count(out.String(), "\n")
	if lines != 2*24*60 {
		t.Errorf("%d lines of %d", lines, 2*said)
	}
	if !strings.Contains(out.String(), "repeated=29") {
		t.Errorf("no count: %.300s", out.String())
	}
	t.Logf("a day of one peer off: %d facts, %d lines, %d kB", 2*said, lines, out.Len()>>10)
	before := out.Len()
	l.Info("raft: failed to heartbeat to", "peer", "10.77.0.12:7401")
	if out.Len() == before {
		t.Error("the fault of another peer is not told")
	}
}

// TestFactsAreAllTold: what is no fault is written each time.
func TestFactsAreAllTold(t *testing.T) {
	l, _, out, _ := newTest(t)
	for range 5 {
		l.Info("this node leads the cluster", "term", 7)
		l.Debug("nothing")
	}
	if n := strings.Count(out.String(), "\n"); n != 5 {
		t.Errorf("%d lines", n)
	}
}

// TestFormat: text, and JSON from the moment it is asked for, also of loggers that were made before.
func TestFormat(t *testing.T) {
	l, s, out, _ := newTest(t)
	l = l.With("node", "n1")
	l.Info("one", "havip", "web")
	s.SetFormat(JSON)
	l.WithGroup("g").Error("two", "err", errors.New("no"))
	s.SetFormat(Text)
	l.Info("three")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "msg=one node=n1 havip=web") || !strings.Contains(lines[2], "msg=three") {
		t.Fatalf("%q", lines)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(lines[1]), &got); err != nil || got["msg"] != "two" || got["node"] != "n1" {
		t.Errorf("%v: %s", err, lines[1])
	}
	if string(s.Tail()) != out.String() {
		t.Errorf("the tail differs: %q", s.Tail())
	}
}

// TestBounds: many faults are few, and the tail is cut at a line.
func TestBounds(t *testing.T) {
	l, s, out, now := newTest(t)
	word := strings.Repeat("x", 300)
	for i := range 5000 {
		l.Warn("fault", "device", fmt.Sprint("eth", i))
		l.Info(word, "i", i)
	}
	if n := strings.Count(out.String(), "fault"); n != faultsMax+1 || len(s.faults) > faultsMax+1 {
		t.Errorf("%d faults told, %d known", n, len(s.faults))
	}
	tail := s.Tail()
	if len(tail) > TailMax || len(tail) < TailMax-1000 || !bytes.HasPrefix(tail, []byte("time=")) || !strings.HasSuffix(out.String(), string(tail)) {
		t.Errorf("a tail of %d bytes: %.80q", len(tail), tail)
	}
	*now = now.Add(2 * Pause)
	before := out.Len()
	l.Warn("fault", "device", "eth9999")
	if out.Len() == before {
		t.Error("a new fault is not told although the others are long over")
	}
}

// TestAReaderThatStalls: nobody reads the pipe. Who logs goes on at once; the bytes that wait are bounded;
// the end waits for a moment only; and when somebody reads, what was kept comes in order, with the count
// of what was not.
func TestAReaderThatStalls(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	l, s := New(w, slog.LevelInfo)
	const lines = 10_000
	word := strings.Repeat("x", 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range lines {
			l.Info(word, "n", i)
			l.Warn("a fault", "n", i)
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("who logs waits for the reader")
	}
	if s.Flush(time.Millisecond) {
		t.Fatal("it is said to be written")
	}
	if s.queue.bytes > QueueMax || !bytes.Contains(s.Tail(), []byte(fmt.Sprint("n=", lines-1))) {
		t.Errorf("%d bytes wait; the tail ends in %.200q", s.queue.bytes, s.Tail()[len(s.Tail())-200:])
	}
	got := make(chan int, 1)
	go func() {
		var kept, dropped int
		for in := bufio.NewScanner(r); in.Scan(); {
			_, said, _ := strings.Cut(in.Text(), "msg=")
			if _, err := fmt.Sscanf(said, `"%d lines are missing here`, &dropped); err == nil {
				break
			}
			if strings.Contains(in.Text(), "a fault") {
				continue
			}
			if !strings.HasSuffix(in.Text(), fmt.Sprint(" n=", kept)) {
				t.Errorf("line %d is %q", kept, in.Text())
			}
			kept++
		}
		got <- kept + dropped
	}()
	select {
	case n := <-got:
		if n != lines {
			t.Errorf("%d lines were kept or counted, of %d", n, lines)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the reader misses the count")
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if !s.Flush(20 * time.Second) {
		t.Error("it is not written although somebody reads")
	}
}
