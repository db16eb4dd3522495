package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/api"
	"havip-cluster/manifest"
	"havip-cluster/membership/identity"
)

// screen is a terminal of the kernel: what a program writes to tty can be read here.
type screen struct {
	tty, master *os.File
	mu          sync.Mutex
	text        strings.Builder
}

func newScreen(t *testing.T, rows, columns uint16) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
	s := &screen{tty: tty, master: master}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _, _ = tty.Close(), master.Close(); <-done })
	return s
}

// written is what was written so far, with the line ends as the program wrote them.
func (s *screen) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.text.String(), "\r\n", "\n")
}

func (s *screen) await(t *testing.T, what string, holds func(text string) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(s.written()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: %q", what, s.written())
		}
	}
}

// agentOf serves a status on the socket of a data directory, until stop is called.
func agentOf(t *testing.T, dir string, st func() api.Status) (stop func()) {
	t.Helper()
	l, err := api.ListenLocal(identity.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(st()) })}
	go func() { _ = srv.Serve(l) }()
	var once sync.Once
	stop = func() { once.Do(func() { _, _ = srv.Close(), os.Remove(identity.SocketPath(dir)) }) }
	t.Cleanup(stop)
	return stop
}

// watching runs `status --watch` into a writer until the test ends.
func watching(t *testing.T, dir string, out io.Writer) {
	g := &globals{dataDir: dir, output: "table", timeout: 10 * time.Second, stdout: out, stderr: io.Discard}
	c, err := g.client()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.watchStatus(ctx, c, 10*time.Millisecond) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("--watch ended with %v", err)
		}
		c.Close()
	})
}

// On a terminal the status is written over itself: never cleared, never scrolled, nothing left of a
// longer one before; an agent that restarts is waited for.
func TestWatchOnATerminal(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	var mu sync.Mutex
	st := api.Status{Cluster: api.Cluster{ID: "c-1", Nodes: 3, Voters: 3}, Health: api.HealthYellow, Notes: []string{}}
	for i := range 40 {
		st.Problems = append(st.Problems, fmt.Sprintf("problem %d %s", i, strings.Repeat("long ", 30)))
	}
	now := func() api.Status { mu.Lock(); defer mu.Unlock(); return st }
	dir := t.TempDir()
	stop := agentOf(t, dir, now)
	const rows, columns = 24, 60
	s := newScreen(t, rows, columns)
	watching(t, dir, s.tty)
	s.await(t, "several drawings", func(text string) bool { return strings.Count(text, "\x1b[J") > 3 })
	mu.Lock()
	st.Problems, st.Health = nil, api.HealthGreen
	mu.Unlock()
	s.await(t, "the new status", func(text string) bool { return strings.Contains(text, "GREEN") })
	stop()
	s.await(t, "the agent is waited for", func(text string) bool { return strings.Contains(text, "Waiting: ") })
	agentOf(t, dir, now)
	s.await(t, "the status comes again", func(text string) bool {
		return strings.LastIndex(text, "GREEN") > strings.LastIndex(text, "Waiting: ")
	})
	drawings := strings.Split(s.written(), "\x1b[H")
	if drawings[0] != "" || strings.Contains(s.written(), "\x1b[2J") {
		t.Errorf("it does not begin at the top, or clears the screen: %q", drawings[0])
	}
	for _, d := range drawings[1 : len(drawings)-1] {
		body, whole := strings.CutSuffix(d, "\x1b[J")
		lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
		if !whole || len(lines) >= rows {
			t.Fatalf("a drawing of %d lines, whole: %v: %q", len(lines), whole, d)
		}
		for _, l := range lines {
			if text, erased := strings.CutSuffix(l, "\x1b[K"); !erased || len([]rune(text)) > columns {
				t.Fatalf("the line %q is longer than the terminal, or leaves what stood there", l)
			}
		}
	}
}

// Into a pipe there is one line for each change, and none of a terminal's codes.
func TestWatchIntoAPipe(t *testing.T) {
	var mu sync.Mutex
	st := api.Status{Cluster: api.Cluster{ID: "c-1"}, Health: api.HealthGreen}
	asked := 0
	now := func() api.Status { mu.Lock(); defer mu.Unlock(); asked++; return st }
	dir := t.TempDir()
	stop := agentOf(t, dir, now)
	var out lockedBuffer
	watching(t, dir, &out)
	await := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %q", what, out.String())
			}
		}
	}
	await("several looks", func() bool { mu.Lock(); defer mu.Unlock(); return asked > 5 })
	mu.Lock()
	st.Health, st.Problems = api.HealthRed, []string{"node n2 is lost"}
	mu.Unlock()
	await("the change", func() bool { return strings.Contains(out.String(), "RED") })
	stop()
	await("the agent is away", func() bool {
		return strings.LastIndex(out.String(), "waiting: ") > strings.LastIndex(out.String(), "RED")
	})
	told := strings.Count(out.String(), "RED")
	agentOf(t, dir, now)
	await("it is back", func() bool { return strings.Count(out.String(), "RED") > told })
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	answered := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.Contains(l, "waiting: ") }) // a busy host may be late once
	answered = slices.CompactFunc(answered, func(a, b string) bool { return a[20:] == b[20:] })
	if strings.Contains(out.String(), "\x1b") || len(answered) != 2 || !strings.Contains(answered[0], "GREEN") || !strings.Contains(answered[1], "! node n2 is lost") {
		t.Errorf("%q", lines)
	}
	for i, l := range lines[1:] {
		if l[20:] == lines[i][20:] { // behind the time
			t.Errorf("twice the same: %q", l)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// Colours are for a terminal, and not for who does not want them.
func TestColours(t *testing.T) {
	s := newScreen(t, 24, 80)
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	if !colours(s.tty) || colours(&bytes.Buffer{}) {
		t.Error("a terminal has no colours, or a pipe has some")
	}
	t.Setenv("TERM", "dumb")
	if colours(s.tty) {
		t.Error("TERM=dumb")
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	if colours(s.tty) {
		t.Error("NO_COLOR=1")
	}
	text := "HEALTH   RED\nLEADER   RED\n! it burns\n- well\n"
	if got := paintStatus(text, api.HealthRed, true); got != "HEALTH   \x1b[31mRED\x1b[0m\nLEADER   RED\n\x1b[31m! it burns\x1b[0m\n- well\n" {
		t.Errorf("%q", got)
	}
	if got := paintStatus(text, api.HealthRed, false); got != text {
		t.Errorf("%q", got)
	}
}

// A bar on a terminal is drawn over itself; a pipe gets a line for each change of the words.
func TestProgress(t *testing.T) {
	var pipe bytes.Buffer
	p := (&globals{stderr: &pipe}).progress()
	for _, words := range []string{"0 of 2", "0 of 2", "1 of 2", "2 of 2"} {
		p.tell(int(words[0]-'0'), 2, words)
	}
	if p.end(); pipe.String() != "0 of 2\n1 of 2\n2 of 2\n" {
		t.Errorf("%q", &pipe)
	}
	s := newScreen(t, 24, 80)
	p = (&globals{stderr: s.tty}).progress()
	p.tell(1, 2, "1 of 2")
	p.tell(2, 2, "2 of 2")
	p.end()
	const want = "\r[############............]  50% 1 of 2\x1b[K\r[########################] 100% 2 of 2\x1b[K\n"
	s.await(t, "the bars", func(text string) bool { return text == want })
	for _, c := range []struct {
		done, total int
		bar         string
	}{{0, 0, strings.Repeat("#", 0)}, {-1, 5, ""}, {9, 5, strings.Repeat("#", barWide)}} {
		if got := meter(c.done, c.total); strings.Count(got, "#") != len(c.bar) {
			t.Errorf("%d of %d: %s", c.done, c.total, got)
		}
	}
}

// many is a dry run with more changes than a person reads, and what is answered then.
func many(n int, dry bool) api.Applied {
	out := api.Applied{DryRun: dry, Changed: true, Revision: 7, Warnings: []string{}}
	for i := range n {
		out.Changes = append(out.Changes, manifest.Change{Kind: "havip", Name: fmt.Sprintf("h%d", i), Op: "add", New: "{}"})
	}
	return out
}

// More than twenty changes are counted; a person at a terminal is asked, a script never.
func TestManyChanges(t *testing.T) {
	for _, c := range []struct {
		name, flag, answer string
		terminal           bool
		n, lines, code     int
		says               string
		applied            bool
	}{
		{"few", "", "", true, diffShown, diffShown, 0, "", true},
		{"a script", "", "", false, 500, 0, 0, "havip: 500 created, 0 changed, 0 deleted\n500 changes; --diff shows each.", true},
		{"with --diff", "--diff", "", false, 500, 500, 0, "+ havip h499", true},
		{"a person agrees", "", "y\n", true, 500, 0, 0, "Make these 500 changes? [y/N]", true},
		{"a person does not", "", "\n", true, 500, 0, 1, "nothing was changed", false},
		{"a person with --yes", "--yes", "", true, 500, 0, 0, "500 changes; --diff shows each.", true},
		{"a dry run", "--dry-run", "", true, 500, 0, 0, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &scripted{answers: map[string][]any{"POST /v1/apply": {many(c.n, true), many(c.n, false)}}}
			dir := s.serve(t)
			var stdout bytes.Buffer
			g := &globals{stdin: strings.NewReader(""), stdout: &stdout}
			var said func() string
			if c.terminal {
				screen := newScreen(t, 24, 200)
				if _, err := screen.master.WriteString(c.answer); err != nil {
					t.Fatal(err)
				}
				g.stdin, g.stderr, said = screen.tty, screen.tty, func() string {
					_, _ = screen.tty.WriteString("that is all") // what was written before is read before
					screen.await(t, "what was said", func(text string) bool { return strings.Contains(text, "that is all") })
					return screen.written()
				}
			} else {
				var stderr bytes.Buffer
				g.stderr, said = &stderr, stderr.String
			}
			root := newRoot(g)
			root.SetArgs(strings.Fields("apply -f " + filepath.Join("testdata", "web.yaml") + " --data-dir " + dir + " " + c.flag))
			root.SetOut(&stdout)
			err := root.ExecuteContext(context.Background())
			text := said()
			if err != nil {
				text += err.Error()
			}
			applied := len(s.asked) == 2
			if api.ExitCode(err) != c.code || applied != c.applied || !strings.Contains(text, c.says) || strings.Count(text, "+ havip") != c.lines {
				t.Errorf("code %d, %d requests, %q, %q", api.ExitCode(err), len(s.asked), &stdout, text)
			}
			if c.applied && !strings.Contains(stdout.String(), fmt.Sprintf("revision 7: %d created, 0 changed, 0 deleted", c.n)) {
				t.Errorf("the summary is %q", &stdout)
			}
			if !c.applied && c.code == 0 && !strings.Contains(stdout.String(), "500 changes; --diff shows each.") {
				t.Errorf("the dry run says %q", &stdout)
			}
		})
	}
}

// --wait ends when what was made is served, and fails with what is not.
func TestApplyWaits(t *testing.T) {
	pending := []api.HAVIP{{Placement: api.Placement{Name: "h0", State: "PENDING", Reason: "the fence of n2 does not know it"}, View: api.View{Enabled: true}}, {Placement: api.Placement{Name: "old", State: "UNBIND"}, View: api.View{Enabled: true}}}
	served := []api.HAVIP{{Placement: api.Placement{Name: "h0", State: api.StateAvailable}, View: api.View{Enabled: true}}, pending[1]}
	s := &scripted{answers: map[string][]any{"POST /v1/apply": {many(1, true), many(1, false)}, "GET /v1/havips": {pending, served}}}
	code, stdout, stderr := s.run(t, "apply", "-f", "testdata/web.yaml", "--wait", "10s")
	if code != 0 || !strings.Contains(stdout, "revision 7: 1 created") || !strings.HasSuffix(stderr, "0 of 1 HAVIP served\n1 of 1 HAVIP served\n") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	s = &scripted{answers: map[string][]any{"POST /v1/apply": {many(1, true), many(1, false)}, "GET /v1/havips": {pending}}}
	code, _, stderr = s.run(t, "apply", "-f", "testdata/web.yaml", "--wait", "1ms")
	if code != 1 || !strings.Contains(stderr, "the change is made, and after 1ms only 0 of 1 HAVIP are served; HAVIP h0 is not served: the fence of n2") {
		t.Errorf("%d %q", code, stderr)
	}
}
