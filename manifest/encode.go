package manifest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// YAML is the manifest in its one canonical form: keys in the order of the types, lists in
// theirs, tables by key. Reading it gives the same manifest, and that the same bytes.
func (m Manifest) YAML() []byte {
	w := &yamlWriter{}
	w.record(reflect.ValueOf(m), 0, "")
	return []byte(w.String())
}

// JSON is the same as one indented JSON document.
func (m Manifest) JSON() []byte {
	var b strings.Builder
	writeJSON(&b, reflect.ValueOf(m), "")
	b.WriteByte('\n')
	return []byte(b.String())
}

// Canonical sorts the lists whose order means nothing: nodes, ENIs, subnets, HAVIPs,
// groups, checks and webhooks by name, members and targets by text.
func (m Manifest) Canonical() Manifest {
	m.Nodes = sortedBy(m.Nodes, func(n Node) string { return n.Name })
	m.ENIs = sortedBy(m.ENIs, func(e ENI) string { return e.ID })
	m.Subnets = sortedBy(m.Subnets, func(s Subnet) string { return s.Name })
	m.HAVIPs = sortedLike(m.HAVIPs, func(a, b *HAVIP) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID), strings.Compare(a.IP, b.IP))
	})
	m.Groups = sortedBy(m.Groups, func(g Group) string { return g.Name })
	text := func(s string) string { return s }
	for i := range m.HAVIPs {
		h := &m.HAVIPs[i]
		if h.Range.Members = sortedBy(h.Range.Members, text); h.Range.Members == nil {
			h.Range.Members = []string{}
		}
		h.Require, h.Forbid, h.Bans = sortedBy(h.Require, text), sortedBy(h.Forbid, text), sortedBy(h.Bans, text)
	}
	for i := range m.Groups {
		m.Groups[i].HAVIPs = sortedBy(m.Groups[i].HAVIPs, text)
	}
	m.Checks = sortedBy(m.Checks, func(c Check) string { return c.Name })
	for i := range m.Checks {
		m.Checks[i] = m.Checks[i].canonical()
	}
	m.Webhooks = sortedBy(m.Webhooks, func(h Webhook) string { return h.Name })
	for i := range m.Webhooks {
		m.Webhooks[i].Events = sortedBy(m.Webhooks[i].Events, text)
	}
	return m
}

// sortedBy returns a copy in the order of a key.
func sortedBy[T any](list []T, key func(T) string) []T {
	return sortedLike(list, func(a, b *T) int { return strings.Compare(key(*a), key(*b)) })
}

// sortedLike returns a copy in an order. A HAVIP has some hundred bytes, so what is moved about is where they are.
func sortedLike[T any](list []T, compare func(a, b *T) int) []T {
	if list == nil {
		return nil
	}
	order := make([]*T, len(list))
	for i := range list {
		order[i] = &list[i]
	}
	slices.SortStableFunc(order, compare)
	out := make([]T, len(list))
	for i, at := range order {
		out[i] = *at
	}
	return out
}

// said reports whether a field is written: nil says nothing, and zero neither where absent
// means the same.
func said(f field, v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil()
	case reflect.Slice:
		return !v.IsNil() && (!f.omit || v.Len() > 0)
	case reflect.Map:
		return v.Len() > 0
	}
	return !f.omit || !v.IsZero()
}

// bare says that a text is written as the number that it is.
func bare(v reflect.Value) bool {
	return v.Type() == effectType && Effect(v.String()).number()
}

var effectType = reflect.TypeFor[Effect]()

type yamlWriter struct{ strings.Builder }

const indentWidth = 2

// record writes a mapping in block form. lead is what stands before the first key: the
// dash of a list.
func (w *yamlWriter) record(v reflect.Value, depth int, lead string) {
	for _, f := range fieldsOf(v.Type()) {
		value := v.FieldByIndex(f.index)
		if !said(f, value) {
			continue
		}
		if lead == "" {
			lead = strings.Repeat(" ", depth*indentWidth)
		}
		w.WriteString(lead + f.name + ":")
		lead = ""
		if value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct && value.Len() > 0 {
			w.WriteByte('\n')
			for i := range value.Len() {
				w.entry(value.Index(i), depth+1)
			}
			continue
		}
		w.WriteByte(' ')
		w.flow(value)
		w.WriteByte('\n')
	}
}

// entry writes one record of a list: HAVIPs one key a line, the rest on one line.
func (w *yamlWriter) entry(v reflect.Value, depth int) {
	dash := strings.Repeat(" ", depth*indentWidth) + "- "
	if v.Type() == reflect.TypeFor[HAVIP]() {
		w.record(v, depth+1, dash)
		return
	}
	w.WriteString(dash)
	w.flow(v)
	w.WriteByte('\n')
}

// flow writes a value on one line.
func (w *yamlWriter) flow(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		w.flow(v.Elem())
	case reflect.String:
		if bare(v) {
			w.WriteString(v.String())
			return
		}
		w.WriteString(scalar(v.String()))
	case reflect.Bool:
		w.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Int:
		w.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Slice:
		w.WriteByte('[')
		for i := range v.Len() {
			w.comma(i)
			w.flow(v.Index(i))
		}
		w.WriteByte(']')
	case reflect.Map:
		w.WriteByte('{')
		for i, key := range sortedKeys(v) {
			w.comma(i)
			w.WriteString(scalar(key) + ": ")
			w.flow(v.MapIndex(reflect.ValueOf(key)))
		}
		w.WriteByte('}')
	case reflect.Struct:
		w.fields(v, nil)
	}
}

// fields writes a record on one line; those of the names in zero as if nothing were in them.
func (w *yamlWriter) fields(v reflect.Value, zero []string) {
	w.WriteByte('{')
	written := 0
	for _, f := range fieldsOf(v.Type()) {
		value := v.FieldByIndex(f.index)
		if len(zero) > 0 && slices.Contains(zero, f.name) {
			value = reflect.Zero(value.Type())
		}
		if !said(f, value) {
			continue
		}
		w.comma(written)
		written++
		w.WriteString(f.name)
		w.WriteString(": ")
		w.flow(value)
	}
	w.WriteByte('}')
}

func (w *yamlWriter) comma(i int) {
	if i > 0 {
		w.WriteString(", ")
	}
}

func sortedKeys(v reflect.Value) []string {
	keys := make([]string, 0, v.Len())
	for _, k := range v.MapKeys() {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	return keys
}

// plain reports whether a text is one that every YAML reader takes for text: it starts with a letter and has letters, digits
// and _ . / - in it, or is an address or prefix of IPv4, or a duration. taken has the words that it is not.
func plain(s string) bool {
	if s == "" {
		return false
	}
	if c := s[0]; c < '0' || c > '9' {
		for i := range len(s) {
			if c := s[i]; !isLetter(c) && (i == 0 || (c < '0' || c > '9') && c != '_' && c != '.' && c != '/' && c != '-') {
				return false
			}
		}
		return true
	}
	switch rest := strings.TrimLeft(s, digits); rest {
	case "ms", "s", "m", "h":
		return true
	}
	return quad(s)
}

const digits = "0123456789"

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// quad reports whether a text is four numbers of up to three digits with points between, and behind them perhaps a slash and
// one of up to two.
func quad(s string) bool {
	for part := range 5 {
		rest := strings.TrimLeft(s, digits)
		n := len(s) - len(rest)
		if n == 0 || n > 3 || part == 4 && n > 2 {
			return false
		}
		switch {
		case part >= 3 && rest == "":
			return true
		case rest == "" || part < 3 && rest[0] != '.' || part == 3 && rest[0] != '/':
			return false
		}
		s = rest[1:]
	}
	return false
}

var taken = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}

// takenMost is the length of the longest of them.
const takenMost = 5

func scalar(s string) string {
	if plain(s) && (len(s) > takenMost || !slices.Contains(taken, strings.ToLower(s))) {
		return s
	}
	return quoted(s)
}

// quoted is the JSON form, which is YAML as well.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return strconv.QuoteToASCII(s) // json.Marshal of a string does not fail
	}
	return yamlSafe.Replace(string(b))
}

// yamlSafe escapes what JSON leaves as it is and YAML takes for a line's end, or does not take.
var yamlSafe = func() *strings.Replacer {
	var pairs []string
	for r := rune(0x7f); r < 0xa0; r++ {
		pairs = append(pairs, string(r), fmt.Sprintf("\\u%04x", r))
	}
	for _, r := range "\ufeff\ufffe\uffff" {
		pairs = append(pairs, string(r), fmt.Sprintf("\\u%04x", r))
	}
	return strings.NewReplacer(pairs...)
}()

func writeJSON(b *strings.Builder, v reflect.Value, indent string) {
	deeper := indent + "  "
	item := func(i int) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n" + deeper)
	}
	end := func(n int, closing string) {
		if n > 0 {
			b.WriteString("\n" + indent)
		}
		b.WriteString(closing)
	}
	switch v.Kind() {
	case reflect.Pointer:
		writeJSON(b, v.Elem(), indent)
	case reflect.String:
		if bare(v) {
			b.WriteString(v.String())
			return
		}
		b.WriteString(quoted(v.String()))
	case reflect.Bool, reflect.Int:
		fmt.Fprint(b, v.Interface())
	case reflect.Slice:
		b.WriteByte('[')
		for i := range v.Len() {
			item(i)
			writeJSON(b, v.Index(i), deeper)
		}
		end(v.Len(), "]")
	case reflect.Map:
		b.WriteByte('{')
		for i, key := range sortedKeys(v) {
			item(i)
			b.WriteString(quoted(key) + ": ")
			writeJSON(b, v.MapIndex(reflect.ValueOf(key)), deeper)
		}
		end(v.Len(), "}")
	case reflect.Struct:
		b.WriteByte('{')
		written := 0
		for _, f := range fieldsOf(v.Type()) {
			if said(f, v.FieldByIndex(f.index)) {
				item(written)
				written++
				b.WriteString(quoted(f.name) + ": ")
				writeJSON(b, v.FieldByIndex(f.index), deeper)
			}
		}
		end(written, "}")
	}
}
