package plain

import "testing"

func TestLine(t *testing.T) {
	if got := Line("a\x1b[31m\tb\r\nc\x7f\u009bd é"); got != "a [31m b  c  d é" {
		t.Errorf("%q", got)
	}
}
