package identity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var testExpiry = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func newToken(t *testing.T) Token {
	t.Helper()
	return must[Token](t)(NewToken(clusterA, strings.Repeat("ab", 32), "node-2", RoleWitness, testExpiry.Add(time.Millisecond)))
}

func TestTokenRoundTrip(t *testing.T) {
	for _, role := range roles {
		want := must[Token](t)(NewToken(clusterA, strings.Repeat("0f", 32), "node-2", role, testExpiry))
		if got := must[Token](t)(ParseToken(" \n" + want.Text() + "\r\n")); got != want {
			t.Fatalf("got %#v, want %#v", got, want)
		}
	}
	long := must[Token](t)(NewToken(clusterA, strings.Repeat("0f", 32), strings.Repeat("x", nodeNameMax), RoleVoter, testExpiry))
	if n := len(long.Text()); n != 217 || n > tokenTextMax {
		t.Fatalf("the longest token has %d characters", n)
	}
}

func TestNewTokenRefuses(t *testing.T) {
	ca := strings.Repeat("ab", 32)
	for _, row := range []struct {
		cluster, ca, name string
		role              Role
		expires           time.Time
		fragment          string
	}{
		{"c-1", ca, "n", RoleVoter, testExpiry, `cluster id "c-1"`},
		{clusterA, "ab", "n", RoleVoter, testExpiry, `CA fingerprint "ab" is not 64 hex digits`},
		{clusterA, ca, "N", RoleVoter, testExpiry, `node name "N"`},
		{clusterA, ca, "n", "boss", testExpiry, `role "boss"`},
		{clusterA, ca, "n", RoleVoter, time.Time{}, "token expiry"},
		{clusterA, ca, "n", RoleVoter, time.Unix(tokenExpiryMax+1, 0), "token expiry"},
	} {
		_, err := NewToken(row.cluster, row.ca, row.name, row.role, row.expires)
		wantError(t, err, ErrInvalid, row.fragment)
	}
}

// forge returns a token text with a right checksum around changed bytes.
func forge(t *testing.T, change func(b []byte) []byte) string {
	t.Helper()
	b := must[[]byte](t)(base64.RawURLEncoding.DecodeString(strings.TrimPrefix(newToken(t).Text(), tokenMagic)))
	b = change(b[:len(b)-checksumBytes])
	b[0] = byte(len(b) - 1 + checksumBytes)
	return tokenMagic + base64.RawURLEncoding.EncodeToString(append(b, checksum(b)...))
}

func TestParseTokenRefuses(t *testing.T) {
	text := newToken(t).Text()
	middle := byte('A')
	if text[60] == middle {
		middle = 'B'
	}
	for _, row := range []struct{ text, fragment string }{
		{"", "it is empty"},
		{" \t\n", "it is empty"},
		{strings.Repeat("x", 513), "513 characters are more than any token has (512)"},
		{"havip2." + text[7:], `another version than "havip1."`},
		{"hello", `does not start with "havip1."`},
		{text[3:], `does not start with "havip1."`},
		{"havip1.", "cut off after 7 characters"},
		{"havip1.A", "cut off after 8 characters"},
		{"havip1.AA", "no token says that it has 0 bytes"},
		{"havip1.__" + text[9:], "no token says that it has 255 bytes"},
		{text[:30] + " " + text[30:], "character 31 (' ') does not belong there"},
		{text[:30] + "\n" + text[31:], `character 31 ('\n')`},
		{text + "=", "('=') does not belong there"},
		{text[:100], fmt.Sprintf("cut off: 100 of %d characters", len(text))},
		{text[:len(text)-1], "cut off"},
		{text + "AAA", "3 characters too many at its end"},
		{text[:60] + string(middle) + text[61:], "the checksum does not match"},
		{forge(t, func(b []byte) []byte { b[89] = 7; return b }), "newer version (role code 7"},
		{forge(t, func(b []byte) []byte { b[81] = 0xff; return b }), "newer version (role code 1"},
		{forge(t, func(b []byte) []byte { copy(b[81:89], make([]byte, 8)); return b }), "token expiry"},
		{forge(t, func(b []byte) []byte { b[90] = 'N'; return b }), `contains 'N'`},
	} {
		_, err := ParseToken(row.text)
		wantError(t, err, ErrToken, row.fragment)
	}
}

// Every single wrong character is noticed, and no message gives the token away.
func TestParseTokenNoticesEveryMistypedCharacter(t *testing.T) {
	text := newToken(t).Text()
	for i := range text {
		for _, c := range "Aa0-_!" {
			typo := text[:i] + string(c) + text[i+1:]
			_, err := ParseToken(typo)
			if (err == nil) != (typo == text) {
				t.Fatalf("character %d changed to %q: %v", i, c, err)
			}
			if err != nil && (!errors.Is(err, ErrToken) || strings.Contains(err.Error(), text[60:80])) {
				t.Fatalf("character %d changed to %q: %v", i, c, err)
			}
		}
	}
}

func TestTokenExpiry(t *testing.T) {
	token := newToken(t)
	check(t, token.CheckExpiry(testExpiry.Add(-1)))
	wantError(t, token.CheckExpiry(testExpiry), ErrExpired,
		"expired at 2030-01-02T03:04:05Z; make a new one with: havip-cluster node add node-2 --role witness")
}

func TestSecretHidesItself(t *testing.T) {
	token := newToken(t)
	asJSON := must[[]byte](t)(json.Marshal(token))
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%+v", token), fmt.Sprintf("%#v", token), string(asJSON)} {
		if !strings.Contains(text, "[secret]") {
			t.Fatalf("the secret shows in %s", text)
		}
	}
}

func TestSecretHash(t *testing.T) {
	hash := SecretHash(Secret{})
	if hash != "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925" {
		t.Fatalf("hash of 32 zero bytes is %s", hash)
	}
	if !SecretMatches(Secret{}, hash) || SecretMatches(Secret{1}, hash) || SecretMatches(Secret{}, "") {
		t.Fatal("SecretMatches is wrong")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrToken) {
				t.Fatalf("not an ErrToken: %v", err)
			}
			return
		}
		if got := token.Text(); got != strings.TrimSpace(text) {
			t.Fatalf("%q reads like %q", text, got)
		}
	})
}

// A token that an older version printed must stay readable.
func TestTokenGolden(t *testing.T) {
	const text = "havip1.YwAAAAAAAACqq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6sAAQIDBAUGBwABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fAAAAAHDdVSUBbm9kZS0yHB7MFg"
	want := Token{
		ClusterID: clusterA, Fingerprint: strings.Repeat("ab", 32), ID: "t-0001020304050607",
		Expires: time.Unix(1893553445, 0).UTC(), Name: "node-2", Role: RoleWitness,
	}
	for i := range want.Secret {
		want.Secret[i] = byte(i)
	}
	if got := must[Token](t)(ParseToken(text)); got != want || want.Text() != text {
		t.Fatalf("got %#v, want %#v; text %s", got, want, want.Text())
	}
}
