package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

const (
	tokenMagic   = "havip1."
	tokenTextMax = 512 // characters; a token with the longest name has 217

	checksumBytes   = 4
	tokenFixedBytes = idBytes + sha256.Size + idBytes + secretBytes + 8 + 1 // without length, name and checksum
	tokenBytesMin   = tokenFixedBytes + 1 + checksumBytes
	tokenBytesMax   = tokenFixedBytes + nodeNameMax + checksumBytes

	// tokenExpiryMax keeps the expiry within what a certificate or JSON can name (year 9999).
	tokenExpiryMax = 253402300799
	secretBytes    = 32
)

// Secret is the part of a token that proves the right to join. It prints as
// "[secret]" in every way that fmt, slog and encoding/json know.
type Secret [secretBytes]byte

// String hides the secret.
func (Secret) String() string { return "[secret]" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "[secret]" }

// MarshalText hides the secret from JSON and logs. There is no way back: a secret
// travels only inside Token.Text.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// SecretHash returns the SHA-256 of a secret in hex: what the cluster stores, so that
// its log and snapshots let nobody in.
func SecretHash(s Secret) string {
	sum := sha256.Sum256(s[:])
	return hex.EncodeToString(sum[:])
}

// SecretMatches reports whether hash is SecretHash(s), in a time that does not depend
// on where they differ.
func SecretMatches(s Secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(SecretHash(s)), []byte(hash)) == 1
}

// Token lets one node join once. What it says is a hint for the joining node; the
// cluster decides by what it stored under ID.
type Token struct {
	ClusterID   string
	Fingerprint string    // of the cluster's CA certificate, as Fingerprint returns it
	ID          string    // "t-" and 16 hex characters, names the token in lists and logs
	Secret      Secret    // never stored by the cluster, see SecretHash
	Expires     time.Time // whole seconds, UTC
	Name        string    // of the node that may join
	Role        Role      // that it will have
}

// NewToken returns a token with a new id and secret, or ErrInvalid.
func NewToken(clusterID, fingerprint, name string, role Role, expires time.Time) (Token, error) {
	t := Token{
		ClusterID: clusterID, Fingerprint: fingerprint, ID: newID(tokenPrefix),
		Expires: expires.UTC().Truncate(time.Second), Name: name, Role: role,
	}
	rand.Read(t.Secret[:])
	return t, t.check()
}

func (t Token) check() error {
	if err := CheckClusterID(t.ClusterID); err != nil {
		return err
	}
	if raw, err := hex.DecodeString(t.Fingerprint); err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("%w: CA fingerprint %q is not %d hex digits", ErrInvalid, t.Fingerprint, 2*sha256.Size)
	}
	if err := checkID("token id", tokenPrefix, t.ID); err != nil {
		return err
	}
	if unix := t.Expires.Unix(); unix <= 0 || unix > tokenExpiryMax {
		return fmt.Errorf("%w: token expiry %v is out of range", ErrInvalid, t.Expires)
	}
	if err := CheckNodeName(t.Name); err != nil {
		return err
	}
	_, err := ParseRole(string(t.Role))
	return err
}

// CheckExpiry returns ErrExpired when the token is of no use at now.
func (t Token) CheckExpiry(now time.Time) error {
	if now.Before(t.Expires) {
		return nil
	}
	return fmt.Errorf("%w: join token %s expired at %s; make a new one with: havip-cluster node add %s --role %s",
		ErrExpired, t.ID, t.Expires.Format(time.RFC3339), t.Name, t.Role)
}

// Text returns the token as the operator copies it; it contains the secret. The token
// must come from NewToken or ParseToken.
//
// After "havip1." follows in base64url without padding, integers big-endian:
//
//	 0  1  number of bytes that follow
//	 1  8  cluster id
//	 9 32  SHA-256 of the CA certificate
//	41  8  token id
//	49 32  secret
//	81  8  expiry, Unix seconds
//	89  1  role: 0 voter, 1 witness, 2 agent
//	90  n  node name
//	..  4  first bytes of the SHA-256 of all before
func (t Token) Text() string {
	b := []byte{byte(tokenFixedBytes + len(t.Name) + checksumBytes)}
	b = appendHex(b, strings.TrimPrefix(t.ClusterID, clusterPrefix))
	b = appendHex(b, t.Fingerprint)
	b = appendHex(b, strings.TrimPrefix(t.ID, tokenPrefix))
	b = append(b, t.Secret[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	for code, r := range roles {
		if r == t.Role {
			b = append(b, byte(code))
		}
	}
	b = append(b, t.Name...)
	b = append(b, checksum(b)...)
	return tokenMagic + base64.RawURLEncoding.EncodeToString(b)
}

func appendHex(b []byte, digits string) []byte {
	raw, err := hex.DecodeString(digits)
	if err != nil {
		panic(fmt.Sprintf("identity: Text of an unchecked token: %q is not hex", digits))
	}
	return append(b, raw...)
}

func checksum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:checksumBytes]
}

// ParseToken reads what Text wrote; blanks around it are dropped. Every damage gets a
// sentence of its own, wrapping ErrToken, that never repeats the token. It does not
// look at the expiry: see CheckExpiry.
func ParseToken(text string) (Token, error) {
	b, err := tokenPayload(strings.TrimSpace(text))
	if err != nil {
		return Token{}, err
	}
	body := b[1 : len(b)-checksumBytes]
	take := func(n int) []byte {
		field := body[:n]
		body = body[n:]
		return field
	}
	t := Token{ClusterID: clusterPrefix + hex.EncodeToString(take(idBytes))}
	t.Fingerprint = hex.EncodeToString(take(sha256.Size))
	t.ID = tokenPrefix + hex.EncodeToString(take(idBytes))
	t.Secret = Secret(take(secretBytes))
	unix := binary.BigEndian.Uint64(take(8))
	role := int(take(1)[0])
	t.Name = string(body)
	if unix > tokenExpiryMax || role >= len(roles) {
		return Token{}, fmt.Errorf("%w: it comes from a newer version (role code %d, expiry %d); upgrade this node first", ErrToken, role, unix)
	}
	t.Expires, t.Role = time.Unix(int64(unix), 0).UTC(), roles[role]
	if err := t.check(); err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return t, nil
}

// tokenPayload decodes a token down to its bytes, with length and checksum verified:
// the result has tokenBytesMin to tokenBytesMax bytes after the first one.
func tokenPayload(text string) ([]byte, error) {
	bad := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrToken}, args...)...)
	}
	encoded, found := strings.CutPrefix(text, tokenMagic)
	switch {
	case text == "":
		return bad("it is empty; pass what 'havip-cluster node add' printed")
	case len(text) > tokenTextMax:
		return bad("%d characters are more than any token has (%d)", len(text), tokenTextMax)
	case !found && strings.HasPrefix(text, "havip") && strings.Contains(text, "."):
		return bad("it starts with another version than %q; node and cluster need versions that go together", tokenMagic)
	case !found:
		return bad("it does not start with %q; pass the whole token", tokenMagic)
	}
	for i, c := range []byte(encoded) {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", rune(c)) {
			return bad("character %d (%q) does not belong there; copy it in one piece", len(tokenMagic)+i+1, c)
		}
	}
	// The first two characters hold the length, which says how long the text should be.
	if len(encoded) < 2 {
		return bad("it is cut off after %d characters", len(text))
	}
	head, err := base64.RawURLEncoding.DecodeString(encoded[:2])
	if err != nil {
		return bad("it is mistyped at its start")
	}
	size := int(head[0])
	if size < tokenBytesMin || size > tokenBytesMax {
		return bad("it is mistyped at its start: no token says that it has %d bytes", size)
	}
	want := len(tokenMagic) + base64.RawURLEncoding.EncodedLen(size+1)
	if len(text) < want {
		return bad("it is cut off: %d of %d characters; copy all of it", len(text), want)
	}
	if len(text) > want {
		return bad("it has %d characters too many at its end, or is mistyped at its start", len(text)-want)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return bad("it is mistyped at its end")
	}
	end := len(b) - checksumBytes
	if subtle.ConstantTimeCompare(checksum(b[:end]), b[end:]) != 1 {
		return bad("it is mistyped: the checksum does not match; copy it again")
	}
	return b, nil
}
