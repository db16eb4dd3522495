package exec

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/internal/program"
	"havip-cluster/provider"
)

var claim = provider.Claim{
	HAVIP: "havip-00000001", Name: "web", Address: netip.MustParseAddr("10.0.0.100"), Node: "n1", ENI: "n1/eth0", Device: "eth0",
	MAC: "02:00:00:00:00:01", Epoch: 7, Deadline: time.UnixMilli(1234567890123),
}

// write makes a program. What another test begins meanwhile must not have it open for writing: nobody could run it then.
func write(t *testing.T, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// script is a provider whose program has this body.
func script(t *testing.T, body string, change ...func(*provider.Exec)) *Provider {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "prog"), "#!/bin/sh\n"+body)
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // nobody runs it
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cfg := provider.Exec{Program: "prog", Directory: dir, Timeout: provider.MaxCall}
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func root(c *provider.Exec)  { c.User = "root" }
func quick(c *provider.Exec) { c.Timeout = 300 * time.Millisecond }

// What the program reads is the contract.
func TestRequest(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "seen")
	p := script(t, "cat > "+seen+"; echo '{\"here\":true,\"where\":\"eni-1\"}'\n", root)
	ctx := context.Background()
	place, err := p.Where(ctx, claim)
	if err != nil || place != (provider.Place{Here: true, Where: "eni-1"}) {
		t.Fatalf("%+v, %v", place, err)
	}
	got, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"call":"describe","havip":"web","id":"havip-00000001","ip":"10.0.0.100","node":"n1","eni":"n1/eth0","device":"eth0","mac":"02:00:00:00:00:01","epoch":7,"deadline_unix_ms":1234567890123,"timeout_ms":15000}`
	if strings.TrimSpace(string(got)) != want {
		t.Errorf("it reads %s, want %s", got, want)
	}
	for call, do := range map[string]func() error{
		"claim":   func() error { return p.Claim(ctx, claim) },
		"release": func() error { return p.Release(ctx, claim) },
		"test":    func() error { _, err := p.Test(ctx); return err },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", call, err)
		}
		var r Request
		text, _ := os.ReadFile(seen)
		if err := json.Unmarshal(text, &r); err != nil || string(r.Call) != call {
			t.Errorf("%s: it reads %s, %v", call, text, err)
		}
	}
}

func TestBadPrograms(t *testing.T) {
	for name, c := range map[string]struct {
		body   string
		change func(*provider.Exec)
		want   string
	}{
		"refusal":            {`echo '{"error":"no right to do it"}'`, root, "no right to do it"},
		"status":             {`echo oh dear >&2; exit 3`, root, "it ended with 3: oh dear"},
		"silence":            {`exit 0`, root, "no JSON object"},
		"garbage":            {`head -c 300 /dev/urandom`, root, "JSON"},
		"null":               {`echo null`, root, "no JSON object"},
		"a list":             {`echo '[]'`, root, "no JSON object"},
		"two answers":        {`echo '{}{}'`, root, "more than one answer"},
		"no here":            {`echo '{}'`, root, `has no "here"`},
		"wrong type":         {`echo '{"here":"yes"}'`, root, "no JSON object"},
		"flood":              {`yes`, root, "cut off after 65536 bytes"},
		"flood of logs":      {`yes >&2`, root, "cut off after 65536 bytes"},
		"hang":               {`sleep 60`, quick, "deadline exceeded"},
		"fork":               {`sleep 60 & sleep 60`, quick, "deadline exceeded"},
		"killed":             {`kill -9 $$`, root, "it ended by killed"},
		"control characters": {`printf '{"error":"a\\u001b[2Jb\\nc"}'`, root, "a [2Jb c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			p := script(t, c.body+"\n", c.change)
			_, err := p.Where(context.Background(), claim)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if took := time.Since(began); took > 40*time.Second {
				t.Errorf("it took %v", took)
			}
			if err != nil && len(err.Error()) > 2*errorMax {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// A program that ignores its input, or reads none, is no failure of the call.
func TestInputIsNotRead(t *testing.T) {
	if err := script(t, "echo '{}'\n").Claim(context.Background(), claim); err != nil {
		t.Error(err)
	}
}

// What leaves the group of its program dies with the call.
func TestNothingIsLeft(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	var text []byte
	for timeout := 1500 * time.Millisecond; len(text) == 0; timeout *= 3 { // longer, where the program began too late
		p := script(t, "setsid sh -c 'echo $$ > "+pid+"; exec sleep 60' &\nsleep 60\n", root, func(c *provider.Exec) { c.Timeout = timeout })
		if err := p.Claim(context.Background(), claim); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		var err error
		if text, err = os.ReadFile(pid); len(text) == 0 && timeout > 10*time.Second {
			t.Fatalf("it has not begun: %v", err)
		}
	}
	runs := func() bool {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(text)) + "/environ")
		return err == nil && strings.Contains(string(state), program.Mark)
	}
	for end := time.Now().Add(20 * time.Second); runs(); time.Sleep(10 * time.Millisecond) { // a killed process takes a moment to end
		if time.Now().After(end) {
			t.Fatalf("%s still runs", text)
		}
	}
}

func TestWhoMayChangeIt(t *testing.T) {
	p := script(t, "echo '{}'\n")
	if err := os.Chmod(p.path(), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := p.Claim(context.Background(), claim); err == nil || !strings.Contains(err.Error(), "chmod go-w it") {
		t.Errorf("a program that anybody may change was run: %v", err)
	}
	for _, cfg := range []provider.Exec{{}, {Program: "../prog"}, {Program: "/bin/true"}, {Program: "p", Directory: "x"}, {Program: "p", Timeout: time.Hour}, {Program: "p", User: "no-such-user"}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"{}", `{"here":true}`, `{"error":"x"}`, "[]", "null", `{"here":1}`, "{}{}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parse(text)
		if err != nil && len(err.Error()) > 4*errorMax {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if err == nil && a.Error != "" {
			t.Errorf("a refusal is taken for done: %+v", a)
		}
	})
}
