// Package pacemaker imports the addresses of a Pacemaker cluster from its CIB, as
// `cibadmin -Q` prints it: IPaddr2 and IPv6addr resources with where they may run, and the
// states of the nodes. Everything else is reported as left out with the reason.
package pacemaker

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// Limits of what is read.
const (
	MaxDepth    = 64
	MaxElements = 200000
)

// element is one XML element with the line it begins on.
type element struct {
	name  string
	attrs map[string]string
	line  int
	kids  []*element
}

func (e *element) attr(name string) string { return e.attrs[name] }

// child is the first child of a name, nil without one.
func (e *element) child(name string) *element {
	for _, k := range e.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}

// find is the first element of a name below e, nil without one.
func (e *element) find(name string) *element {
	for _, k := range e.kids {
		if k.name == name {
			return k
		}
		if inner := k.find(name); inner != nil {
			return inner
		}
	}
	return nil
}

// all lists the children of a name.
func (e *element) all(names ...string) []*element {
	var out []*element
	if e == nil {
		return nil
	}
	for _, k := range e.kids {
		for _, n := range names {
			if k.name == n {
				out = append(out, k)
			}
		}
	}
	return out
}

// declared finds the encoding that an XML header names.
var declared = regexp.MustCompile(`^\s*<\?xml[^>]*encoding=["']([A-Za-z0-9._-]+)["']`)

// textOf makes UTF-8 of a CIB in one of the encodings that are read. odd is the first line
// that is not in the encoding it should be in, 0 without one.
func textOf(src manifest.Source) (text string, odd int, err error) {
	src.Data = bytes.TrimPrefix(src.Data, []byte("\xef\xbb\xbf"))
	latin := false
	if m := declared.FindSubmatch(src.Data); m != nil {
		switch strings.ToLower(string(m[1])) {
		case "utf-8", "utf8", "us-ascii", "ascii":
		case "iso-8859-1", "latin1", "latin-1":
			latin = true
		default:
			return "", 0, manifest.Refuse(src.Name, 1, 1, manifest.CodeEncoding, "the file says that its encoding is %s; save it as UTF-8", m[1])
		}
	}
	if latin {
		runes := make([]rune, len(src.Data))
		for i, b := range src.Data {
			runes[i] = rune(b)
		}
		src.Data = []byte(string(runes))
	}
	if text, odd, err = manifest.ForeignText(src); err != nil {
		return "", 0, err
	}
	if err := manifest.WrongForm(src.Name, text, manifest.FormCIB); err != nil {
		return "", 0, err
	}
	if !strings.HasPrefix(strings.TrimSpace(text), "<") {
		return "", 0, manifest.Refuse(src.Name, 1, 1, manifest.CodeSyntax, "this is no XML; give what `cibadmin -Q` prints")
	}
	return text, odd, nil
}

// parse reads the document. There is no document type in a CIB, so entities of one's own,
// which can blow a small file up, are refused with it.
func parse(src manifest.Source, text string) (*element, error) {
	dec := xml.NewDecoder(strings.NewReader(text))
	dec.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // textOf made it UTF-8
	var root *element
	var open []*element
	for count := 0; ; {
		line, col := dec.InputPos()
		refuse := func(code fsm.Code, format string, args ...any) error {
			return manifest.Refuse(src.Name, line, col, code, format, args...)
		}
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) && len(open) == 0 && root != nil {
			return root, nil
		}
		if err != nil {
			line, col = dec.InputPos()
			return nil, refuse(manifest.CodeSyntax, "the XML cannot be read: %v", err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			count++
			switch {
			case len(open) >= MaxDepth || count > MaxElements:
				return nil, refuse(fsm.CodeLimit, "elements nested deeper than %d, or more than %d", MaxDepth, MaxElements)
			case len(open) == 0 && root != nil:
				return nil, refuse(manifest.CodeSyntax, "<%s> after the end of the document", t.Name.Local)
			}
			e := &element{name: t.Name.Local, attrs: map[string]string{}, line: line}
			for _, a := range t.Attr {
				if _, twice := e.attrs[a.Name.Local]; twice {
					return nil, refuse(fsm.CodeDuplicate, "<%s> has the attribute %s twice", e.name, a.Name.Local)
				}
				e.attrs[a.Name.Local] = a.Value
			}
			if len(open) == 0 {
				root = e
			} else {
				parent := open[len(open)-1]
				parent.kids = append(parent.kids, e)
			}
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.Directive:
			return nil, refuse(fsm.CodeUnsupported, "a document type or entity is not part of a CIB; remove <!...>")
		}
	}
}
