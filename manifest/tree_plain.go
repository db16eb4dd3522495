package manifest

import (
	"bytes"
	"strings"
)

// Most files are written in a small part of YAML: one key or entry a line, plain or quoted keys and values,
// {...} and [...] within a line. plainYAML reads that part in one pass over the bytes. Whatever it is not
// sure of it leaves to the library, faults among it, so each message is the library's or the tree's:
// ok is false then. FuzzPlain holds both to the same tree.
func plainYAML(p *pacer, data []byte) (root *tree, ok bool, err error) {
	r := &plainReader{pacer: p, data: data}
	if !r.advance() || r.indent != 0 {
		return nil, false, r.err
	}
	root, ok = r.block(1)
	if !ok || !r.done || r.err != nil {
		return nil, false, r.err
	}
	root.size = r.count
	return root, true, nil
}

// plainReader stands at a line that has content.
type plainReader struct {
	*pacer
	data   []byte
	next   int    // offset of the line after this one
	looked int    // offset at the last look
	number int    // of the line, from 1
	indent int    // blanks before its content
	text   string // the line up to the last byte that is no blank
	wide   int    // offset in text of the first byte beyond ASCII; its length if there is none
	done   bool   // there is no line any more
	count  int    // values
	slab   []tree // memory for values
	err    error  // of the context
}

// special beyond ASCII are what ends a line, and what the library does not take for text.
const special = "\u0085\u2028\u2029\ufeff\ufffe\uffff"

// slabSize is for how many values memory is asked for at a time.
const slabSize = 512

// keyMax is far below the length at which YAML calls nothing a key any more (1,024).
const keyMax = 256

// advance goes to the next line with content; false: there is none, or one that is not plain.
func (r *plainReader) advance() bool {
	for r.next < len(r.data) {
		if r.next-r.looked >= bytesBetweenChecks {
			if r.looked, r.err = r.next, r.look(); r.err != nil {
				return false
			}
		}
		line := r.data[r.next:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end]
		}
		r.next += len(line) + 1
		r.number++
		wide := len(line)
		for i, c := range line {
			if c < ' ' || c == 0x7f { // tabs and carriage returns
				return false
			}
			if c >= 0x80 {
				wide = min(wide, i)
			}
		}
		if wide < len(line) && bytes.ContainsAny(line[wide:], special) {
			return false
		}
		line = bytes.TrimRight(line, " ")
		r.indent = len(line) - len(bytes.TrimLeft(line, " "))
		if r.indent == len(line) || line[r.indent] == '#' {
			continue
		}
		r.text, r.wide = string(line), min(wide, len(line))
		return true
	}
	r.done = true
	return false
}

// more goes to the next line; false: this reader is out of its depth. At the end it is done.
func (r *plainReader) more() bool { return r.advance() || r.done }

// value makes a value at a column of the line, counted from 0; nil: there are too many.
func (r *plainReader) value(column, depth int) *tree {
	if r.count++; depth > MaxDepth || r.count > MaxNodes {
		return nil
	}
	if len(r.slab) == 0 {
		r.slab = make([]tree, slabSize)
	}
	t := &r.slab[0]
	r.slab = r.slab[1:]
	t.Place = Place{r.number, column + 1}
	return t
}

func (r *plainReader) entry() bool { return strings.HasPrefix(r.text[r.indent:], "- ") }

// block reads the list or mapping that begins with this line.
func (r *plainReader) block(depth int) (*tree, bool) {
	if r.entry() {
		return r.sequence(depth)
	}
	return r.mapping(r.indent, depth)
}

func (r *plainReader) sequence(depth int) (*tree, bool) {
	indent := r.indent
	t := r.value(indent, depth)
	if t == nil {
		return nil, false
	}
	t.shape = shapeList
	for !r.done && r.indent == indent && r.entry() {
		at := indent + 2
		for r.text[at] == ' ' {
			at++
		}
		var item *tree
		ok := false
		if r.keyEnd(at) > 0 { // a mapping that begins behind the dash
			r.indent = at
			item, ok = r.mapping(at, depth+1)
		} else if item, ok = r.line(at, depth+1); ok {
			ok = r.more() && (r.done || r.indent <= indent)
		}
		if !ok {
			return nil, false
		}
		t.items = append(t.items, item)
	}
	return t, r.done || r.indent <= indent
}

// mapping reads the keys that stand at a column.
func (r *plainReader) mapping(indent, depth int) (*tree, bool) {
	t := r.value(indent, depth)
	if t == nil {
		return nil, false
	}
	t.shape = shapeMapping
	for !r.done && r.indent == indent && !r.entry() {
		end := r.keyEnd(indent)
		if end == 0 {
			return nil, false
		}
		key := r.key(indent, end, depth+1)
		if key == nil {
			return nil, false
		}
		item, ok := r.behind(end+1, indent, depth+1)
		if !ok {
			return nil, false
		}
		t.keys, t.items = append(t.keys, key), append(t.items, item)
	}
	return t, r.done || r.indent < indent || r.entry()
}

// behind reads what belongs to a key whose colon ends before at.
func (r *plainReader) behind(at, indent, depth int) (*tree, bool) {
	if at < len(r.text) {
		for r.text[at] == ' ' {
			at++
		}
		item, ok := r.line(at, depth)
		return item, ok && r.more() && (r.done || r.indent <= indent)
	}
	if !r.advance() || r.indent < indent || r.indent == indent && !r.entry() {
		return nil, false
	}
	item, ok := r.block(depth)
	return item, ok && (r.done || r.indent <= indent)
}

// key is the key between a column and its colon.
func (r *plainReader) key(at, end, depth int) *tree {
	t := r.value(at, depth)
	switch {
	case t == nil:
	case r.text[at] == '"':
		t.shape, t.text = shapeText, r.text[at+1:end-1]
	case !plainScalar(t, r.text[at:end]):
		return nil
	}
	return t
}

// keyEnd is the column of the colon behind a key that stands at a column, of words or of words in double quotes; 0 for none.
func (r *plainReader) keyEnd(at int) int {
	end, quoted := at, at < len(r.text) && r.text[at] == '"'
	if quoted {
		end++
	}
	for end < len(r.text) && isWord(r.text[end]) {
		end++
	}
	if quoted {
		if end == len(r.text) || r.text[end] != '"' {
			return 0
		}
		end++
	}
	if end == at || end-at > keyMax || end == len(r.text) || r.text[end] != ':' || end+1 < len(r.text) && r.text[end+1] != ' ' {
		return 0
	}
	return end
}

// line reads a value that has the rest of the line.
func (r *plainReader) line(at, depth int) (*tree, bool) {
	switch c := r.text[at]; c {
	case '{', '[', '"', '\'':
		t, end := r.inline(at, depth)
		return t, t != nil && end == len(r.text)
	default:
		t := r.value(at, depth)
		return t, t != nil && blockText(r.text[at:]) && plainScalar(t, r.text[at:])
	}
}

// inline reads a value within {...} or [...], or in quotes, and returns the column behind it; nil: it is not plain.
func (r *plainReader) inline(at, depth int) (*tree, int) {
	t := r.value(at, depth)
	if t == nil || at >= len(r.text) {
		return nil, 0
	}
	switch c := r.text[at]; c {
	case '{', '[':
		return r.flow(t, at, depth)
	case '"', '\'':
		length := strings.IndexByte(r.text[at+1:], c)
		if length < 0 {
			return nil, 0
		}
		t.shape, t.text = shapeText, r.text[at+1:at+1+length]
		end := at + length + 2
		if end > r.wide && end < len(r.text) { // columns behind it are no bytes
			return nil, 0
		}
		if c == '"' && strings.IndexByte(t.text, '\\') >= 0 || c == '\'' && end < len(r.text) && r.text[end] == '\'' {
			return nil, 0
		}
		return t, end
	}
	end := at
	for end < len(r.text) && (isWord(r.text[end]) || r.text[end] == ':' && end+1 < len(r.text) && isWord(r.text[end+1])) {
		end++
	}
	if !plainScalar(t, r.text[at:end]) {
		return nil, 0
	}
	return t, end
}

// flow reads what is between two brackets.
func (r *plainReader) flow(t *tree, at, depth int) (*tree, int) {
	closing := byte(']')
	if t.shape = shapeList; r.text[at] == '{' {
		t.shape, closing = shapeMapping, '}'
	}
	at = r.blanks(at + 1)
	if at < len(r.text) && r.text[at] == closing {
		return t, at + 1
	}
	for at < len(r.text) {
		if t.shape == shapeMapping {
			end := r.keyEnd(at)
			if end == 0 || end+1 == len(r.text) {
				return nil, 0
			}
			key := r.key(at, end, depth+1)
			if key == nil {
				return nil, 0
			}
			t.keys = append(t.keys, key)
			at = r.blanks(end + 1)
		}
		item, end := r.inline(at, depth+1)
		if item == nil {
			return nil, 0
		}
		t.items = append(t.items, item)
		if at = r.blanks(end); at == len(r.text) {
			return nil, 0
		}
		switch r.text[at] {
		case closing:
			return t, at + 1
		case ',':
			at = r.blanks(at + 1)
		default:
			return nil, 0
		}
	}
	return nil, 0
}

func (r *plainReader) blanks(at int) int {
	for at < len(r.text) && r.text[at] == ' ' {
		at++
	}
	return at
}

// isWord: letters, digits and what means nothing in YAML within a word.
func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '/' || c == '+'
}

// blockText reports whether text outside brackets that begins with a word is one plain value: no colon that ends a key, and
// no comment.
func blockText(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c == ':' && (i+1 == len(text) || text[i+1] == ' '), c == '#' && i > 0 && text[i-1] == ' ':
			return false
		}
	}
	return true
}

// plainScalar types a value without quotes, as grower.scalar does. False: the library has to look, as at
// what begins with a sign or a dot, or may be a number in some other form.
func plainScalar(t *tree, text string) bool {
	if text == "" {
		return false
	}
	if c := text[0]; !isWord(c) && c < 0x80 || c == '-' || c == '+' || c == '.' {
		return false
	}
	t.shape, t.text = shapeText, text
	switch text {
	case "null", "Null", "NULL":
		t.shape, t.text = shapeNull, ""
		return true
	case "true", "True", "TRUE":
		t.shape, t.text = shapeBool, "true"
		return true
	case "false", "False", "FALSE":
		t.shape, t.text = shapeBool, "false"
		return true
	}
	if text[0] < '0' || text[0] > '9' {
		return true
	}
	switch {
	case text == "0", text[0] != '0' && strings.Trim(text, "0123456789") == "":
		t.shape = shapeInt
	case strings.Trim(text, "0123456789.") == "" && strings.Count(text, ".") > 1: // an address
	case pointed(text):
		t.shape = shapeFloat
	case strings.Trim(text, "0123456789abcdefABCDEF.:xXoO_+-") == "": // a number in some form, or an address of IPv6
		return strings.Count(text, ":") > 1 || strings.Count(text, ".") > 1
	}
	return true
}

// pointed reports whether a text is a number with a point or an exponent, of at most floatMax bytes and so within the range
// of one.
func pointed(text string) bool {
	digits := func(s string) (rest string) { return strings.TrimLeft(s, "0123456789") }
	rest := digits(text)
	if len(text) > floatMax || len(rest) == len(text) || rest == "" {
		return false
	}
	if rest[0] == '.' {
		rest = digits(rest[1:])
	}
	if rest != "" && (rest[0] == 'e' || rest[0] == 'E') {
		if rest = rest[1:]; rest != "" && (rest[0] == '+' || rest[0] == '-') {
			rest = rest[1:]
		}
		if rest == "" || len(rest) > 2 {
			return false
		}
		rest = digits(rest)
	}
	return rest == ""
}

const floatMax = 100
