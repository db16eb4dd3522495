package plain

import "testing"

func TestLine(t *testing.T) {
	if got := Line("a\x1b[31m\tb\r\nc\x7f\u009bd é"); got != "a [31m b  c  d é" {
		t.Errorf("%q", got)
	}
	if got := Line("web\u202egpj.exe\u2066\u200f\u2028x עברית"); got != "web gpj.exe   x עברית" {
		t.Errorf("%q", got)
	}
}

func TestClip(t *testing.T) {
	for text, want := range map[string]string{"": "", "short": "short", "exactly10!": "exactly10!", "more than ten": "more than ...", "123456789é!": "123456789..."} {
		if got := Clip(text, 10); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
