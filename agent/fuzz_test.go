package agent

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// FuzzConfig: a configuration file is read or refused with its path; what was read is a
// level that exists, and is the same when written and read again.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{"", "log: debug\ncheck_gateway: true\n", "log: loud\n", "---\n", "log: [info]\n", "a: &a [*a]\n", "log: info\nlog: debug\n", "? {a: b}\n: c\n", "\xff\xfe", "log: !!binary aW5mbw==\n", "hooks: {on-acquire: [/bin/true, x], timeout: 3s, havips: {web: {on-fault: []}}}\n"} {
		f.Add([]byte(text))
	}
	path := filepath.Join(f.TempDir(), "agent.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(path)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		if c.Log != "info" && c.Log != "debug" {
			t.Errorf("level %q", c.Log)
		}
		again, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, again, 0o600); err != nil {
			t.Fatal(err)
		}
		if second, err := LoadConfig(path); err != nil || !reflect.DeepEqual(second, c) {
			t.Errorf("%+v became %+v, %v", c, second, err)
		}
	})
}
