package chronicle

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

func at(indexes ...uint64) *fsm.State {
	s := fsm.New()
	for _, i := range indexes {
		s.Events = append(s.Events, fsm.Event{Index: i, At: int64(i), Kind: "fault", Text: fmt.Sprint("event ", i)})
		s.Index = i
	}
	return s
}

// run runs a Chronicle on a state until it has written all of it.
func run(t *testing.T, dir string, st *fsm.State) *Chronicle {
	t.Helper()
	c := New(dir, func() *fsm.State { return st }, func() (<-chan struct{}, func()) { return make(chan struct{}), func() {} }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		list, err := c.Read(func(fsm.Event) bool { return true }, 1)
		if err == nil && len(list) == 1 && list[0].Index == st.Index {
			break
		}
	}
	cancel()
	<-done
	return c
}

func indexes(t *testing.T, c *Chronicle, most int) string {
	t.Helper()
	list, err := c.Read(func(fsm.Event) bool { return true }, most)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, fmt.Sprint(e.Index))
	}
	return strings.Join(out, " ")
}

// After a restart, and after the log forgot some, each event is there once; half a line is none.
func TestGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	run(t, dir, at(1, 2, 2, 5))
	f, err := os.OpenFile(filepath.Join(dir, "events.0.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"index":6,"ki` + "\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	c := run(t, dir, at(5, 7, 8))
	if got := indexes(t, c, 100); got != "1 2 2 5 7 8" {
		t.Errorf("it has %s", got)
	}
	if got := indexes(t, c, 2); got != "7 8" {
		t.Errorf("the newest two are %s", got)
	}
	if info, err := os.Stat(filepath.Join(dir, "events.0.jsonl")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// After a crash a file may end in half a line, or in zeros for which the kernel had no bytes yet, more than a
// line may have. The next event is on a line of its own, and all that is whole is read.
func TestAfterACrash(t *testing.T) {
	for name, rest := range map[string]string{
		"half a line":  `{"index":6,"ki`,
		"zeros":        strings.Repeat("\x00", 3*lineMax+7),
		"both":         `{"index":6,"ki` + strings.Repeat("\x00", lineMax),
		"a line alone": `{"index":7,"at":7,"kind":"fault"}`,
		"a long line":  strings.Repeat("x", 2*lineMax) + "\n",
	} {
		dir := filepath.Join(t.TempDir(), "events")
		run(t, dir, at(1, 5))
		f, err := os.OpenFile(filepath.Join(dir, "events.0.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(rest); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if got := indexes(t, run(t, dir, at(5, 7, 8)), 100); got != "1 5 7 8" {
			t.Errorf("%s: it has %s", name, got)
		}
	}
}

// However much happens, the files stay within their bound, and have the newest.
func TestBound(t *testing.T) {
	c := New(t.TempDir(), nil, nil, slog.New(slog.DiscardHandler))
	text := strings.Repeat("x", 4000)
	const each = 200
	n := uint64(0)
	for range (fileCount + 2) * fileBytes / (each * len(text)) {
		var events []fsm.Event
		for range each {
			n++
			events = append(events, fsm.Event{Index: n, Kind: "fault", Text: text})
		}
		if err := c.write(events); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(c.dir, "*"))
	sum := int64(0)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if len(files) != fileCount || sum > fileCount*fileBytes {
		t.Errorf("%d files with %d bytes", len(files), sum)
	}
	list, err := c.Read(func(e fsm.Event) bool { return e.Index > n-3 }, 100)
	if err != nil || len(list) != 3 {
		t.Errorf("%d of the newest three: %v", len(list), err)
	}
}

// A full disk: nothing waits for it, and when there is room again the newest events are kept.
func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this kernel has no /dev/full")
	}
	dir := t.TempDir()
	c := New(dir, nil, nil, slog.New(slog.DiscardHandler))
	if err := os.Symlink("/dev/full", c.file(0)); err != nil {
		t.Fatal(err)
	}
	if err := c.write(at(1, 2).Events); err == nil || c.last != 0 {
		t.Errorf("written to a full disk: %v, up to %d", err, c.last)
	}
	if err := os.Remove(c.file(0)); err != nil {
		t.Fatal(err)
	}
	if err := c.write(at(1, 2, 3).Events); err != nil || c.last != 3 {
		t.Errorf("%v, up to %d", err, c.last)
	}
}
