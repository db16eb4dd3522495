package tencent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"havip-cluster/provider"
)

// secret are credentials. It prints as nothing: no log line or error may hold them.
type secret struct {
	id, key, token string
	ends           time.Time // zero: they do not end
	from           string    // where they come from, for people
}

// String implements fmt.Stringer.
func (s secret) String() string { return "credentials from " + s.from }

// GoString implements fmt.GoStringer.
func (s secret) GoString() string { return s.String() }

// Variables of the environment, as the vendor's tools name them.
const (
	envID    = "TENCENTCLOUD_SECRET_ID"
	envKey   = "TENCENTCLOUD_SECRET_KEY"
	envToken = "TENCENTCLOUD_SESSION_TOKEN"
)

// keyring finds credentials: the file if one is configured, else the environment, else the role of the instance.
// Those of a role are kept until shortly before they end.
type keyring struct {
	file, role string
	meta       *metadata
	getenv     func(string) string
	now        func() time.Time

	mu   sync.Mutex
	held secret // of a role
}

// get returns credentials that are valid now. Errors wrap provider.ErrCredentials and hold no secret.
func (k *keyring) get(ctx context.Context) (secret, error) {
	if k.file != "" {
		return readCredentials(k.file)
	}
	if id, key := k.getenv(envID), k.getenv(envKey); id != "" || key != "" {
		if id == "" || key == "" {
			return secret{}, fmt.Errorf("%w: only one of %s and %s is set in the agent's environment", provider.ErrCredentials, envID, envKey)
		}
		return secret{id: id, key: key, token: k.getenv(envToken), from: "environment"}, nil
	}
	return k.ofRole(ctx)
}

// forget drops what is held, because the cloud did not take it.
func (k *keyring) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = secret{}
}

func (k *keyring) ofRole(ctx context.Context) (secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held.id != "" && k.now().Add(roleMargin).Before(k.held.ends) {
		return k.held, nil
	}
	s, err := k.meta.role(ctx, k.role)
	if err != nil {
		if k.held.id != "" && k.now().Before(k.held.ends) {
			return k.held, nil // the last minutes of what is held are better than nothing
		}
		return secret{}, fmt.Errorf("%w: no file and no environment has any, and of the instance's role: %w", provider.ErrCredentials, err)
	}
	k.held = s
	return s, nil
}

// readCredentials reads a file that its owner alone may read, and that is root's or this process's own.
func readCredentials(path string) (secret, error) {
	fail := func(format string, args ...any) (secret, error) {
		return secret{}, fmt.Errorf("%w: %s: %w", provider.ErrCredentials, path, fmt.Errorf(format, args...))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fail("%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail("%w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return fail("it is no regular file")
	case info.Mode().Perm()&0o077 != 0:
		return fail("others than its owner may read it (mode %04o): chmod 600 it", info.Mode().Perm())
	case !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fail("it belongs to another user: chown root it")
	}
	raw, err := io.ReadAll(io.LimitReader(f, credentialsFileMax+1))
	if err != nil {
		return fail("%w", err)
	}
	if len(raw) > credentialsFileMax {
		return fail("it has more than %d bytes", credentialsFileMax)
	}
	return parseCredentials(raw, path)
}

// parseCredentials reads YAML or JSON with secret_id, secret_key and token. Errors do not quote the text.
func parseCredentials(raw []byte, path string) (secret, error) {
	var c struct {
		ID    string `yaml:"secret_id"`
		Key   string `yaml:"secret_key"`
		Token string `yaml:"token"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(&c); err != nil || c.ID == "" || c.Key == "" {
		return secret{}, fmt.Errorf("%w: %s: it needs the lines `secret_id: ...` and `secret_key: ...`, may have `token: ...`, and nothing else", provider.ErrCredentials, path)
	}
	return secret{id: c.ID, key: c.Key, token: c.Token, from: "file " + path}, nil
}

// roleAnswer is what the metadata service says of a role.
type roleAnswer struct {
	Code         string
	TmpSecretId  string
	TmpSecretKey string
	Token        string
	ExpiredTime  int64 // unix seconds
}

// parseRole reads credentials of a role. Errors do not quote the text.
func parseRole(raw []byte, name string) (secret, error) {
	var a roleAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return secret{}, fmt.Errorf("the answer about role %s is no JSON", name)
	}
	if a.Code != "Success" || a.TmpSecretId == "" || a.TmpSecretKey == "" {
		return secret{}, fmt.Errorf("the metadata service gives no credentials of role %s (code %q)", name, clip(a.Code, 64))
	}
	return secret{id: a.TmpSecretId, key: a.TmpSecretKey, token: a.Token, ends: time.Unix(a.ExpiredTime, 0), from: "role " + name}, nil
}
