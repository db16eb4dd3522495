package hooks

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
)

// script writes a program that belongs to root. The test needs root, as the agent does.
func script(t *testing.T, body string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("a hook must belong to root, and this is not root")
	}
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// rig is a runner of hooks, with what it logs and reports.
type rig struct {
	*Hooks
	t        *testing.T
	mu       sync.Mutex
	log      bytes.Buffer
	reported []string
}

func newRig(t *testing.T, c Config) *rig {
	t.Helper()
	r := &rig{t: t}
	r.Hooks = New(slog.New(slog.NewTextHandler(r, nil)), func(havip, text string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reported = append(r.reported, havip+": "+text)
	})
	r.config.Store(&c)
	t.Cleanup(func() { r.end(0) })
	return r
}

func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

// end finishes the hooks, within a limit.
func (r *rig) end(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r.Finish(ctx)
}

func change(kind owner.ChangeKind, havip string, epoch int) owner.Change {
	return owner.Change{Kind: kind, Reason: "moved\nby \x00 hand", Activation: owner.Activation{
		HAVIP: fsm.HAVIP{ID: "id-" + havip, Name: havip, IP: netip.MustParseAddr("192.0.2.9")},
		Claim: fsm.Claim{Epoch: fsm.Epoch(epoch)}, ENI: fsm.ENI{ID: "n1/eth0"},
	}}
}

func fileOf(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(raw)
}

// eventually polls; what is awaited here are other processes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1500 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// TestHookEnvironment: the five variables, a PATH, and nothing of the agent's own.
func TestHookEnvironment(t *testing.T) {
	t.Setenv("HAVIP_TEST_SECRET", "1")
	out := filepath.Join(t.TempDir(), "out")
	hook := script(t, `{ echo "$@"; pwd; env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort; } > "$1"; echo said; echo wrong >&2`)
	r := newRig(t, Config{All: Commands{OnAcquire: []string{hook, out, "a b"}}})
	r.Changed(change(owner.Acquired, "web", 7))
	r.Changed(change(owner.Released, "web", 7)) // no hook
	r.end(time.Minute)
	want := out + " a b\n/\nHAVIP_ENI=n1/eth0\nHAVIP_EPOCH=7\nHAVIP_IP=192.0.2.9\nHAVIP_NAME=web\nHAVIP_REASON=moved by   hand\n" + hookPath + "\n"
	if got := fileOf(t, out); got != want {
		t.Errorf("got\n%s\nwant\n%s\n%s", got, want, r.log.String())
	}
	if !strings.Contains(r.log.String(), `output="said\nwrong\n"`) || len(r.reported) > 0 {
		t.Errorf("log %s, reported %q", r.log.String(), r.reported)
	}
}

// TestHooksInOrder: those of one HAVIP one after another, while those of another one do not
// wait for them; and whoever tells a change never waits.
func TestHooksInOrder(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	hook := script(t, `echo "begin $2 $HAVIP_NAME $HAVIP_EPOCH" >> "$1"
[ $HAVIP_NAME = slow ] && while [ ! -e "$1.go" ]; do sleep 0.02; done
echo "end $2 $HAVIP_NAME $HAVIP_EPOCH" >> "$1"`)
	r := newRig(t, Config{All: Commands{OnAcquire: []string{hook, out, "a"}, OnRelease: []string{hook, out, "r"}, OnFault: []string{hook, out, "f"}}})
	r.Changed(change(owner.Acquired, "slow", 1))
	r.Changed(change(owner.Faulted, "slow", 1))
	r.Changed(change(owner.Released, "slow", 1))
	r.Changed(change(owner.Acquired, "slow", 3))
	r.Changed(change(owner.Acquired, "quick", 2))
	eventually(t, "the other HAVIP's hook ends", func() bool { return strings.Contains(fileOf(t, out), "end a quick 2\n") })
	if got := fileOf(t, out); strings.Contains(got, "f slow") || strings.Contains(got, "end a slow") {
		t.Errorf("before the slow one may go on: %s", got)
	}
	if err := os.WriteFile(out+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.end(time.Minute)
	var slow []string
	for line := range strings.Lines(fileOf(t, out)) {
		if strings.Contains(line, "slow") {
			slow = append(slow, strings.TrimSpace(line))
		}
	}
	want := "begin a slow 1,end a slow 1,begin f slow 1,end f slow 1,begin r slow 1,end r slow 1,begin a slow 3,end a slow 3"
	if got := strings.Join(slow, ","); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(r.waiting) > 0 || len(r.slots) > 0 {
		t.Errorf("left over: %v, %d slots", r.waiting, len(r.slots))
	}
}

// TestHookTimeout: the whole process group is killed, and the failure is reported. What has
// left the group, and holds the output open, holds nobody up.
func TestHookTimeout(t *testing.T) {
	out := filepath.Join(t.TempDir(), "pids")
	hook := script(t, `trap '' TERM; sleep 600 & echo $! >> "$1"; echo $$ >> "$1"; setsid sleep 600 & echo $! > "$1.away"; wait`)
	var r *rig
	var timeout time.Duration
	for timeout = 500 * time.Millisecond; ; timeout *= 4 { // longer, where the hook came to its last line too late
		for _, file := range []string{out, out + ".away"} {
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
		}
		r = newRig(t, Config{All: Commands{OnAcquire: []string{hook, out}, Timeout: timeout}})
		r.Changed(change(owner.Acquired, "web", 1))
		r.end(time.Minute)
		if fileOf(t, out+".away") != "" || timeout > 10*time.Second {
			break
		}
	}
	pids := strings.Fields(fileOf(t, out))
	if len(pids) != 2 {
		t.Fatalf("%q ran\n%s", pids, r.log.String())
	}
	for _, pid := range pids {
		eventually(t, pid+" is dead", func() bool { return !lives(pid) })
	}
	var away int
	if _, err := fmt.Sscan(fileOf(t, out+".away"), &away); err != nil || syscall.Kill(away, syscall.SIGKILL) != nil {
		t.Errorf("process %d has not left the group: %v", away, err)
	}
	if len(r.reported) != 1 || r.reported[0] != "web: hook-failed: on-acquire, "+hook+": killed after its time-out of "+timeout.String() {
		t.Errorf("reported %q", r.reported)
	}
}

// lives is false also for a zombie, which nobody may have waited for.
func lives(pid string) bool {
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	_, rest, _ := bytes.Cut(raw, []byte(") "))
	return err == nil && !bytes.HasPrefix(rest, []byte("Z"))
}

// TestHooksWaitingAreBounded: of too many changes of one HAVIP the newest are run.
func TestHooksWaitingAreBounded(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	hook := script(t, `echo $HAVIP_EPOCH >> "$1"; while [ ! -e "$1.go" ]; do sleep 0.02; done`)
	r := newRig(t, Config{All: Commands{OnAcquire: []string{hook, out}}})
	r.Changed(change(owner.Acquired, "web", 1))
	eventually(t, "the first one runs", func() bool { return fileOf(t, out) == "1\n" })
	const more = 10 * hooksWaiting
	for i := range more {
		r.Changed(change(owner.Acquired, "web", 2+i))
	}
	if err := os.WriteFile(out+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.end(time.Minute)
	want := "1\n"
	for i := more - hooksWaiting; i < more; i++ {
		want += fmt.Sprintln(2 + i)
	}
	if got := fileOf(t, out); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !strings.Contains(r.log.String(), fmt.Sprintf("dropped=%d", more-hooksWaiting)) {
		t.Error(r.log.String())
	}
}

// TestHooksAtOnce: many HAVIPs change, and few programs run.
func TestHooksAtOnce(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	hook := script(t, `echo $HAVIP_NAME >> "$1"; while [ ! -e "$1.go" ]; do sleep 0.05; done`)
	r := newRig(t, Config{All: Commands{OnRelease: []string{hook, out}}})
	const havips = 5 * hooksAtOnce
	for i := range havips {
		r.Changed(change(owner.Released, fmt.Sprint("h", i), 1))
	}
	count := func() int { return strings.Count(fileOf(t, out), "\n") }
	eventually(t, "all slots are taken", func() bool { return count() == hooksAtOnce })
	time.Sleep(100 * time.Millisecond)
	if n := count(); n != hooksAtOnce {
		t.Errorf("%d run", n)
	}
	if err := os.WriteFile(out+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.end(time.Minute)
	if n := count(); n != havips {
		t.Errorf("%d of %d ran", n, havips)
	}
}

// TestHooksAtTheEnd: what runs is killed, what waits is not begun.
func TestHooksAtTheEnd(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	hook := script(t, `echo $$ >> "$1"; sleep 600`)
	r := newRig(t, Config{All: Commands{OnRelease: []string{hook, out}, Timeout: timeoutMax}})
	r.Changed(change(owner.Released, "web", 1))
	r.Changed(change(owner.Released, "web", 2))
	eventually(t, "the first one runs", func() bool { return strings.HasSuffix(fileOf(t, out), "\n") })
	r.end(0)
	pids := strings.Fields(fileOf(t, out))
	if len(pids) != 1 {
		t.Fatalf("%q ran", pids)
	}
	eventually(t, pids[0]+" is dead", func() bool { return !lives(pids[0]) })
	if !strings.Contains(r.log.String(), "hook not run: the agent stops") || !strings.Contains(r.log.String(), "killed: the agent stops") {
		t.Error(r.log.String())
	}
}

// TestHookFails, in each way that there is.
func TestHookFails(t *testing.T) {
	foreign := script(t, "exit 0")
	if err := os.Chmod(foreign, 0o777); err != nil {
		t.Fatal(err)
	}
	noInterpreter := script(t, "")
	if err := os.WriteFile(noInterpreter, []byte("#!/nonexistent/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, hook, want string }{
		{"exit code", script(t, "exit 3"), "exit status 3"},
		{"signal", script(t, "kill -9 $$"), "signal: killed"},
		{"changed since", foreign, "may be written by others than root"},
		{"gone since", "/nonexistent/hook", "no such file"},
		{"no interpreter", noInterpreter, "no such file"},
		{"background", script(t, "sleep 600 & echo $! > ${0}.pid"), ""},
		{"loud", script(t, "yes | head -c 1000000"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, Config{All: Commands{OnFault: []string{tc.hook}}})
			r.Changed(change(owner.Faulted, "web", 1))
			r.end(time.Minute)
			got := strings.Join(r.reported, "\n")
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("reported %q, want %q\n%s", got, tc.want, r.log.String())
			}
			if r.log.Len() > 3*hookOutput {
				t.Errorf("%d bytes of log", r.log.Len())
			}
			var pid int
			if n, _ := fmt.Sscan(fileOf(t, tc.hook+".pid"), &pid); n == 1 {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Errorf("what it left in the background: %v", err)
				}
			}
		})
	}
}

// load reads the key `hooks` of an agent's configuration.
func load(text string) (Config, error) {
	var file struct {
		Hooks Config `yaml:"hooks"`
	}
	if err := yaml.NewDecoder(strings.NewReader(text), yaml.Strict()).Decode(&file); err != nil {
		return Config{}, err
	}
	return file.Hooks, file.Hooks.Check()
}

func TestHookConfig(t *testing.T) {
	good := script(t, "")
	dir := filepath.Dir(good)
	link, open, plain, others := filepath.Join(dir, "link"), filepath.Join(dir, "open"), filepath.Join(dir, "plain"), filepath.Join(dir, "others")
	inOpen := filepath.Join(dir, "open.d", "hook")
	for _, err := range []error{
		os.Symlink(open, link), os.WriteFile(open, nil, 0o755), os.Chmod(open, 0o775), os.WriteFile(plain, nil, 0o644),
		os.WriteFile(others, nil, 0o755), os.Chown(others, 1000, 0),
		os.Mkdir(filepath.Dir(inOpen), 0o755), os.WriteFile(inOpen, nil, 0o755), os.Chmod(filepath.Dir(inOpen), 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct{ name, text, wrong string }{
		{"good", "on-acquire: [" + good + ", x]\n  timeout: 3s\n  havips:\n    web:\n      on-release: [" + good + "]\n      timeout: 1m", ""},
		{"relative", "on-acquire: [bin/hook]", `hooks: on-acquire: "bin/hook" is no absolute path`},
		{"empty path", `on-acquire: [""]`, `"" is no absolute path`},
		{"missing", "on-release: [/nonexistent/hook]", "/nonexistent"},
		{"directory", "on-fault: [/tmp]", "on-fault: /tmp is no regular file"},
		{"not executable", "on-fault: [" + plain + "]", plain + " is not executable"},
		{"of somebody else", "on-fault: [" + others + "]", others + " is not owned by root"},
		{"writable", "on-fault: [" + open + "]", open + " may be written by others"},
		{"link to what is writable", "on-fault: [" + link + "]", link + ": " + open + " may be written by others"},
		{"directory writable", "on-fault: [" + inOpen + "]", filepath.Dir(inOpen) + " may be written by others"},
		{"of one HAVIP", "havips:\n    web:\n      on-fault: [hook]", `havips: web: on-fault: "hook"`},
		{"unknown hook", "on-start: [" + good + "]", "[2:3]"},
		{"no list", "on-acquire: " + good, "on-acquire"},
		{"too short", "timeout: 1ms", "timeout: 1ms is not between 100ms and 10m0s"},
		{"negative", "timeout: -1s", "not between"},
		{"too long", "havips:\n    web:\n      timeout: 1h", "havips: web: timeout: 1h0m0s"},
		{"no duration", "timeout: soon", "soon"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := load("hooks:\n  " + tc.text + "\n")
			if tc.wrong == "" && err != nil || tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)) {
				t.Errorf("got %v, want %q in it", err, tc.wrong)
			}
		})
	}
}

func TestHookOfOneHAVIP(t *testing.T) {
	hook := script(t, "")
	text := fmt.Sprintf("hooks:\n  on-acquire: [%[1]s, all]\n  on-release: [%[1]s, all]\n  timeout: 3s\n  havips:\n    web: {on-acquire: [%[1]s, web], on-release: [], timeout: 4s}\n    db: {}\n", hook)
	c, err := load(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		havip   string
		kind    owner.ChangeKind
		want    string
		timeout time.Duration
	}{
		{"web", owner.Acquired, "web", 4 * time.Second},
		{"web", owner.Released, "", 4 * time.Second},
		{"web", owner.Faulted, "", 4 * time.Second},
		{"db", owner.Acquired, "all", 3 * time.Second},
		{"db", owner.Released, "all", 3 * time.Second},
		{"other", owner.Released, "all", 3 * time.Second},
	} {
		command, timeout := c.find(tc.havip, tc.kind)
		got := ""
		if len(command) > 0 {
			got = command[len(command)-1]
		}
		if got != tc.want || timeout != tc.timeout {
			t.Errorf("%s of %s: %q, %s; want %q, %s", tc.kind, tc.havip, command, timeout, tc.want, tc.timeout)
		}
	}
	if _, timeout := (Config{}).find("web", owner.Acquired); timeout != defaultTimeout {
		t.Errorf("by default %s", timeout)
	}
}
