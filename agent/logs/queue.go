package logs

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"
)

const (
	// QueueMax is how many bytes wait for a reader that stalls. What comes then is dropped, and counted.
	QueueMax = 1 << 20
	// EndWait is how long the end of a program may wait for such a reader.
	EndWait = time.Second
)

// queue is what is not written yet. The Sink's lock guards it, and is never held during a write: whoever
// logs holds addresses and leases, and waits for no reader.
type queue struct {
	lines   [][]byte
	bytes   int
	dropped int           // lines since the last one that there was room for
	idle    chan struct{} // closed when all is written; nil: nothing was ever
	writing bool
}

// enqueue has a line written soon. The lock is held.
func (s *Sink) enqueue(line []byte) {
	if s.queue.bytes+len(line) > QueueMax {
		s.queue.dropped++
		return
	}
	s.tellDropped()
	s.queue.add(line)
	if !s.queue.writing {
		s.queue.writing, s.queue.idle = true, make(chan struct{})
		go s.drain()
	}
}

func (q *queue) add(line []byte) {
	q.lines = append(q.lines, bytes.Clone(line))
	q.bytes += len(line)
}

// tellDropped says in its place how many lines are missing. The lock is held.
func (s *Sink) tellDropped() {
	if s.queue.dropped == 0 {
		return
	}
	var line bytes.Buffer
	r := slog.NewRecord(s.now(), slog.LevelWarn, fmt.Sprintf("%d lines are missing here: what reads this log stood still", s.queue.dropped), 0)
	h := slog.Handler(slog.NewTextHandler(&line, nil))
	if s.json.Load() {
		h = slog.NewJSONHandler(&line, nil)
	}
	_ = h.Handle(context.Background(), r)
	s.queue.dropped = 0
	s.queue.add(line.Bytes())
}

// drain writes until nothing waits.
func (s *Sink) drain() {
	for line := s.take(); line != nil; line = s.take() {
		_, _ = s.out.Write(line)
	}
}

// take is the next line to be written; nil: there is none.
func (s *Sink) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.queue
	if len(q.lines) == 0 {
		s.tellDropped()
	}
	if len(q.lines) == 0 {
		q.lines, q.writing = nil, false
		close(q.idle)
		return nil
	}
	line := q.lines[0]
	q.lines = q.lines[1:]
	q.bytes -= len(line)
	return line
}

// Flush waits until all is written, but no longer than wait, and reports whether it is.
func (s *Sink) Flush(wait time.Duration) bool {
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		s.mu.Lock()
		idle, writing := s.queue.idle, s.queue.writing
		s.mu.Unlock()
		if !writing {
			return true
		}
		select {
		case <-idle:
		case <-over.C:
			return false
		}
	}
}
