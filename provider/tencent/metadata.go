package tencent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"havip-cluster/internal/plain"
	"havip-cluster/provider"
)

// metadata asks the metadata service of this host, never through a proxy and never anywhere else by a redirect.
type metadata struct {
	base string // without a slash at the end
	http *http.Client
}

// errAbsent: the service has no such path.
var errAbsent = errors.New("the metadata service does not have it")

func newMetadata(base string) *metadata {
	return &metadata{base: strings.TrimRight(base, "/"), http: &http.Client{
		Timeout:       metadataTimeout,
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true, MaxResponseHeaderBytes: metadataMax},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// get asks for a path below latest/meta-data/.
func (m *metadata) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.base+"/latest/meta-data/"+path, nil)
	if err != nil {
		return "", err
	}
	res, err := m.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("%w: metadata service: %w", provider.ErrUnavailable, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return "", fmt.Errorf("%s: %w", path, errAbsent)
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%w: metadata service: %s for %s", provider.ErrUnavailable, res.Status, path)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, metadataMax+1))
	if err != nil {
		return "", fmt.Errorf("%w: metadata service: %w", provider.ErrUnavailable, err)
	}
	if len(raw) > metadataMax {
		return "", fmt.Errorf("metadata service: more than %d bytes for %s", metadataMax, path)
	}
	return strings.TrimSpace(string(raw)), nil
}

// roleName is what a role may be called; the answer of the service goes into a path.
var roleName = regexp.MustCompile(`^[A-Za-z0-9_.@=,+-]{1,128}$`)

// role gives the credentials of a role; "" is the one that the service lists.
func (m *metadata) role(ctx context.Context, name string) (secret, error) {
	const folder = "cam/security-credentials/"
	if name == "" {
		list, err := m.get(ctx, folder)
		if errors.Is(err, errAbsent) || err == nil && list == "" {
			return secret{}, errors.New("no role is bound to this instance: bind one that may use the VPC API, or set provider.tencent.credentials_file")
		}
		if err != nil {
			return secret{}, err
		}
		name, _, _ = strings.Cut(list, "\n")
	}
	if !roleName.MatchString(name) {
		return secret{}, fmt.Errorf("%q is no name of a role", clip(name, 64))
	}
	raw, err := m.get(ctx, folder+name)
	if err != nil {
		return secret{}, fmt.Errorf("role %s: %w", name, err)
	}
	return parseRole([]byte(raw), name)
}

// id is what an instance, a region or a VPC may be called.
var id = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// self says where this host is.
func (m *metadata) self(ctx context.Context) (provider.Self, error) {
	var out provider.Self
	mac, err := m.get(ctx, "mac")
	if err != nil {
		return out, err
	}
	for _, want := range []struct {
		path string
		to   *string
	}{
		{"instance-id", &out.Instance},
		{"placement/region", &out.Region},
		{"placement/zone", &out.Zone},
		{"network/interfaces/macs/" + mac + "/vpc-id", &out.VPC},
	} {
		text, err := m.get(ctx, want.path)
		if err != nil {
			return out, err
		}
		if !id.MatchString(text) {
			return out, fmt.Errorf("metadata service: %q for %s is not what a name looks like", clip(text, 64), want.path)
		}
		*want.to = text
	}
	return out, nil
}

// clip cuts a text of others to n bytes.
func clip(s string, n int) string { return plain.Clip(strings.ToValidUTF8(s, "?"), n) }
