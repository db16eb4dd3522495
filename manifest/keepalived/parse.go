// Package keepalived imports the VRRP part of keepalived.conf: one file per node, or one
// file with @conditions for several. It parses the whole grammar (comments, quotes,
// includes, conditions, parameters, ~SEQ and ~LST) and accounts for every line: taken,
// changed in meaning, or left out with the reason. Facts: keepalived.conf(5).
package keepalived

import (
	"path/filepath"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// Limits of what is read, includes and expansions counted.
const (
	MaxIncludeDepth = 16
	MaxFiles        = 256
	MaxStatements   = 100000
	MaxLineBytes    = 64 << 10 // of a line after substitution
	MaxExpansions   = 200000   // lines made by parameters, ~SEQ and ~LST
	MaxNesting      = 16       // of blocks
	// MaxExpandedBytes bounds what all substitutions together may write.
	MaxExpandedBytes = 64 << 20
	maxSubstitution  = 64 // of parameters in parameters, on one line
	maxExpandDepth   = 32 // of multi-line parameters in one another
)

// Files gives access to what a configuration includes.
type Files interface {
	// Glob lists the files that match a pattern, sorted.
	Glob(pattern string) ([]string, error)
	ReadFile(name string) ([]byte, error)
}

// place is a line of a file.
type place struct {
	file string
	line int
}

func (p place) refuse(code fsm.Code, format string, args ...any) error {
	return manifest.Refuse(p.file, p.line, 1, code, format, args...)
}

type word struct {
	text   string
	quoted bool
}

// statement is one option with its words and, where it has one, its block.
type statement struct {
	place
	words   []word
	block   []*statement
	isBlock bool
}

func (s *statement) key() string { return s.words[0].text }

// arg is the n-th word after the key, "" without one.
func (s *statement) arg(n int) string {
	if n+1 < len(s.words) {
		return s.words[n+1].text
	}
	return ""
}

func (s *statement) String() string {
	var b strings.Builder
	for i, w := range s.words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return b.String()
}

// lines counts the statements of a block.
func (s *statement) lines() int {
	n := 0
	for _, c := range s.block {
		n += 1 + c.lines()
	}
	return n
}

// parser reads one node's view of a configuration.
type parser struct {
	files      Files
	id         string // config-id: what @conditions are compared with
	report     *manifest.Import
	conditions map[string]bool // every word that a condition names

	vars       map[string]string
	define     string // parameter whose multi-line value is being read
	reading    []string
	count      int // files
	expansions int
	bytes      int // written by substitutions
	statements int
	root       statement
	open       []*statement // blocks that are not closed yet, outermost first
	last       *statement   // that a { on the next line belongs to
}

func newParser(files Files, id string, report *manifest.Import) *parser {
	p := &parser{files: files, id: id, report: report, conditions: map[string]bool{}, vars: map[string]string{}}
	p.open = []*statement{&p.root}
	return p
}

// parse reads a whole configuration.
func (p *parser) parse(src manifest.Source) ([]*statement, error) {
	if err := p.file(src); err != nil {
		return nil, err
	}
	if n := len(p.open); n > 1 {
		return nil, p.open[n-1].refuse(manifest.CodeSyntax, "the block of %s is not closed", p.open[n-1])
	}
	return p.root.block, nil
}

func (p *parser) file(src manifest.Source) error {
	if err := manifest.ReadableText(src); err != nil {
		return err
	}
	if p.count++; p.count > MaxFiles {
		return place{src.Name, 1}.refuse(fsm.CodeLimit, "more than %d files are included", MaxFiles)
	}
	p.reading = append(p.reading, filepath.Clean(src.Name))
	defer func() { p.reading = p.reading[:len(p.reading)-1] }()
	lines := strings.Split(strings.ReplaceAll(string(src.Data), "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		at := place{src.Name, i + 1}
		line := strings.TrimSpace(stripComment(lines[i]))
		if key, pattern, found := include(line); found {
			if err := p.include(at, key, pattern); err != nil {
				return err
			}
			continue
		}
		if err := p.line(at, line, 0); err != nil {
			return err
		}
	}
	if p.define != "" {
		return place{src.Name, len(lines)}.refuse(manifest.CodeSyntax, "the definition of $%s has no end", p.define)
	}
	return nil
}

// include recognises the include keywords; keepalived looks for them before anything else.
func include(line string) (key, pattern string, found bool) {
	key, rest, _ := strings.Cut(line, " ")
	if k, r, tab := strings.Cut(line, "\t"); tab && len(k) < len(key) {
		key, rest = k, r
	}
	switch key {
	case "include", "includer", "includem", "includew", "includeb", "includea":
		return key, strings.Trim(strings.TrimSpace(rest), `"'`), true
	}
	return "", "", false
}

func (p *parser) include(at place, key, pattern string) error {
	option := key + " " + pattern
	if pattern == "" {
		return at.refuse(fsm.CodeMissing, "%s names no file", key)
	}
	if p.files == nil {
		p.report.Add(manifest.LeftOut, at.file, at.line, option, "includes cannot be followed here; give the included files' text in one file")
		return nil
	}
	if len(p.reading) > MaxIncludeDepth {
		return at.refuse(fsm.CodeLimit, "includes nested deeper than %d", MaxIncludeDepth)
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(at.file), pattern)
	}
	names, err := p.files.Glob(pattern)
	if err != nil {
		return at.refuse(fsm.CodeMalformed, "%s: %v", option, err)
	}
	if len(names) == 0 {
		kind, text := manifest.LeftOut, "no such file; keepalived goes on without it"
		if key == "includer" || key == "includea" {
			kind, text = manifest.Wrong, "no such file; keepalived reports an error for this keyword"
		}
		p.report.Add(kind, at.file, at.line, option, "%s", text)
	}
	for _, name := range names {
		for _, open := range p.reading {
			if open == filepath.Clean(name) {
				return at.refuse(manifest.CodeConflict, "%s includes itself: %s", name, strings.Join(append(p.reading, name), " -> "))
			}
		}
		data, err := p.files.ReadFile(name)
		if err != nil {
			return at.refuse(fsm.CodeNotFound, "%s: %v", option, err)
		}
		if len(strings.TrimSpace(string(data))) == 0 {
			continue
		}
		if err := p.file(manifest.Source{Name: name, Data: data}); err != nil {
			return err
		}
	}
	return nil
}

// stripComment cuts a line at the first # or ! outside quotes.
func stripComment(line string) string {
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '#' || c == '!':
			return line[:i]
		}
	}
	return line
}

// line handles one line after comments are gone: multi-line definitions, conditions,
// definitions, blocks of repetition, parameters, and at last the words.
func (p *parser) line(at place, line string, depth int) error {
	if p.expansions++; p.expansions > MaxExpansions || depth > maxExpandDepth {
		return at.refuse(fsm.CodeLimit, "parameters and sequences blow the configuration up beyond %d lines, or refer to themselves", MaxExpansions)
	}
	if p.define != "" {
		p.continueDefinition(line)
		return nil
	}
	for strings.HasPrefix(line, "@") {
		rest, applies := p.condition(line)
		if !applies {
			return nil
		}
		line = rest
	}
	switch {
	case line == "":
		return nil
	case p.definition(line):
		return nil
	case strings.HasPrefix(line, "~SEQ") || strings.HasPrefix(line, "~LST"):
		return p.repeat(at, line, depth)
	}
	replaced, err := p.substitute(at, line)
	if err != nil {
		return err
	}
	if replaced != line && (strings.ContainsAny(replaced, "\n") || strings.HasPrefix(replaced, "@") || strings.HasPrefix(replaced, "~")) {
		for _, part := range strings.Split(replaced, "\n") {
			if err := p.line(at, strings.TrimSpace(part), depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	words, err := split(at, replaced)
	if err != nil {
		return err
	}
	return p.take(at, words)
}

// condition says whether the rest of a line that starts with @ applies to this config-id.
func (p *parser) condition(line string) (rest string, applies bool) {
	name, rest, _ := strings.Cut(strings.ReplaceAll(line[1:], "\t", " "), " ")
	name, negative := strings.CutPrefix(name, "^")
	p.conditions[name] = true
	return strings.TrimSpace(rest), (name == p.id) != negative
}

// take adds the words of a line to the tree.
func (p *parser) take(at place, words []word) error {
	var current *statement
	for i, w := range words {
		switch {
		case w.text == "{" && !w.quoted:
			target := current
			if target == nil {
				target = p.last
			}
			if target == nil || target.isBlock {
				return at.refuse(manifest.CodeSyntax, "a { without anything before it")
			}
			if len(p.open) > MaxNesting {
				return at.refuse(fsm.CodeLimit, "blocks nested deeper than %d", MaxNesting)
			}
			target.isBlock = true
			p.open = append(p.open, target)
			current, p.last = nil, nil
		case w.text == "}" && !w.quoted:
			if len(p.open) == 1 {
				return at.refuse(manifest.CodeSyntax, "a } without its {")
			}
			p.open = p.open[:len(p.open)-1]
			current, p.last = nil, nil
		case current == nil:
			if p.statements++; p.statements > MaxStatements {
				return at.refuse(fsm.CodeLimit, "more than %d options", MaxStatements)
			}
			current = &statement{place: at, words: words[i : i+1]}
			parent := p.open[len(p.open)-1]
			parent.block = append(parent.block, current)
			p.last = current
		default:
			current.words = append(current.words[:len(current.words):len(current.words)], w)
		}
	}
	return nil
}
