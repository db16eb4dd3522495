// Package mutants plants each bug of the catalogue in turn, runs the tests that should notice it,
// and prints who did. It fails when one survives. Names of bugs as arguments limit it to those.
//
// A bug is a patch, NAME.patch, that is applied by an overlay of the go command: the tree is not
// touched. With -overlay it only writes the overlays, for a go command of one's own.
package mutants

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"havip-cluster/jepsen/mutants/planted"
)

// Command is `jepsen mutants`; it returns the exit code.
func Command(args []string) int {
	f := flag.NewFlagSet("jepsen mutants", flag.ExitOnError)
	overlay := f.String("overlay", "", "write the overlays below this `folder`, and run nothing")
	_ = f.Parse(args) // it exits
	survivors, err := run(*overlay, f.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		return 1
	}
	if survivors > 0 {
		fmt.Printf("%d planted bugs survived\n", survivors)
		return 1
	}
	return 0
}

func run(overlay string, only []string) (survivors int, err error) {
	root, err := planted.Root()
	if err != nil {
		return 0, err
	}
	if err := os.Chdir(root); err != nil {
		return 0, err
	}
	patches, err := planted.Read(root)
	if err != nil {
		return 0, err
	}
	bugs, patches, err := choose(patches, only)
	if err != nil {
		return 0, err
	}
	groups, clashes, err := planted.Plan(root, patches)
	if err != nil {
		return 0, err
	}
	for _, c := range clashes {
		fmt.Println(c)
	}
	if overlay != "" {
		return 0, write(overlay, groups)
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binaries, err := buildAll(dir, groups, bugs)
	if err != nil {
		return 0, err
	}
	return table(bugs, binaries)
}

// choose returns the bugs that are named, or all, and their patches. Patches and catalogue have
// to agree, whatever is named.
func choose(patches []planted.Patch, only []string) ([]bug, []planted.Patch, error) {
	if err := agree(catalogue, patches); err != nil {
		return nil, nil, err
	}
	for _, name := range only {
		if !slices.ContainsFunc(catalogue, func(b bug) bool { return b.Name == name }) {
			return nil, nil, fmt.Errorf("there is no planted bug %q; %s/catalogue.go lists them", name, planted.Folder)
		}
	}
	left := func(name string) bool { return len(only) > 0 && !slices.Contains(only, name) }
	return slices.DeleteFunc(slices.Clone(catalogue), func(b bug) bool { return left(b.Name) }),
		slices.DeleteFunc(patches, func(p planted.Patch) bool { return left(p.Name) }), nil
}

// agree checks that each bug of a list has a patch that says the same rule, and the other way round.
func agree(bugs []bug, patches []planted.Patch) error {
	rules := map[string]string{}
	for _, p := range patches {
		rules[p.Name] = p.Rule
	}
	var problems []error
	for _, b := range bugs {
		rule, has := rules[b.Name]
		switch {
		case !has:
			problems = append(problems, fmt.Errorf("%s is in the catalogue, once at least, and has no patch of its own", b.Name))
		case rule != b.Rule:
			problems = append(problems, fmt.Errorf("%s breaks the rule %q in the catalogue and %q in its patch", b.Name, b.Rule, rule))
		case len(b.By) == 0:
			problems = append(problems, fmt.Errorf("%s has no test that notices it", b.Name))
		}
		delete(rules, b.Name)
	}
	for _, p := range patches {
		if _, left := rules[p.Name]; left {
			problems = append(problems, fmt.Errorf("%s has a patch and is not in the catalogue", p.Name))
		}
	}
	return errors.Join(problems...)
}

// write puts the overlay of each group into a folder of its own and says how to use it.
func write(dir string, groups []*planted.Group) error {
	for i, g := range groups {
		file, err := writeInto(filepath.Join(dir, fmt.Sprint(i+1)), g)
		if err != nil {
			return err
		}
		fmt.Printf("-tags mutants -overlay %s\n", file)
	}
	return nil
}

func writeInto(dir string, g *planted.Group) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return g.Write(dir)
}

// builds has the test binary of each package that a bug needs, by bug and package.
type builds map[string]map[string]string

// buildAll vets what the patches of each group change, and builds each test binary once for it.
func buildAll(dir string, groups []*planted.Group, bugs []bug) (builds, error) {
	out := builds{}
	for i, g := range groups {
		folder := filepath.Join(dir, fmt.Sprint(i+1))
		overlay, err := writeInto(folder, g)
		if err != nil {
			return nil, err
		}
		if err := command(append([]string{"vet", "-tags", "mutants", "-overlay", overlay}, packages(g.Files())...)); err != nil {
			return nil, fmt.Errorf("a patch of %s: %w", strings.Join(g.Names, ", "), err)
		}
		binaries := map[string]string{}
		for _, b := range bugs {
			if !slices.Contains(g.Names, b.Name) {
				continue
			}
			out[b.Name] = binaries
			for _, c := range b.By {
				if binaries[c.Package] != "" {
					continue
				}
				binary := filepath.Join(folder, strings.ReplaceAll(c.Package, "/", "-")+".test")
				if err := command([]string{"test", "-tags", "mutants", "-overlay", overlay, "-c", "-o", binary, "./" + c.Package}); err != nil {
					return nil, fmt.Errorf("build the tests of %s: %w", c.Package, err)
				}
				binaries[c.Package] = binary
			}
		}
	}
	return out, nil
}

func command(args []string) error {
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// packages returns the folders of files as patterns of the go command.
func packages(files []string) []string {
	var folders []string
	for _, f := range files {
		folders = append(folders, "./"+path.Dir(f))
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// table prints who noticed each bug, and returns how often one that should have did not.
func table(bugs []bug, binaries builds) (survivors int, err error) {
	fmt.Printf("%-26s %-45s %s\n", "planted bug", "rule or guard", "caught by")
	for found := range hunt(bugs, binaries) {
		if found.err != nil {
			return 0, found.err
		}
		for i, line := range found.by {
			name, rule := found.bug.Name, found.bug.Rule
			if i > 0 {
				name, rule = "", ""
			}
			fmt.Printf("%-26s %-45s %s\n", name, rule, line)
		}
		survivors += found.survived
	}
	fmt.Printf("%d planted bugs\n", len(bugs))
	return survivors, nil
}
