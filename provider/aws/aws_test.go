package aws

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/provider"
)

var claim = provider.Claim{HAVIP: "havip-1", Name: "web", Address: netip.MustParseAddr("10.0.0.100"), MAC: macA, Epoch: 3}

func (f *fake) provider(change ...func(*provider.AWS)) *Provider {
	f.t.Helper()
	cfg := provider.AWS{Endpoint: f.api.URL, Metadata: f.meta.URL}
	for _, c := range change {
		c(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// The address moves, later than the call is answered, and the metadata service tells when.
func TestClaim(t *testing.T) {
	f := newFake(t)
	f.delay = 50 * time.Millisecond
	p, ctx := f.provider(), context.Background()
	began := time.Now()
	if err := p.Claim(ctx, claim); err != nil {
		t.Fatal(err)
	}
	if place, err := p.Where(ctx, claim); err != nil || place.Here && time.Since(began) < f.delay || place.Where == "" {
		t.Errorf("at once: %+v, %v", place, err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		place, err := p.Where(ctx, claim)
		if err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %v", place, err)
		}
		if place.Here {
			break
		}
	}
	if slices.Contains(f.enis["eni-b"], "10.0.0.100") {
		t.Error("the old interface still has it")
	}
	if err := p.Release(ctx, claim); err != nil || len(f.actions) != 1 {
		t.Errorf("release: %v, calls %v", err, f.actions)
	}
}

func TestRefusals(t *testing.T) {
	f := newFake(t)
	p, ctx := f.provider(), context.Background()
	for code, want := range map[string]error{
		"RequestLimitExceeded": provider.ErrUnavailable, "InternalError": provider.ErrUnavailable, "Unavailable": provider.ErrUnavailable, "not xml": provider.ErrUnavailable,
		"UnauthorizedOperation": provider.ErrCredentials, "AuthFailure": provider.ErrCredentials, "PrivateIpAddressLimitExceeded": nil, "InvalidParameterValue": nil,
	} {
		f.mu.Lock()
		f.refuse = []string{code}
		f.mu.Unlock()
		err := p.Claim(ctx, claim)
		if err == nil || want != nil && !errors.Is(err, want) || want == nil && (errors.Is(err, provider.ErrUnavailable) || errors.Is(err, provider.ErrCredentials)) {
			t.Errorf("%s: %v", code, err)
		}
		e, is := errors.AsType[*provider.Error](err)
		if code != "not xml" && (!is || e.Code != code || e.Request != "req-1") {
			t.Errorf("%s: %v has not the cloud's code and request", code, err)
		}
	}
	if err := p.Claim(ctx, claim); err != nil {
		t.Errorf("after the refusals: %v", err)
	}
	v6 := claim
	v6.Address = netip.MustParseAddr("2001:db8::1")
	if err := p.Claim(ctx, v6); !errors.Is(err, errFamily) {
		t.Errorf("IPv6: %v", err)
	}
	other := claim
	other.MAC = "02:00:00:00:00:0c"
	if err := p.Claim(ctx, other); err == nil || !strings.Contains(err.Error(), "no interface with the MAC 02:00:00:00:00:0c") {
		t.Errorf("a MAC of another instance: %v", err)
	}
}

// Tokens and credentials that end are replaced, and what the cloud did not take is not used again.
func TestCredentials(t *testing.T) {
	f := newFake(t)
	p, ctx := f.provider(), context.Background()
	for range 3 {
		if err := p.Claim(ctx, claim); err != nil {
			t.Fatal(err)
		}
	}
	if f.keys != 1 || len(f.tokens) != 1 {
		t.Errorf("%d times credentials, %d tokens for three calls", f.keys, len(f.tokens))
	}
	f.mu.Lock()
	f.tokens = map[string]bool{"taken": true}
	f.expires = time.Now().Add(time.Minute)
	f.mu.Unlock()
	if _, err := p.Where(ctx, claim); err != nil {
		t.Errorf("a token that was forgotten: %v", err)
	}
	f.mu.Lock()
	f.secret = "another"
	f.mu.Unlock()
	if err := p.Claim(ctx, claim); !errors.Is(err, provider.ErrCredentials) {
		t.Errorf("a key that changed: %v", err)
	}
	if err := p.Claim(ctx, claim); err != nil {
		t.Errorf("then with the new one: %v", err)
	}
	self, err := p.Test(ctx)
	want := provider.Self{Instance: "i-1", Region: region, Zone: region + "a", VPC: "vpc-1", Credentials: "role", Endpoint: f.api.URL}
	if err != nil || self != want {
		t.Errorf("%+v, %v", self, err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	t.Setenv("AWS_SESSION_TOKEN", "session")
	if self, err := p.Test(ctx); err != nil || self.Credentials != "environment" {
		t.Errorf("%+v, %v", self, err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	f := newFake(t)
	p := f.provider(func(c *provider.AWS) { c.Region = region })
	f.meta.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := p.Claim(ctx, claim); !errors.Is(err, provider.ErrUnavailable) {
		t.Errorf("no metadata service: %v", err)
	}
	for _, cfg := range []provider.AWS{{Endpoint: "ec2"}, {Endpoint: "http://ec2.example/"}, {Metadata: "ftp://x"}, {Endpoint: "https://u:p@x/"}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}
