package jsonpath

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// path is a way into a document: from its root if it begins with $, else from where a range stands.
type path struct {
	root  bool
	steps []step
}

// step is one part of a path; exactly one of its kinds is set.
type step struct {
	name  string // of a field
	deep  bool   // the field at any depth
	all   bool   // every element or field
	slice *[2]*int
	index *int
	test  *test
}

// test is what an element has to be: a path that leads somewhere, or one compared with a value.
type test struct {
	left  path
	op    string // "" = it is there
	right any
}

var (
	fieldName = regexp.MustCompile(`^[A-Za-z0-9_-]+`)
	compared  = regexp.MustCompile(`^(@[^=!<>]*?)\s*(==|!=|<=|>=|<|>)\s*(.+)$`)
)

func parsePath(text string) (path, error) {
	var p path
	rest := text
	if strings.HasPrefix(rest, "$") {
		p.root, rest = true, rest[1:]
	} else {
		rest = strings.TrimPrefix(rest, "@")
	}
	for rest != "" {
		var s step
		var err error
		switch {
		case rest == "." && len(p.steps) == 0:
			return p, nil // the document itself
		case strings.HasPrefix(rest, ".."):
			s.deep, rest = true, rest[1:]
			if s.name, rest = field(rest[1:]); s.name == "" {
				return p, fmt.Errorf("%q: after .. the name of a field is wanted", clip(text))
			}
		case strings.HasPrefix(rest, ".["):
			rest = rest[1:]
			continue
		case strings.HasPrefix(rest, ".*"):
			s.all, rest = true, rest[2:]
		case rest[0] == '.':
			if s.name, rest = field(rest[1:]); s.name == "" {
				return p, fmt.Errorf("%q: the name of a field is wanted after the dot", clip(text))
			}
		case rest[0] == '[':
			if s, rest, err = bracket(rest[1:]); err != nil {
				return p, fmt.Errorf("%q: %w", clip(text), err)
			}
		default:
			return p, fmt.Errorf("%q is no path such as .name, .[0] or .[*].name", clip(text))
		}
		p.steps = append(p.steps, s)
	}
	return p, nil
}

func field(text string) (name, rest string) {
	name = fieldName.FindString(text)
	return name, text[len(name):]
}

// bracket reads what stands in brackets, and the rest behind them.
func bracket(text string) (s step, rest string, err error) {
	end, quote, round := -1, byte(0), 0
	for i := 0; i < len(text) && end < 0; i++ {
		switch c := text[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '(':
			round++
		case c == ')':
			round--
		case c == ']' && round == 0:
			end = i
		}
	}
	if end < 0 {
		return s, "", fmt.Errorf("a [ without its ]")
	}
	inner, rest := strings.TrimSpace(text[:end]), text[end+1:]
	switch {
	case inner == "*":
		s.all = true
	case strings.HasPrefix(inner, "?(") && strings.HasSuffix(inner, ")"):
		s.test, err = parseTest(strings.TrimSpace(inner[2 : len(inner)-1]))
	case strings.HasPrefix(inner, "'") || strings.HasPrefix(inner, `"`):
		s.name, err = unquote(inner)
	case strings.Contains(inner, ":"):
		s.slice, err = parseSlice(inner)
	default:
		n, numErr := strconv.Atoi(inner)
		if numErr != nil {
			return s, "", fmt.Errorf("[%s] is neither a number, a range such as 0:2, *, a name in quotes nor ?(...)", clip(inner))
		}
		s.index = &n
	}
	return s, rest, err
}

func parseSlice(text string) (*[2]*int, error) {
	var out [2]*int
	from, to, _ := strings.Cut(text, ":")
	for i, bound := range []string{from, to} {
		if bound = strings.TrimSpace(bound); bound == "" {
			continue
		}
		n, err := strconv.Atoi(bound)
		if err != nil {
			return nil, fmt.Errorf("[%s] is no range such as 0:2", clip(text))
		}
		out[i] = &n
	}
	return &out, nil
}

func parseTest(text string) (*test, error) {
	m := compared.FindStringSubmatch(text)
	if m == nil {
		if !strings.HasPrefix(text, "@") {
			return nil, fmt.Errorf("?(%s) does not begin with @, the element", clip(text))
		}
		left, err := parsePath(text)
		return &test{left: left}, err
	}
	left, err := parsePath(strings.TrimSpace(m[1]))
	if err != nil {
		return nil, err
	}
	out := &test{left: left, op: m[2]}
	right := strings.TrimSpace(m[3])
	if strings.HasPrefix(right, "'") || strings.HasPrefix(right, `"`) {
		out.right, err = unquote(right)
		return out, err
	}
	d := json.NewDecoder(strings.NewReader(right))
	d.UseNumber()
	if err := d.Decode(&out.right); err != nil || d.More() {
		return nil, fmt.Errorf("%q is neither a number, true, false, null nor a text in quotes", clip(right))
	}
	return out, nil
}

// find are the values at the end of a path, in the order of the document.
func (p path) find(root, here any) ([]any, error) {
	if p.root {
		here = root
	}
	found := []any{here}
	for _, s := range p.steps {
		var next []any
		for _, v := range found {
			if next = s.from(next, root, v); len(next) > MaxResults {
				return nil, fmt.Errorf("jsonpath: a path finds more than %d values", MaxResults)
			}
		}
		found = next
	}
	return found, nil
}

// from adds what one step finds from a value.
func (s step) from(out []any, root, v any) []any {
	object, _ := v.(map[string]any)
	list, _ := v.([]any)
	switch {
	case s.deep:
		if hit, ok := object[s.name]; ok {
			out = append(out, hit)
		}
		for _, inner := range children(v) {
			out = s.from(out, root, inner)
		}
	case s.all:
		out = append(out, children(v)...)
	case s.test != nil:
		for _, inner := range children(v) {
			if s.test.holds(root, inner) {
				out = append(out, inner)
			}
		}
	case s.index != nil:
		i := *s.index
		if i < 0 {
			i += len(list)
		}
		if i >= 0 && i < len(list) {
			out = append(out, list[i])
		}
	case s.slice != nil:
		from, to := bound(s.slice[0], 0, len(list)), bound(s.slice[1], len(list), len(list))
		if from < to {
			out = append(out, list[from:to]...)
		}
	default:
		if hit, ok := object[s.name]; ok {
			out = append(out, hit)
		}
	}
	return out
}

// bound is an end of a slice within 0 and n; below 0 it counts from the end.
func bound(i *int, otherwise, n int) int {
	if i == nil {
		return otherwise
	}
	at := *i
	if at < 0 {
		at += n
	}
	return max(0, min(at, n))
}

func children(v any) (out []any) {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		for _, k := range keysOf(v) {
			out = append(out, v[k])
		}
	}
	return out
}

// holds reports whether an element is as the test wants it.
func (t *test) holds(root, v any) bool {
	found, err := t.left.find(root, v)
	if err != nil || len(found) == 0 {
		return false
	}
	if t.op == "" {
		return true
	}
	order, comparable := compare(found[0], t.right)
	switch t.op {
	case "==":
		return comparable && order == 0
	case "!=":
		return !comparable || order != 0
	case "<":
		return comparable && order < 0
	case "<=":
		return comparable && order <= 0
	case ">":
		return comparable && order > 0
	}
	return comparable && order >= 0
}

// compare orders two values of one kind; true is above false.
func compare(a, b any) (order int, comparable bool) {
	switch a := a.(type) {
	case nil:
		return 0, b == nil
	case string:
		b, ok := b.(string)
		return strings.Compare(a, b), ok
	case bool:
		b, ok := b.(bool)
		return strings.Compare(strconv.FormatBool(a), strconv.FormatBool(b)), ok
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return 0, false
		}
		x, errX := a.Float64()
		y, errY := b.Float64()
		switch {
		case errX != nil || errY != nil:
			return 0, false
		case x < y:
			return -1, true
		case x > y:
			return 1, true
		}
		return 0, true
	}
	return 0, false
}
