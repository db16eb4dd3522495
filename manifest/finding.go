package manifest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
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
	// Lost says that an address, a node or a file is missing in what was imported because
	// of this line: the import ends with exit code 1.
	Lost bool `json:"lost,omitempty"`
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
	i.Findings = append(i.Findings, Finding{Kind: kind, File: file, Line: line, Option: option, Text: fmt.Sprintf(format, args...)})
}

// Lose appends a fault for which something is missing in what was imported.
func (i *Import) Lose(file string, line int, option, format string, args ...any) {
	i.Findings = append(i.Findings, Finding{Kind: Wrong, File: file, Line: line, Option: option, Text: fmt.Sprintf(format, args...), Lost: true})
}

// Lost lists the findings for which something is missing in what was imported.
func (i Import) Lost() []Finding {
	return slices.DeleteFunc(slices.Clone(i.Findings), func(f Finding) bool { return !f.Lost })
}

// Finish puts manifest and findings in their final order, each finding once. Findings of one
// line stay in the order in which the importer came to them.
func (i *Import) Finish() {
	i.Manifest = i.Manifest.Canonical()
	slices.SortStableFunc(i.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	seen := map[Finding]bool{}
	i.Findings = slices.DeleteFunc(i.Findings, func(f Finding) bool {
		again := seen[f]
		seen[f] = true
		return again
	})
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

// CheckImport checks what an importer made. One without a HAVIP is refused with the
// importer's reason. A fault in it is one of the imported configuration.
func CheckImport(i Import, file, nothing string) error {
	if len(i.Manifest.HAVIPs) == 0 {
		return Refuse(file, 0, 0, fsm.CodeMissing, "nothing to import: %s", nothing)
	}
	errs := i.Manifest.Check().Errors()
	for n := range errs {
		errs[n].File = file
	}
	return errs.Err()
}

// NoHAVIP says why an address can be no HAVIP; "" if it can. bits is its prefix length, -1
// where none is known.
func NoHAVIP(ip netip.Addr, bits int) string {
	switch {
	case ip.IsUnspecified():
		return "it is no host's address"
	case ip.IsMulticast():
		return "it is a multicast address"
	case ip.IsLoopback():
		return "it is a loopback address"
	case ip.IsLinkLocalUnicast():
		return "it is link-local"
	case !ip.Is4() || bits < 0 || bits > 30:
		return ""
	}
	subnet := netip.PrefixFrom(ip, bits).Masked()
	b, host := ip.As4(), uint32(1)<<(32-bits)-1
	last := binary.BigEndian.Uint32(b[:])&host == host
	switch {
	case ip == subnet.Addr():
		return fmt.Sprintf("it is the address of the network %s itself, which no host can have", subnet)
	case last:
		return fmt.Sprintf("it is the broadcast address of %s, which no host can have", subnet)
	}
	return ""
}
