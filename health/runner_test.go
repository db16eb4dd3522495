package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
	"havip-cluster/internal/program"
)

// look makes one run, as a Runner does.
func look(t *testing.T, p Probe, timeout time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := p(ctx)
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		return a.text, a.err
	case <-time.After(timeout + patience):
		t.Fatal("it did not end with its time-out")
		return "", nil
	}
}

func good(t *testing.T, p Probe) {
	t.Helper()
	if text, err := look(t, p, patience); err != nil {
		t.Errorf("%s: %v", text, err)
	}
}

func bad(t *testing.T, p Probe, says string) {
	t.Helper()
	text, err := look(t, p, patience)
	if err == nil || !strings.Contains(err.Error()+text, says) {
		t.Errorf("%q, %v; want %q", text, err, says)
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	good(t, tcp(l.Addr().String()))
	_ = l.Close()
	bad(t, tcp(l.Addr().String()), "connection refused")
}

func TestHTTP(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	var seen struct{ host, header, sni string }
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		seen.host, seen.header = r.Host, r.Header.Get("X-Who")
		if r.TLS != nil {
			seen.sni = r.TLS.ServerName
		}
		fmt.Fprint(w, "all is well")
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/nowhere", http.StatusFound) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/flood", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	plain, secure := httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	secure.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	secure.Config.ErrorLog = nil
	secure.StartTLS()
	defer plain.Close()
	defer secure.Close()
	of := func(url string, change func(k *fsm.Check)) Probe {
		k := fsm.Check{Name: "x", Type: fsm.CheckHTTP, Target: url}
		if change != nil {
			change(&k)
		}
		k = k.Complete()
		if r := k.Valid(); r != nil {
			t.Fatal(r)
		}
		return web(k)
	}
	good(t, of(plain.URL+"/ok", nil))
	good(t, of(plain.URL+"/ok", func(k *fsm.Check) { k.Body = "is well" }))
	good(t, of(plain.URL+"/away", nil)) // a redirect is an answer, and is not followed
	bad(t, of(plain.URL+"/away", func(k *fsm.Check) { k.Status = "200-299" }), "status 302, expected 200-299")
	bad(t, of(plain.URL+"/nowhere", nil), "status 404")
	good(t, of(plain.URL+"/nowhere", func(k *fsm.Check) { k.Status = "404" }))
	bad(t, of(plain.URL+"/ok", func(k *fsm.Check) { k.Body = "is ill" }), `do not hold "is ill"`)
	good(t, of(plain.URL+"/ok", func(k *fsm.Check) { k.Headers = []string{"Host: example.org", "X-Who: me"} }))
	if seen.host != "example.org" || seen.header != "me" {
		t.Errorf("sent %+v", seen)
	}
	good(t, of(secure.URL+"/ok", func(k *fsm.Check) { k.SNI = "example.org" }))
	if seen.sni != "example.org" {
		t.Errorf("the server name was %q", seen.sni)
	}
	bad(t, of(secure.URL+"/ok", func(k *fsm.Check) { k.Verify = true }), "certificate")
	bad(t, of(plain.URL+"/flood", func(k *fsm.Check) { k.Body = "x" }), "first 65536 bytes")
	if _, err := look(t, of(plain.URL+"/slow", nil), 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow one: %v", err)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ready")
	of := func(k fsm.Check) Probe { k.Target = path; return file(k) }
	bad(t, of(fsm.Check{}), "no such file")
	if err := os.WriteFile(path, []byte("state: ready\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good(t, of(fsm.Check{MaxAge: time.Minute, Content: "ready"}))
	bad(t, of(fsm.Check{Content: "steady"}), "do not hold")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	bad(t, of(fsm.Check{MaxAge: time.Minute}), "written 1h0m")
	path = dir
	bad(t, of(fsm.Check{}), "no regular file")
	path = filepath.Join(dir, "pipe")
	if err := exec.Command("mkfifo", path).Run(); err != nil {
		t.Fatal(err)
	}
	bad(t, of(fsm.Check{}), "no regular file")
}

// The end of a process is told by the kernel, not found at the next run.
func TestProcess(t *testing.T) {
	woken := make(chan struct{}, 4)
	begin := func() *exec.Cmd {
		cmd := exec.Command("sleep", "60")
		cmd.Args[0] = "sleep"
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	end := func(cmd *exec.Cmd) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	dir := t.TempDir()
	own := filepath.Join(dir, "havipprobe-with-a-long-name")
	body, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, body, 0o700); err != nil {
		t.Fatal(err)
	}
	p := newProcess(filepath.Base(own), func() { woken <- struct{}{} })
	defer p.end()
	bad(t, p.probe, "no process is called")
	cmd := exec.Command(own, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	good(t, p.probe)
	good(t, p.probe)
	end(cmd)
	select {
	case <-woken:
	case <-time.After(patience):
		t.Fatal("the kernel did not tell")
	}
	bad(t, p.probe, "no process is called")

	file := filepath.Join(dir, "pid")
	f := newProcess("pidfile:"+file, func() { woken <- struct{}{} })
	defer f.end()
	bad(t, f.probe, "no such file")
	for _, text := range []string{"", "x", "-1", "0"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		bad(t, f.probe, "no process number")
	}
	cmd = begin()
	if err := os.WriteFile(file, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good(t, f.probe)
	end(cmd)
	<-woken
	bad(t, f.probe, "is not there")
}

func TestPing(t *testing.T) {
	good(t, ping(netip.MustParseAddr("127.0.0.1")))
	good(t, ping(netip.MustParseAddr("::1")))
	text, err := look(t, ping(netip.MustParseAddr("127.0.0.1")), patience)
	if err != nil || !strings.HasPrefix(text, "answered in") {
		t.Errorf("%q, %v", text, err)
	}
}

// TestEndsByItself: what waits for sockets alone ends with its check, however long its time-out is.
func TestEndsByItself(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	backlog, _ := full(t)
	checks := []fsm.Check{
		{Type: fsm.CheckTCP, Target: backlog},
		{Type: fsm.CheckHTTP, Target: "http://" + silent.Addr().String() + "/", Status: "200"},
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if addrs, err := link.Addrs(); err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool { return strings.HasPrefix(a.String(), "fe80:") }) {
			checks = append(checks, fsm.Check{Type: fsm.CheckPing, Target: "ff02::7357%" + link.Name}) // nobody listens to it
			break
		}
	}
	for _, k := range checks {
		if !endsByItself(k.Type) {
			t.Errorf("%s does not", k.Type)
		}
		k.Name, k.Interval, k.Timeout, k.Rise, k.Fall = "silent", 50*time.Millisecond, 5*time.Minute, 1, 1
		r := NewRunner(Config{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		r.Set([]fsm.Check{k})
		time.Sleep(300 * time.Millisecond) // it waits by now, or ends before it has begun
		for end := time.Now().Add(patience); len(r.Latest()) == 0 && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		if l := r.Latest(); len(l) != 1 || l[0].Runs != 0 {
			t.Errorf("%s: it did not wait: %+v", k.Type, l)
		}
		cancel()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it did not end", k.Type)
		}
	}
}

// TestAStuckProcessCheckEnds: a read of a process's file that hangs does not hold up the end of its check;
// when it goes on afterwards, it holds nothing (goleak looks).
func TestAStuckProcessCheckEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	r := NewRunner(Config{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	r.Set([]fsm.Check{{Name: "stuck", Type: fsm.CheckProcess, Target: "pidfile:" + file, Interval: 20 * time.Millisecond, Timeout: 10 * time.Millisecond, Rise: 1, Fall: 1}})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if l := r.Latest(); len(l) == 1 && strings.Contains(l[0].Output, "hangs in the kernel") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is not stuck: %+v", r.Latest())
		}
	}
	cancel()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it did not end")
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0); err != nil { // the reader goes on
		t.Fatal(err)
	}

	p := newProcess("pidfile:"+filepath.Join(t.TempDir(), "own"), func() {})
	if err := os.WriteFile(p.target, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		t.Fatal(err)
	}
	good(t, p.probe)
	p.end()
	bad(t, p.probe, "over")
}

func TestNeighbour(t *testing.T) {
	bad(t, neighbour(nil, netip.MustParseAddr("127.0.0.1")), "asks nobody")
	good(t, neighbour(func(context.Context, netip.Addr) (string, error) { return "02:00:00:00:00:01", nil }, netip.MustParseAddr("127.0.0.1")))
}

// script puts a program for a check into a directory that is root's alone.
func script(t *testing.T, body string) Program {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "havip-checks-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "x")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return Programs{Directory: dir}.of(fsm.Check{Type: fsm.CheckExec, Target: "x"})
}

func TestExec(t *testing.T) {
	places := make(slots, 4)
	run := func(body string) Probe { return programProbe(script(t, body), places) }
	good(t, run("echo fine; exit 0"))
	bad(t, run("echo broken >&2; exit 3"), "it ended with 3")
	bad(t, run("kill -9 $$"), "ended by killed")
	if text, err := look(t, run(`echo "$(id -u) $HOME $(pwd)"`), patience); err != nil || text != "65534  /" {
		t.Errorf("it ran as %q, %v", text, err)
	}
	p := script(t, "exit 0")
	if err := os.Chmod(p.Path, 0o777); err != nil {
		t.Fatal(err)
	}
	bad(t, programProbe(p, places), "may be written by others than root")
	if err := os.Chmod(p.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	bad(t, programProbe(p, places), "chmod 755")
	bad(t, programProbe(Program{Path: "/etc/havip-cluster/checks.d/none"}, places), "no such file")
	if _, err := look(t, programProbe(p, make(slots)), time.Second); !errors.Is(err, ErrSkipped) {
		t.Errorf("without a place: %v", err)
	}
	for _, wrong := range []Programs{{Directory: "x"}, {Programs: map[string]Program{"x": {Path: "/bin/sh"}}}, {Programs: map[string]Program{"x": {Path: "../sh"}}}, {Programs: map[string]Program{"x": {User: "no-such-user"}}}} {
		if wrong.Check() == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
}

// left lists the processes that still have a mark in their environment.
func left(t *testing.T) (out []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if env, err := os.ReadFile(f); err == nil && strings.Contains(string(env), program.Mark) {
			comm, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "comm"))
			out = append(out, strings.TrimSpace(string(comm)))
		}
	}
	return out
}

// One that hangs, forks, floods or eats memory ends with its time-out, whole.
func TestExecMisbehaves(t *testing.T) {
	places := make(slots, 4)
	for name, tc := range map[string]struct{ body, says string }{
		"hangs":      {"sleep 100", "killed"},
		"ignores":    {"trap '' TERM INT HUP; while :; do sleep 100; done", "killed"},
		"forks":      {"for i in 1 2 3 4 5; do sleep 100 & done; wait", "killed"},
		"escapes":    {"setsid sleep 100 & setsid sh -c 'sleep 100; :' & sleep 100", "killed"},
		"floods":     {"exec cat /dev/zero", "ended by broken pipe"},
		"eats":       {`a=x; while :; do a="$a$a"; done`, ""},
		"background": {"sleep 100 & exit 0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			limit := 700 * time.Millisecond
			if name == "floods" { // it ends by itself
				limit = patience
			}
			text, err := look(t, programProbe(script(t, tc.body), places), limit)
			if took := time.Since(begin); took > patience {
				t.Errorf("it took %s", took)
			}
			if name == "floods" {
				if err == nil || !strings.Contains(err.Error(), "cut off after "+strconv.Itoa(limits.CheckRead)) {
					t.Errorf("%q, %v", text, err)
				}
			} else if name != "background" && err == nil {
				t.Errorf("it is good: %q", text)
			} else if tc.says != "" && !strings.Contains(text, tc.says) {
				t.Errorf("%q, %v", text, err)
			}
			for i := 0; len(left(t)) > 0; i++ {
				if i == 2000 {
					t.Fatalf("left behind: %v", left(t))
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

func TestSystemd(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if _, err := os.Stat("/run/systemd/private"); err == nil {
		t.Skip("systemd runs here, and tests leave it alone")
	}
	bad(t, unit("nginx.service"), "systemd cannot be asked")
}

// A check that hangs for ever, in a way that nothing ends, holds up itself alone; and one that is
// changed or taken away ends.
func TestRunner(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	r := NewRunner(Config{Neighbour: func(_ context.Context, ip netip.Addr) (string, error) {
		if ip == netip.MustParseAddr("127.0.0.1") {
			<-hang
		}
		return "", errors.New("nobody answers")
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	quick := func(name, ip string) fsm.Check {
		return fsm.Check{Name: name, Type: fsm.CheckARP, Target: ip, Interval: 20 * time.Millisecond, Timeout: 10 * time.Millisecond, Rise: 1, Fall: 2, Revision: 7}
	}
	fails := quick("fails", "127.0.0.2")
	fails.Timeout = patience // what it says comes in time
	r.Set([]fsm.Check{quick("hangs", "127.0.0.1"), fails})
	state := func(name string) Latest {
		for _, l := range r.Latest() {
			if l.Check == name {
				return l
			}
		}
		return Latest{}
	}
	await := func(what string, is func() bool) {
		t.Helper()
		for i := 0; !is(); i++ {
			if i > 4000 {
				t.Fatalf("%s: %+v", what, r.Latest())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	await("the other goes on", func() bool { return state("fails").State == fsm.CheckFailing && state("fails").Runs > 5 })
	if l := state("fails"); l.Output != "nobody answers" || l.Revision != 7 {
		t.Errorf("%+v", l)
	}
	<-r.Changed()
	await("what hangs fails", func() bool { return state("hangs").State == fsm.CheckFailing })
	if !strings.Contains(state("hangs").Output, "hangs in the kernel") && !strings.Contains(state("hangs").Output, "cannot be stopped") {
		t.Errorf("%+v", state("hangs"))
	}
	changed := quick("fails", "127.0.0.2")
	changed.Revision = 8
	r.Set([]fsm.Check{changed})
	await("the new definition begins anew", func() bool { return state("fails").Revision == 8 && len(r.Latest()) == 1 })
	cancel()
	<-done
}
