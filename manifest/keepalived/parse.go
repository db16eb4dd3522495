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
	// unfilled says that a word of it stands for a value that nobody knows here.
	unfilled bool
	lacks    []string // options of the block that were left out for that
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
	roots      []string        // folders that stand for the node's /
	conditions map[string]bool // every word that a condition names
	negated    map[string]bool // those of @^

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
	p := &parser{files: files, id: id, report: report, conditions: map[string]bool{}, negated: map[string]bool{}, vars: map[string]string{}}
	p.open = []*statement{&p.root}
	return p
}

// add and lose report on a line; lose says that something is missing for it.
func (p *parser) add(kind manifest.FindingKind, at place, option, format string, args ...any) {
	p.report.Add(kind, at.file, at.line, option, format, args...)
}

func (p *parser) lose(at place, option, format string, args ...any) {
	p.report.Lose(at.file, at.line, option, format, args...)
}

// parse reads a whole configuration. The error is one of size, of encoding, or of a block
// that ends nobody can say where.
func (p *parser) parse(src manifest.Source) ([]*statement, error) {
	if err := p.file(src); err != nil {
		return nil, err
	}
	for len(p.open) > 1 {
		s := p.open[len(p.open)-1]
		if inner := s.topInside(); inner != nil {
			return nil, s.refuse(manifest.CodeSyntax, "the block of %s is not closed before the %s of line %d", s, inner.key(), inner.line)
		}
		p.add(manifest.Wrong, s.place, head(s), "its block is not closed; keepalived reports a missing } and takes it to end with the file, and so it is here")
		p.open = p.open[:len(p.open)-1]
	}
	p.root.fill()
	return p.root.block, nil
}

// topInside is the first block in s that belongs at the top, nil without one.
func (s *statement) topInside() *statement {
	for _, c := range s.block {
		if c.isBlock && topBlocks[c.key()] {
			return c
		}
		if inner := c.topInside(); inner != nil {
			return inner
		}
	}
	return nil
}

// fill leaves out the options of a block whose value is not known; blocks in it stay.
func (s *statement) fill() {
	kept := s.block[:0]
	for _, c := range s.block {
		if c.unfilled && !c.isBlock {
			s.lacks = append(s.lacks, c.key())
			continue
		}
		c.fill()
		kept = append(kept, c)
	}
	s.block = kept
}

func (p *parser) file(src manifest.Source) error {
	text, odd, err := manifest.ForeignText(src)
	if err != nil {
		return err
	}
	if p.count == 0 {
		if err := manifest.WrongForm(src.Name, text, manifest.FormKeepalived); err != nil {
			return err
		}
	}
	if p.count++; p.count > MaxFiles {
		return place{src.Name, 1}.refuse(fsm.CodeLimit, "more than %d files are included", MaxFiles)
	}
	if odd > 0 {
		p.add(manifest.Changed, place{src.Name, odd}, "encoding", "%s", manifest.OddBytes("keepalived"))
	}
	p.reading = append(p.reading, filepath.Clean(src.Name))
	defer func() { p.reading = p.reading[:len(p.reading)-1] }()
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i, text := range lines {
		at := place{src.Name, i + 1}
		if err := p.line(at, strings.TrimSpace(stripComment(text)), 0); err != nil {
			return err
		}
	}
	if p.define != "" {
		p.add(manifest.Wrong, place{src.Name, len(lines)}, "$"+p.define, "the definition has no end in this file")
		p.define = ""
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
		if placeholder.MatchString(line) {
			p.lose(at, line, "%s", unfilledText)
			return nil
		}
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
	if key, pattern, found := include(replaced); found {
		return p.include(at, key, pattern)
	}
	words, whole := split(replaced)
	if !whole {
		p.add(manifest.Wrong, at, words[0].text, "a quote has no end on this line; keepalived reports an unmatched quote")
	}
	return p.take(at, words)
}

// condition says whether the rest of a line that starts with @ applies to this config-id.
func (p *parser) condition(line string) (rest string, applies bool) {
	name, rest, _ := strings.Cut(strings.ReplaceAll(line[1:], "\t", " "), " ")
	name, negative := strings.CutPrefix(name, "^")
	p.conditions[name] = true
	if negative {
		p.negated[name] = true
	}
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
				p.add(manifest.Wrong, at, "{", "stands without anything before it; keepalived ignores it, and here what is in its block")
				target = &statement{place: at, words: words[i : i+1]}
			}
			if len(p.open) > MaxNesting {
				return at.refuse(fsm.CodeLimit, "blocks nested deeper than %d", MaxNesting)
			}
			target.isBlock = true
			p.open = append(p.open, target)
			current, p.last = nil, nil
		case w.text == "}" && !w.quoted:
			if len(p.open) == 1 {
				p.add(manifest.Wrong, at, "}", "closes nothing; keepalived says \"Extra '}' found\" and goes on")
				continue
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
		if current != nil {
			p.unfilled(at, current, w)
		}
	}
	return nil
}
