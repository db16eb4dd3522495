package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	accessMagic  = "havipt_"
	accessPrefix = "a-"
	accessBytes  = idBytes + secretBytes + checksumBytes
	// AccessTextMax bounds the text of an access token, in characters.
	AccessTextMax = 128
)

// AccessToken is what a person or a program shows instead of a certificate. The cluster keeps
// its id and the hash of its secret.
type AccessToken struct {
	ID     string // "a-" and 16 hex characters
	Secret Secret // 256 random bits; never stored by the cluster
}

// NewAccessToken draws a token.
func NewAccessToken() AccessToken {
	t := AccessToken{ID: newID(accessPrefix)}
	rand.Read(t.Secret[:])
	return t
}

// Text is the token as its bearer keeps it: "havipt_", then id, secret and a checksum in
// base64url without padding. It contains the secret.
func (t AccessToken) Text() string {
	b := appendHex(nil, strings.TrimPrefix(t.ID, accessPrefix))
	b = append(b, t.Secret[:]...)
	b = append(b, checksum(b)...)
	return accessMagic + base64.RawURLEncoding.EncodeToString(b)
}

// ParseAccessToken reads what Text wrote; blanks around it are dropped. The error wraps
// ErrToken and never repeats the token.
func ParseAccessToken(text string) (AccessToken, error) {
	bad := func(why string) (AccessToken, error) {
		return AccessToken{}, fmt.Errorf("%w: %s", ErrToken, why)
	}
	text = strings.TrimSpace(text)
	encoded, found := strings.CutPrefix(text, accessMagic)
	switch {
	case text == "":
		return bad("it is empty; pass what 'havip-cluster token create' printed")
	case strings.HasPrefix(text, tokenMagic):
		return bad("it is a join token, which only lets a node in; 'havip-cluster token create' makes one for requests")
	case strings.ContainsAny(encoded, "\r\n"): // the decoder would pass over them
		return bad("it is broken into lines; pass it in one")
	case len(text) > AccessTextMax || !found:
		return bad("it does not start with \"" + accessMagic + "\", or is too long; pass the whole token and nothing else")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) != accessBytes {
		return bad("it is cut off or mistyped; copy all of it")
	}
	end := len(b) - checksumBytes
	if subtle.ConstantTimeCompare(checksum(b[:end]), b[end:]) != 1 {
		return bad("it is mistyped: the checksum does not match; copy it again")
	}
	return AccessToken{ID: accessPrefix + hex.EncodeToString(b[:idBytes]), Secret: Secret(b[idBytes:end])}, nil
}
