package manifest

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"havip-cluster/fsm"
)

// parseYAML reads one YAML document. The library works in proportion to the bytes; what is
// costly all the same, for each byte, is refused before: comments and depth.
func parseYAML(p *pacer, data []byte) (*tree, error) {
	if f := prescan(data); f != nil {
		return nil, *f
	}
	if root, ok, err := plainYAML(p, data); ok || err != nil {
		return root, err
	}
	return libraryYAML(p, data)
}

// libraryYAML reads whatever YAML has.
func libraryYAML(p *pacer, data []byte) (*tree, error) {
	dec := yaml.NewDecoder(paced{p, bytes.NewReader(data)})
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, fault(Place{1, 1}, "", fsm.CodeMissing, "the file is empty but for comments; the least is `version: %d`", Version)
	case p.ctx.Err() != nil:
		return nil, p.ctx.Err()
	case err != nil:
		return nil, yamlFault(data, err)
	}
	g := &grower{pacer: p, grown: map[*yaml.Node]*tree{}}
	root, err := g.value(doc.Content[0], 1)
	if err != nil {
		return nil, err
	}
	root.size = g.count
	var more yaml.Node
	switch err := dec.Decode(&more); {
	case err == nil && len(more.Content) > 0:
		return nil, fault(placeOfNode(more.Content[0]), "", CodeSyntax, "more than one document; a file holds one")
	case err != nil && !errors.Is(err, io.EOF):
		return nil, yamlFault(data, err)
	}
	return root, nil
}

// paced reads for its pacer.
type paced struct {
	*pacer
	io.Reader
}

func (r paced) Read(b []byte) (int, error) {
	if err := r.look(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b[:min(len(b), bytesBetweenChecks)])
}

// prescan refuses, in one pass over the bytes, what would cost the parser more than the bytes
// say, and what it would pass over in silence.
func prescan(data []byte) *Fault {
	refuse := func(line, col int, code fsm.Code, format string, args ...any) *Fault {
		f := fault(Place{line, col}, "", code, format, args...)
		return &f
	}
	if i := bytes.IndexAny(data, "\u0085\u2028\u2029"); i >= 0 {
		p, r := placeOf(data, i), []rune(string(data[i:min(len(data), i+utf8.UTFMax)]))[0]
		return refuse(p.Line, p.Col, CodeEncoding, "the character %U ends a line for some readers of YAML and for others not; drop it", r)
	}
	comments, values, marks, content, line := 0, 0, 0, false, 0
	for rest := data; len(rest) > 0; {
		text := rest
		if end := bytes.IndexAny(rest, "\r\n"); end >= 0 {
			text, rest = rest[:end], rest[end+1:]
		} else {
			rest = nil
		}
		line++
		inner := bytes.TrimLeft(text, " ")
		indent := len(text) - len(inner)
		if indent > MaxIndent {
			return refuse(line, indent+1, fsm.CodeLimit, "indented by %d, at most %d", indent, MaxIndent)
		}
		if !content && len(inner) > 0 && inner[0] != '#' {
			content = true
			switch {
			case text[0] == '%':
				return refuse(line, 1, fsm.CodeUnsupported, "directives (%%) are not used here; drop the line")
			case inner[0] == '[', inner[0] == '-' && (len(inner) == 1 || inner[1] == ' ' || inner[1] == '\t'):
				return refuse(line, indent+1, CodeType, "%s is wanted here, not %s", shapeMapping, shapeList)
			}
		}
		if depth := indicators(inner); depth > MaxDepth {
			return refuse(line, indent+1, fsm.CodeLimit, "nested deeper than %d", MaxDepth)
		}
		if values += valuesIn(text); values > MaxNodes || values > denseFrom+(len(data)-len(rest))/bytesPerValue {
			f := tooDense(Place{line, 1}, values, len(data)-len(rest))
			return &f
		}
		if marks += marksIn(text); marks > MaxAliases {
			return refuse(line, 1, fsm.CodeLimit, "more than %d anchors, aliases and tags (&, * or ! before a word); write the values out", MaxAliases)
		}
		if comments += commentsIn(text); comments > MaxComments {
			return refuse(line, 1, fsm.CodeLimit, "more than %d comments (# after a blank or at the start of a line); drop some", MaxComments)
		}
	}
	return nil
}

// indicators counts the lists and mappings that a line opens at its beginning.
func indicators(text []byte) int {
	n := 0
	for len(text) > 1 && (text[0] == '-' || text[0] == '?' || text[0] == ':') && (text[1] == ' ' || text[1] == '\t') {
		n++
		text = bytes.TrimLeft(text[1:], " \t")
	}
	return n
}

// A file of many values has at least so many bytes for each: a HAVIP in its shortest form takes 6.
const (
	bytesPerValue = 4
	denseFrom     = 50000 // values; a file of fewer may be as dense as it likes
)

func tooDense(p Place, values, size int) Fault {
	return fault(p, "", fsm.CodeLimit, "about %d values in %d bytes are more than a configuration has; is the file one?", values, size)
}

// valuesIn counts about how many values and keys a line has, within quotes too.
func valuesIn(text []byte) int {
	n := 0
	for i, c := range text {
		switch {
		case c == ',' || c == '[' || c == '{':
			n++
		case (c == ':' || c == '-' || c == '?') && (i+1 == len(text) || text[i+1] == ' ' || text[i+1] == '\t'),
			c == ':' && i > 0 && text[i-1] == '"': // as JSON has it
			n++
			if c != '-' {
				n++ // key and value
			}
		}
	}
	return n
}

// marksIn counts what may be anchors, aliases and tags in a line, within quotes too.
func marksIn(text []byte) int {
	n := 0
	for i, c := range text {
		if (c == '&' || c == '*' || c == '!') && i+1 < len(text) && text[i+1] != ' ' && (i == 0 || bytes.IndexByte(beforeMarks, text[i-1]) >= 0) {
			n++
		}
	}
	return n
}

var beforeMarks = []byte(" \t[,{")

// commentsIn counts what may be comments in a line, within quotes too.
func commentsIn(text []byte) int {
	n := 0
	for i := bytes.IndexByte(text, '#'); i >= 0; {
		if i == 0 || text[i-1] == ' ' || text[i-1] == '\t' {
			n++
		}
		next := bytes.IndexByte(text[i+1:], '#')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return n
}

var (
	lineOfError  = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)
	unknownAlias = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// yamlFault is what the library found wrong, at its line; it does not say where in it.
func yamlFault(data []byte, err error) error {
	parts := lineOfError.FindStringSubmatch(strings.SplitN(err.Error(), "\n", 2)[0])
	if parts == nil {
		return fault(Place{}, "", CodeSyntax, "the file cannot be read as YAML: %v", err)
	}
	line, _ := strconv.Atoi(parts[1]) // "" is none
	if strings.HasPrefix(parts[2], "did not find expected") {
		line++ // its parser counts from 0, its scanner from 1
	}
	place := Place{min(max(line, 1), bytes.Count(bytes.TrimRight(data, " \r\n"), []byte("\n"))+1), 1}
	switch {
	case strings.Contains(parts[2], "exceeded max depth"):
		return fault(place, "", fsm.CodeLimit, "nested deeper than %d", MaxDepth)
	case unknownAlias.MatchString(parts[2]):
		name := unknownAlias.FindStringSubmatch(parts[2])[1]
		if at := bytes.Index(data, []byte("*"+name)); at >= 0 {
			place = placeOf(data, at)
		}
		return fault(place, "", CodeSyntax, "no &%s stands before *%s", clip(name, 60), clip(name, 60))
	}
	if strings.Contains(parts[2], "<document start>") {
		return fault(place, "", CodeSyntax, "more than one document, or something behind the end of the first")
	}
	return fault(place, "", CodeSyntax, "%s", parts[2])
}

func placeOfNode(n *yaml.Node) Place { return Place{Line: n.Line, Col: n.Column} }

// grower turns the parser's nodes into a tree.
type grower struct {
	*pacer
	grown   map[*yaml.Node]*tree // of anchors; nil while it is being read: an alias in it is a cycle
	aliases int
	count   int
}

func (g *grower) value(n *yaml.Node, depth int) (*tree, error) {
	t := &tree{Place: placeOfNode(n)}
	if g.count++; depth > MaxDepth || g.count > MaxNodes {
		return nil, fault(t.Place, "", fsm.CodeLimit, "nested deeper than %d, or more than %d values", MaxDepth, MaxNodes)
	}
	if g.count%valuesBetweenChecks == 0 {
		if err := g.look(); err != nil {
			return nil, err
		}
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return nil, fault(t.Place, "", fsm.CodeUnsupported, "tags such as %s are not used here; write the plain value", clip(n.Tag, 60))
	}
	if n.Anchor != "" {
		g.grown[n] = nil
		defer func() { g.grown[n] = t }()
	}
	switch n.Kind {
	case yaml.ScalarNode:
		g.scalar(t, n)
	case yaml.SequenceNode:
		t.shape = shapeList
		for _, v := range n.Content {
			item, err := g.value(v, depth+1)
			if err != nil {
				return nil, err
			}
			t.items = append(t.items, item)
		}
	case yaml.MappingNode:
		t.shape = shapeMapping
		return t, g.mapping(t, n.Content, depth)
	case yaml.AliasNode:
		return g.alias(n, t.Place)
	default:
		return nil, fault(t.Place, "", fsm.CodeUnsupported, "this is not used here")
	}
	return t, nil
}

// integer is a whole number of YAML 1.2. Others, such as 1_000, are text.
var integer = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+|0o[0-7]+)$`)

// scalar reads a plain value by YAML 1.2's core schema; whatever is quoted is text.
func (g *grower) scalar(t *tree, n *yaml.Node) {
	t.shape, t.text = shapeText, n.Value
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return
	}
	switch n.Value {
	case "", "~", "null", "Null", "NULL":
		t.shape, t.text = shapeNull, ""
	case "true", "True", "TRUE":
		t.shape, t.text = shapeBool, "true"
	case "false", "False", "FALSE":
		t.shape, t.text = shapeBool, "false"
	default:
		switch {
		case integer.MatchString(n.Value):
			t.shape = shapeInt
		case n.Tag == "!!float":
			t.shape = shapeFloat
		}
	}
}

func (g *grower) mapping(t *tree, content []*yaml.Node, depth int) error {
	for i := 0; i+1 < len(content); i += 2 {
		k := content[i]
		if k.Kind == yaml.ScalarNode && k.Value == "<<" && k.Style == 0 {
			return fault(placeOfNode(k), "", fsm.CodeUnsupported, "merge keys (<<) are not used here; write the values out")
		}
		key, err := g.value(k, depth+1)
		if err != nil {
			return err
		}
		item, err := g.value(content[i+1], depth+1)
		if err != nil {
			return err
		}
		if item.Line == 0 {
			item.Place = key.Place
		}
		t.keys, t.items = append(t.keys, key), append(t.items, item)
	}
	return nil
}

func (g *grower) alias(n *yaml.Node, place Place) (*tree, error) {
	if g.aliases++; g.aliases > MaxAliases {
		return nil, fault(place, "", fsm.CodeLimit, "more than %d aliases", MaxAliases)
	}
	t, ok := g.grown[n.Alias]
	if !ok || t == nil {
		return nil, fault(place, "", CodeSyntax, "*%s stands within &%s: a cycle", clip(n.Value, 60), clip(n.Value, 60))
	}
	return t, nil
}
