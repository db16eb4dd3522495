// Package jsonpath prints parts of a JSON document by a template, in the language that users of kubectl
// know from `-o jsonpath=`: a subset of it, and nothing that kubectl would read otherwise.
//
//	{.name}                     a field; {['a.b']} one with a dot in its name
//	{.list[0]} {.list[-1]}      an element; {.list[1:3]} some, {.list[*]} and {.map.*} all
//	{..name}                    each field of that name, at any depth
//	{.[?(@.status=="alive")]}   elements for which it is so: == != < <= > >=, or that have the field
//	{range .[*]}...{end}        the text between for each
//	{"\n"} and plain text       itself
//
// What is not there prints nothing. Several results are printed with a blank between them; texts bare,
// everything else as JSON.
package jsonpath

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a template, and of what it may print.
const (
	MaxTemplate = 4096    // bytes
	MaxDepth    = 16      // ranges within ranges
	MaxResults  = 1 << 20 // values that one path finds
)

// Template is a template that was read.
type Template struct{ parts []part }

// part is a text, a path, or a range with what is printed for each.
type part struct {
	text  string
	path  path
	paths bool
	each  []part // of a range
	loop  bool
}

// Parse reads a template. As for kubectl, one without braces is a single path, and its dot may be left out.
func Parse(text string) (*Template, error) {
	if len(text) > MaxTemplate {
		return nil, fmt.Errorf("the template has %d bytes, at most %d", len(text), MaxTemplate)
	}
	if !strings.Contains(text, "{") {
		if text == "" {
			return nil, fmt.Errorf("the template is empty; {.} is the whole document")
		}
		if !strings.ContainsAny(text[:1], ".[$@") {
			text = "." + text
		}
		text = "{" + text + "}"
	}
	p := parser{rest: text}
	parts, err := p.parts(0)
	if err != nil {
		return nil, err
	}
	return &Template{parts}, nil
}

type parser struct{ rest string }

// parts reads until the end, or the {end} of the range that it is in.
func (p *parser) parts(depth int) (out []part, err error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("more than %d ranges in one another", MaxDepth)
	}
	for p.rest != "" {
		text, after, braces := strings.Cut(p.rest, "{")
		if text != "" {
			out = append(out, part{text: text})
		}
		if p.rest = after; !braces {
			break
		}
		inner, err := p.braces()
		if err != nil {
			return nil, err
		}
		switch {
		case inner == "end" && depth == 0:
			return nil, fmt.Errorf("{end} without {range ...}")
		case inner == "end":
			return out, nil
		case strings.HasPrefix(inner, "range "):
			loop := part{loop: true}
			if loop.path, err = parsePath(strings.TrimSpace(inner[len("range "):])); err != nil {
				return nil, err
			}
			if loop.each, err = p.parts(depth + 1); err != nil {
				return nil, err
			}
			out = append(out, loop)
		case strings.HasPrefix(inner, `"`) || strings.HasPrefix(inner, "'"):
			quoted, err := unquote(inner)
			if err != nil {
				return nil, err
			}
			out = append(out, part{text: quoted})
		default:
			one := part{paths: true}
			if one.path, err = parsePath(inner); err != nil {
				return nil, err
			}
			out = append(out, one)
		}
	}
	if depth > 0 {
		return nil, fmt.Errorf("{range ...} without {end}")
	}
	return out, nil
}

// braces reads to the closing brace, which may stand in quotes.
func (p *parser) braces() (string, error) {
	quote := byte(0)
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '}':
			inner := strings.TrimSpace(p.rest[:i])
			p.rest = p.rest[i+1:]
			if inner == "" {
				return "", fmt.Errorf("{} is empty; {.} is the whole document")
			}
			return inner, nil
		}
	}
	return "", fmt.Errorf("a { without its }: %q", clip(p.rest))
}

// unquote reads a text in double or single quotes.
func unquote(s string) (string, error) {
	if len(s) >= 2 && s[0] == '\'' && s[len(s)-1] == '\'' {
		inner := s[1 : len(s)-1]
		s = `"` + strings.ReplaceAll(strings.ReplaceAll(inner, `\'`, `'`), `"`, `\"`) + `"`
	}
	out, err := strconv.Unquote(s)
	if err != nil {
		return "", fmt.Errorf("%s is no text in quotes", clip(s))
	}
	return out, nil
}

func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}

// Print is what a template makes of a document.
func (t *Template) Print(document []byte) (string, error) {
	d := json.NewDecoder(strings.NewReader(string(document)))
	d.UseNumber()
	var root any
	if err := d.Decode(&root); err != nil {
		return "", fmt.Errorf("jsonpath: the document: %w", err)
	}
	var b strings.Builder
	err := printParts(&b, t.parts, root, root)
	return b.String(), err
}

func printParts(b *strings.Builder, parts []part, root, here any) error {
	for _, p := range parts {
		if !p.loop && !p.paths {
			b.WriteString(p.text)
			continue
		}
		found, err := p.path.find(root, here)
		if err != nil {
			return err
		}
		if p.loop {
			for _, v := range found {
				if err := printParts(b, p.each, root, v); err != nil {
					return err
				}
			}
			continue
		}
		for i, v := range found {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(bare(v))
		}
	}
	return nil
}

// bare is a text as it is, null as nothing, and everything else as JSON.
func bare(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "" // it came from JSON
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// keysOf are the fields of an object in their order.
func keysOf(m map[string]any) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
