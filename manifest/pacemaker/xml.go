// Package pacemaker imports the addresses of a Pacemaker cluster from its CIB, as
// `cibadmin -Q` prints it: IPaddr2 and IPv6addr resources with where they may run, and the
// states of the nodes. Everything else is reported as left out with the reason.
package pacemaker

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"

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

// parse reads the document. There is no document type in a CIB, so entities of one's own,
// which can blow a small file up, are refused with it.
func parse(src manifest.Source) (*element, error) {
	if _, _, err := manifest.ForeignText(src); err != nil {
		return nil, err
	}
	dec := xml.NewDecoder(bytes.NewReader(src.Data))
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
