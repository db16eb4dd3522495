// Package doorbook keeps docs/doors.md: who tried what at each door, and what happened. Tests make
// the tables from the routes and the kinds of message themselves, so none is forgotten; nothing of
// it is in the program.
package doorbook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The four that try everything at every door, as all tables name them.
const (
	RemovedVoter = "a removed voter"
	RemovedAgent = "a removed agent"
	Agent        = "a member of role agent"
	Stranger     = "a host without any key"
)

// Refused is the outcome of what did nothing. The reason follows in brackets where the door gives one.
const Refused = "refused"

// Columns are the four in the order of the tables.
var Columns = []string{RemovedVoter, RemovedAgent, Agent, Stranger}

// writeEnv, set to 1, has Check write what it finds different.
const writeEnv = "HAVIP_DOORS"

// Table is one section: a row for each route or kind, and in it what happened to each of the four.
type Table struct {
	first []string // heads of the columns before the four
	rows  []string
	known map[string]bool
}

// NewTable makes a table whose rows begin with these columns.
func NewTable(first ...string) *Table { return &Table{first: first, known: map[string]bool{}} }

// Row adds a row. outcome says what happened to one of the four, and is called once for each.
func (t *Table) Row(outcome func(who string) string, first ...string) {
	cells := first
	for _, who := range Columns {
		cells = append(cells, outcome(who))
	}
	t.known[first[0]] = true
	t.rows = append(t.rows, "| "+strings.Join(cells, " | ")+" |\n")
}

// Has reports whether there is a row that begins with a word.
func (t *Table) Has(first string) bool { return t.known[first] }

// String is the table in Markdown.
func (t *Table) String() string {
	heads := append(append([]string{}, t.first...), Columns...)
	return "| " + strings.Join(heads, " | ") + " |\n|" + strings.Repeat("---|", len(heads)) + "\n" + strings.Join(t.rows, "")
}

// Check compares a section of docs/doors.md with what was found now.
func Check(section string, table *Table) error {
	name, err := document()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("doorbook: %w", err)
	}
	begin, end := "<!-- "+section+": made by a test -->\n", "<!-- end of "+section+" -->\n"
	before, rest, found := strings.Cut(string(text), begin)
	old, after, ended := strings.Cut(rest, end)
	switch {
	case !found || !ended:
		return fmt.Errorf("doorbook: %s has no section %q: put %q and %q where it belongs", name, section, begin, end)
	case old == table.String():
		return nil
	case os.Getenv(writeEnv) == "1":
		return os.WriteFile(name, []byte(before+begin+table.String()+end+after), 0o644) //nolint:gosec // a document
	}
	return fmt.Errorf("docs/doors.md has another table in section %q; if the new one is right, %s=1 go test -p 1 -run 'Doorbook|OnlyVotersSpeak' on this package writes it:\n%s", section, writeEnv, table)
}

// document finds docs/doors.md above the folder of a test.
func document() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("doorbook: %w", err)
	}
	for {
		name := filepath.Join(dir, "docs", "doors.md")
		_, err := os.Stat(name)
		if err == nil {
			return name, nil
		}
		if up := filepath.Dir(dir); !errors.Is(err, fs.ErrNotExist) || up == dir {
			return "", fmt.Errorf("doorbook: no docs/doors.md above: %w", err)
		}
		dir = filepath.Dir(dir)
	}
}
