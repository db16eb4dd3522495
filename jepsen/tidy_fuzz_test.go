package jepsen_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// opens are the calls by which bytes of others come in.
var opens = []string{
	"net.Listen", "net.ListenTCP", "net.ListenUDP", "net.ListenPacket", "net.ListenIP", "net.ListenUnix", "net.ListenMulticastUDP", "net.FileListener", "net.ListenConfig",
	"unix.Socket", "syscall.Socket", "packet.Listen", "ndp.Listen", "tls.Listen", "quic.Listen",
}

// doors says for each file that opens one which fuzz targets play a stranger there, or why nobody is.
var doors = map[string]string{
	"agent/node.go":                    "FuzzFront FuzzJoin",
	"api/server.go":                    "FuzzFront: the local socket, which root alone may open",
	"membership/transport.go":          "FuzzHandshake FuzzRequest",
	"membership/gossip_bounds.go":      "FuzzGossipPort",
	"membership/datagram/conn.go":      "FuzzSocket FuzzTake",
	"cmd/havip-cluster/console.go":     "FuzzStranger: a loopback port, the console's own",
	"cmd/havip-cluster/bundle_host.go": "none: it asks the kernel for the driver",
	"netdev/claim.go":                  "FuzzParseARP FuzzParseStation",
	"agent/preflight/network.go":       "FuzzVRRPSpeaker",
	"health/connect.go":                "none: it reads nothing from whom it connects to",
	"netdev/announce.go":               "none: it only sends",
	"netdev/responder.go":              "FuzzProbe",
	"netdev/conn.go":                   "none: the kernel's answers (FuzzMessages)",
	"testbed/probe.go":                 "none: a LAN of its own, on which nobody else is",
	"testbed/respond.go":               "none: a LAN of its own, on which nobody else is",
	"netdev/fence/wire.go":             "none: its own frames, on two devices that it made",
}

// notFuzzed are functions that read bytes and have no fuzz target, with the reason.
var notFuzzed = map[string]string{
	"fsm.UnmarshalJSON":               "by FuzzDecodeCommand: encoding/json calls it",
	"internal/form.Unmarshal":         "by FuzzDecodeCommand, through the specification of a HAVIP",
	"fsm.decodeStrict":                "by FuzzDecodeCommand, through DecodeCommand",
	"fsm.decodeJSON":                  "by FuzzDecodeCommand, through DecodeCommand",
	"failover/wire.decodeInto":        "by FuzzDecode, through Decode",
	"manifest.parse":                  "by FuzzRead, through Read",
	"manifest.parseJSON":              "by FuzzRead, through Read",
	"manifest.parseYAML":              "by FuzzRead, through Read",
	"manifest.Decode":                 "by FuzzRead, which reads the same bytes",
	"manifest.DecodeFor":              "by FuzzRead, which reads the same bytes",
	"membership/identity.ParseAnchor": "CAs that the log or a member told; its certificates by FuzzPEM, through ParseCert",
	"membership/identity.parseKeys":   "this host's own file; its parts by FuzzPEM",
	"membership/identity.parsePEM":    "by FuzzPEM, through ParseCert",
	"testbed.ParseQuestion":           "from a LAN of its own, on which nobody else is",
	"netdev.parseHops":                "by FuzzParseRouteMsg, through parseRouteMsg",
}

type sources struct {
	files   map[string]*ast.File // of the product, by path
	fuzzing map[string]string    // by package and target: the identifiers in its body
}

// readSources parses all Go files outside jepsen.
func readSources(t *testing.T) sources {
	t.Helper()
	s := sources{map[string]*ast.File{}, map[string]string{}}
	set := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(filepath.ToSlash(path), "../")
		if err != nil || d.IsDir() && (name == "bin" || name == ".git" || name == "jepsen") {
			return cmpSkip(err)
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(name, "_test.go") {
			s.files[name] = f
			return nil
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Fuzz") {
				s.fuzzing["./"+filepath.ToSlash(filepath.Dir(name))+" "+fn.Name.Name] = identifiers(fn)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cmpSkip(err error) error {
	if err != nil {
		return err
	}
	return filepath.SkipDir
}

// identifiers are those of a function, with blanks around.
func identifiers(fn *ast.FuncDecl) string {
	names := []string{""}
	ast.Inspect(fn, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			names = append(names, id.Name)
		}
		return true
	})
	return strings.Join(append(names, ""), " ")
}

// TestTidyFuzz: whatever takes bytes of a stranger has a fuzz target that `make fuzz-doors` runs.
func TestTidyFuzz(t *testing.T) {
	s := readSources(t)
	text, err := os.ReadFile("testdata/strangers.txt")
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, line := range lines(string(text)) {
		field := strings.Fields(line)
		if field[0] == "#" {
			continue
		}
		if len(field) < 4 {
			t.Errorf("testdata/strangers.txt: %q has no package, target, function and meaning", line)
			continue
		}
		targets[field[1]] = true
		switch body, ok := s.fuzzing[field[0]+" "+field[1]]; {
		case !ok:
			t.Errorf("testdata/strangers.txt: there is no %s in %s", field[1], field[0])
		case !strings.Contains(body, " "+field[2]+" "):
			t.Errorf("%s in %s does not call %s", field[1], field[0], field[2])
		}
	}
	if len(targets) < 10 {
		t.Errorf("only %d targets", len(targets))
	}
	t.Run("doors", func(t *testing.T) { checkDoors(t, s, targets) })
	t.Run("parsers", func(t *testing.T) { checkParsers(t, s) })
}

// checkDoors: each file that opens a socket has a row.
func checkDoors(t *testing.T, s sources, targets map[string]bool) {
	found := map[string]bool{}
	for name, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok && slices.Contains(opens, pkg.Name+"."+sel.Sel.Name) {
					found[name] = true
				}
			}
			return true
		})
	}
	for name := range found {
		row, ok := doors[name]
		if !ok {
			t.Errorf("%s opens a socket: say in doors (jepsen/tidy_fuzz_test.go) which fuzz targets play a stranger there", name)
		}
		names, _, _ := strings.Cut(row, ":")
		for _, target := range strings.Fields(names) {
			if target != "none" && !targets[target] {
				t.Errorf("%s: %s is not in testdata/strangers.txt", name, target)
			}
		}
	}
	for name := range doors {
		if !found[name] {
			t.Errorf("%s opens no socket any more: take it out of doors", name)
		}
	}
}

// checkParsers: each function that reads bytes, by its name and its arguments, is called by a fuzz target of its
// package, or has a reason.
func checkParsers(t *testing.T, s sources) {
	known := map[string]bool{}
	for name, f := range s.files {
		dir := filepath.ToSlash(filepath.Dir(name))
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || !readsBytes(fn) {
				continue
			}
			full := dir + "." + fn.Name.Name
			known[full] = true
			fuzzed := false
			for target, body := range s.fuzzing {
				fuzzed = fuzzed || strings.HasPrefix(target, "./"+dir+" ") && strings.Contains(body, " "+fn.Name.Name+" ")
			}
			if fuzzed == (notFuzzed[full] != "") {
				t.Errorf("%s reads bytes; fuzzed: %t, reason not to: %q (jepsen/tidy_fuzz_test.go)", full, fuzzed, notFuzzed[full])
			}
		}
	}
	for full := range notFuzzed {
		if !known[full] {
			t.Errorf("there is no %s any more: take it out of notFuzzed", full)
		}
	}
}

// readsBytes tells a parser by its name and by an argument of bytes.
func readsBytes(fn *ast.FuncDecl) bool {
	lower := strings.ToLower(fn.Name.Name)
	if !slices.ContainsFunc([]string{"parse", "decode", "unmarshal"}, func(p string) bool { return strings.HasPrefix(lower, p) }) {
		return false
	}
	for _, p := range fn.Type.Params.List {
		if a, ok := p.Type.(*ast.ArrayType); ok && a.Len == nil {
			if id, ok := a.Elt.(*ast.Ident); ok && id.Name == "byte" {
				return true
			}
		}
	}
	return false
}
