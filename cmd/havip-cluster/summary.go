package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"havip-cluster/api"
	"havip-cluster/manifest"
)

// diffShown is how many changes are shown without --diff.
const diffShown = 20

// showing says how a change of the configuration is shown and asked about.
type showing struct {
	diff bool // every change, however many there are
	yes  bool // do not ask
	// wait is how long to wait until what was made or changed is served; 0 = not at all.
	wait time.Duration
}

// tally counts what a configuration does to objects: several changed fields of one are one change.
type tally struct{ created, changed, deleted int }

func count(changes []manifest.Change) tally {
	var out tally
	seen := map[string]bool{}
	for _, c := range changes {
		switch key := c.Kind + "/" + c.Name; {
		case c.Op == "add":
			out.created++
		case c.Op == "remove":
			out.deleted++
		case !seen[key]:
			seen[key] = true
			out.changed++
		}
	}
	return out
}

// summary is the result of a change in one line. Unchanged are the objects of the file that stay as they
// are; below 0 they are not known.
func (t tally) summary(unchanged int) string {
	text := fmt.Sprintf("%d created, %d changed, %d deleted", t.created, t.changed, t.deleted)
	if unchanged >= 0 {
		text += fmt.Sprintf(", %d unchanged", unchanged)
	}
	return text
}

// objects counts what a file speaks of.
func objects(m manifest.Manifest) int {
	return len(m.Nodes) + len(m.Subnets) + len(m.HAVIPs) + len(m.Groups) + len(m.Checks) + len(m.Webhooks)
}

// unchangedIn is how many objects of a file stay as they are, below 0 if of says that they were not counted.
func unchangedIn(of int, t tally) int {
	if of < 0 {
		return -1
	}
	return max(0, of-t.created-t.changed)
}

// printChanges prints changes one a line: all, or as many as a person reads, and how many there are of
// each kind.
func (s showing) printChanges(w io.Writer, changes []manifest.Change) {
	if s.diff || len(changes) <= diffShown {
		for _, c := range changes {
			fmt.Fprintln(w, oneLine(c.String()))
		}
		return
	}
	byKind := map[string][]manifest.Change{}
	var kinds []string
	for _, c := range changes {
		if _, there := byKind[c.Kind]; !there {
			kinds = append(kinds, c.Kind)
		}
		byKind[c.Kind] = append(byKind[c.Kind], c)
	}
	slices.SortFunc(kinds, cmp.Compare[string])
	for _, kind := range kinds {
		fmt.Fprintf(w, "%s: %s\n", kind, count(byKind[kind]).summary(-1))
	}
	fmt.Fprintf(w, "%d changes; --diff shows each.\n", len(changes))
}

// confirm asks a person before many changes. A script, whose input or messages are no terminal, is never
// asked: what it did yesterday it does today.
func (g *globals) confirm(s showing, changes []manifest.Change) error {
	if s.yes || len(changes) <= diffShown || !isTerminal(g.stderr) || !g.asksTerminal() {
		return nil
	}
	fmt.Fprintf(g.stderr, "Make these %d changes? [y/N] ", len(changes))
	answer, err := bufio.NewReader(io.LimitReader(g.stdin, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("the answer: %w", err)
	}
	if !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
		return errors.New("nothing was changed; --yes does not ask")
	}
	return nil
}

// asksTerminal reports whether somebody can answer.
func (g *globals) asksTerminal() bool {
	w, ok := g.stdin.(io.Writer)
	return ok && isTerminal(w)
}

// printDone is the result of a change in words.
func printDone(w io.Writer, a api.Applied, of int) {
	t := count(a.Changes)
	fmt.Fprintf(w, "revision %d: %s\n", a.Revision, t.summary(unchangedIn(of, t)))
}

// servedPause is how often --wait looks.
const servedPause = 200 * time.Millisecond

// havipsOf are the names of the HAVIPs that a change made or changed.
func havipsOf(changes []manifest.Change) map[string]bool {
	out := map[string]bool{}
	for _, c := range changes {
		if c.Kind == "havip" && c.Op != "remove" {
			out[c.Name] = true
		}
	}
	return out
}

// served waits until enabled HAVIPs are served, and fails after a while with those that are not.
func (g *globals) served(ctx context.Context, c *api.Client, names map[string]bool, most time.Duration) error {
	ctx, cancel := interruptible(ctx)
	defer cancel()
	p := g.progress()
	defer p.end()
	for end := time.Now().Add(most); ; {
		list, err := c.HAVIPs(ctx)
		if err != nil {
			return err
		}
		total, waiting := 0, ""
		served := 0
		for _, v := range list {
			switch {
			case !names[v.Name] || !v.Enabled || v.Deleting:
				continue
			case v.State == api.StateAvailable:
				served++
			case waiting == "":
				waiting = fmt.Sprintf("HAVIP %s is not served: %s", oneLine(v.Name), oneLine(v.Reason))
			}
			total++
		}
		p.tell(served, total, fmt.Sprintf("%d of %s served", served, plural(total, "HAVIP")))
		if served == total {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the change is made, and after %s only %d of %s are served; %s", most, served, plural(total, "HAVIP"), waiting)
		}
		select {
		case <-ctx.Done():
			return errors.New("interrupted; the change is made")
		case <-time.After(servedPause):
		}
	}
}
