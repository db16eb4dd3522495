package mutants

import (
	"bytes"
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"havip-cluster/jepsen/mutants/planted"
)

// TestPatches: each patch applies to the tree as it is, alone and in its group, gives Go in the
// form of gofmt, and has a row in the catalogue, which has no other rows.
func TestPatches(t *testing.T) {
	root, err := planted.Root()
	if err != nil {
		t.Fatal(err)
	}
	patches, err := planted.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := agree(catalogue, patches); err != nil {
		t.Error(err)
	}
	for _, p := range patches {
		t.Run(p.Name, func(t *testing.T) { applies(t, root, p) })
	}
	if !t.Failed() {
		applies(t, root, patches...)
	}
}

func applies(t *testing.T, root string, patches ...planted.Patch) {
	t.Helper()
	groups, clashes, err := planted.Plan(root, patches)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clashes {
		t.Log(c)
	}
	for _, g := range groups {
		for _, file := range g.Files() {
			text, err := g.Text(file)
			if err != nil {
				t.Error(err)
				continue
			}
			// The import is added in a form that gofmt would change.
			before, after, found := strings.Cut(text, planted.Import)
			plain := []byte(before + after)
			if formed, err := format.Source(plain); err != nil || !found || !bytes.Equal(formed, plain) {
				t.Errorf("%s with %s is not as gofmt writes it: %v", file, strings.Join(g.Names, ", "), err)
			}
		}
	}
}

// What agree is for: each way in which patches and catalogue can differ is said.
func TestAgree(t *testing.T) {
	by := []catcher{{"fsm", "^TestX$", fails}}
	patches := []planted.Patch{{Name: "a", Rule: "one"}, {Name: "b", Rule: "two"}}
	for _, row := range []struct {
		bugs []bug
		want string
	}{
		{[]bug{{"a", "one", by}, {"b", "two", by}}, ""},
		{[]bug{{"a", "one", by}}, "b has a patch and is not in the catalogue"},
		{[]bug{{"a", "one", by}, {"b", "two", by}, {"c", "x", by}}, "c is in the catalogue, once at least, and has no patch"},
		{[]bug{{"a", "one", by}, {"b", "two", by}, {"a", "one", by}}, "a is in the catalogue, once at least, and has no patch"},
		{[]bug{{"a", "one", by}, {"b", "x", by}}, `b breaks the rule "x" in the catalogue and "two" in its patch`},
		{[]bug{{"a", "one", by}, {"b", "two", nil}}, "b has no test that notices it"},
	} {
		err := agree(row.bugs, patches)
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%v: got %v, want %q", row.bugs, err, row.want)
		}
	}
}

// A patch counts only if nothing of the tree changes where it is applied.
func TestTheTreeIsNotTouched(t *testing.T) {
	root, err := planted.Root()
	if err != nil {
		t.Fatal(err)
	}
	patches, err := planted.Read(root, "lease-majority")
	if err != nil {
		t.Fatal(err)
	}
	groups, _, err := planted.Plan(root, patches)
	if err != nil {
		t.Fatal(err)
	}
	file := groups[0].Files()[0]
	before, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := groups[0].Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(root, file))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("%s has changed: %v", file, err)
	}
	if text, err := os.ReadFile(overlay); err != nil || !strings.Contains(string(text), filepath.Join(root, file)) {
		t.Errorf("the overlay does not name %s: %v\n%s", file, err, text)
	}
}
