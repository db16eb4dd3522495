package agent

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLoadConfig(t *testing.T) {
	for _, tc := range []struct {
		name, text, wrong string
		want              Config
	}{
		{"empty", "", "", Config{Log: "info", LogFormat: "text"}},
		{"all", "log: debug\ncheck_gateway: true\n", "", Config{Log: "debug", LogFormat: "text", CheckGateway: true}},
		{"unknown key", "log: info\nchek_gateway: true\n", "[2:1]", Config{}},
		{"unknown level", "log: loud\n", `"loud" is no level`, Config{}},
		{"wrong type", "check_gateway: perhaps\n", "check_gateway", Config{}},
		{"no YAML", "{", "configuration", Config{}},
		{"too large", strings.Repeat("#", configMax+1), "more than 65536 bytes", Config{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.yaml")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := LoadConfig(path)
			switch {
			case tc.wrong == "" && (err != nil || !reflect.DeepEqual(got, tc.want)):
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			case tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)):
				t.Errorf("got %v, want %q in it", err, tc.wrong)
			}
		})
	}
	if _, err := LoadConfig("/nonexistent/agent.yaml"); err == nil || !strings.Contains(err.Error(), "/nonexistent/agent.yaml") {
		t.Errorf("a missing file: %v", err)
	}
}
