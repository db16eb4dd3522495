package jepsen_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules of the house, read from the tree itself. Test files are exempt: what they
// import and how long they are never reaches the binary.

const (
	modulePath = "havip-cluster/"

	fileLinesMax     = 500
	functionLinesMax = 70
)

// arrows says which packages of the project a folder may import; a folder that is not
// named here follows the nearest one above it. Everybody but internal may import
// internal/... as well. "*" is any package.
var arrows = map[string][]string{
	"internal":            nil,
	"netdev":              nil,
	"havip":               nil,
	"fsm":                 {"fsm/placement", "havip"},
	"fsm/placement":       {"havip"},
	"membership":          {"fsm", "membership/identity", "membership/reach"},
	"membership/reach":    nil,
	"membership/identity": nil,
	"edge":                {"netdev", "netdev/fence"},
	// The rooms of failover know nothing of each other: Member alone joins them.
	"failover":             {"fsm", "failover/leader", "failover/lease", "failover/lease/shell", "failover/owner", "failover/ports", "failover/wire"},
	"failover/lease":       nil,
	"failover/ports":       {"fsm", "failover/lease"},
	"failover/wire":        {"fsm", "failover/lease", "failover/ports"},
	"failover/lease/shell": {"fsm", "failover/lease", "failover/ports", "failover/wire"},
	"failover/plane":       {"fsm", "failover/lease", "failover/lease/shell", "failover/ports", "failover/wire"},
	"failover/owner":       {"fsm", "failover/lease", "failover/ports", "failover/wire"},
	"failover/leader":      {"fsm", "fsm/placement", "failover/lease", "failover/ports", "failover/wire"},
	"health":               {"fsm"},
	"provider":             {"fsm"},
	"provider/observer":    {"fsm", "provider"},
	"provider/tencent":     {"provider"},
	"provider/aws":         {"provider"},
	"provider/exec":        {"provider"},
	"provider/claimer":     {"provider"},
	"agent": {
		"agent/autosave", "agent/chronicle", "agent/guard", "agent/hooks", "agent/logs", "agent/preflight", "agent/webhook", "api", "api/console", "edge", "failover", "failover/leader", "failover/lease", "failover/lease/shell", "failover/owner", "failover/plane", "failover/ports", "fsm", "health", "provider", "provider/aws", "provider/claimer", "provider/exec", "provider/observer", "provider/tencent",
		"membership", "membership/identity", "membership/reach", "membership/datagram", "netdev", "netdev/fence",
	},
	"agent/guard":         {"api", "netdev/acceptor", "failover/lease", "failover/lease/shell", "failover/plane", "failover/ports", "fsm", "membership/identity", "membership/datagram", "netdev", "netdev/fence"},
	"agent/hooks":         {"failover/owner"},
	"agent/chronicle":     {"fsm"},
	"agent/webhook":       {"fsm"},
	"agent/logs":          nil,
	"agent/autosave":      {"fsm"},
	"agent/preflight":     {"membership/identity", "netdev", "netdev/fence"},
	"manifest":            {"fsm", "fsm/placement", "havip"},
	"manifest/goldens":    {"fsm", "manifest"},
	"manifest/keepalived": {"fsm", "manifest"},
	"manifest/pacemaker":  {"fsm", "manifest"},
	"manifest/heartbeat":  {"fsm", "manifest"},
	"manifest/mscs":       {"fsm", "havip", "manifest"},
	"api":                 {"fsm", "fsm/placement", "havip", "manifest", "membership/identity", "provider", "provider/observer"},
	"api/console":         {"api", "fsm/placement"},
	"cmd": {
		"agent", "agent/guard", "agent/logs", "agent/preflight", "api", "api/console", "fsm", "fsm/placement", "havip", "manifest", "manifest/keepalived", "manifest/pacemaker", "manifest/heartbeat", "manifest/mscs", "provider",
		"membership/identity", "netdev/fence", "testbed",
	},
	"packaging":      nil,
	"testbed":        nil,
	"jepsen":         {"*"},
	"jepsen/history": nil,
	"jepsen/checker": {"jepsen/history"},
}

// pureCores take their inputs as arguments: no clock, randomness, lock or goroutine.
var pureCores = []string{"havip", "fsm", "fsm/placement", "failover/lease"}

// pureFiles are cores that share their package with a shell.
var pureFiles = []string{
	"edge/plan.go", "edge/facts.go", "edge/memory.go", "edge/desired.go", "edge/op.go",
	"membership/reach/table.go", "membership/reach/travel.go",
	"failover/owner/handoff.go", "failover/owner/pace.go", "failover/wire/wire.go",
	"failover/leader/commits.go", "failover/leader/drain.go", "failover/leader/move.go", "failover/leader/timeline.go", "failover/leader/kind.go", "failover/leader/clocks.go", "failover/wire/steps.go", "agent/webhook/queue.go",
	"provider/claim.go", "provider/compare.go", "provider/want.go", "provider/observer/told.go",
}

var impureImports = []string{"math/rand", "math/rand/v2", "crypto/rand", "sync", "sync/atomic"}

var clockFunctions = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// house lists the folders that explain themselves in a DESIGN.md once they hold Go code.
var house = []string{
	"cmd/havip-cluster", "api", "api/console", "havip", "fsm", "fsm/placement", "membership", "membership/identity",
	"failover", "failover/leader", "failover/lease", "failover/lease/shell", "failover/owner", "failover/plane", "failover/ports", "failover/wire", "edge", "agent", "agent/autosave", "agent/chronicle", "agent/guard", "agent/hooks", "agent/logs", "agent/preflight", "agent/webhook", "manifest", "netdev", "netdev/acceptor", "provider", "provider/observer", "provider/tencent", "testbed", "jepsen", "jepsen/sim", "jepsen/mutants",
}

// allowance lets one file ("dir/file.go") or function ("dir/file.go:Name") exceed its
// limit, for a reason that a reader would accept.
type allowance struct{ name, reason string }

var allowances = []allowance{}

func TestTidy(t *testing.T) {
	files := readTree(t, "..")
	if len(files) == 0 {
		t.Fatal("no Go file was found: the rules were not checked")
	}
	for _, finding := range tidy("..", files, allowances) {
		t.Error(finding)
	}
}

// sourceFile is one Go file that is no test.
type sourceFile struct {
	path   string // below the root, with slashes
	folder string
	text   []byte
	lines  int
	syntax *ast.File
	set    *token.FileSet
}

func (f sourceFile) line(node ast.Node) int { return f.set.Position(node.Pos()).Line }

// readTree parses every Go file below root that is no test, whatever its build tags.
// It leaves out hidden folders, testdata and bin.
func readTree(t *testing.T, root string) []sourceFile {
	t.Helper()
	var files []sourceFile
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != root && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		file, err := readSource(root, name)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func readSource(root, name string) (sourceFile, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return sourceFile{}, err
	}
	below, err := filepath.Rel(root, name)
	if err != nil {
		return sourceFile{}, err
	}
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	slashed := filepath.ToSlash(below)
	return sourceFile{path: slashed, folder: path.Dir(slashed), text: text, lines: bytes.Count(text, []byte("\n")), syntax: syntax, set: set}, err
}

// tidy returns one sentence for each breach of a rule, sorted.
func tidy(root string, files []sourceFile, allowed []allowance) []string {
	var findings []string
	for _, file := range files {
		findings = append(findings, checkArrows(file)...)
		findings = append(findings, checkPlanted(file)...)
		if slices.Contains(pureCores, file.folder) || slices.Contains(pureFiles, file.path) {
			findings = append(findings, checkPure(file)...)
		}
	}
	findings = append(findings, checkSizes(files, allowed)...)
	findings = append(findings, checkDesigns(root, files)...)
	slices.Sort(findings)
	return findings
}

func imports(file sourceFile) []string {
	var paths []string
	for _, spec := range file.syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(fmt.Sprintf("%s: import %s, which the parser let pass", file.path, spec.Path.Value))
		}
		paths = append(paths, imported)
	}
	return paths
}

func checkArrows(file sourceFile) []string {
	var findings []string
	for _, imported := range imports(file) {
		target, ours := strings.CutPrefix(imported, modulePath)
		if !ours {
			continue
		}
		rule := file.folder
		for rule != "." && !hasRule(rule) {
			rule = path.Dir(rule)
		}
		switch {
		case rule == ".":
			findings = append(findings, fmt.Sprintf("%s: folder %s is not in the house: give it a row in arrows", file.path, file.folder))
		case strings.HasPrefix(target, "internal/") && rule != "internal":
		case slices.Contains(arrows[rule], "*") || slices.Contains(arrows[rule], target):
		default:
			findings = append(findings, fmt.Sprintf("%s: %s must not import %s; it may import %s", file.path, file.folder, target, allowedImports(rule)))
		}
	}
	return findings
}

// bugWords are how a planted bug is mentioned; a "mutant" is also the build tag.
var bugWords = regexp.MustCompile(`(?i)mutant|planted bug`)

// checkPlanted: what goes into the binary mentions no planted bug. Those are the patches of
// jepsen/mutants.
func checkPlanted(file sourceFile) []string {
	if file.folder == "jepsen" || strings.HasPrefix(file.folder, "jepsen/") {
		return nil
	}
	var findings []string
	for i, line := range bytes.Split(file.text, []byte("\n")) {
		if word := bugWords.Find(line); word != nil {
			findings = append(findings, fmt.Sprintf("%s:%d: %q: a planted bug is a patch of jepsen/mutants, and nothing outside jepsen and the tests knows of it",
				file.path, i+1, word))
		}
	}
	return findings
}

func hasRule(folder string) bool {
	_, found := arrows[folder]
	return found
}

func allowedImports(rule string) string {
	switch {
	case rule == "internal":
		return "nothing of the project"
	case len(arrows[rule]) == 0:
		return "only internal/... of the project"
	}
	return strings.Join(arrows[rule], ", ") + " and internal/..."
}

func checkPure(file sourceFile) []string {
	var findings []string
	breach := func(node ast.Node, what string) {
		findings = append(findings, fmt.Sprintf("%s:%d: %s is a pure core: no %s; take it as an argument or leave it to the shell",
			file.path, file.line(node), file.folder, what))
	}
	clock := ""
	for i, imported := range imports(file) {
		spec := file.syntax.Imports[i]
		if slices.Contains(impureImports, imported) {
			breach(spec, "import of "+imported)
		}
		if imported == "time" {
			clock = "time"
			if spec.Name != nil {
				clock = spec.Name.Name
			}
		}
	}
	ast.Inspect(file.syntax, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			breach(node, "go statement")
		case *ast.SelectorExpr:
			pkg, ok := node.X.(*ast.Ident)
			if ok && clock != "" && pkg.Name == clock && slices.Contains(clockFunctions, node.Sel.Name) {
				breach(node, "time."+node.Sel.Name)
			}
		}
		return true
	})
	return findings
}

// checkSizes reports what is too long, and allowances that nothing needs.
func checkSizes(files []sourceFile, allowed []allowance) []string {
	var findings []string
	used := map[string]bool{}
	measure := func(name string, lines, limit int) {
		granted := slices.ContainsFunc(allowed, func(a allowance) bool { return a.name == name })
		switch {
		case lines <= limit:
		case granted:
			used[name] = true
		default:
			findings = append(findings, fmt.Sprintf("%s has %d lines, the limit is %d: split it", name, lines, limit))
		}
	}
	for _, file := range files {
		if ast.IsGenerated(file.syntax) {
			continue
		}
		measure(file.path, file.lines, fileLinesMax)
		for _, decl := range file.syntax.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				last := file.set.Position(f.End()).Line
				measure(file.path+":"+f.Name.Name, last-file.line(f)+1, functionLinesMax)
			}
		}
	}
	for _, a := range allowed {
		if a.reason == "" {
			findings = append(findings, a.name+" is allowed to be long without a reason: give one")
		}
		if !used[a.name] {
			findings = append(findings, a.name+" is allowed to be long, but is not: drop the allowance")
		}
	}
	return findings
}

func checkDesigns(root string, files []sourceFile) []string {
	var findings []string
	for _, folder := range house {
		if !slices.ContainsFunc(files, func(f sourceFile) bool { return f.folder == folder }) {
			continue // not built yet
		}
		design := folder + "/DESIGN.md"
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(design))); errors.Is(err, fs.ErrNotExist) {
			findings = append(findings, fmt.Sprintf("%s is missing: say what the folder is for, each decision, and its cost", design))
		}
	}
	return findings
}
