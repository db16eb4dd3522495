package mscs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

const (
	// objectsMax bounds the objects of all files, fieldsMax the properties of one.
	objectsMax = 20_000
	fieldsMax  = 500
)

// field is one property of an object, with its line.
type field struct {
	raw  json.RawMessage
	line int
}

// object is one object of PowerShell's output.
type object struct {
	file   string
	line   int
	fields map[string]field
	order  []string
}

// text reads a file as PowerShell writes it: version 5 redirects UTF-16 with a mark, later ones UTF-8.
func text(s manifest.Source) (string, error) {
	for mark, order := range map[string]binary.ByteOrder{"\xff\xfe": binary.LittleEndian, "\xfe\xff": binary.BigEndian} {
		rest, marked := bytes.CutPrefix(s.Data, []byte(mark))
		if !marked {
			continue
		}
		if len(rest)%2 != 0 || len(rest) > manifest.MaxBytes {
			return "", manifest.Refuse(s.Name, 1, 1, manifest.CodeEncoding, "the file is UTF-16 and cut off, or too long; save it as UTF-8")
		}
		units := make([]uint16, len(rest)/2)
		for i := range units {
			units[i] = order.Uint16(rest[2*i:])
		}
		s.Data = []byte(string(utf16.Decode(units)))
	}
	s.Data = bytes.TrimPrefix(s.Data, []byte("\xef\xbb\xbf"))
	all, _, err := manifest.ForeignText(s)
	return all, err
}

// lines finds the line of an offset: the offsets of the ends of lines.
type lines []int64

func linesOf(all string) (l lines) {
	for at, c := range []byte(all) {
		if c == '\n' {
			l = append(l, int64(at))
		}
	}
	return l
}

func (l lines) at(offset int64) int {
	n, _ := slices.BinarySearch(l, offset)
	return 1 + n
}

// parse reads the objects of one file: one object, or a list of them, or several of these one after another.
func parse(file, all string) ([]object, error) {
	d := json.NewDecoder(strings.NewReader(all))
	where := linesOf(all)
	var out []object
	for {
		start := skip(all, d.InputOffset())
		var raw json.RawMessage
		switch err := d.Decode(&raw); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, manifest.Refuse(file, where.at(d.InputOffset()), 1, fsm.CodeMalformed,
				"this is no JSON (%v); give what `Get-ClusterResource | ConvertTo-Json -Depth 3` prints, see docs/from-mscs.md", err)
		}
		list, err := elements(raw, start)
		if err != nil {
			return nil, manifest.Refuse(file, where.at(start), 1, fsm.CodeMalformed, "%v", err)
		}
		for _, e := range list {
			o, err := read(file, e.raw, e.at, where)
			if err != nil {
				return nil, err
			}
			if out = append(out, o); len(out) > objectsMax {
				return nil, manifest.Refuse(file, o.line, 1, fsm.CodeLimit, "more than %d objects", objectsMax)
			}
		}
	}
}

// skip is the offset of what follows blanks and commas.
func skip(all string, at int64) int64 {
	for at < int64(len(all)) && strings.IndexByte(" \t\r\n,:", all[at]) >= 0 {
		at++
	}
	return at
}

type element struct {
	raw json.RawMessage
	at  int64
}

// elements are those of a list, or the one object itself.
func elements(raw json.RawMessage, start int64) ([]element, error) {
	if !bytes.HasPrefix(raw, []byte("[")) {
		return []element{{raw, start}}, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	var out []element
	for d.More() {
		at := skip(string(raw), d.InputOffset())
		var one json.RawMessage
		if err := d.Decode(&one); err != nil {
			return nil, err
		}
		out = append(out, element{one, start + at})
	}
	return out, nil
}

// read takes an object apart.
func read(file string, raw json.RawMessage, start int64, where lines) (object, error) {
	o := object{file: file, line: where.at(start), fields: map[string]field{}}
	if !bytes.HasPrefix(raw, []byte("{")) {
		return o, manifest.Refuse(file, o.line, 1, fsm.CodeMalformed, "here is %.20s, and an object of the cluster was expected: { \"Name\": ... }", raw)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return o, manifest.Refuse(file, o.line, 1, fsm.CodeMalformed, "%v", err)
	}
	for d.More() {
		at := skip(string(raw), d.InputOffset())
		key, err := d.Token()
		name, _ := key.(string)
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return o, manifest.Refuse(file, where.at(start+at), 1, fsm.CodeMalformed, "%v", err)
		}
		if len(o.order) >= fieldsMax {
			return o, manifest.Refuse(file, o.line, 1, fsm.CodeLimit, "an object with more than %d properties", fieldsMax)
		}
		if _, twice := o.fields[name]; !twice {
			o.order = append(o.order, name)
		}
		o.fields[name] = field{value, where.at(start + at)}
	}
	return o, nil
}

// has reports whether an object has a property.
func (o object) has(names ...string) bool {
	for _, n := range names {
		if _, ok := o.fields[n]; !ok {
			return false
		}
	}
	return true
}

// at is the line of a property, or of the object.
func (o object) at(name string) int {
	if f, ok := o.fields[name]; ok {
		return f.line
	}
	return o.line
}

// str is a property as a text: a string, the Name of an object, or a number; "" without one.
func (o object) str(name string) string { return str(o.fields[name].raw) }

func str(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var named struct{ Name, NodeName json.RawMessage }
	if bytes.HasPrefix(raw, []byte("{")) && json.Unmarshal(raw, &named) == nil {
		if named.Name != nil {
			return str(named.Name)
		}
		return str(named.NodeName)
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return n.String()
	}
	var b bool
	if json.Unmarshal(raw, &b) == nil {
		return strconv.FormatBool(b)
	}
	return ""
}

// list is a property as texts: a list of them, or one.
func (o object) list(name string) []string {
	raw := o.fields[name].raw
	var many []json.RawMessage
	if json.Unmarshal(raw, &many) != nil {
		many = []json.RawMessage{raw}
	}
	var out []string
	for _, one := range many {
		if s := str(one); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// unset is how a DWORD says that nobody set it.
const unset = -1

// number is a property as a number; unset for 4294967295 and -1, ok false where it is none.
func (o object) number(name string) (n int, ok bool) {
	x, err := strconv.ParseInt(o.str(name), 10, 64)
	if err != nil {
		return 0, false
	}
	if x == 1<<32-1 || x < 0 {
		return unset, true
	}
	return int(min(x, 1<<31)), true
}
