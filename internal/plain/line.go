// Package plain makes text of others safe to show.
package plain

import "strings"

// Line is s without control characters, each of which becomes a space: it breaks no table, and no
// terminal or program obeys it.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

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
