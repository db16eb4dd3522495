// Package form writes and reads a struct as JSON under other rules than its tags alone: keys in an
// order of their own, under another name, and booleans turned round. So a type can be put together of
// parts, and the bytes of an older format stay what they were.
package form

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Rule is about one key of a type.
type Rule struct {
	Key    string // as the tag says it
	As     string // as it is written, with its options, such as "enabled" or "unmanaged,omitempty"; "" = as the tag says
	Invert bool   // of a bool or *bool: what is written is the contrary
}

// Form is how a struct type T is written.
type Form[T any] struct {
	wire   reflect.Type // a struct with the same values in the order of the form
	fields []field
}

type field struct {
	path   []int // in T
	invert bool
}

// New makes the form of T. order names keys as they are written, separated by blanks; fields that
// it does not name come behind, in the order of the type. Fields of embedded structs count as those of T.
// A key or rule that T has not is a fault of the program, and panics.
func New[T any](order string, rules ...Rule) *Form[T] {
	type entry struct {
		key string
		field
		wire reflect.StructField
	}
	var entries []entry
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		tag, tagged := f.Tag.Lookup("json")
		if !tagged || tag == "-" || !f.IsExported() {
			continue
		}
		e := entry{field: field{path: f.Index}}
		for _, r := range rules {
			if r.Key != "" && keyOf(tag) == r.Key {
				if e.invert = r.Invert; r.As != "" {
					tag = r.As
				}
				break
			}
		}
		e.key = keyOf(tag)
		e.wire = reflect.StructField{Name: f.Name, Type: f.Type, Tag: reflect.StructTag(fmt.Sprintf("json:%q", tag))}
		entries = append(entries, e)
	}
	out := &Form[T]{}
	var wire []reflect.StructField
	take := func(i int) {
		out.fields, wire = append(out.fields, entries[i].field), append(wire, entries[i].wire)
		entries = slices.Delete(entries, i, i+1)
	}
	for _, key := range strings.Fields(order) {
		i := slices.IndexFunc(entries, func(e entry) bool { return e.key == key })
		if i < 0 {
			panic(fmt.Sprintf("form: %s has no key %q", reflect.TypeFor[T](), key))
		}
		take(i)
	}
	for len(entries) > 0 {
		take(0)
	}
	out.wire = reflect.StructOf(wire)
	return out
}

func keyOf(tag string) string {
	key, _, _ := strings.Cut(tag, ",")
	return key
}

// Marshal writes a value. It leaves <, > and & as they are: an encoder around it escapes them if it
// is one that does.
func (f *Form[T]) Marshal(v *T) ([]byte, error) {
	from, wire := reflect.ValueOf(v).Elem(), reflect.New(f.wire)
	for i := range f.fields {
		wire.Elem().Field(i).Set(f.fields[i].turned(from.FieldByIndex(f.fields[i].path)))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(wire.Interface()); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Unmarshal reads a value; fields that are not there are zero afterwards. A key that T has not is an
// error.
func (f *Form[T]) Unmarshal(data []byte, v *T) error {
	wire, into := reflect.New(f.wire), reflect.ValueOf(v).Elem()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(wire.Interface()); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the end")
	}
	for i := range f.fields {
		into.FieldByIndex(f.fields[i].path).Set(f.fields[i].turned(wire.Elem().Field(i)))
	}
	return nil
}

// turned is a value as it is on the other side.
func (f field) turned(v reflect.Value) reflect.Value {
	switch {
	case !f.invert:
		return v
	case v.Kind() == reflect.Bool:
		return reflect.ValueOf(!v.Bool())
	case v.IsNil():
		return v
	}
	on := !v.Elem().Bool()
	return reflect.ValueOf(&on)
}
