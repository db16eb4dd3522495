package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"havip-cluster/fsm"
)

// Source is one file to import.
type Source struct {
	Name string // as the user wrote it; findings name it
	Data []byte
}

// FindingKind says what became of a line of another program's configuration.
type FindingKind string

const (
	Taken   FindingKind = "taken"
	Changed FindingKind = "changed" // taken, and it means something else here
	LeftOut FindingKind = "left out"
	Wrong   FindingKind = "fault" // it did not do there what it looks like
)

// Finding is one line of an import's report.
type Finding struct {
	Kind   FindingKind `json:"kind"`
	File   string      `json:"file"`
	Line   int         `json:"line"`
	Option string      `json:"option"`
	Text   string      `json:"text"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s: %s", f.File, f.Line, f.Kind, f.Option, f.Text)
}

// Import is what an importer yields.
type Import struct {
	Manifest Manifest
	Findings []Finding
}

// Report is the findings, one a line, in the order of their places.
func (i Import) Report() string {
	var b strings.Builder
	for _, f := range i.Findings {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// Add appends a finding.
func (i *Import) Add(kind FindingKind, file string, line int, option, format string, args ...any) {
	i.Findings = append(i.Findings, Finding{kind, file, line, option, fmt.Sprintf(format, args...)})
}

// Finish puts manifest and findings in their final order and drops repeated findings.
func (i *Import) Finish() {
	i.Manifest = i.Manifest.Canonical()
	slices.SortStableFunc(i.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	i.Findings = slices.Compact(i.Findings)
}

// Label makes a text fit to name a group or a HAVIP: other characters become dashes.
func Label(text string) string {
	mapped := strings.Map(func(r rune) rune {
		if strings.ContainsRune("._-", r) || r < 0x80 && labelled(string(r)) {
			return r
		}
		return '-'
	}, text)
	mapped = strings.Trim(mapped, "._-")
	if len(mapped) > fsm.MaxNameRunes-8 {
		mapped = strings.TrimRight(mapped[:fsm.MaxNameRunes-8], "._-") // room for a number
	}
	if mapped == "" {
		mapped = "x"
	}
	if strings.HasPrefix(mapped, "havip-") {
		mapped = "v-" + mapped
	}
	return mapped
}

// NodeName makes a text fit to name a node.
func NodeName(text string) string {
	name := strings.Trim(strings.ReplaceAll(strings.ToLower(Label(text)), "_", "-"), ".-")
	if name == "" {
		return "x"
	}
	return name
}

// Names gives out names that are not yet taken; it keeps the next number to try for each.
type Names map[string]int

// Free is the wanted name, or the first of it with a number that is free.
func (n Names) Free(want string) string {
	if n[want] == 0 {
		n[want] = 2
		return want
	}
	for {
		name := fmt.Sprintf("%s-%d", want, n[want])
		n[want]++
		if n[name] == 0 {
			n[name] = 2
			return name
		}
	}
}

// Refuse makes the error of an importer: a fault with its file and line.
func Refuse(file string, line, col int, code fsm.Code, format string, args ...any) error {
	f := fault(Place{line, col}, "", code, format, args...)
	f.File = file
	return Faults{f}
}

// ReadableText refuses what is no UTF-8 text of a size to be read; importers ask it first.
func ReadableText(s Source) error {
	f := readable(s.Data)
	if f == nil {
		return nil
	}
	f.File = s.Name
	if f.Code == fsm.CodeMissing {
		f.Text = "the file is empty"
	}
	return Faults{*f}
}

// CheckImport checks what an importer made. A fault in it is one of the imported
// configuration, such as an address that is no host's.
func CheckImport(i Import, file string) error {
	errs := i.Manifest.Check().Errors()
	for n := range errs {
		errs[n].File = file
	}
	return errs.Err()
}
