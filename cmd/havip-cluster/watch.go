package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/api"
)

// isTerminal reports whether a writer is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := fileOf(w)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// watchStatus shows the status again and again until ctx ends. An agent that does not answer, as
// while it restarts, is said and waited for.
func (g *globals) watchStatus(ctx context.Context, c *api.Client, pause time.Duration) error {
	c.Timeout = min(g.timeout, statusPatience)
	terminal, last := isTerminal(g.stdout), ""
	for {
		st, err := c.Status(ctx, true)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && api.ExitCode(err) != api.ExitUnreachable {
			return err // it will not get better
		}
		switch {
		case !g.table() && err == nil:
			if err := line(g, st, printStatus); err != nil {
				return err
			}
		case !g.table():
			if text := err.Error(); text != last {
				last = text
				fmt.Fprintln(g.stderr, "Waiting: "+oneLine(text))
			}
		case terminal:
			g.redraw(st, err)
		default:
			if text := statusLine(st, err); text != last {
				last = text
				fmt.Fprintln(g.stdout, time.Now().UTC().Format("2006-01-02T15:04:05Z")+"  "+text)
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// redraw writes over what stands on the terminal: each line to its end, then what is below it. The
// screen is never cleared first, which flickers.
//
// What is longer than the terminal is cut: lines that wrap, or that make it scroll, would not stand where
// they stood.
func (g *globals) redraw(st api.Status, err error) {
	var plain strings.Builder
	if err != nil {
		fmt.Fprintf(&plain, "Waiting: %s\n", oneLine(err.Error()))
	} else {
		printStatus(&plain, st)
	}
	rows, columns := sizeOf(g.stdout)
	text := paintStatus(fit(plain.String(), rows, columns), st.Health, err == nil && colours(g.stdout))
	fmt.Fprint(g.stdout, "\x1b[H"+strings.ReplaceAll(text, "\n", "\x1b[K\n")+"\x1b[J")
}

// sizeOf is how many rows and columns a terminal has; 0 where it does not say.
func sizeOf(w io.Writer) (rows, columns int) {
	f, ok := fileOf(w)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Row), int(size.Col)
}

// fit cuts a text to a terminal: the last row says how much is left out, and stays below the text so that
// nothing scrolls. 0 is no bound.
func fit(text string, rows, columns int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if most := rows - 1; rows > 2 && len(lines) > most {
		lines = append(lines[:most-1:most-1], fmt.Sprintf("... and %d lines more", len(lines)-most+1))
	}
	for i, l := range lines {
		if r := []rune(l); columns > 0 && len(r) > columns {
			lines[i] = string(r[:columns])
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// statusLine is a status in one line, without what changes all the time.
func statusLine(st api.Status, err error) string {
	if err != nil {
		return "waiting: " + oneLine(err.Error())
	}
	out := fmt.Sprintf("%s  leader %s  havips %s", strings.ToUpper(st.Health), text(st.Leader), havipsText(st))
	for _, p := range st.Problems {
		out += "  ! " + oneLine(p)
	}
	return out
}
