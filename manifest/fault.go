package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"havip-cluster/fsm"
)

// Codes of faults that only a file can have; the others are the state machine's.
const (
	CodeUnknownKey fsm.Code = "UnknownParameter"
	CodeSyntax     fsm.Code = "InvalidParameterValue.Syntax"
	CodeEncoding   fsm.Code = "InvalidParameterValue.Encoding"
	CodeType       fsm.Code = "InvalidParameterValue.Type"
	CodeConflict   fsm.Code = "InvalidParameterValue.Conflict"
)

// Place is where in a file something stands; lines and columns count from 1, 0 = unknown.
type Place struct {
	Line int `json:"line"`
	Col  int `json:"column"`
}

// Fault is one thing that is wrong with a file.
type Fault struct {
	File string `json:"file,omitempty"` // of an import
	Place
	Path string   `json:"path,omitempty"` // such as havips[2].ip
	Code fsm.Code `json:"code"`
	Text string   `json:"text"`
	// Warning: the file can be used, and probably is not what was meant.
	Warning bool `json:"warning,omitempty"`
}

func (f Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":")
	}
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", f.Line, f.Col)
	} else if f.File != "" {
		b.WriteString(" ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	if f.Warning {
		b.WriteString("warning: ")
	}
	fmt.Fprintf(&b, "%s (%s)", f.Text, f.Code)
	return b.String()
}

// Faults are in the order of their places.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Errors leaves out the warnings.
func (fs Faults) Errors() Faults {
	return slices.DeleteFunc(slices.Clone(fs), func(f Fault) bool { return f.Warning })
}

// Warnings leaves out the errors.
func (fs Faults) Warnings() Faults {
	return slices.DeleteFunc(slices.Clone(fs), func(f Fault) bool { return !f.Warning })
}

// Err is the errors among the faults, nil if there are none.
func (fs Faults) Err() error {
	if errs := fs.Errors(); len(errs) > 0 {
		return errs
	}
	return nil
}

func (fs Faults) sorted() Faults {
	slices.SortStableFunc(fs, func(a, b Fault) int { return cmp.Or(a.Line-b.Line, a.Col-b.Col) })
	return fs
}

func fault(p Place, path string, code fsm.Code, format string, args ...any) Fault {
	return Fault{Place: p, Path: path, Code: code, Text: fmt.Sprintf(format, args...)}
}
