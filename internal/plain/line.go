// Package plain makes text of others safe to show.
package plain

import (
	"strings"
	"unicode"
)

// Line is s without control characters and those that end a line or turn the direction of writing (Unicode's
// Bidi_Control: what follows would show in another order), each of which becomes a space: it breaks no table, and no
// terminal or program obeys it.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == lineSeparator || r == paragraphSeparator {
			return ' '
		}
		return r
	}, s)
}

const lineSeparator, paragraphSeparator = '\u2028', '\u2029'

// Clip is text of at most n bytes, cut between characters, with three dots where something is missing.
func Clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return Cut(text, n) + "..."
}

// Cut is the first n bytes of a text at most, cut between characters. The rules of the log use it, so what it
// returns never changes.
func Cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}
