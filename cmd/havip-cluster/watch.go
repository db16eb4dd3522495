package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/api"
)

// isTerminal reports whether a writer is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// watchStatus shows the status again and again until ctx ends. An agent that does not answer, as
// while it restarts, is said and waited for.
func (g *globals) watchStatus(ctx context.Context, c *api.Client) error {
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
		case g.output != "table" && err == nil:
			if err := line(g, st, printStatus); err != nil {
				return err
			}
		case g.output != "table":
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
		case <-time.After(watchPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// redraw writes over what stands on the terminal: each line to its end, then what is below it. The
// screen is never cleared first, which flickers.
func (g *globals) redraw(st api.Status, err error) {
	var text bytes.Buffer
	if err != nil {
		fmt.Fprintf(&text, "Waiting: %s\n", oneLine(err.Error()))
	} else {
		printStatus(&text, st)
	}
	fmt.Fprint(g.stdout, "\x1b[H"+strings.ReplaceAll(text.String(), "\n", "\x1b[K\n")+"\x1b[J")
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
