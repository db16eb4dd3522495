package identity

import (
	"errors"
	"strings"
	"testing"
)

func TestAccessToken(t *testing.T) {
	one, other := NewAccessToken(), NewAccessToken()
	if one == other {
		t.Fatal("two tokens are alike")
	}
	back, err := ParseAccessToken(" " + one.Text() + "\n")
	if err != nil || back != one {
		t.Fatalf("%v: %v", back, err)
	}
	text := one.Text()
	bad := map[string]string{"empty": "", "cut": text[:len(text)-1], "longer": text + "A", "join": "havip1.AAAA", "other": "ghp_" + text}
	for i := len(accessMagic); i < len(text); i++ {
		c := byte('A')
		if text[i] == 'A' {
			c = 'B'
		}
		bad[text[:i]] = text[:i] + string(c) + text[i+1:]
	}
	for name, text := range bad {
		_, err := ParseAccessToken(text)
		if !errors.Is(err, ErrToken) || text != "" && len(text) > 20 && strings.Contains(err.Error(), text[10:]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
