package identity

import (
	"errors"
	"strings"
	"testing"
)

// FuzzParseAccessToken: what anybody shows as a token is read as exactly that, or refused without being repeated.
func FuzzParseAccessToken(f *testing.F) {
	f.Add(AccessToken{ID: "a-0001020304050607"}.Text())
	f.Add(" " + AccessToken{ID: "a-0001020304050607", Secret: Secret{1}}.Text()[:60])
	f.Add(tokenMagic)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseAccessToken(text)
		if err == nil {
			if got := token.Text(); got != strings.TrimSpace(text) {
				t.Fatalf("%q reads like %q", text, got)
			}
			return
		}
		if !errors.Is(err, ErrToken) || len(text) > 40 && strings.Contains(err.Error(), text) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
