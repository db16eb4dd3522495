package health

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
	"havip-cluster/internal/rootonly"
)

// DefaultDirectory is where root puts the programs of checks of type exec.
const DefaultDirectory = "/etc/havip-cluster/checks.d"

// Programs are what checks of type exec may run on this node: the key `checks` of the agent's
// configuration. The cluster knows the names alone.
type Programs struct {
	// Directory holds the programs; "" = DefaultDirectory.
	Directory string `yaml:"directory,omitempty"`
	// Programs says, by name, what is different from the program of that name, as user nobody.
	Programs map[string]Program `yaml:"programs,omitempty"`
}

// Program is how one is run.
type Program struct {
	// Path is below the directory; "" = the name.
	Path string   `yaml:"path,omitempty"`
	Args []string `yaml:"args,omitempty"`
	// User runs it; "" = nobody.
	User string `yaml:"user,omitempty"`
}

// nobody is the user of a check, where the host knows none of that name.
const nobody = 65534

// Bounds of one program: what it may take, and what is read of it.
const (
	programMemory  = 512 << 20 // address space, bytes
	programFiles   = 256       // open at one time
	programWrites  = 16 << 20  // size of a file that it writes, bytes
	programForks   = 256       // processes of its user, not of root
	programPipe    = 100 * time.Millisecond
	programNice    = 10  // after what serves, before what idles
	programOOM     = 500 // oom_score_adj: before any service
	programOutput  = 4096
	programSweeps  = 3
	programPathEnv = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	markName       = "HAVIP_CHECK_RUN="
)

// Check refuses a configuration that could not be run. That a program is not there yet is no
// fault of the configuration: the check says so.
func (p Programs) Check() error {
	if p.Directory != "" && !filepath.IsAbs(p.Directory) {
		return fmt.Errorf("checks: directory: %q is no absolute path", p.Directory)
	}
	for name, x := range p.Programs {
		if x.Path != "" && !filepath.IsLocal(x.Path) {
			return fmt.Errorf("checks: programs: %s: path: %q is not below the directory: put the program, or a link to it, into %s", name, x.Path, cmp.Or(p.Directory, DefaultDirectory))
		}
		if x.User != "" {
			if _, err := user.Lookup(x.User); err != nil {
				return fmt.Errorf("checks: programs: %s: user: %w", name, err)
			}
		}
	}
	return nil
}

// of is how the program of a check is run here, with its whole path.
func (p Programs) of(k fsm.Check) Program {
	if k.Type != fsm.CheckExec {
		return Program{}
	}
	x := p.Programs[k.Target]
	x.Path = filepath.Join(cmp.Or(p.Directory, DefaultDirectory), cmp.Or(x.Path, k.Target))
	return x
}

// program is good when it ends with 0. It runs on a thread that ends with it: so it has a low
// priority, not the agent's, and dies with the agent.
func program(p Program, places slots) Probe {
	return func(ctx context.Context) (string, error) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			return "", fmt.Errorf("%w: %d programs of other checks run at this time", ErrSkipped, cap(places))
		}
		path, err := rootonly.Program(p.Path)
		if err != nil {
			return "", err
		}
		who, err := credential(p.User)
		if err != nil {
			return "", err
		}
		return execute(ctx, path, p.Args, who)
	}
}

// credential is that of a user, nil for root.
func credential(name string) (*syscall.Credential, error) {
	uid, gid := nobody, nobody
	u, err := user.Lookup(cmp.Or(name, "nobody"))
	if err != nil && name != "" {
		return nil, err
	}
	if err == nil {
		if uid, err = strconv.Atoi(u.Uid); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		if gid, err = strconv.Atoi(u.Gid); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
	}
	if uid == 0 {
		return nil, nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func execute(ctx context.Context, path string, args []string, who *syscall.Credential) (string, error) {
	runtime.LockOSThread()                                                      // and never unlocked: the thread ends with this goroutine
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, programNice); err != nil { // of this thread, setpriority(2)
		return "", fmt.Errorf("setpriority: %w", err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer out.Close()
	mark := markName + rand.Text()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = "/", []string{programPathEnv, mark}
	cmd.Stdout, cmd.Stderr = in, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: who}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		return "", err
	}
	bound(ctx, cmd.Process.Pid)
	text := make(chan head, 1)
	go func() { text <- readHead(out) }()
	err = cmd.Wait()
	_ = killGroup(cmd.Process.Pid) // what it has left behind
	_ = out.SetReadDeadline(time.Now().Add(programPipe))
	got := <-text
	if ctx.Err() != nil || got.flood {
		sweep(mark)
	}
	switch {
	case ctx.Err() != nil:
		return "it was killed, no end", ctx.Err()
	case got.flood:
		return "", fmt.Errorf("it was cut off after %d bytes of output", limits.CheckRead)
	case err != nil:
		return firstLine(got.text), exitText(err)
	}
	return firstLine(got.text), nil
}

// bound takes from a program what it does not need. It has run for some microseconds by then.
func bound(ctx context.Context, pid int) {
	seconds := uint64(time.Until(deadlineOf(ctx))/time.Second) + 1
	for what, n := range map[int]uint64{
		unix.RLIMIT_AS: programMemory, unix.RLIMIT_NOFILE: programFiles, unix.RLIMIT_FSIZE: programWrites, unix.RLIMIT_NPROC: programForks,
		unix.RLIMIT_CORE: 0, unix.RLIMIT_CPU: seconds,
	} {
		_ = unix.Prlimit(pid, what, &unix.Rlimit{Cur: n, Max: n}, nil) // it may have ended
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(programOOM)), 0)
}

func killGroup(pid int) error {
	if err := unix.Kill(-pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// head is the first of what a program wrote.
type head struct {
	text  []byte
	flood bool // there was more than is read
}

// readHead reads until the end or the limit; then the pipe is closed, and whoever goes on to write
// into it is ended by the kernel.
func readHead(out *os.File) head {
	var h head
	buf, total := make([]byte, 4096), 0
	for {
		n, err := out.Read(buf)
		h.text = append(h.text, buf[:min(n, programOutput-len(h.text))]...)
		if total += n; err != nil {
			return h
		}
		if total > limits.CheckRead {
			h.flood = true
			_ = out.Close()
			return h
		}
	}
}

func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return strings.TrimSpace(string(line))
}

func exitText(err error) error {
	exit, is := errors.AsType[*exec.ExitError](err)
	if !is {
		return err
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return fmt.Errorf("it was ended by %s", st.Signal())
	}
	return fmt.Errorf("it ended with %d", exit.ExitCode())
}

// sweep kills what left the group of a run: it still has the mark in its environment. Where /proc
// does not let the agent look, the bounds of each process are all there is.
func sweep(mark string) {
	for range programSweeps {
		found := false
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return
		}
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || pid == os.Getpid() {
				continue
			}
			env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
			if err == nil && bytes.Contains(env, []byte(mark)) {
				found = true
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		if !found {
			return
		}
	}
}
