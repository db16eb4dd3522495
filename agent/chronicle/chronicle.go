// Package chronicle keeps the events of the cluster in files of this node, beyond what the log
// remembers. It hurts nothing: what cannot be written is left out and counted.
package chronicle

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

const (
	fileBytes = limits.ChronicleFileBytes
	fileCount = limits.ChronicleFiles
	lineMax   = 64 << 10 // bytes of one event
	sayAgain  = time.Minute
	retry     = 5 * time.Second // after a write that failed
)

// Chronicle is the files of one node. Run is its only writer.
type Chronicle struct {
	dir   string
	state func() *fsm.State
	watch func() (<-chan struct{}, func())
	log   *slog.Logger

	mu   sync.Mutex // a rotation, against a read
	last uint64     // index of the newest event in the files
	said time.Time
}

// New makes a Chronicle of a directory, which Run makes. Nothing is written before.
func New(dir string, state func() *fsm.State, watch func() (<-chan struct{}, func()), log *slog.Logger) *Chronicle {
	return &Chronicle{dir: dir, state: state, watch: watch, log: log}
}

// file is the name of the n-th file, from the newest, which is 0.
func (c *Chronicle) file(n int) string {
	return filepath.Join(c.dir, "events."+strconv.Itoa(n)+".jsonl")
}

// Run writes until ctx ends. What was written before goes on: events that are in the files are not
// written again.
func (c *Chronicle) Run(ctx context.Context) {
	changed, stop := c.watch()
	defer stop()
	known := false
	for {
		pause := time.Hour
		if err := c.step(&known); err != nil {
			if pause = retry; time.Since(c.said) >= sayAgain {
				c.said = time.Now()
				c.log.Warn("events cannot be kept in files; the log has the newest ones", "dir", c.dir, "err", err)
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
			if pause == retry { // a full disk is not asked at the speed of commits
				select {
				case <-timer.C:
				case <-ctx.Done():
					timer.Stop()
					return
				}
			}
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step writes what is new.
func (c *Chronicle) step(known *bool) error {
	if !*known {
		if err := os.MkdirAll(c.dir, 0o700); err != nil {
			return fmt.Errorf("chronicle: %w", err)
		}
		last, err := c.newest()
		if err != nil {
			return err
		}
		c.last, *known = last, true
	}
	st := c.state()
	first := len(st.Events)
	for first > 0 && st.Events[first-1].Index > c.last {
		first--
	}
	if first == len(st.Events) {
		return nil
	}
	return c.write(st.Events[first:])
}

// write appends events, whole entries of the log at a time.
func (c *Chronicle) write(events []fsm.Event) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("chronicle: encode event %d: %w", e.Index, err)
		}
	}
	if info, err := os.Stat(c.file(0)); err == nil && info.Size()+int64(text.Len()) > fileBytes {
		if err := c.rotate(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(c.file(0), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("chronicle: %w", err)
	}
	defer f.Close()
	before, err := f.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("chronicle: %w", err)
	}
	if err := endLine(f, before); err != nil {
		return err
	}
	if _, err := f.Write(text.Bytes()); err != nil {
		// Half a line is no event. What stays is passed over by readers.
		return errors.Join(fmt.Errorf("chronicle: %w", err), f.Truncate(before))
	}
	c.last = events[len(events)-1].Index
	return nil
}

// endLine ends the half line that a crash has left at the end of a file, which would swallow the next event.
func endLine(f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, size-1); err != nil {
		return fmt.Errorf("chronicle: %w", err)
	}
	if last[0] == '\n' {
		return nil
	}
	if _, err := f.WriteString("\n"); err != nil {
		return fmt.Errorf("chronicle: %w", err)
	}
	return nil
}

// rotate makes room for a new file; the oldest one goes.
func (c *Chronicle) rotate() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := fileCount - 2; n >= 0; n-- {
		if err := os.Rename(c.file(n), c.file(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("chronicle: %w", err)
		}
	}
	return nil
}

// newest is the index of the newest event in the files, 0 if there is none.
func (c *Chronicle) newest() (last uint64, err error) {
	for n := 0; n < fileCount && last == 0; n++ {
		err = errors.Join(err, c.scan(n, func(e fsm.Event) { last = max(last, e.Index) }))
	}
	return last, err
}

// scan reads one file. A line that is no event, as a crash leaves it, is passed over, however long it is.
func (c *Chronicle) scan(n int, each func(fsm.Event)) error {
	f, err := os.Open(c.file(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("chronicle: %w", err)
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, lineMax)
	for long := false; ; {
		line, err := lines.ReadSlice('\n')
		var e fsm.Event
		if !long && (err == nil || errors.Is(err, io.EOF)) && json.Unmarshal(line, &e) == nil && e.Index > 0 {
			each(e)
		}
		switch long = errors.Is(err, bufio.ErrBufferFull); { // no event: as far as its end
		case err == nil, long:
		case errors.Is(err, io.EOF):
			return nil
		default:
			return fmt.Errorf("chronicle: read %s: %w", c.file(n), err)
		}
	}
}

// Read returns the newest most events that take takes, oldest first. Anybody may call it.
func (c *Chronicle) Read(take func(fsm.Event) bool, most int) ([]fsm.Event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []fsm.Event
	for n := 0; n < fileCount && len(out) < most; n++ {
		var part []fsm.Event
		if err := c.scan(n, func(e fsm.Event) {
			if take(e) {
				part = append(part, e)
			}
		}); err != nil {
			return nil, err
		}
		out = slices.Concat(part, out)
	}
	return out[max(0, len(out)-most):], nil
}
