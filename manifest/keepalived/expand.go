package keepalived

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/internal/plain"
	"havip-cluster/manifest"
)

// definition takes a line such as $NAME=VALUE, or the start of one over several lines.
func (p *parser) definition(line string) bool {
	if !strings.HasPrefix(line, "$") {
		return false
	}
	name, value, ok := strings.Cut(line[1:], "=")
	if !ok || !isName(name) {
		return false
	}
	p.vars[name] = value
	if strings.TrimSpace(value) == `\` {
		p.define = name
		p.vars[name] = ""
	}
	return true
}

// continueDefinition adds one line to the parameter that is being read; the first line
// without a backslash is its last.
func (p *parser) continueDefinition(line string) {
	part, more := strings.CutSuffix(strings.TrimSpace(line), `\`)
	value := strings.TrimSpace(part)
	if p.vars[p.define] != "" {
		value = p.vars[p.define] + "\n" + value
	}
	if len(value) <= MaxLineBytes {
		p.vars[p.define] = value
	}
	if !more {
		p.define = ""
	}
}

func isName(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// substitute replaces parameters, those in their values as well. An undefined one stays.
// It stops at a value of several lines: those are read one by one.
func (p *parser) substitute(at place, line string) (string, error) {
	for range maxSubstitution {
		replaced, changed := p.replaceOnce(at, line)
		if !changed {
			return line, nil
		}
		if p.bytes += len(replaced); len(replaced) > MaxLineBytes || p.bytes > MaxExpandedBytes {
			break
		}
		line = replaced
		if strings.Contains(line, "\n") {
			return line, nil
		}
	}
	return "", at.refuse(fsm.CodeLimit, "parameters on this line refer to themselves, or make it longer than %d bytes, or all lines longer than %d", MaxLineBytes, MaxExpandedBytes)
}

// replaceOnce replaces the first parameter that is defined.
func (p *parser) replaceOnce(at place, line string) (string, bool) {
	for i := 0; i < len(line); i++ {
		if line[i] != '$' || i > 0 && line[i-1] == '\\' {
			continue
		}
		name, end := "", i+1
		if strings.HasPrefix(line[i+1:], "{") {
			length := strings.IndexByte(line[i+2:], '}')
			if length < 0 {
				continue
			}
			name, end = line[i+2:i+2+length], i+3+length
		} else {
			for end < len(line) && isName("_"+line[i+1:end+1]) {
				end++
			}
			name = line[i+1 : end]
			if end < len(line) && line[end] != ' ' && line[end] != '\t' && line[end] != '\n' {
				continue
			}
		}
		if value, ok := p.lookup(at, name); ok {
			return line[:i] + value + line[end:], true
		}
	}
	return line, false
}

// lookup gives a parameter's value, the predefined ones included. The environment and
// chance are not read: an import must give the same answer everywhere.
func (p *parser) lookup(at place, name string) (string, bool) {
	switch first, _, _ := strings.Cut(name, " "); first {
	case "_PWD":
		return filepath.Dir(at.file), true
	case "_INSTANCE":
		return p.id, true
	case "_HASH":
		return "#", true
	case "_BANG":
		return "!", true
	}
	value, ok := p.vars[name]
	return value, ok
}

// repeat handles ~SEQ(var, start, step, end) and ~LST(var, values...): the rest of the line
// once for each value.
func (p *parser) repeat(at place, line string, depth int) error {
	inside, rest, ok := parenthesised(line)
	if !ok {
		p.lose(at, clip(line), "needs its values in parentheses")
		return nil
	}
	var rounds []map[string]string
	var err error
	if strings.HasPrefix(line, "~LST") {
		rounds, err = listRounds(at, inside)
	} else {
		rounds, err = sequenceRounds(at, inside, strings.HasPrefix(line, "~SEQx"))
	}
	var faults manifest.Faults
	if errors.As(err, &faults) && faults[0].Code != fsm.CodeLimit {
		p.lose(at, clip(line), "%s", faults[0].Text)
		return nil
	}
	if err != nil {
		return err
	}
	for _, values := range rounds {
		for name, value := range values {
			p.vars[name] = value
		}
		if err := p.line(at, strings.TrimSpace(rest), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func parenthesised(line string) (inside, rest string, ok bool) {
	start := strings.IndexByte(line, '(')
	end := strings.IndexByte(line, ')')
	if start < 0 || end < start || start > len("~SEQx") {
		return "", "", false
	}
	return line[start+1 : end], line[end+1:], true
}

func sequenceRounds(at place, inside string, hexadecimal bool) ([]map[string]string, error) {
	parts := strings.Split(inside, ",")
	name := strings.TrimSpace(parts[0])
	if len(parts) < 2 || len(parts) > 4 || !isName(name) {
		return nil, at.refuse(manifest.CodeSyntax, "~SEQ(%s): write ~SEQ(name, start, step, end)", inside)
	}
	numbers := make([]int64, 0, 3)
	for _, part := range parts[1:] {
		n, err := strconv.ParseInt(strings.TrimSpace(part), 0, 32)
		if err != nil {
			return nil, at.refuse(fsm.CodeMalformed, "~SEQ: %q is not a number", strings.TrimSpace(part))
		}
		numbers = append(numbers, n)
	}
	end := numbers[len(numbers)-1]
	start, step := int64(1), int64(1)
	if len(numbers) == 1 && end < 0 {
		start = -1
	}
	if len(numbers) > 1 {
		start = numbers[0]
	}
	if end < start {
		step = -1
	}
	if len(numbers) == 3 {
		step = numbers[1]
	}
	if step == 0 || (end-start)*step < 0 {
		return nil, at.refuse(fsm.CodeRange, "~SEQ: from %d by %d never comes to %d", start, step, end)
	}
	if (end-start)/step >= MaxExpansions {
		return nil, at.refuse(fsm.CodeLimit, "~SEQ: more than %d rounds", MaxExpansions)
	}
	base := 10
	if hexadecimal {
		base = 16
	}
	var rounds []map[string]string
	for n := start; step > 0 && n <= end || step < 0 && n >= end; n += step {
		rounds = append(rounds, map[string]string{name: strconv.FormatInt(n, base)})
	}
	return rounds, nil
}

func listRounds(at place, inside string) ([]map[string]string, error) {
	items := splitList(inside)
	if len(items) < 2 {
		return nil, at.refuse(manifest.CodeSyntax, "~LST(%s): write ~LST(name, value, ...)", inside)
	}
	names := group(items[0])
	var rounds []map[string]string
	for _, item := range items[1:] {
		values := group(item)
		if len(values) != len(names) {
			return nil, at.refuse(manifest.CodeSyntax, "~LST: %d names and %d values in %q", len(names), len(values), item)
		}
		round := map[string]string{}
		for i, name := range names {
			if !isName(name) {
				return nil, at.refuse(manifest.CodeSyntax, "~LST: %q is no name", name)
			}
			round[name] = values[i]
		}
		rounds = append(rounds, round)
	}
	return rounds, nil
}

// group splits {a, b}; anything else is a group of one.
func group(s string) []string {
	s = strings.TrimSpace(s)
	inner, open := strings.CutPrefix(s, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	if !open || !closed {
		return []string{s}
	}
	parts := strings.Split(inner, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// splitList splits at commas that are not in braces.
func splitList(s string) []string {
	var out []string
	depth, start := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			depth--
		case ',':
			if depth == 0 {
				out, start = append(out, s[start:i]), i+1
			}
		}
	}
	return append(out, s[start:])
}

// clip shortens a line for the head of a finding.
func clip(line string) string { return plain.Clip(line, 40) }

// split cuts a line into words. Quotes go, what is in them stays together, a backslash
// takes the next character as it is. A brace at either end of a word stands for itself; those
// of ${NAME} and {{ NAME }} are part of the word. whole is false where a quote has no end: the
// rest of the line is one word then.
func split(line string) (words []word, whole bool) {
	var b strings.Builder
	inWord, quoted := false, false
	whole = true
	flush := func() {
		if inWord {
			words = append(words, braces(b.String(), quoted)...)
		}
		b.Reset()
		inWord, quoted = false, false
	}
	for i := 0; i < len(line); i++ {
		length := reference(line[i:])
		switch c := line[i]; {
		case length > 0:
			b.WriteString(line[i : i+length])
			inWord = true
			i += length - 1
		case c == ' ' || c == '\t' || c == '\n':
			flush()
		case c == '"' || c == '\'':
			end := closing(line, i)
			if end < 0 {
				whole, end = false, len(line)
			}
			b.WriteString(unescape(line[i+1 : end]))
			inWord, quoted, i = true, true, end
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
			inWord = true
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	flush()
	return words, whole
}

// closing finds the end of the quote that begins at i, -1 without one.
func closing(line string, i int) int {
	for j := i + 1; j < len(line); j++ {
		if line[j] == '\\' {
			j++
		} else if line[j] == line[i] {
			return j
		}
	}
	return -1
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// braces splits "unicast_peer{" and "10.0.0.1}" as newer parsers do.
func braces(text string, quoted bool) []word {
	if quoted || text == "{" || text == "}" || strings.Contains(text, "${") || strings.Contains(text, "{{") || strings.Contains(text, "{%") {
		return []word{{text, quoted}}
	}
	var out []word
	if rest, ok := strings.CutPrefix(text, "{"); ok {
		out = append(out, word{text: "{"})
		text = rest
	}
	body := strings.TrimRight(text, "{}")
	if body != "" {
		out = append(out, word{text: body})
	}
	for _, c := range text[len(body):] {
		out = append(out, word{text: string(c)})
	}
	return out
}
