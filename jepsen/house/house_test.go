package house

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/house.svg and the table of docs/house.md")

const (
	root    = "../.."
	picture = root + "/docs/house.svg"
	page    = root + "/docs/house.md"
	begin   = "<!-- rooms: go test ./jepsen/house -update -->\n"
	end     = "<!-- end of rooms -->\n"
	// linesNear is how far the lines of a package may be from those that the page says: it tells how large a
	// room is, and need not follow each commit.
	linesNear = 300
)

func rooms(t *testing.T) []Room {
	t.Helper()
	list, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 30 {
		t.Fatalf("only %d packages", len(list))
	}
	return list
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The picture and the table show the tree as it is.
func TestPictureIsCurrent(t *testing.T) {
	list := rooms(t)
	before, rest, ok := strings.Cut(read(t, page), begin)
	table, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the rooms", page)
	}
	if *update {
		if err := os.WriteFile(picture, []byte(Draw(list)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(page, []byte(before+begin+Table(list)+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	const way = "`go test ./jepsen/house -update` draws it anew"
	if read(t, picture) != Draw(list) {
		t.Errorf("docs/house.svg is not the picture of today's imports: %s", way)
	}
	said := map[string]int{}
	for _, m := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `([^`]+)` \\| (\\d+) \\| (.*) \\|$").FindAllStringSubmatch(table, -1) {
		said[fmt.Sprint(m[2], " on floor ", m[1], ": ", m[4])], _ = strconv.Atoi(m[3])
	}
	for _, r := range list {
		if r.Doc == "" {
			t.Errorf("package %s has no comment that says what it is", r.Name)
		}
		key := fmt.Sprint(r.Name, " on floor ", r.Floor, ": ", r.Doc)
		n, ok := said[key]
		if !ok || n-r.Lines > linesNear || r.Lines-n > linesNear {
			t.Errorf("docs/house.md says %d lines of %q, there are %d: %s", n, key, r.Lines, way)
		}
		delete(said, key)
	}
	for key := range said {
		t.Errorf("docs/house.md has a row %q for what is not there: %s", key, way)
	}
}

// Each function that a walk names is in the file that it names: `path/file.go:Type.Method` or `path/file.go:Func`.
func TestWalksNameWhatExists(t *testing.T) {
	steps := regexp.MustCompile("`([a-z_/-]+\\.(?:go|c)):([A-Za-z.]+)`").FindAllStringSubmatch(read(t, page), -1)
	if len(steps) < 30 {
		t.Fatalf("only %d functions are named", len(steps))
	}
	for _, step := range steps {
		if strings.HasSuffix(step[1], ".c") {
			if !strings.Contains(read(t, filepath.Join(root, step[1])), step[2]+"(") {
				t.Errorf("there is no %s in %s", step[2], step[1])
			}
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, step[1]), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("a walk names %s: %v", step[1], err)
			continue
		}
		if !slices.Contains(functions(f), step[2]) {
			t.Errorf("there is no %s in %s", step[2], step[1])
		}
	}
}

func functions(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := fn.Name.Name
		if fn.Recv != nil {
			of := fn.Recv.List[0].Type
			if star, ok := of.(*ast.StarExpr); ok {
				of = star.X
			}
			if id, ok := of.(*ast.Ident); ok {
				name = id.Name + "." + name
			}
		}
		names = append(names, name)
	}
	return names
}

// What a room has by way of another one is no arrow of its own.
func TestDirect(t *testing.T) {
	list := []Room{
		{Name: "a", Floor: 2, Imports: []string{"b", "c"}}, {Name: "b", Floor: 1, Imports: []string{"c"}}, {Name: "c"}, {Name: "d"},
	}
	got := fmt.Sprint(Direct(list))
	if want := "map[a:[b] b:[c]]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if svg := Draw(list); strings.Count(svg, "<line") != 2 || strings.Count(svg, "<text") != 4 {
		t.Error(svg)
	}
}
