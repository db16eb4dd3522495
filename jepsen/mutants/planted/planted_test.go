package planted

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const door = `package door

// Open says whether somebody may come in.
func Open(age int, key bool) bool {
	if age < 18 {
		return false
	}
	if !key {
		return false
	}
	return true
}
`

func patch(hunk string) string {
	return "Rule: only who may.\n\n--- a/door/door.go\n+++ b/door/door.go\n" + hunk
}

const (
	young = `@@ -4,3 +4,3 @@ package door
 func Open(age int, key bool) bool {
-	if age < 18 {
+	if age < 18 && !mutant.Active("young") {
 		return false
`
	keyless = `@@ -7,3 +7,3 @@ func Open(age int, key bool) bool {
 	}
-	if !key {
+	if !key && !mutant.Active("keyless") {
 		return false
`
	old = `@@ -4,3 +4,3 @@ package door
 func Open(age int, key bool) bool {
-	if age < 18 {
+	if age < 18 || age > 80 && mutant.Active("old") {
 		return false
`
	always = `@@ -4,2 +4,5 @@ package door
 func Open(age int, key bool) bool {
+	if mutant.Active("always") {
+		return true
+	}
 	if age < 18 {
`
	never = `@@ -4,2 +4,5 @@ package door
 func Open(age int, key bool) bool {
+	if mutant.Active("never") {
+		return false
+	}
 	if age < 18 {
`
)

// tree has one file, its text.
func tree(t *testing.T, text string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module havip-cluster\n\ngo 1.26\n", "door/door.go": text} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func parsed(t *testing.T, name, text string) Patch {
	t.Helper()
	p, err := Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGroups(t *testing.T) {
	var patches []Patch
	for _, p := range []struct{ name, hunk string }{{"young", young}, {"keyless", keyless}, {"old", old}, {"always", always}, {"never", never}} {
		patches = append(patches, parsed(t, p.name, patch(p.hunk)))
	}
	groups, clashes, err := Plan(tree(t, door), patches)
	if err != nil {
		t.Fatal(err)
	}
	var names [][]string
	for _, g := range groups {
		names = append(names, g.Names)
	}
	// "always" inserts before the line that "young" replaces: both fit. "never" inserts at the same place.
	if want := [][]string{{"always", "keyless", "young"}, {"never", "old"}}; !slices.EqualFunc(names, want, slices.Equal) {
		t.Fatalf("groups %v, want %v", names, want)
	}
	var said []string
	for _, c := range clashes {
		said = append(said, c.String())
	}
	if want := []string{
		"young and old change line 5 of door/door.go: they are built apart",
		"always and never change line 5 of door/door.go: they are built apart",
	}; !slices.Equal(said, want) {
		t.Errorf("clashes %q, want %q", said, want)
	}
	text, err := groups[0].Text("door/door.go")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(
		"package door", "package door"+Import,
		"bool {\n\tif age < 18 {", "bool {\n\tif mutant.Active(\"always\") {\n\t\treturn true\n\t}\n\tif age < 18 && !mutant.Active(\"young\") {",
		"!key {", "!key && !mutant.Active(\"keyless\") {",
	).Replace(door)
	if text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// What was written above a hunk does not matter, what is written in it does.
func TestApplies(t *testing.T) {
	const more = "\n// Shut is its opposite.\nfunc Shut(age int, key bool) bool {\n\treturn !Open(age, key)\n}\n"
	for _, row := range []struct{ name, file, want string }{
		{"as it was", door, ""},
		{"moved", strings.Replace(door, "package door\n", "package door\n"+more, 1), ""},
		{"changed", strings.Replace(door, "age < 18", "age < 21", 1), "are there 0 times"},
		{"neighbour changed", strings.Replace(door, "key bool", "key, friend bool", 1), "are there 0 times"},
		{"twice", door + strings.TrimPrefix(door, "package door\n"), "are there 2 times"},
	} {
		t.Run(row.name, func(t *testing.T) {
			groups, _, err := Plan(tree(t, row.file), []Patch{parsed(t, "young", patch(young))})
			if row.want != "" {
				if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "young.patch does not apply") {
					t.Fatalf("got %v, want %q", err, row.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("age < 18", `age < 18 && !mutant.Active("young")`, "package door", "package door"+Import).Replace(row.file)
			if got, err := groups[0].Text("door/door.go"); err != nil || got != want {
				t.Errorf("%v, got\n%s", err, got)
			}
		})
	}
	gone := strings.ReplaceAll(patch(young), "door.go", "gate.go")
	if _, _, err := Plan(tree(t, door), []Patch{parsed(t, "young", gone)}); err == nil || !strings.Contains(err.Error(), "young.patch does not apply") {
		t.Errorf("a patch of no file: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"no rule", strings.TrimPrefix(patch(young), "Rule: only who may.\n"), "does not say the rule"},
		{"no switch", patch(strings.ReplaceAll(young, `mutant.Active("young")`, "lucky()")), "no line with mutant.Active"},
		{"another bug", patch(strings.ReplaceAll(young, `"young"`, `"old"`)), "the switch of old"},
		{"removes a switch", patch(strings.NewReplacer("-	if", "+	if", "+	if", "-	if").Replace(young)), "the switch of young"},
		{"new file", "Rule: r.\n\n--- /dev/null\n+++ b/door/more.go\n@@ -0,0 +1 @@\n+package door // mutant.Active(\"young\")\n", "only the lines of Go files"},
		{"nothing", "Rule: r.\n", "no line with mutant.Active"},
		{"torn", patch(young[:len(young)-len(" 		return false\n")]), "young.patch"},
	} {
		if _, err := Parse("young", row.text); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
	// The form of git diff is as good as the plain one.
	p := parsed(t, "young", strings.Replace(patch(young), "--- a/", "diff --git a/door/door.go b/door/door.go\nindex 1234567..89abcde 100644\n--- a/", 1))
	if groups, _, err := Plan(tree(t, door), []Patch{p}); err != nil || !slices.Equal(groups[0].Files(), []string{"door/door.go"}) {
		t.Errorf("git's form: %v", err)
	}
}

// The overlay is what the go command takes, and patch -p1 gives the same but for the import.
func TestWrite(t *testing.T) {
	root, err := filepath.EvalSymlinks(tree(t, door))
	if err != nil {
		t.Fatal(err)
	}
	groups, _, err := Plan(root, []Patch{parsed(t, "young", patch(young))})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay, err := groups[0].Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(overlay)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Replace map[string]string }
	if err := json.Unmarshal(raw, &got); err != nil || len(got.Replace) != 2 {
		t.Fatalf("%v: %s", err, raw)
	}
	names, err := os.ReadFile(got.Replace[filepath.Join(root, namesFile)])
	if err != nil || !strings.Contains(string(names), `[]string{"young"}`) {
		t.Errorf("the names of the build: %v, %s", err, names)
	}
	written, err := os.ReadFile(got.Replace[filepath.Join(root, "door/door.go")])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("patch"); err != nil {
		t.Skip("no patch command here to compare with")
	}
	cmd := exec.Command("patch", "-p1", "-F0")
	cmd.Dir, cmd.Stdin = root, strings.NewReader(patch(young))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("patch: %v: %s", err, out)
	}
	byHand, err := os.ReadFile(filepath.Join(root, "door/door.go"))
	if err != nil || strings.Replace(string(written), Import, "", 1) != string(byHand) {
		t.Errorf("%v, the overlay has\n%s\npatch gives\n%s", err, written, byHand)
	}
}
