package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"havip-cluster/fsm"
)

// shape is what a value of a file is.
type shape string

const (
	shapeNull    shape = "nothing"
	shapeBool    shape = "true or false"
	shapeInt     shape = "a whole number"
	shapeFloat   shape = "a number"
	shapeText    shape = "text"
	shapeList    shape = "a list"
	shapeMapping shape = "a mapping"
)

// tree is one value of a file with its place, of YAML or JSON alike. What an anchor names
// is shared by its aliases.
type tree struct {
	shape
	Place
	text  string  // of a scalar
	items []*tree // of a list; of a mapping its values
	keys  []*tree // of a mapping
	size  int     // of the root: values that were read
}

// parse reads the one document of a file within the limits.
func parse(p *pacer, data []byte) (root *tree, err error) {
	if f := readable(data); f != nil {
		return nil, *f
	}
	if trimmed := bytes.Trim(data, " \t\r\n"); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') && json.Valid(trimmed) {
		return parseJSON(p, data)
	}
	// The library is fed with anything that a file may hold. A panic in it is a fault of
	// the file as far as the caller can tell, and must not end an agent.
	defer func() {
		if caught := recover(); caught != nil {
			root, err = nil, fault(Place{}, "", CodeSyntax, "the file cannot be read as YAML: %v", caught)
		}
	}()
	return parseYAML(p, data)
}

// readable refuses what is no text of a size and an encoding to be read.
func readable(data []byte) *Fault {
	refuse := func(at int, code fsm.Code, format string, args ...any) *Fault {
		f := fault(placeOf(data, at), "", code, format, args...)
		return &f
	}
	switch {
	case len(data) > MaxBytes:
		f := fault(Place{}, "", fsm.CodeLimit, "the file has %d bytes, at most %d", len(data), MaxBytes)
		return &f
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return refuse(0, CodeEncoding, "the file is UTF-16 (or UTF-32); save it as UTF-8")
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return refuse(0, CodeEncoding, "the file begins with a byte order mark; save it as UTF-8 without one")
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size <= 1:
			return refuse(i, CodeEncoding, "byte 0x%02x is not UTF-8", data[i])
		case r == 0:
			return refuse(i, CodeEncoding, "the file holds a zero byte; is it UTF-16, or no text at all?")
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r >= 0x7f && r < 0xa0 && r != '\u0085':
			return refuse(i, CodeEncoding, "control character 0x%02x", r)
		}
		i += size
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return refuse(0, fsm.CodeMissing, "the file is empty; the least is `version: %d`", Version)
	}
	return nil
}

// placeOf counts lines and columns (in characters) up to an offset.
func placeOf(data []byte, offset int) Place {
	before := data[:min(offset, len(data))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return Place{Line: bytes.Count(before, []byte("\n")) + 1, Col: utf8.RuneCount(before[start:]) + 1}
}

// at appends a key or an index to a path.
func at(path string, key any) string {
	switch key := key.(type) {
	case int:
		return path + "[" + strconv.Itoa(key) + "]"
	case string:
		if path == "" {
			return key
		}
		return path + "." + key
	}
	panic(fmt.Sprintf("manifest: a path has no part of type %T", key))
}
