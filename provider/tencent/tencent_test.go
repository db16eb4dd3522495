package tencent

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"havip-cluster/jepsen/fakecloud"
	"havip-cluster/provider"
)

// world is a fake cloud with three instances, and a client on the first.
type world struct {
	*fakecloud.Cloud
	*Client
	t   *testing.T
	url string
}

func config() fakecloud.Config {
	c := fakecloud.Config{
		MACUpper: true, EIPs: []string{"198.51.100.1", "198.51.100.2"},
		Subnets: []fakecloud.Subnet{{ID: "subnet-a", CIDR: netip.MustParsePrefix("10.0.0.0/24")}, {ID: "subnet-b", CIDR: netip.MustParsePrefix("10.0.1.0/24")}},
	}
	for i := 1; i <= 3; i++ {
		c.ENIs = append(c.ENIs, fakecloud.ENI{
			ID: fmt.Sprintf("eni-%d", i), MAC: fmt.Sprintf("02:00:00:00:00:a%d", i), Subnet: "subnet-a", Instance: fmt.Sprintf("ins-%d", i), Primary: true,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i)})},
		})
	}
	return c
}

func newWorld(t *testing.T, c fakecloud.Config) *world {
	t.Helper()
	for _, name := range []string{envID, envKey, envToken} {
		t.Setenv(name, "")
	}
	cloud := fakecloud.New(c)
	s := httptest.NewServer(cloud.Handler("ins-1"))
	t.Cleanup(s.Close)
	client, err := New(provider.Tencent{Endpoint: s.URL, Metadata: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	client.limiter = rate.NewLimiter(rate.Inf, 1)
	client.sleep = func(ctx context.Context, _ time.Duration) error { return sleep(ctx, time.Millisecond) }
	return &world{cloud, client, t, s.URL}
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create(ip string) provider.Observed {
	w.t.Helper()
	o, err := w.Create(w.ctx(), provider.Spec{
		Name: "web", Address: netip.MustParseAddr(ip), VPC: "vpc-fake0001", Subnet: "subnet-a", Enforced: true, Range: []provider.Member{{Type: "CVM", ID: "ins-1"}},
	}, "token-"+ip)
	w.must(err)
	return o
}

// count is how often an action was asked for.
func (w *world) count(action string) int {
	n := 0
	for _, c := range w.Calls() {
		if c.Action == action {
			n++
		}
	}
	return n
}

func TestTest(t *testing.T) {
	w := newWorld(t, config())
	self, err := w.Test(w.ctx())
	w.must(err)
	want := provider.Self{Instance: "ins-1", Region: "ap-test", Zone: "ap-test-1", VPC: "vpc-fake0001", Credentials: "role havip-role", Endpoint: w.url}
	if self != want {
		t.Errorf("%+v, want %+v", self, want)
	}
}

func TestLife(t *testing.T) {
	c := config()
	c.TaskMS = 30
	w := newWorld(t, c)
	made := w.create("10.0.0.100")
	at := func() provider.Observed {
		t.Helper()
		list, err := w.Describe(w.ctx())
		w.must(err)
		if len(list) != 1 {
			t.Fatalf("%d HAVIPs: %+v", len(list), list)
		}
		return list[0]
	}
	if o := at(); o.ID != made.ID || o.State != provider.Unbound || o.ENI != "" || o.Flushed != "" || !*o.Enforced || !slices.Equal(o.Range, []provider.Member{{Type: "CVM", ID: "ins-1"}}) {
		t.Fatalf("made: %+v", o)
	}
	w.must(w.AddRange(w.ctx(), made.ID, []provider.Member{{Type: "CVM", ID: "ins-1"}, {Type: "CVM", ID: "ins-2"}}, "t")) // one of them is there already
	w.must(w.RemoveRange(w.ctx(), made.ID, []provider.Member{{Type: "CVM", ID: "ins-1"}, {Type: "CVM", ID: "ins-3"}}, "t"))
	w.must(w.Rename(w.ctx(), made.ID, "api", "t"))
	w.must(w.BindEIP(w.ctx(), made.ID, netip.MustParseAddr("198.51.100.1"), "t"))
	if taken, why := w.Announce("02:00:00:00:00:a2", made.Address); !taken {
		t.Fatal(why)
	}
	o := at()
	if o.Name != "api" || o.EIP.String() != "198.51.100.1" || o.ENI != "eni-2" || o.Instance != "ins-2" || o.State != provider.Available || o.Flushed == "" || !slices.Equal(o.Range, []provider.Member{{Type: "CVM", ID: "ins-2"}}) {
		t.Errorf("changed: %+v", o)
	}
	err := w.BindEIP(w.ctx(), made.ID, netip.MustParseAddr("198.51.100.2"), "t")
	if !hasCode(err, "UnsupportedOperation.BindEIP") {
		t.Errorf("a second EIP: %v", err)
	}
	w.must(w.UnbindEIP(w.ctx(), made.ID, netip.MustParseAddr("198.51.100.2"), "t"))
	if o := at(); o.EIP.String() != "198.51.100.1" {
		t.Errorf("another EIP was unbound: %s", o.EIP)
	}
	w.must(w.UnbindEIP(w.ctx(), made.ID, netip.MustParseAddr("198.51.100.1"), "t"))
	w.must(w.Delete(w.ctx(), made.ID, "t"))
	w.must(w.Delete(w.ctx(), made.ID, "t")) // it is gone already
	if list, err := w.Describe(w.ctx()); err != nil || len(list) != 0 {
		t.Errorf("deleted: %+v, %v", list, err)
	}
}

// An answer that is lost is no reason to do a change twice, nor to report it as failed.
func TestLostAnswer(t *testing.T) {
	for action, do := range map[string]func(w *world, id string) error{
		"CreateHaVip": func(w *world, _ string) error { w.create("10.0.0.101"); return nil },
		"HaVipAssociateAddressIp": func(w *world, id string) error {
			return w.BindEIP(w.ctx(), id, netip.MustParseAddr("198.51.100.1"), "t")
		},
		"AssociateHaVipInstance": func(w *world, id string) error {
			return w.AddRange(w.ctx(), id, []provider.Member{{Type: "CVM", ID: "ins-2"}}, "t")
		},
		"DeleteHaVip":          func(w *world, id string) error { return w.Delete(w.ctx(), id, "t") },
		"ModifyHaVipAttribute": func(w *world, id string) error { return w.Rename(w.ctx(), id, "other", "t") },
	} {
		t.Run(action, func(t *testing.T) {
			w := newWorld(t, config())
			id := w.create("10.0.0.100").ID
			before := w.count(action)
			w.SetFault(fakecloud.Fault{LoseOnce: action})
			w.must(do(w, id))
			if n := w.count(action) - before; action != "CreateHaVip" && n != 1 {
				t.Errorf("it was sent %d times", n)
			}
			if list := w.HAVIPs(); action == "CreateHaVip" && len(list) != 2 {
				t.Errorf("there are %d HAVIPs, want 2", len(list))
			}
		})
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t, config())
	w.create("10.0.0.100")
	for _, c := range w.Calls() {
		if (c.Action == "CreateHaVip") != (c.Token != "") {
			t.Errorf("%s with token %q: the API has one for CreateHaVip alone", c.Action, c.Token)
		}
	}
}

func TestPages(t *testing.T) {
	c := config()
	c.Quota = 300
	c.Subnets[0].CIDR = netip.MustParsePrefix("10.0.0.0/23")
	w := newWorld(t, c)
	ip := netip.MustParseAddr("10.0.0.50")
	for range 201 {
		ip = ip.Next()
		_, err := w.Create(w.ctx(), provider.Spec{Name: "x", Address: ip, VPC: "vpc-fake0001", Subnet: "subnet-a"}, ip.String())
		w.must(err)
	}
	list, err := w.Describe(w.ctx())
	w.must(err)
	if len(list) != 201 || !slices.IsSortedFunc(list, func(a, b provider.Observed) int { return a.Address.Compare(b.Address) }) {
		t.Errorf("%d HAVIPs, sorted by address: %v", len(list), list)
	}
	if n := w.count("DescribeHaVips"); n != 3 {
		t.Errorf("%d pages, want 3", n)
	}
}

func TestENIs(t *testing.T) {
	w := newWorld(t, config())
	list, err := w.ENIs(w.ctx(), []string{"02:00:00:00:00:A1", "02:00:00:00:00:a3", "02:00:00:00:00:ff"})
	w.must(err)
	want := provider.ENI{ID: "eni-1", MAC: "02:00:00:00:00:a1", Instance: "ins-1", VPC: "vpc-fake0001", Subnet: "subnet-a", Zone: "ap-test-1", Primary: true, State: "INUSE", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.11")}}
	if len(list) != 2 || fmt.Sprint(list[0]) != fmt.Sprint(want) || list[1].ID != "eni-3" {
		t.Errorf("%+v", list)
	}
}

// The international site's answers end before the range.
func TestOldModel(t *testing.T) {
	c := config()
	c.OldModel = true
	w := newWorld(t, c)
	_, err := w.Create(w.ctx(), provider.Spec{Name: "x", Address: netip.MustParseAddr("10.0.0.100"), VPC: "vpc-fake0001", Subnet: "subnet-a"}, "t")
	w.must(err)
	list, err := w.Describe(w.ctx())
	w.must(err)
	if len(list) != 1 || list[0].RangeKnown || list[0].Enforced != nil || list[0].Flushed != "" {
		t.Errorf("%+v", list)
	}
}

// What the cloud refuses comes back with its own code.
func TestRefusals(t *testing.T) {
	w := newWorld(t, config())
	id := w.create("10.0.0.100").ID
	spec := func(ip, subnet, name string) error {
		_, err := w.Create(w.ctx(), provider.Spec{Name: name, Address: netip.MustParseAddr(ip), VPC: "vpc-fake0001", Subnet: subnet}, ip+subnet)
		return err
	}
	for code, err := range map[string]error{
		"ResourceInUse":                        spec("10.0.0.11", "subnet-a", "x"),
		"InvalidParameterValue.Range":          spec("10.0.9.9", "subnet-a", "x"),
		"InvalidParameterValue.Reserved":       spec("10.0.0.1", "subnet-a", "x"),
		"UnsupportedOperation.SubnetNotExists": spec("10.0.0.9", "subnet-x", "x"),
		"MissingParameter":                     spec("10.0.0.9", "subnet-a", ""),
		"ResourceNotFound":                     w.AddRange(w.ctx(), "havip-nothere", []provider.Member{{Type: "CVM", ID: "ins-1"}}, "t"),
		"InvalidParameterValue":                w.AddRange(w.ctx(), id, []provider.Member{{Type: "ENI", ID: "eni-2"}}, "t"),
		"UnsupportedOperation": func() error {
			w.must(w.BindEIP(w.ctx(), id, netip.MustParseAddr("198.51.100.1"), "t"))
			return w.Delete(w.ctx(), id, "t")
		}(),
	} {
		if !hasCode(err, code) {
			t.Errorf("want %s, got %v", code, err)
		}
	}
	_, err := w.Create(w.ctx(), provider.Spec{Name: "x", Address: netip.MustParseAddr("10.0.0.9")}, strings.Repeat("x", 65))
	if err == nil {
		t.Error("a token of 65 characters was sent")
	}
}

// Faults of the cloud end in an error within the tries, which says what it is.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault fakecloud.Fault
		is    error
		tries int
	}{
		"down":      {fakecloud.Fault{Down: true}, provider.ErrUnavailable, 0},
		"throttled": {fakecloud.Fault{Throttle: true}, nil, callTries},
		"internal":  {fakecloud.Fault{Internal: true}, nil, callTries},
		"signature": {fakecloud.Fault{Signature: true}, provider.ErrCredentials, 1},
		"garbage":   {fakecloud.Fault{Garbage: true}, provider.ErrUnavailable, 0},
		"endless":   {fakecloud.Fault{Endless: true}, provider.ErrUnavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, config())
			_, err := w.self(w.ctx()) // the metadata service of the same host was asked before
			w.must(err)
			_, err = w.keys.get(w.ctx())
			w.must(err)
			w.SetFault(c.fault)
			_, err = w.Describe(w.ctx())
			if err == nil || c.is != nil && !errors.Is(err, c.is) || len(err.Error()) > 1000 {
				t.Fatalf("%v", err)
			}
			if n := w.count("DescribeHaVips"); n != c.tries {
				t.Errorf("it was tried %d times, want %d: %v", n, c.tries, err)
			}
		})
	}
}

// A cloud that is down is left alone for a while, then asked by one call.
func TestBreaker(t *testing.T) {
	w := newWorld(t, config())
	now := time.Unix(1_800_000_000, 0)
	w.Client.now = func() time.Time { return now }
	w.keys.now, w.keys.getenv = w.Client.now, func(name string) string {
		return map[string]string{envID: "AKIDfake", envKey: "fake-secret-key"}[name]
	}
	_, err := w.self(w.ctx())
	w.must(err)
	w.SetFault(fakecloud.Fault{Down: true})
	if _, err := w.Describe(w.ctx()); !errors.Is(err, provider.ErrUnavailable) {
		t.Fatal(err)
	}
	if open, opened := w.Circuit(); !open || opened != 1 {
		t.Errorf("of a cloud that is down: open %v, opened %d times, want once", open, opened)
	}
	w.SetFault(fakecloud.Fault{})
	if _, err := w.Describe(w.ctx()); err == nil || !strings.Contains(err.Error(), "not asked for") || !strings.Contains(err.Error(), "EOF") || w.count("DescribeHaVips") != 0 {
		t.Fatalf("it was asked at once: %v", err)
	}
	now = now.Add(breakFirst)
	if _, err := w.Describe(w.ctx()); err != nil {
		t.Fatalf("after the pause: %v", err)
	}
	if open, opened := w.Circuit(); open || opened != 1 {
		t.Errorf("after an answer: open %v, opened %d times, want once", open, opened)
	}
}

// Of three calls that wait for the circuit one goes out.
func TestBreakerLetsOneTry(t *testing.T) {
	b := &breaker{}
	now := time.Unix(1000, 0)
	for range breakAfter {
		b.silent(now, "no route")
	}
	for pause := breakFirst; ; pause = min(2*pause, breakMax) {
		if b.allow(now.Add(pause-time.Millisecond)) == nil {
			t.Fatalf("before %v have passed", pause)
		}
		now = now.Add(pause)
		if b.allow(now) != nil || b.allow(now) == nil {
			t.Fatal("after the pause one call goes out, and no second")
		}
		b.silent(now, "no route")
		if open, opened := b.state(now); !open || opened != 1 {
			t.Fatalf("a try in vain: open %v, opened %d times, want once", open, opened)
		}
		if open, _ := b.state(b.until); open {
			t.Fatal("the pause is over, and nobody asks: nothing is held back")
		}
		if pause == breakMax {
			break
		}
	}
	b.answered()
	if b.allow(now) != nil {
		t.Error("after an answer all go out")
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := "secret_id: AKIDfake\nsecret_key: fake-secret-key\n"
	if s, err := readCredentials(write("good", good, 0o600)); err != nil || s.key != "fake-secret-key" {
		t.Errorf("%v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "good"), link); err != nil {
		t.Fatal(err)
	}
	for what, path := range map[string]string{
		"readable by others": write("open", good, 0o640),
		"a link":             link,
		"a directory":        dir,
		"absent":             filepath.Join(dir, "none"),
		"no key":             write("nokey", "secret_id: AKIDfake\n", 0o600),
		"unknown words":      write("more", good+"secret: hush-hush\n", 0o600),
		"too long":           write("long", good+"#"+strings.Repeat("x", credentialsFileMax), 0o600),
	} {
		_, err := readCredentials(path)
		if !errors.Is(err, provider.ErrCredentials) {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && (strings.Contains(err.Error(), "fake-secret-key") || strings.Contains(err.Error(), "hush-hush")) {
			t.Errorf("%s: the error tells the secret: %v", what, err)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v", secret{id: "a", key: "hush", token: "hush", from: "x"}, secret{key: "hush"}, secret{key: "hush"}); strings.Contains(s, "hush") {
		t.Errorf("a secret prints as %s", s)
	}
}

// Credentials of a role are kept until shortly before they end; those that the cloud does not take any more are asked
// for again.
func TestRoleIsRenewed(t *testing.T) {
	w := newWorld(t, config())
	first, err := w.keys.get(w.ctx())
	w.must(err)
	again, err := w.keys.get(w.ctx())
	w.must(err)
	if first != again {
		t.Error("they were asked for twice")
	}
	w.keys.now = func() time.Time { return time.Now().Add(time.Hour - roleMargin) }
	if later, err := w.keys.get(w.ctx()); err != nil || later.id == first.id {
		t.Errorf("not renewed: %v, %v", later, err)
	}
	w.keys.now = time.Now
	w.keys.held.token = "revoked"
	if _, err := w.Describe(w.ctx()); !errors.Is(err, provider.ErrCredentials) {
		t.Fatalf("with a wrong token: %v", err)
	}
	if _, err := w.Describe(w.ctx()); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// The stand-in believes nobody: a key that is wrong by one letter, an id that it does not know, a token that is not one
// and a clock that is off are refused, each with its code.
func TestSignatures(t *testing.T) {
	for name, c := range map[string]struct {
		id, key, token, code string
		ahead                time.Duration
	}{
		"right": {id: "AKIDfake", key: "fake-secret-key"},
		"key":   {id: "AKIDfake", key: "fake-secret-kez", code: "AuthFailure.SignatureFailure"},
		"id":    {id: "AKIDnone", key: "fake-secret-key", code: "AuthFailure.SecretIdNotFound"},
		"token": {id: "AKIDfake", key: "fake-secret-key", token: "x", code: "AuthFailure.TokenFailure"},
		"clock": {id: "AKIDfake", key: "fake-secret-key", ahead: 10 * time.Minute, code: "AuthFailure.SignatureExpire"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, config())
			t.Setenv(envID, c.id)
			t.Setenv(envKey, c.key)
			t.Setenv(envToken, c.token)
			w.SetClock(func() time.Time { return time.Now().Add(c.ahead) })
			_, err := w.Describe(w.ctx())
			if c.code == "" && err != nil || c.code != "" && (!errors.Is(err, provider.ErrCredentials) || !hasCode(err, c.code)) {
				t.Errorf("%v, want %q", err, c.code)
			}
		})
	}
}

// The metadata service is asked directly, whatever the environment says, and is not followed elsewhere.
func TestMetadataNeedsNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	w := newWorld(t, config())
	if self, err := w.self(w.ctx()); err != nil || self.Instance != "ins-1" {
		t.Errorf("%+v, %v", self, err)
	}
}

func TestEndpoints(t *testing.T) {
	for _, bad := range []string{"http://vpc.tencentcloudapi.com", "ftp://x", "https://user:pw@x", "https://x/path", "x", "http://10.0.0.1:80"} {
		if _, err := New(provider.Tencent{Endpoint: bad}); err == nil {
			t.Errorf("endpoint %s is taken", bad)
		}
	}
	for _, good := range []string{"", "https://vpc.ap-guangzhou.tencentcloudapi.com", "http://127.0.0.1:8080"} {
		if _, err := New(provider.Tencent{Endpoint: good}); err != nil {
			t.Error(err)
		}
	}
}

// The client keeps below the rate that the API documents.
func TestRate(t *testing.T) {
	c, err := New(provider.Tencent{})
	if err != nil {
		t.Fatal(err)
	}
	if c.limiter.Limit() >= 20 || c.limiter.Burst()+int(c.limiter.Limit()) >= 20 {
		t.Errorf("%v a second with a burst of %d reaches the 20 a second that the API takes", c.limiter.Limit(), c.limiter.Burst())
	}
}

// What the metadata service and a file say is read without a panic, and no error quotes it.
func FuzzSecrets(f *testing.F) {
	f.Add([]byte(`{"TmpSecretId":"a","TmpSecretKey":"hush","Token":"t","ExpiredTime":1,"Code":"Success"}`))
	f.Add([]byte("secret_id: a\nsecret_key: hush\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, role := parseRole(raw, "r")
		_, file := parseCredentials(raw, "f")
		for _, err := range []error{role, file} {
			if err != nil && len(raw) > 200 && strings.Contains(err.Error(), string(raw)) {
				t.Errorf("the error quotes what it read: %v", err)
			}
		}
	})
}
