package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// barWide is how many characters a bar of progress has.
const barWide = 24

// progress tells how far something long is: on a terminal a bar that is drawn over itself, at most ten
// times a second; into a pipe a line, and only when the words have changed. Nobody but one goroutine
// may use it.
type progress struct {
	w        io.Writer
	terminal bool
	last     string
	drawn    time.Time
}

// progress is for a verb; it is on stderr, so that a result stays alone on stdout.
func (g *globals) progress() *progress { return &progress{w: g.stderr, terminal: isTerminal(g.stderr)} }

// tell says that done of total is done. The words are what a pipe gets.
func (p *progress) tell(done, total int, words string) {
	if !p.terminal {
		if words != p.last {
			p.last = words
			fmt.Fprintln(p.w, words)
		}
		return
	}
	if now := time.Now(); words != p.last || now.Sub(p.drawn) >= 100*time.Millisecond {
		p.last, p.drawn = words, now
		fmt.Fprintf(p.w, "\r%s %s\x1b[K", meter(done, total), words)
	}
}

// end leaves the bar as it is, with what is said last.
func (p *progress) end() {
	if p.terminal && p.last != "" {
		fmt.Fprintln(p.w)
	}
	p.last = ""
}

// meter is a bar such as [#######.......]  30%.
func meter(done, total int) string {
	part := 0
	if total > 0 {
		part = max(0, min(barWide, done*barWide/total))
	}
	percent := 100
	if total > 0 {
		percent = max(0, min(100, done*100/total))
	}
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", part), strings.Repeat(".", barWide-part), percent)
}

// Colours of a terminal.
const (
	red    = "31"
	yellow = "33"
	green  = "32"
)

// colours reports whether a writer wants them: a terminal, without NO_COLOR (no-color.org), that is not dumb.
func colours(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

func paint(code, text string) string { return "\x1b[" + code + "m" + text + "\x1b[0m" }
