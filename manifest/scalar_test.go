package manifest

import (
	"math/rand/v2"
	"regexp"
	"testing"
)

// What needs no quotes, as one expression.
var plainForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*$|^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(/[0-9]{1,2})?$|^[0-9]+(ms|s|m|h)$`)

func TestPlainIsItsExpression(t *testing.T) {
	for _, s := range []string{"", "a", "-", "10.0.0.1", "10.0.0.1/24", "10.0.0.1/", "10.0.0.1/245", "10.0.0", "10.0.0.0.1", "1000.0.0.1", "10..0.1", "5m", "5ms", "ms", "5", "5d", "a b", "é", "node-1/eth0", "_a", "a_"} {
		if got := plain(s); got != plainForm.MatchString(s) {
			t.Errorf("%q: %t", s, got)
		}
	}
	letters := []rune("019aZ.._//-- ms:é")
	for range 200_000 {
		text := make([]rune, rand.N(18))
		for i := range text {
			text[i] = letters[rand.N(len(letters))]
			if rand.N(2) == 0 {
				text[i] = []rune("0123.")[rand.N(5)]
			}
		}
		if s := string(text); plain(s) != plainForm.MatchString(s) {
			t.Fatalf("%q: %t", s, plain(s))
		}
	}
}
