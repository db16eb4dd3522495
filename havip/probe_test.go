package havip

import (
	"strings"
	"testing"
)

func TestParseProbe(t *testing.T) {
	for text, want := range map[string]Probe{
		"": {}, "tcp:1": {Port: 1}, "tcp:65535": {Port: 65535}, "http:61000/": {61000, "/"}, "http:8080/ha/web.ok": {8080, "/ha/web.ok"},
	} {
		if got, err := ParseProbe(text); err != nil || got != want || got.String() != text {
			t.Errorf("%q: %+v, %v, again %q", text, got, err, got.String())
		}
	}
	for text, want := range map[string]string{
		"61000":          "neither tcp:PORT nor http:PORT/PATH",
		"udp:61000":      "neither tcp:PORT nor http:PORT/PATH",
		"https:1/":       "neither",
		"tcp:":           "no port between 1 and 65535, such as tcp:61000",
		"tcp:0":          "no port between",
		"tcp:65536":      "no port between",
		"tcp:+1":         "no port between",
		"tcp:061000":     "no port between",
		"tcp:61000/up":   "did you mean http:61000/up?",
		"http:61000":     "use http:61000/",
		"http:61000/a b": `the character ' '`,
		"http:1/a?b":     `the character '?'`,
		"http:1/ä":       "the character",
		"http:1/\x00":    "the character",
		"http:1/" + strings.Repeat("a", ProbePathMax): "201 bytes, at most 200",
	} {
		if got, err := ParseProbe(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", text, got, err, want)
		}
	}
}

// FuzzParseProbe: what is taken has one text.
func FuzzParseProbe(f *testing.F) {
	for _, s := range []string{"", "tcp:61000", "http:1/a/b", "http:1", "tcp:1/", "http://"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParseProbe(text); err == nil && p.String() != text {
			t.Errorf("%q is read as %q", text, p.String())
		}
	})
}
