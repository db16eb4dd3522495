package membership

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	gossipLinePause = time.Minute // between two lines of memberlist for the same cause
	gossipCauses    = 64          // causes that are told apart
)

// slogWriter takes memberlist's log lines, "2006/01/02 15:04:05 [WARN] memberlist: text". Of
// those with the same cause it lets one through in a minute, with a count of the others: anybody
// can cause them.
type slogWriter struct {
	l *slog.Logger

	mu     sync.Mutex
	causes map[string]*lineCount
	now    func() time.Time
}

type lineCount struct {
	at   time.Time
	more int
}

func newSlogWriter(l *slog.Logger) *slogWriter {
	return &slogWriter{l: l, causes: map[string]*lineCount{}, now: time.Now}
}

// Write implements io.Writer.
func (w *slogWriter) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	level := slog.LevelDebug
	if i := strings.Index(line, "["); i >= 0 {
		line = line[i:]
	}
	if strings.HasPrefix(line, "[ERR") {
		level = slog.LevelInfo // its errors are peers that do not answer
	}
	if !w.l.Enabled(context.Background(), level) {
		return len(p), nil
	}
	if more, fresh := w.fresh(causeOf(line)); fresh {
		if more > 0 {
			line = fmt.Sprintf("%s (and %d more lines like it since the last one)", line, more)
		}
		w.l.Log(context.Background(), level, line)
	}
	return len(p), nil
}

// causeOf is a line without what differs from time to time: numbers, ids and addresses.
func causeOf(line string) string {
	i := strings.IndexFunc(line, func(r rune) bool { return unicode.IsDigit(r) || r == '=' })
	if i < 0 {
		i = len(line)
	}
	return line[:min(i, 80)]
}

// fresh reports whether a line of a cause may be written now, and how many were not since the last.
func (w *slogWriter) fresh(cause string) (more int, fresh bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	c := w.causes[cause]
	if c == nil {
		if len(w.causes) >= gossipCauses {
			cause = "" // the rest are one cause together
			c = w.causes[cause]
		}
		if c == nil {
			c = &lineCount{}
			w.causes[cause] = c
		}
	}
	if !c.at.IsZero() && now.Sub(c.at) < gossipLinePause {
		c.more++
		return 0, false
	}
	more, c.at, c.more = c.more, now, 0
	return more, true
}
