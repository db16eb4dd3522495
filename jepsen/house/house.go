// Package house draws the packages of the binary as they import each other: docs/house.svg and the table in
// docs/house.md. `go test ./jepsen/house -update` writes both; the test holds them to the tree.
package house

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const module = "havip-cluster/"

// Room is one package of the project that the binary links.
type Room struct {
	Name    string   // its folder
	Lines   int      // of its Go files without tests
	Doc     string   // the first sentence of its package comment, without its name
	Imports []string // rooms, sorted
	Floor   int      // 0: it imports no other room; else one above the highest that it imports
}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath, Dir, Doc string
	GoFiles, Imports     []string
}

// Read asks `go list` in the root of the repository for what the static Linux build of the binary links.
func Read(root string) ([]Room, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Doc,GoFiles,Imports", "./cmd/havip-cluster")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("house: go list: %w", err)
	}
	var rooms []Room
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			slices.SortFunc(rooms, func(a, b Room) int { return cmp.Compare(a.Name, b.Name) })
			return rooms, nil
		case err != nil:
			return nil, fmt.Errorf("house: go list: %w", err)
		}
		if name, ours := strings.CutPrefix(p.ImportPath, module); ours {
			r := Room{Name: name, Doc: p.Doc}
			if words := strings.SplitN(p.Doc, " ", 3); len(words) == 3 && (words[0] == "Package" || words[0] == "Command") {
				r.Doc = words[2]
			}
			for _, f := range p.GoFiles {
				n, err := lines(filepath.Join(p.Dir, f))
				if err != nil {
					return nil, err
				}
				r.Lines += n
			}
			r.furnish(p.Imports, rooms) // -deps lists a package behind all that it imports
			rooms = append(rooms, r)
		}
	}
}

// furnish finds imports and floor of a room among those below it.
func (r *Room) furnish(imports []string, below []Room) {
	for _, path := range imports {
		name, ours := strings.CutPrefix(path, module)
		if !ours {
			continue
		}
		r.Imports = append(r.Imports, name)
		for _, b := range below {
			if b.Name == name {
				r.Floor = max(r.Floor, b.Floor+1)
			}
		}
	}
	slices.Sort(r.Imports)
}

func lines(file string) (n int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		n++
	}
	return n, s.Err()
}

// Direct is the imports of each room without those that it has by way of another one: the arrows that a
// picture needs.
func Direct(rooms []Room) map[string][]string {
	by, reach := map[string]Room{}, map[string]map[string]bool{}
	sorted := slices.SortedStableFunc(slices.Values(rooms), func(a, b Room) int { return cmp.Compare(a.Floor, b.Floor) })
	direct := map[string][]string{}
	for _, r := range sorted {
		by[r.Name] = r
		all := map[string]bool{}
		for _, i := range r.Imports {
			for far := range reach[i] {
				all[far] = true
			}
		}
		for _, i := range r.Imports {
			if !all[i] {
				direct[r.Name] = append(direct[r.Name], i)
			}
		}
		for _, i := range r.Imports {
			all[i] = true
		}
		reach[r.Name] = all
	}
	return direct
}

// Table is the rooms as rows of Markdown, top floor first; lines are rounded to 100.
func Table(rooms []Room) string {
	var b strings.Builder
	b.WriteString("| floor | package | lines | what it is |\n|---|---|---|---|\n")
	for _, r := range byFloor(rooms) {
		fmt.Fprintf(&b, "| %d | `%s` | %d | %s |\n", r.Floor, r.Name, max(100, (r.Lines+50)/100*100), r.Doc)
	}
	return b.String()
}

func byFloor(rooms []Room) []Room {
	return slices.SortedFunc(slices.Values(rooms), func(a, b Room) int {
		return cmp.Or(cmp.Compare(b.Floor, a.Floor), cmp.Compare(a.Name, b.Name))
	})
}

// The picture's measures, in px.
const (
	pictureWidth = 1500
	rowHeight    = 78
	boxHeight    = 26
	letterWidth  = 6.4
	boxPadding   = 14
)

// Draw is the picture: a row of boxes for each floor, and an arrow from each room to those that it imports
// directly.
func Draw(rooms []Room) string {
	floors := map[int][]Room{}
	top := 0
	for _, r := range byFloor(rooms) {
		floors[r.Floor] = append(floors[r.Floor], r)
		top = max(top, r.Floor)
	}
	type place struct{ x, y, w float64 }
	at := map[string]place{}
	var boxes strings.Builder
	for floor := top; floor >= 0; floor-- {
		row := floors[floor]
		total := 0.0
		for _, r := range row {
			total += boxWidth(r)
		}
		gap := (pictureWidth - total) / float64(len(row)+1)
		x, y := gap, float64((top-floor)*rowHeight+20)
		for _, r := range row {
			w := boxWidth(r)
			at[r.Name] = place{x, y, w}
			fmt.Fprintf(&boxes, `<rect x="%.0f" y="%.0f" width="%.0f" height="%d" rx="4"/><text x="%.0f" y="%.0f">%s</text>`+"\n", x, y, w, boxHeight, x+w/2, y+17, r.Name)
			x += w + gap
		}
	}
	var arrows strings.Builder
	direct := Direct(rooms)
	for _, r := range byFloor(rooms) {
		for _, to := range direct[r.Name] {
			a, b := at[r.Name], at[to]
			fmt.Fprintf(&arrows, `<line x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f"/>`+"\n", a.x+a.w/2, a.y+boxHeight, b.x+b.w/2, b.y)
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11" text-anchor="middle">
<style>rect{fill:#eef3fa;stroke:#34577f}line{stroke:#34577f;stroke-opacity:.35}text{fill:#111}</style>
<rect width="100%%" height="100%%" style="fill:#fff;stroke:none"/>
`, pictureWidth, top*rowHeight+66) + arrows.String() + boxes.String() + "</svg>\n"
}

func boxWidth(r Room) float64 { return float64(len(r.Name))*letterWidth + boxPadding }
