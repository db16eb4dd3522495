package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/smithy-go/aws-http-auth/credentials"

	"havip-cluster/provider"
)

const (
	defaultMetadata = "http://169.254.169.254"
	// tokenLife is how long a token of the metadata service is asked for, tokenSpare how long before its end a new one is.
	tokenLife  = 6 * time.Hour
	tokenSpare = time.Minute
	// keySpare is how long before their end new credentials are fetched: they are there 5 minutes before at the latest.
	keySpare = 4 * time.Minute
	// metadataWait bounds one question to the metadata service, metadataMax its answer in bytes.
	metadataWait = 2 * time.Second
	metadataMax  = 64 << 10
)

// errAbsent is returned for a path that the metadata service does not have.
var errAbsent = errors.New("no such path")

// metadata speaks to the instance's metadata service, version 2.
type metadata struct {
	base string
	http *http.Client

	mu    sync.Mutex
	token string
	until time.Time
	keys  credentials.Credentials
}

func newMetadata(base string) *metadata {
	if base == "" {
		base = defaultMetadata
	}
	// A proxy of the environment is not for an address of the host, and it sends nobody elsewhere.
	return &metadata{base: strings.TrimSuffix(base, "/"), http: &http.Client{Timeout: metadataWait, Transport: &http.Transport{Proxy: nil}, CheckRedirect: stay}}
}

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// roleName is what a role may be called (IAM, "names of roles"); it goes into a path.
var roleName = regexp.MustCompile(`^[A-Za-z0-9_.@=,+-]{1,128}$`)

// session is a token that is good for some time. Nobody waits for another's question.
func (m *metadata) session(ctx context.Context) (string, error) {
	m.mu.Lock()
	token, until := m.token, m.until
	m.mu.Unlock()
	if token != "" && time.Until(until) > tokenSpare {
		return token, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, m.base+"/latest/api/token", http.NoBody)
	if err != nil {
		return "", err
	}
	r.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", fmt.Sprint(int(tokenLife/time.Second)))
	if token, err = m.answer(r); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.token, m.until = token, time.Now().Add(tokenLife)
	return token, nil
}

// get reads one path below /latest/meta-data. A token that the service has forgotten is replaced once.
func (m *metadata) get(ctx context.Context, path string) (text string, err error) {
	for range 2 {
		var token string
		if token, err = m.session(ctx); err != nil {
			break
		}
		var r *http.Request
		if r, err = http.NewRequestWithContext(ctx, http.MethodGet, m.base+"/latest/meta-data/"+path, http.NoBody); err != nil {
			break
		}
		r.Header.Set("X-aws-ec2-metadata-token", token)
		if text, err = m.answer(r); !errors.Is(err, errToken) {
			break
		}
		m.mu.Lock()
		m.token = ""
		m.mu.Unlock()
	}
	if err != nil {
		return "", fmt.Errorf("aws: metadata service: %s: %w", path, err)
	}
	return text, nil
}

// errToken is returned when the service does not take the token.
var errToken = errors.New("the token is not taken")

func (m *metadata) answer(r *http.Request) (string, error) {
	res, err := m.http.Do(r)
	if err != nil {
		return "", fmt.Errorf("%w: %w", provider.ErrUnavailable, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, metadataMax))
	switch {
	case res.StatusCode == http.StatusUnauthorized:
		return "", errToken
	case res.StatusCode == http.StatusNotFound:
		return "", errAbsent
	case res.StatusCode != http.StatusOK:
		return "", fmt.Errorf("%w: it answers %s", provider.ErrUnavailable, res.Status)
	case err != nil:
		return "", fmt.Errorf("%w: %w", provider.ErrUnavailable, err)
	}
	return string(text), nil
}

// ofMAC reads what the service says of an interface.
func (m *metadata) ofMAC(ctx context.Context, mac, what string) (string, error) {
	text, err := m.get(ctx, "network/interfaces/macs/"+strings.ToLower(mac)+"/"+what)
	if errors.Is(err, errAbsent) {
		return "", fmt.Errorf("%w: this instance has no interface with the MAC %s", err, mac)
	}
	return strings.TrimSpace(text), err
}

// addresses are the private IPv4 addresses of an interface.
func (m *metadata) addresses(ctx context.Context, mac string) ([]netip.Addr, error) {
	text, err := m.ofMAC(ctx, mac, "local-ipv4s")
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for line := range strings.FieldsSeq(text) {
		ip, err := netip.ParseAddr(line)
		if err != nil {
			return nil, fmt.Errorf("aws: metadata service: local-ipv4s: %q is no address", line)
		}
		out = append(out, ip)
	}
	return out, nil
}

// credentials are those of the environment, else of the instance's role.
func (m *metadata) credentials(ctx context.Context, role string) (credentials.Credentials, string, error) {
	if id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"); id != "" && secret != "" {
		return credentials.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: os.Getenv("AWS_SESSION_TOKEN")}, "environment", nil
	}
	m.mu.Lock()
	keys := m.keys
	m.mu.Unlock()
	if keys.AccessKeyID != "" && time.Until(keys.Expires) > keySpare {
		return keys, "role", nil
	}
	const at = "iam/security-credentials/"
	if role == "" {
		list, err := m.get(ctx, at)
		if errors.Is(err, errAbsent) {
			err = fmt.Errorf("%w: this instance has no role; attach an instance profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the agent", provider.ErrCredentials)
		}
		if err != nil {
			return credentials.Credentials{}, "", err
		}
		role, _, _ = strings.Cut(strings.TrimSpace(list), "\n")
	}
	if !roleName.MatchString(role) {
		return credentials.Credentials{}, "", fmt.Errorf("%w: %q is no name of a role", provider.ErrCredentials, role)
	}
	text, err := m.get(ctx, at+role)
	if err != nil {
		return credentials.Credentials{}, "", err
	}
	var got struct {
		Code, AccessKeyID, SecretAccessKey, Token string // case does not count in JSON
		Expiration                                time.Time
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.AccessKeyID == "" || got.SecretAccessKey == "" {
		return credentials.Credentials{}, "", fmt.Errorf("%w: the metadata service gives none for role %q (code %q)", provider.ErrCredentials, role, got.Code)
	}
	keys = credentials.Credentials{AccessKeyID: got.AccessKeyID, SecretAccessKey: got.SecretAccessKey, SessionToken: got.Token, Expires: got.Expiration}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = keys
	return keys, "role", nil
}

// forget drops the credentials, which the cloud did not take.
func (m *metadata) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = credentials.Credentials{}
}
