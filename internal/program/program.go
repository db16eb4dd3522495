// Package program runs a program of the operator's for the agent: as another user, with bounds on
// what it takes and on what is read of it, and without anything of it left when it is over. Which
// programs may run is the caller's question (internal/rootonly).
package program

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
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is the user of a program, where the host knows none of that name.
const nobody = 65534

// Mark begins the name of the run in a program's environment.
const Mark = "HAVIP_CHECK_RUN="

// Bounds of one program: what it may take.
const (
	memoryMax = 512 << 20 // that it may write to and has for itself (RLIMIT_DATA), bytes
	filesMax  = 256       // open at one time
	writesMax = 16 << 20  // size of a file that it writes, bytes
	forksMax  = 256       // processes of its user, not of root
	pipeWait  = 100 * time.Millisecond
	niceness  = 10  // after what serves, before what idles
	oomScore  = 500 // oom_score_adj: before any service
	pathEnv   = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Run is one run of a program.
type Run struct {
	Path  string // whole
	Args  []string
	Env   []string // besides PATH
	User  *syscall.Credential
	Input []byte // what it reads; at most what a pipe holds is written before it reads
	// Keep is how much of its output is given back, Most how much is read before it is cut off, in bytes.
	Keep, Most int
	// Apart gives back standard output alone, and standard error as Output.Errors; else both are one.
	Apart bool
}

// Output is what a program wrote.
type Output struct {
	Text   []byte
	Errors []byte // with Run.Apart
}

var (
	// ErrFlood is returned when it wrote more than is read.
	ErrFlood = errors.New("it was cut off")
	// ErrExit is returned when it ended with another status than 0, or by a signal.
	ErrExit = errors.New("it ended")
)

// Credential is that of a user, nil for root; "" is nobody.
func Credential(name string) (*syscall.Credential, error) {
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

// Execute runs it to its end, or until ctx ends: then it and what it has begun is killed, and the
// error is that of ctx. It runs on a thread that ends with it, so it has a low priority, not the
// agent's, and dies with the agent: call it on a goroutine that ends soon after.
func Execute(ctx context.Context, run Run) (Output, error) {
	runtime.LockOSThread()                                                   // and never unlocked: the thread ends with this goroutine
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, niceness); err != nil { // of this thread, setpriority(2)
		return Output{}, fmt.Errorf("setpriority: %w", err)
	}
	text, err := newPipe(run)
	if err != nil {
		return Output{}, err
	}
	defer text.out.Close()
	said := text
	if run.Apart {
		if said, err = newPipe(run); err != nil {
			return Output{}, errors.Join(err, text.in.Close())
		}
		defer said.out.Close()
	}
	word, group := Mark+rand.Text(), own().take()
	defer own().drop(group)
	cmd := exec.CommandContext(ctx, run.Path, run.Args...)
	cmd.Dir, cmd.Env = "/", append([]string{pathEnv, word}, run.Env...)
	cmd.Stdout, cmd.Stderr = text.in, said.in
	if run.Input != nil {
		cmd.Stdin, cmd.WaitDelay = bytes.NewReader(run.Input), pipeWait
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: marked(run.User, group)}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	err = cmd.Start()
	_ = text.in.Close()
	if run.Apart {
		_ = said.in.Close()
	}
	if err != nil {
		return Output{}, err
	}
	bound(ctx, cmd.Process.Pid, run.User)
	go text.read()
	if run.Apart {
		go said.read()
	}
	err = cmd.Wait()
	_ = killGroup(cmd.Process.Pid) // what it has left behind
	got := text.end()
	out := Output{Text: got.text}
	if run.Apart {
		errs := said.end()
		out.Errors, got.flood = errs.text, got.flood || errs.flood
	}
	switch {
	case ctx.Err() != nil || got.flood:
		sweep(func(pid string) bool {
			return group != 0 && slices.Contains(groupsOf(pid), group) || hasWord(pid, word)
		})
	case own().due(time.Now()):
		sweep(func(pid string) bool { return slices.ContainsFunc(groupsOf(pid), own().stale) })
	}
	switch {
	case ctx.Err() != nil:
		return out, ctx.Err()
	case got.flood:
		return out, fmt.Errorf("%w after %d bytes of output", ErrFlood, run.Most)
	case err != nil:
		return out, exitText(err)
	}
	return out, nil
}

// bound takes from a program what it does not need. It has run for some microseconds by then. It is called on the
// thread of the run. Address space is no bound: programs in Go, for node or for a JVM reserve gigabytes and use little.
func bound(ctx context.Context, pid int, who *syscall.Credential) {
	at, _ := ctx.Deadline()
	seconds := uint64(max(time.Until(at), 0)/time.Second) + 1
	for what, n := range map[int]uint64{
		unix.RLIMIT_DATA: memoryMax, unix.RLIMIT_NOFILE: filesMax, unix.RLIMIT_FSIZE: writesMax, unix.RLIMIT_NPROC: forksMax,
		unix.RLIMIT_CORE: 0, unix.RLIMIT_CPU: seconds,
	} {
		_ = unix.Prlimit(pid, what, &unix.Rlimit{Cur: n, Max: n}, nil) // it may have ended
	}
	if who != nil { // the file is that user's, and the agent may be without CAP_DAC_OVERRIDE
		_ = unix.Setfsuid(int(who.Uid))
		defer func() { _ = unix.Setfsuid(os.Geteuid()) }()
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(oomScore)), 0)
}

func killGroup(pid int) error {
	if err := unix.Kill(-pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// pipe is what a program writes into.
type pipe struct {
	out, in    *os.File
	keep, most int
	got        chan head
}

func newPipe(run Run) (*pipe, error) {
	out, in, err := os.Pipe()
	return &pipe{out: out, in: in, keep: run.Keep, most: run.Most, got: make(chan head, 1)}, err
}

// head is the first of what a program wrote.
type head struct {
	text  []byte
	flood bool // there was more than is read
}

// read reads until the end or the limit; then the pipe is closed, and whoever goes on to write
// into it is ended by the kernel.
func (p *pipe) read() {
	var h head
	buf, total := make([]byte, 4096), 0
	for {
		n, err := p.out.Read(buf)
		h.text = append(h.text, buf[:min(n, p.keep-len(h.text))]...)
		if total += n; err != nil {
			break
		}
		if total > p.most {
			h.flood = true
			_ = p.out.Close()
			break
		}
	}
	p.got <- h
}

// end waits a moment for what is still in the pipe.
func (p *pipe) end() head {
	_ = p.out.SetReadDeadline(time.Now().Add(pipeWait))
	return <-p.got
}

func exitText(err error) error {
	exit, is := errors.AsType[*exec.ExitError](err)
	if !is {
		return err
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return fmt.Errorf("%w by %s", ErrExit, st.Signal())
	}
	return fmt.Errorf("%w with %d", ErrExit, exit.ExitCode())
}
