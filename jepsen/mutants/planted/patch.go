// Package planted applies the patches of jepsen/mutants, each of which plants one bug behind
// a switch, without touching the tree: it makes an overlay for the go command.
package planted

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

const (
	// Folder holds the patches, below the root of the tree.
	Folder = "jepsen/mutants"

	suffix    = ".patch"
	patchHelp = "; " + Folder + "/DESIGN.md says how to make it again"
)

// Patch plants one bug.
type Patch struct {
	Name string // of the bug, and of the patch's file without ".patch"
	Rule string // that the bug breaks: the patch's first line, "Rule: ... ."

	files []*gitdiff.File
}

// Root returns the root of the tree that the working directory is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("planted bugs: no go.mod in %s or above it", dir)
		}
	}
}

// Read returns the patches of the tree, all or those that are named, by name.
func Read(root string, names ...string) ([]Patch, error) {
	if len(names) == 0 {
		found, err := filepath.Glob(filepath.Join(root, Folder, "*"+suffix))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("planted bugs: no patch in %s of %s: %w", Folder, root, err)
		}
		for _, path := range found {
			names = append(names, strings.TrimSuffix(filepath.Base(path), suffix))
		}
	}
	var patches []Patch
	for _, name := range slices.Sorted(slices.Values(names)) {
		text, err := os.ReadFile(filepath.Join(root, Folder, name+suffix))
		if err != nil {
			return nil, fmt.Errorf("planted bug %s: %w", name, err)
		}
		p, err := Parse(name, string(text))
		if err != nil {
			return nil, err
		}
		patches = append(patches, p)
	}
	return patches, nil
}

var (
	rule   = regexp.MustCompile(`\ARule: (.+)\.\n`)
	inCall = regexp.MustCompile(`mutant\.Active\("([^"]*)"\)`)
)

// Parse reads the text of one patch.
func Parse(name, text string) (Patch, error) {
	files, header, err := gitdiff.Parse(strings.NewReader(text))
	if err != nil {
		return Patch{}, fmt.Errorf("%s%s: %w", name, suffix, err)
	}
	m := rule.FindStringSubmatch(header)
	if m == nil {
		return Patch{}, fmt.Errorf(`%s%s: the first line does not say the rule that the bug breaks, "Rule: ... ."`, name, suffix)
	}
	switches := 0
	for _, f := range files {
		if f.IsNew || f.IsDelete || f.IsRename || f.IsCopy || len(f.TextFragments) == 0 {
			return Patch{}, fmt.Errorf("%s%s: %s: only the lines of Go files that there are can be changed", name, suffix, f.NewName)
		}
		f.NewName = strings.TrimPrefix(f.NewName, "b/") // as patch -p1 does; in the form without "diff --git"
		for _, fragment := range f.TextFragments {
			for _, line := range fragment.Lines {
				for _, call := range inCall.FindAllStringSubmatch(line.Line, -1) {
					if line.Op != gitdiff.OpAdd || call[1] != name {
						return Patch{}, fmt.Errorf("%s%s: %s: the switch of %s in a line that this patch does not add for its own bug", name, suffix, f.NewName, call[1])
					}
					switches++
				}
			}
		}
	}
	if switches == 0 {
		return Patch{}, fmt.Errorf("%s%s: no line with mutant.Active(%q) is added", name, suffix, name)
	}
	return Patch{Name: name, Rule: m[1], files: files}, nil
}

// edit replaces the lines from, from+1, ... to-1 of a file, counted from 0.
type edit struct {
	bug      string
	from, to int
	lines    []string
}

// edits returns what a patch does to the lines of one file, in their order. The lines that a
// hunk shows as they were have to be there, all of them, at one place only; the number in its
// head does not matter, so that what is written above it does not spoil a patch.
func edits(p Patch, f *gitdiff.File, lines []string) ([]edit, error) {
	var all []edit
	for _, fragment := range f.TextFragments {
		var before []string
		for _, line := range fragment.Lines {
			if line.Op != gitdiff.OpAdd {
				before = append(before, line.Line)
			}
		}
		places := occurrences(lines, before)
		if len(places) != 1 {
			return nil, fmt.Errorf("%s%s does not apply: the %d lines around line %d of %s are there %d times, as the patch shows them%s",
				p.Name, suffix, len(before), fragment.OldPosition, f.NewName, len(places), patchHelp)
		}
		all = append(all, changes(p.Name, fragment, places[0])...)
	}
	slices.SortStableFunc(all, func(a, b edit) int { return a.from - b.from })
	return all, nil
}

// changes returns one edit for each run of changed lines of a hunk that begins at a line.
func changes(bug string, fragment *gitdiff.TextFragment, at int) []edit {
	var all []edit
	open := false
	for _, line := range fragment.Lines {
		if line.Op == gitdiff.OpContext {
			open = false
			at++
			continue
		}
		if !open {
			all = append(all, edit{bug: bug, from: at, to: at})
			open = true
		}
		e := &all[len(all)-1]
		if line.Op == gitdiff.OpAdd {
			e.lines = append(e.lines, line.Line)
		} else {
			at++
			e.to = at
		}
	}
	return all
}

// occurrences returns where part begins in lines.
func occurrences(lines, part []string) []int {
	var places []int
	for i := 0; len(part) > 0 && i+len(part) <= len(lines); i++ {
		if slices.Equal(lines[i:i+len(part)], part) {
			places = append(places, i)
		}
	}
	return places
}
