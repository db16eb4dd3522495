package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"

	"havip-cluster/internal/plain"
)

// emit prints a result: as JSON or YAML with the API's fields, or as table does it.
func emit[T any](g *globals, v T, err error, table func(w io.Writer, v T)) error {
	if err != nil {
		return err
	}
	if g.table() {
		table(g.stdout, v)
		return nil
	}
	var b bytes.Buffer
	if err := encoder(&b, "  ").Encode(v); err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	out := b.String()
	if g.path != nil {
		if out, err = g.printPath(b.Bytes()); err != nil {
			return err
		}
	}
	if g.output == "yaml" {
		text, err := yaml.JSONToYAML(b.Bytes())
		if err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
		out = strings.Map(yamlRune, string(text))
	}
	_, err = io.WriteString(g.stdout, out)
	return err
}

// printPath is what the template of -o jsonpath makes of a document: on lines of its own, as a shell takes
// the last line's end off again, and without what a terminal would obey.
func (g *globals) printPath(document []byte) (string, error) {
	text, err := g.path.Print(document)
	return strings.TrimSuffix(strings.Map(yamlRune, text), "\n") + "\n", err
}

// table reports whether results are printed for people.
func (g *globals) table() bool { return g.output == "table" || g.output == "wide" }

func encoder(w io.Writer, indent string) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // a terminal is no browser
	e.SetIndent("", indent)
	return e
}

// yamlRune drops control characters, which YAML does not allow and the encoder lets pass.
func yamlRune(r rune) rune {
	if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
		return -1
	}
	return r
}

// line prints one object of a stream: a line of JSON, a YAML document, or as table does it.
func line[T any](g *globals, v T, table func(w io.Writer, v T)) error {
	switch g.output {
	case "json":
		return encoder(g.stdout, "").Encode(v)
	case "yaml":
		fmt.Fprintln(g.stdout, "---")
	}
	return emit(g, v, nil, table)
}

// checkedOutput is standard output, which remembers that something could not be written: the verbs print as they go, and
// an export to a full disk must not end as if it were whole.
type checkedOutput struct {
	io.Writer
	err error
}

func (o *checkedOutput) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// fileOf is the file behind an output, if it is one.
func fileOf(w io.Writer) (*os.File, bool) {
	if o, ok := w.(*checkedOutput); ok {
		w = o.Writer
	}
	f, ok := w.(*os.File)
	return f, ok
}

// errorLineMax is how long a line of an error may be, in bytes. What was typed is in it, and may be anything.
const errorLineMax = 1000

// abridged is an error whose long lines lack their middle: the beginning says what, the end the way out.
func abridged(text string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		if len(l) > errorLineMax {
			l = plain.Cut(l, errorLineMax/2) + " ... " + strings.ToValidUTF8(l[len(l)-errorLineMax/2:], "")
		}
		b.WriteString(l)
	}
	return b.String()
}

// column is one column of a table.
type column[T any] struct {
	head string
	cell func(T) string
}

// emitList prints a list; of an empty one a person gets a hint. more are the columns that -o wide adds.
func emitList[T any](g *globals, rows []T, err error, hint string, columns []column[T], more ...column[T]) error {
	if g.output == "wide" {
		columns = slices.Concat(columns, more)
	}
	if g.output == "name" {
		for _, row := range rows {
			fmt.Fprintln(g.stdout, oneLine(columns[0].cell(row)))
		}
		return err
	}
	return emit(g, rows, err, func(w io.Writer, rows []T) {
		if len(rows) == 0 {
			fmt.Fprintln(g.stderr, hint)
			return
		}
		printRows(w, rows, columns, !g.bare)
	})
}

func printTable[T any](w io.Writer, rows []T, columns []column[T]) { printRows(w, rows, columns, true) }

func printRows[T any](w io.Writer, rows []T, columns []column[T], headed bool) {
	b := &strings.Builder{}
	t := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	heads := make([]string, len(columns))
	for i, c := range columns {
		heads[i] = c.head
	}
	if headed {
		fmt.Fprintln(t, strings.Join(heads, "\t"))
	}
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = oneLine(c.cell(row))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	_ = t.Flush() // into memory
	for l := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(l, " \n"))
	}
}

// pair is one line of what `show` prints.
type pair struct{ name, value string }

// emitPairs prints one object.
func emitPairs[T any](g *globals, v T, err error, pairs func(T) []pair) error {
	return emit(g, v, err, func(w io.Writer, v T) { printPairs(w, pairs(v)) })
}

func printPairs(w io.Writer, pairs []pair) {
	width := 0
	for _, p := range pairs {
		width = max(width, len(p.name))
	}
	for _, p := range pairs {
		fmt.Fprintf(w, "%-*s   %s\n", width, p.name, oneLine(p.value))
	}
}

// oneLine keeps a value from breaking a table, and the terminal from obeying it.
func oneLine(s string) string {
	if s == "" {
		return "-"
	}
	return plain.Line(s)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func millis(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

// plural is "1 node", "2 nodes".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
