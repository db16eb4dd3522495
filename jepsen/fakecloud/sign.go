package fakecloud

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// timeSlack is how far the clock of a caller may be off.
const timeSlack = 5 * time.Minute

// verify checks the signature of a request, TC3-HMAC-SHA256, from its specification: the canonical request is method, "/",
// query, the signed headers in lower case and sorted, their names, and the body's SHA-256; it is signed with a key derived
// from the secret, the date and the service. It returns an error code, "" for none. Call with mu held.
func (c *Cloud) verify(r *http.Request, body []byte) (code, message string) {
	if c.fault.Signature {
		return "AuthFailure.SignatureFailure", "The provided credentials could not be validated."
	}
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "TC3-HMAC-SHA256 ")
	if !ok {
		return "AuthFailure.InvalidAuthorization", "The request's authorization header is not in the right format."
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 4 || scope[3] != "tc3_request" || scope[2] != "vpc" {
		return "AuthFailure.InvalidAuthorization", "the credential scope is not ID/DATE/vpc/tc3_request"
	}
	stamp := r.Header.Get("X-TC-Timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	at := time.Unix(seconds, 0)
	if err != nil || c.now().Sub(at).Abs() > timeSlack {
		return "AuthFailure.SignatureExpire", "the timestamp is too old or too new"
	}
	if at.UTC().Format(time.DateOnly) != scope[1] {
		return "AuthFailure.SignatureFailure", "the date of the scope is not that of the timestamp"
	}
	key, code := c.keyOf(scope[0], r.Header.Get("X-TC-Token"))
	if code != "" {
		return code, "the secret id is not known, or its token is wrong or has ended"
	}
	signed := fields["SignedHeaders"]
	if !strings.Contains(";"+signed+";", ";host;") || !strings.Contains(";"+signed+";", ";content-type;") {
		return "AuthFailure.InvalidAuthorization", "host and content-type have to be signed"
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(signed, ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(value))
	}
	canonical := strings.Join([]string{r.Method, "/", r.URL.RawQuery, headers.String(), signed, hexSum(body)}, "\n")
	toSign := strings.Join([]string{"TC3-HMAC-SHA256", stamp, strings.Join(scope[1:], "/"), hexSum([]byte(canonical))}, "\n")
	k := mac(mac(mac([]byte("TC3"+key), scope[1]), scope[2]), scope[3])
	if !hmac.Equal([]byte(hex.EncodeToString(mac(k, toSign))), []byte(fields["Signature"])) {
		return "AuthFailure.SignatureFailure", "The provided credentials could not be validated. Please check your signature is correct."
	}
	return "", ""
}

// keyOf is the secret key of an id.
func (c *Cloud) keyOf(id, token string) (key, code string) {
	if id == c.cfg.SecretID {
		if token != "" {
			return "", "AuthFailure.TokenFailure"
		}
		return c.cfg.SecretKey, ""
	}
	i, known := c.issued[id]
	switch {
	case !known:
		return "", "AuthFailure.SecretIdNotFound"
	case i.token != token || c.now().After(i.ends):
		return "", "AuthFailure.TokenFailure"
	}
	return i.key, ""
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
