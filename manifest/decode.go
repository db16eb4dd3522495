package manifest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/havip"
)

// File is a manifest with the places of its values.
type File struct {
	Manifest Manifest
	root     *tree
	places   map[string]Place // nil: nobody has asked yet
}

// Read decodes a file, YAML or JSON, and checks its form, not its sense. The error is a
// Faults with everything that is wrong, at most MaxFaults.
func Read(data []byte) (*File, error) { return read(&pacer{ctx: context.Background()}, data) }

func read(p *pacer, data []byte) (*File, error) {
	root, err := parse(p, data)
	if err != nil {
		var f Fault
		if errors.As(err, &f) {
			return nil, Faults{f}
		}
		return nil, err
	}
	d := &decoder{limit: root.size + MaxAliased}
	file := &File{root: root}
	d.value(root, reflect.ValueOf(&file.Manifest).Elem(), nil)
	if len(d.faults) == 0 {
		d.version(root, file.Manifest.Version)
	}
	if len(d.faults) > 0 {
		return nil, d.faults.sorted()
	}
	for i := range file.Manifest.HAVIPs { // what a LAN calls it
		if r := &file.Manifest.HAVIPs[i].Range; r.Type == "node" {
			r.Type = string(fsm.RangeCVM)
		}
	}
	return file, nil
}

// Decode is Read and Check: the manifest, its warnings, or an error that is a Faults.
func Decode(data []byte) (Manifest, Faults, error) {
	return checked(read(&pacer{ctx: context.Background()}, data))
}

// DecodeFor is Decode in a process that has something better to do, for somebody who may go away:
// it takes breaks, and its error may be that of the context.
func DecodeFor(ctx context.Context, data []byte) (Manifest, Faults, error) {
	return checked(read(&pacer{ctx: ctx, rests: true}, data))
}

func checked(file *File, err error) (Manifest, Faults, error) {
	if err != nil {
		return Manifest{}, nil, err
	}
	found := file.Check()
	if err := found.Err(); err != nil {
		return Manifest{}, found.Warnings(), err
	}
	return file.Manifest, found.Warnings(), nil
}

// At is the place of a path, or of the nearest value around it.
func (f *File) At(path string) Place {
	if f.places == nil { // most files are asked for none
		f.places = map[string]Place{}
		f.locate(f.root, "")
	}
	for {
		if p, ok := f.places[path]; ok || path == "" {
			return p
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// locate notes the place of a value and of what is in it. What aliases add has been bounded by Read.
func (f *File) locate(n *tree, path string) {
	f.places[path] = n.Place
	for i, item := range n.items {
		if n.shape == shapeList {
			f.locate(item, at(path, i))
		} else {
			f.locate(item, at(path, n.keys[i].text))
		}
	}
}

type decoder struct {
	faults Faults
	visits int
	limit  int // of visits
}

// step is a part of a path, which becomes text when somebody reads it.
type step struct {
	up    *step
	key   string // of a mapping, where index is -1
	index int
}

func (s *step) String() string {
	switch {
	case s == nil:
		return ""
	case s.index < 0:
		return at(s.up.String(), s.key)
	}
	return at(s.up.String(), s.index)
}

func (d *decoder) refuse(p Place, path *step, code fsm.Code, format string, args ...any) {
	if len(d.faults) < MaxFaults {
		d.faults = append(d.faults, fault(p, path.String(), code, format, args...))
	}
}

func (d *decoder) version(root *tree, got int) {
	p, given := root.Place, false
	for i, k := range root.keys {
		if k.text == "version" {
			p, given = root.items[i].Place, true
		}
	}
	path := &step{key: "version", index: -1}
	switch {
	case !given:
		d.refuse(root.Place, path, fsm.CodeMissing, "the file does not say its version; write `version: %d`", Version)
	case got != Version:
		d.refuse(p, path, fsm.CodeUnsupported, "version %d of the form; this program knows %d", got, Version)
	}
}

// value decodes one tree into one field and goes on after a fault.
func (d *decoder) value(n *tree, v reflect.Value, path *step) {
	if d.visits++; d.visits > d.limit {
		if d.visits == d.limit+1 {
			d.refuse(n.Place, path, fsm.CodeLimit, "aliases blow the file up by more than %d values", MaxAliased)
		}
		return
	}
	if v.Kind() == reflect.Pointer {
		if n.shape == shapeNull {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	want := wanted(v)
	if want == shapeText && n.shape == shapeInt && v.Type() == reflect.TypeFor[Effect]() {
		want = shapeInt
	}
	if n.shape != want {
		d.wrongType(n, want, path)
		return
	}
	switch want {
	case shapeText:
		v.SetString(n.text)
	case shapeBool:
		v.SetBool(n.text == "true")
	case shapeInt:
		if v.Kind() == reflect.String {
			v.SetString(n.text)
			return
		}
		number, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil {
			d.refuse(n.Place, path, fsm.CodeRange, "%s is out of range for a whole number", n.text)
			return
		}
		v.SetInt(number)
	case shapeList:
		d.list(n, v, path)
	case shapeMapping:
		if v.Kind() == reflect.Map {
			d.table(n, v, path)
		} else {
			d.record(n, v, path)
		}
	}
}

func wanted(v reflect.Value) shape {
	switch v.Kind() {
	case reflect.String:
		return shapeText
	case reflect.Bool:
		return shapeBool
	case reflect.Int:
		return shapeInt
	case reflect.Slice:
		return shapeList
	case reflect.Map, reflect.Struct:
		return shapeMapping
	}
	panic("manifest: a field of kind " + v.Kind().String() + " has no form")
}

func (d *decoder) wrongType(n *tree, want shape, path *step) {
	got, hint := string(n.shape), ""
	if n.text != "" && (path == nil || path.key != "secret") { // which no message repeats
		got += " (" + clip(n.text, 60) + ")"
	}
	if _, err := strconv.ParseInt(n.text, 10, 64); want == shapeInt && n.shape == shapeText && errors.Is(err, strconv.ErrRange) {
		d.refuse(n.Place, path, fsm.CodeRange, "%s is out of range for a whole number", clip(n.text, 60))
		return
	}
	switch {
	case n.shape == shapeNull:
		hint = "; leave the key out for its default"
	case want == shapeText && n.items == nil:
		hint = `; put it in quotes if it is text`
	case want == shapeInt && n.shape == shapeText, want == shapeBool && n.shape == shapeText:
		hint = "; write it without quotes"
	}
	d.refuse(n.Place, path, CodeType, "%s is wanted here, not %s%s", want, got, hint)
}

func clip(s string, limit int) string {
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "..."
	}
	return s
}

func (d *decoder) list(n *tree, v reflect.Value, path *step) {
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		setDefaults(out.Index(i))
		d.value(item, out.Index(i), &step{path, "", i})
	}
	v.Set(out)
}

// keysOf yields the keys of a mapping that are text and not there twice.
func (d *decoder) keysOf(n *tree, path *step, each func(key string, i int)) {
	seen := map[string]Place{}
	for i, k := range n.keys {
		if k.shape == shapeList || k.shape == shapeMapping || k.text == "" && k.shape != shapeText {
			d.refuse(k.Place, path, CodeType, "a key must be text, not %s", k.shape)
			continue
		}
		if first, twice := seen[k.text]; twice {
			d.refuse(k.Place, &step{path, k.text, -1}, fsm.CodeDuplicate, "the key %q is here twice; first at %d:%d", clip(k.text, 60), first.Line, first.Col)
			continue
		}
		seen[k.text] = k.Place
		each(k.text, i)
	}
}

func (d *decoder) table(n *tree, v reflect.Value, path *step) {
	out := reflect.MakeMapWithSize(v.Type(), len(n.keys))
	d.keysOf(n, path, func(key string, i int) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(n.items[i], item, &step{path, key, -1})
		out.SetMapIndex(reflect.ValueOf(key), item)
	})
	if out.Len() > 0 {
		v.Set(out)
	}
}

func (d *decoder) record(n *tree, v reflect.Value, path *step) {
	fields := fieldsOf(v.Type())
	setDefaults(v)
	d.keysOf(n, path, func(key string, i int) {
		at1 := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if at1 < 0 {
			if len(d.faults) < MaxFaults { // a hint costs more than the fault
				d.refuse(n.keys[i].Place, &step{path, clip(key, 60), -1}, CodeUnknownKey, "there is no key %q here%s", clip(key, 60), nearest(key, fields))
			}
			return
		}
		f := fields[at1]
		target := v.FieldByIndex(f.index)
		d.value(n.items[i], target, &step{path, key, -1})
		if f.omit && target.Kind() == reflect.Slice && target.Len() == 0 {
			target.SetZero() // empty and absent mean the same, so they are the same
		}
	})
}

func setDefaults(v reflect.Value) {
	if v.CanAddr() {
		if with, ok := v.Addr().Interface().(interface{ setDefaults() }); ok {
			with.setDefaults()
		}
	}
}

// field is one key of the form.
type field struct {
	name  string
	omit  bool // left out when zero
	index []int
}

// forms are the fields of the types of the form, read from their tags once.
var forms = map[reflect.Type][]field{}

func init() {
	for _, t := range []reflect.Type{
		reflect.TypeFor[Manifest](), reflect.TypeFor[Node](), reflect.TypeFor[ENI](), reflect.TypeFor[Subnet](), reflect.TypeFor[Range](),
		reflect.TypeFor[HAVIP](), reflect.TypeFor[Group](), reflect.TypeFor[Check](), reflect.TypeFor[Webhook](), reflect.TypeFor[Limits](),
	} {
		forms[t] = tagged(t)
	}
}

func fieldsOf(t reflect.Type) []field { return forms[t] }

// tagged reads the tags of a type. A setting of a HAVIP is called as in JSON, and its tag says
// only whether it is left out.
func tagged(t reflect.Type) []field {
	var out []field
	for _, f := range reflect.VisibleFields(t) {
		name, omit, _ := strings.Cut(f.Tag.Get("m"), ",")
		if len(f.Index) > 1 {
			name, omit = f.Tag.Get("json"), name
			name, _, _ = strings.Cut(name, ",")
		}
		if name != "" {
			out = append(out, field{name, omit == "omit", f.Index})
		}
	}
	if t == reflect.TypeFor[HAVIP]() {
		order := strings.Fields(havip.ManifestKeys)
		place := func(f field) int {
			if i := slices.Index(order, f.name); i >= 0 {
				return i
			}
			return len(order)
		}
		slices.SortStableFunc(out, func(a, b field) int { return place(a) - place(b) })
	}
	return out
}

// nearest names the keys there are, the likeliest alone if one differs by two letters at most.
func nearest(key string, fields []field) string {
	var names []string
	for _, f := range fields {
		if len(key) < 40 && distance(strings.ToLower(key), f.name) <= 2 {
			return fmt.Sprintf("; is %s meant?", f.name)
		}
		names = append(names, f.name)
	}
	return "; there are " + strings.Join(names, ", ")
}

// distance counts the letters to insert, drop or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
