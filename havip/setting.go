package havip

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Kind is what the value of a setting is.
type Kind string

const (
	Number  Kind = "number"
	Text    Kind = "text"
	Targets Kind = "targets" // names of nodes and ids of ENIs
	Scores  Kind = "scores"  // numbers by target
	YesNo   Kind = "yes or no"
)

// Setting is one row of the table. Its functions work on the three forms and know nothing else.
type Setting struct {
	Key  string // in JSON and in a manifest; the flag has dashes for underscores
	Name string // in a sentence
	Kind Kind
	// Default is what is there when nobody said anything; "" = nothing.
	Default string
	// Low and High bound a Number and each of Scores. High is the most entries of Targets and the
	// most bytes of a Text; 0 = the text is bounded by what it may say.
	Low, High int
	// Mark is what a HAVIP is called that has not the default of a YesNo.
	Mark string

	verbs string // that set it in place of a flag
	ops
}

// ops are the functions of a row; bind makes them of one description of the value.
type ops struct {
	merge func(*Spec, *Change)
	show  func(*View, *Spec)
	read  func(*Spec, *View)
	same  func(a, b *Spec) bool
	clean func(*Spec)
	check func(*Spec) *Fault
	named func(*Spec) []string
	solid func(*Change)
	whole func(*View)
	print func(*View) string
	parse func(c *Change, text string, first bool) error
}

// FaultKind says what is wrong with a value.
type FaultKind string

const (
	BadValue   FaultKind = "value"
	OutOfRange FaultKind = "range"
	TooMany    FaultKind = "limit"
	TooLong    FaultKind = "long"
)

// Fault is a value that a setting cannot have; the message names the value and what may be.
type Fault struct {
	Kind    FaultKind
	Message string
}

func (f *Fault) Error() string { return f.Message }

func fault(kind FaultKind, format string, args ...any) *Fault {
	return &Fault{kind, fmt.Sprintf(format, args...)}
}

// slot is where a Spec keeps a value: get fills the default in, set puts the value as it is said,
// and read leaves the default out.
type slot[T any] struct {
	get  func(*Spec) T
	set  func(*Spec, T)
	read func(*Spec, T)
}

// direct is a field whose zero value is its default.
func direct[T any](at func(*Spec) *T) slot[T] {
	set := func(s *Spec, x T) { *at(s) = x }
	return slot[T]{func(s *Spec) T { return *at(s) }, set, set}
}

// sparse is a number whose default is another than 0: nil is the default.
func sparse(at func(*Spec) **int, otherwise int) slot[int] {
	return slot[int]{
		get: func(s *Spec) int { return valueOr(*at(s), otherwise) },
		set: func(s *Spec, n int) { *at(s) = &n },
		read: func(s *Spec, n int) {
			if *at(s) = nil; n != otherwise {
				*at(s) = &n
			}
		},
	}
}

// not is a setting that is on unless a field says that it is off: the one place where a polarity
// turns round.
func not(at func(*Spec) *bool) slot[bool] {
	set := func(s *Spec, on bool) { *at(s) = !on }
	return slot[bool]{func(s *Spec) bool { return !*at(s) }, set, set}
}

// sort is what the values of one kind have in common.
type sort[T any] struct {
	same    func(a, b T) bool
	clean   func(T) T // its one form in the state
	check   func(T) *Fault
	targets func(T) []string
	whole   func(T) T // never nil
	print   func(T) string
	parse   func(old T, text string, first bool) (T, error)
}

func bind[T any](s Setting, at slot[T], change func(*Change) **T, view func(*View) *T, k sort[T]) Setting {
	s.ops = ops{
		merge: func(sp *Spec, c *Change) {
			if p := *change(c); p != nil {
				at.set(sp, *p)
			}
		},
		show:  func(v *View, sp *Spec) { *view(v) = at.get(sp) },
		read:  func(sp *Spec, v *View) { at.read(sp, *view(v)) },
		same:  func(a, b *Spec) bool { return k.same(at.get(a), at.get(b)) },
		check: func(sp *Spec) *Fault { return k.check(at.get(sp)) },
		named: func(*Spec) []string { return nil },
		clean: func(*Spec) {},
		solid: func(*Change) {},
		whole: func(*View) {},
		print: func(v *View) string { return k.print(*view(v)) },
	}
	if k.clean != nil {
		s.clean = func(sp *Spec) { at.set(sp, k.clean(at.get(sp))) }
	}
	if k.targets != nil {
		s.named = func(sp *Spec) []string { return k.targets(at.get(sp)) }
	}
	if k.whole != nil {
		s.whole = func(v *View) { *view(v) = k.whole(*view(v)) }
		s.solid = func(c *Change) {
			if p := change(c); *p != nil {
				x := k.whole(**p)
				*p = &x
			}
		}
	}
	s.parse = func(c *Change, text string, first bool) error {
		var old T
		p := change(c)
		if *p != nil {
			old = **p
		}
		x, err := k.parse(old, text, first)
		if err != nil {
			return err
		}
		var sp Spec
		at.set(&sp, x)
		if fault := s.check(&sp); fault != nil {
			return fault
		}
		*p = &x
		return nil
	}
	return s
}

// With is the settings after a change, as it was said; Clean gives them their one form.
func (s Spec) With(c Change) Spec {
	for i := range Settings {
		Settings[i].merge(&s, &c)
	}
	return s
}

// Clean is the settings in the one form that the state keeps: lists sorted and without
// duplicates, copies of what may be shared.
func (s Spec) Clean() Spec {
	for i := range Settings {
		Settings[i].clean(&s)
	}
	return s
}

// View is every setting with its default filled in; lists and tables without an entry are nil.
func (s Spec) View() (v View) {
	for i := range Settings {
		Settings[i].show(&v, &s)
	}
	return v
}

// Spec leaves the defaults out, so that a file which says one and one which does not mean the
// same.
func (v View) Spec() (s Spec) {
	for i := range Settings {
		Settings[i].read(&s, &v)
	}
	return s
}

// Whole is the view without nil lists and tables, which would be null in JSON.
func (v View) Whole() View {
	for i := range Settings {
		Settings[i].whole(&v)
	}
	return v
}

// Defaults is the view of a HAVIP of which nobody said anything.
func Defaults() View { return Spec{}.View() }

// Solid is the change without pointers to nil lists and tables: JSON would make null of them,
// which reads as not said.
func (c Change) Solid() Change {
	for i := range Settings {
		Settings[i].solid(&c)
	}
	return c
}

// Same reports whether two specs agree in this setting.
func (s *Setting) Same(a, b *Spec) bool { return s.same(a, b) }

// Check says what is wrong with this setting of a spec by itself, nil if nothing is.
func (s *Setting) Check(spec *Spec) *Fault { return s.check(spec) }

// Named are the targets that this setting of a spec names, in its order.
func (s *Setting) Named(spec *Spec) []string { return s.named(spec) }

// Print is the value of this setting for a person, "" for nothing.
func (s *Setting) Print(v *View) string { return s.print(v) }

// Head is the key as a heading.
func (s *Setting) Head() string { return strings.ToUpper(strings.ReplaceAll(s.Key, "_", " ")) }

// Flag is the name of the flag, "" for a setting with verbs of its own.
func (s *Setting) Flag() string {
	if s.verbs != "" {
		return ""
	}
	return strings.ReplaceAll(s.Key, "_", "-")
}

// Verbs says how the command line sets it.
func (s *Setting) Verbs() string {
	if s.verbs != "" {
		return s.verbs
	}
	return "--" + s.Flag()
}

// Doc is its sentence, from the tag of Change.
func (s *Setting) Doc() string { return s.tag("doc") }

// Level is the level of commands from which on a change may name it.
func (s *Setting) Level() int {
	n, err := strconv.Atoi(s.tag("level"))
	if err != nil {
		return 1
	}
	return n
}

func (s *Setting) tag(name string) string {
	for f := range reflect.TypeFor[Change]().Fields() {
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key == s.Key {
			return f.Tag.Get(name)
		}
	}
	return ""
}

// Help is the sentence with the default, for the usage of a flag.
func (s *Setting) Help() string {
	if s.Default == "" {
		return s.Doc()
	}
	return s.Doc() + " (default " + s.Default + ")"
}

// Value is a flag that sets one setting of a change; it does for the flag packages what they call
// a Value.
type Value struct {
	setting *Setting
	into    *Change
	typed   bool
}

// Value makes a flag that writes into a change whatever is typed, and nothing if it is not.
func (s *Setting) Value(into *Change) *Value { return &Value{setting: s, into: into} }

// Set takes one occurrence of the flag.
func (v *Value) Set(text string) error {
	first := !v.typed
	v.typed = true
	if err := v.setting.parse(v.into, text, first); err != nil {
		return &FlagError{v.setting.Flag(), err}
	}
	return nil
}

// FlagError is what was typed for a flag and cannot be.
type FlagError struct {
	Flag string
	Err  error
}

func (e *FlagError) Error() string { return "--" + e.Flag + ": " + e.Err.Error() }

func (e *FlagError) Unwrap() error { return e.Err }

// String is nothing: the default is in the sentence.
func (v *Value) String() string { return "" }

// Type is the word of the flag packages for what is typed.
func (v *Value) Type() string {
	switch v.setting.Kind {
	case Number:
		return "int"
	case Targets:
		return "strings"
	case Scores:
		return "stringArray"
	case YesNo:
		return "bool"
	}
	return "string"
}
