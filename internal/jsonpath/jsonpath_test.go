package jsonpath

import (
	"strings"
	"testing"
)

const document = `[
 {"name":"web","node":"n1","epoch":3,"up":true,"prefer":{"n1":100,"n2":-5},"bans":["n3","n4"],"a.b":"dot"},
 {"name":"db","node":null,"epoch":12,"up":false,"prefer":{},"bans":[]},
 {"name":"<api>","epoch":2.5,"up":true}]`

func TestPrint(t *testing.T) {
	for template, want := range map[string]string{
		"{.[0].name}":                             "web",
		".[0].name":                               "web",
		"[0].name":                                "web",
		"{[1]['name']}":                           "db",
		"{.[-1].name}":                            "<api>",
		"{.[9].name}":                             "",
		"{.[*].name}":                             "web db <api>",
		"{.[0:2].name}":                           "web db",
		"{.[1:].name}":                            "db <api>",
		"{.[:-2].name}":                           "web",
		"{.[0].prefer}":                           `{"n1":100,"n2":-5}`,
		"{.[0].prefer.*}":                         "100 -5",
		"{.[0]['a.b']}":                           "dot",
		"{.[1].node}":                             "",
		"{..n1}":                                  "100",
		"{..bans[0]}":                             "n3",
		`{.[?(@.up==true)].name}`:                 "web <api>",
		`{.[?(@.epoch>2.5)].name}`:                "web db",
		`{.[?(@.epoch<=3)].name}`:                 "web <api>",
		`{.[?(@.name=="db")].epoch}`:              "12",
		`{.[?(@.name!='db')].epoch}`:              "3 2.5",
		`{.[?(@.node==null)].name}`:               "db",
		`{.[?(@.node)].name}`:                     "web db",
		`{.[?(@.prefer.n2 < 0)].name}`:            "web",
		`{.[?(@.name=="]")].name}x`:               "x",
		`a{"\t"}b{'}'}`:                           "a\tb}",
		`{range .[*]}{.name}={.epoch}{"\n"}{end}`: "web=3\ndb=12\n<api>=2.5\n",
		`{range .[?(@.bans)]}{.name}:{range .bans[*]} {@}{end};{end}`: "web: n3 n4;db:;",
		`{range .[*]}{$[0].name}{end}`:                                "webwebweb",
		"{.}":                                                         `[{"a.b":"dot","bans":["n3","n4"],"epoch":3,"name":"web","node":"n1","prefer":{"n1":100,"n2":-5},"up":true},{"bans":[],"epoch":12,"name":"db","node":null,"prefer":{},"up":false},{"epoch":2.5,"name":"<api>","up":true}]`,
	} {
		parsed, err := Parse(template)
		if err != nil {
			t.Errorf("%s: %v", template, err)
			continue
		}
		if got, err := parsed.Print([]byte(document)); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", template, got, err, want)
		}
	}
}

func TestWrongTemplates(t *testing.T) {
	for template, says := range map[string]string{
		"": "empty", "{}": "empty", "{.name": "without its }", "{.[0}": "without its ]", "{end}": "without {range", "{range .[*]}x": "without {end}",
		"{.[x]}": "neither a number", "{.[1:x]}": "no range", "{name}": "no path", "{..}": "after ..", "{.a.}": "after the dot", "{.[?(name==1)]}": "begin with @",
		`{.[?(@.a=="x)]}`: "without its", `{.[?(@.a==x)]}`: "neither a number", `{"x}`: "without its }", `{.["x]}`: "without its }",
		strings.Repeat("{range .}", MaxDepth+2): "ranges in one another", strings.Repeat("x", MaxTemplate+1): "at most",
	} {
		if _, err := Parse(template); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40s: %v, want %q", template, err, says)
		}
	}
}

// What anybody types ends with a text or an error, and never finds more than its bound.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{.[*].name}", `{range .[?(@.up==true)]}{.name}{"\n"}{end}`, "{..n1}", "{.['a.b']}", "{.[0:2]}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := Parse(text)
		if err != nil {
			return
		}
		if _, err := parsed.Print([]byte(document)); err != nil && !strings.Contains(err.Error(), "more than") {
			t.Errorf("%q: %v", text, err)
		}
	})
}
