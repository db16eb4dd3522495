package planted

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Import is what Text adds to the package clause of a file, for the package of the switch.
const Import = `; import "havip-cluster/jepsen/mutants/mutant"`

// namesFile is replaced by one that names the bugs of a build.
const namesFile = "jepsen/mutants/mutant/planted.go"

// Group is a set of patches that change no line of each other: they fit into one build, in
// which one bug at a time is switched on.
type Group struct {
	Names []string // of the bugs, sorted

	root  string
	texts map[string]string // of the files before, by path below the root
	edits map[string][]edit // by the same path
}

// Clash says why a patch is in another group than one before it.
type Clash struct {
	Name, With string // of the bugs
	File       string
	Line       int // in the file, from 1
}

func (c Clash) String() string {
	return fmt.Sprintf("%s and %s change line %d of %s: they are built apart", c.With, c.Name, c.Line, c.File)
}

// Plan puts each patch into the first group in which it changes no line of another one. An
// error names a patch that does not apply to the tree.
func Plan(root string, patches []Patch) (groups []*Group, clashes []Clash, err error) {
	for _, p := range patches {
		placed := false
		for _, g := range groups {
			clash, err := g.add(p)
			if err != nil {
				return nil, nil, err
			}
			if placed = clash == nil; placed {
				break
			}
			clashes = append(clashes, *clash)
		}
		if !placed {
			g := &Group{root: root, texts: map[string]string{}, edits: map[string][]edit{}}
			if _, err := g.add(p); err != nil {
				return nil, nil, err
			}
			groups = append(groups, g)
		}
	}
	return groups, clashes, nil
}

// add takes a patch into the group, or says which line is changed by another one already.
func (g *Group) add(p Patch) (*Clash, error) {
	more := map[string][]edit{}
	for _, f := range p.files {
		text, err := g.read(f.NewName)
		if err != nil {
			return nil, fmt.Errorf("%s%s does not apply: %w", p.Name, suffix, err)
		}
		if more[f.NewName], err = edits(p, f, strings.SplitAfter(text, "\n")); err != nil {
			return nil, err
		}
	}
	for _, f := range p.files {
		for _, e := range more[f.NewName] {
			for _, other := range g.edits[f.NewName] {
				if e.overlaps(other) {
					return &Clash{Name: p.Name, With: other.bug, File: f.NewName, Line: e.from + 1}, nil
				}
			}
		}
	}
	for file, list := range more {
		g.edits[file] = append(g.edits[file], list...)
	}
	g.Names = append(g.Names, p.Name)
	slices.Sort(g.Names)
	return nil, nil
}

func (g *Group) read(file string) (string, error) {
	if text, known := g.texts[file]; known {
		return text, nil
	}
	text, err := os.ReadFile(filepath.Join(g.root, filepath.FromSlash(file)))
	if err != nil {
		return "", err
	}
	g.texts[file] = string(text)
	return string(text), nil
}

// overlaps: they replace one line both, or insert at one place, or one inserts between lines
// that the other replaces.
func (e edit) overlaps(o edit) bool {
	if e.from == o.from && (e.from == e.to) == (o.from == o.to) {
		return true
	}
	return e.from < o.to && o.from < e.to
}

// Files returns the paths of the changed files below the root, sorted.
func (g *Group) Files() []string {
	var files []string
	for file := range g.edits {
		files = append(files, file)
	}
	slices.Sort(files)
	return files
}

// Text returns a file with the patches of the group and the import of the switch. The import is
// in the line of the package clause, so that every other line keeps its number.
func (g *Group) Text(file string) (string, error) {
	lines := strings.SplitAfter(g.texts[file], "\n")
	list := slices.SortedStableFunc(slices.Values(g.edits[file]), func(a, b edit) int {
		if a.from != b.from {
			return a.from - b.from
		}
		return a.to - b.to // what is inserted before a line comes before what replaces it
	})
	var out strings.Builder
	at := 0
	for _, e := range list {
		for _, line := range append(lines[at:e.from:e.from], e.lines...) {
			out.WriteString(line)
		}
		at = e.to
	}
	out.WriteString(strings.Join(lines[at:], ""))
	return imported(file, out.String())
}

func imported(file, text string) (string, error) {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, file, text, parser.ParseComments)
	if err != nil {
		return "", fmt.Errorf("%s with its planted bugs is no Go: %w", file, err)
	}
	end := set.Position(syntax.Name.End()).Offset
	return text[:end] + Import + text[end:], nil
}

// Write puts the changed files into a folder and returns the path of an overlay for "go build
// -overlay" and its like.
func (g *Group) Write(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	texts := map[string]string{namesFile: fmt.Sprintf("package mutant\n\nvar planted = %#v\n", g.Names)}
	for _, file := range g.Files() {
		if texts[file], err = g.Text(file); err != nil {
			return "", err
		}
	}
	replace := map[string]string{}
	for file, text := range texts {
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		replace[filepath.Join(g.root, filepath.FromSlash(file))] = path
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("planted bugs: %w", err)
		}
	}
	overlay, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return "", fmt.Errorf("planted bugs: %w", err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		return "", fmt.Errorf("planted bugs: %w", err)
	}
	return path, nil
}

// Overlay writes the overlay of a few named bugs into a folder and returns its path.
// It fails if they do not fit into one build.
func Overlay(dir string, names ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	patches, err := Read(root, names...)
	if err != nil {
		return "", err
	}
	groups, clashes, err := Plan(root, patches)
	if err != nil {
		return "", err
	}
	if len(groups) != 1 {
		return "", fmt.Errorf("planted bugs: %v", clashes)
	}
	return groups[0].Write(dir)
}
