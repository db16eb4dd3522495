// Package logs writes the log of an agent: text or JSON, one line for a fact, the same fault at most
// once a minute with a count. It keeps the newest lines in memory for `debug bundle`. Who logs waits for
// nobody who reads: lines that are not taken are dropped and counted.
package logs

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
)

const (
	// Pause is the time between two lines about the same fault.
	Pause = time.Minute
	// faultsMax is how many faults are told apart; the rest count as one.
	faultsMax = 256
	// TailMax is how many bytes of the newest lines are kept.
	TailMax = 256 << 10
	keyMax  = 256 // bytes of what tells two faults apart
)

// Format is how a line looks.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// Sink is where the lines go.
type Sink struct {
	json atomic.Bool
	now  func() time.Time

	mu     sync.Mutex // guards what follows, and the order of lines
	out    io.Writer  // of drain alone
	queue  queue
	tail   []byte
	faults map[string]*fault
}

// fault is one that was told lately.
type fault struct {
	at   time.Time
	more int
}

// New returns a logger, which writes text of a level and above to out, and its sink.
func New(out io.Writer, level slog.Leveler) (*slog.Logger, *Sink) {
	s := &Sink{out: out, now: time.Now, faults: map[string]*fault{}}
	o := &slog.HandlerOptions{Level: level}
	return slog.New(handler{s, slog.NewTextHandler(writer{s}, o), slog.NewJSONHandler(writer{s}, o), ""}), s
}

// SetFormat changes the format of the lines from now on.
func (s *Sink) SetFormat(f Format) { s.json.Store(f == JSON) }

// Tail returns a copy of the newest lines, whole, at most TailMax bytes.
func (s *Sink) Tail() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trim()
	return bytes.Clone(s.tail)
}

// trim cuts the tail to its bound, at a line. The lock is held.
func (s *Sink) trim() {
	over := len(s.tail) - TailMax
	if over <= 0 {
		return
	}
	if end := bytes.IndexByte(s.tail[over:], '\n'); end >= 0 {
		over += end + 1
	}
	s.tail = append(s.tail[:0], s.tail[over:]...)
}

// Writer is for text that is no line of the log, such as the last error of the program. It goes the way
// of the lines.
func (s *Sink) Writer() io.Writer { return writer{s} }

// writer is the Sink as the handlers of slog see it: each call is one line.
type writer struct{ s *Sink }

func (w writer) Write(line []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.tail = append(w.s.tail, line...)
	if len(w.s.tail) > 2*TailMax { // not for each line
		w.s.trim()
	}
	w.s.enqueue(line)
	return len(line), nil
}

// handler is a slog.Handler. about are the attributes of With that tell faults apart.
type handler struct {
	s          *Sink
	text, json slog.Handler
	about      string
}

func (h handler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if isFault(r) {
		more, fresh := h.s.fresh(h.key(r))
		if !fresh {
			return nil
		}
		if more > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("repeated", more))
		}
	}
	if h.s.json.Load() {
		return h.json.Handle(ctx, r)
	}
	return h.text.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.about += telling(a)
	}
	h.text, h.json = h.text.WithAttrs(attrs), h.json.WithAttrs(attrs)
	return h
}

func (h handler) WithGroup(name string) slog.Handler {
	h.text, h.json = h.text.WithGroup(name), h.json.WithGroup(name)
	return h
}

// isFault: warnings and errors; and the lines of Raft, whose faults are facts to us.
func isFault(r slog.Record) bool {
	return r.Level >= slog.LevelWarn || r.Level >= slog.LevelInfo && strings.HasPrefix(r.Message, "raft: ")
}

// key tells faults apart: the message without numbers, and what it is about. Times, counts and the
// words of an error do not: they differ each time.
func (h handler) key(r slog.Record) string {
	var b strings.Builder
	b.WriteString(withoutNumbers(r.Message))
	b.WriteString(h.about)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(telling(a))
		return true
	})
	text := b.String()
	return text[:min(len(text), keyMax)]
}

// subjects are the attributes that say what a line is about.
var subjects = map[string]bool{
	"node": true, "peer": true, "havip": true, "eni": true, "device": true, "mac": true, "ip": true, "address": true, "agent": true, "kind": true, "what": true, "part": true, "from": true,
}

func telling(a slog.Attr) string {
	if !subjects[a.Key] {
		return ""
	}
	return " " + a.Key + "=" + a.Value.String()
}

// withoutNumbers leaves out the words of a message that have a digit.
func withoutNumbers(text string) string {
	if !strings.ContainsFunc(text, unicode.IsDigit) {
		return text
	}
	var out []string
	for _, word := range strings.Fields(text) {
		if !strings.ContainsFunc(word, unicode.IsDigit) {
			out = append(out, word)
		}
	}
	return strings.Join(out, " ")
}

// fresh reports whether a fault may be told now, and how often it was not since the last line.
func (s *Sink) fresh(key string) (more int, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	f := s.faults[key]
	if f == nil && len(s.faults) >= faultsMax {
		s.forget(now)
		if len(s.faults) >= faultsMax {
			key = ""
			f = s.faults[key]
		}
	}
	if f == nil {
		f = &fault{}
		s.faults[key] = f
	}
	if !f.at.IsZero() && now.Sub(f.at) < Pause && !now.Before(f.at) {
		f.more++
		return 0, false
	}
	more, f.at, f.more = f.more, now, 0
	return more, true
}

// forget makes room: what was told long ago and did not come back is no longer known.
func (s *Sink) forget(now time.Time) {
	for key, f := range s.faults {
		if now.Sub(f.at) >= Pause && f.more == 0 {
			delete(s.faults, key)
		}
	}
}
