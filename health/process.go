package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxComm is how much of a name the kernel keeps in /proc/PID/comm, in bytes.
const maxComm = 15

// process is good while a process of a name, or of a file with its number, is there. Once found it
// is held by a pidfd: its end is told by the kernel at once, and asking again costs one poll.
type process struct {
	target string // name, or file
	isFile bool
	wake   func()

	// A run that hangs in a file may outlive its check. So mu guards what follows, and is never held while
	// a file is read.
	mu   sync.Mutex
	over bool // nothing is held any more
	pid  int
	held *os.File // its pidfd, nil = none is held
	done chan struct{}
}

func newProcess(target string, wake func()) *process {
	file, isFile := strings.CutPrefix(target, "pidfile:")
	return &process{target: file, isFile: isFile, wake: wake}
}

func (p *process) probe(ctx context.Context) (string, error) {
	if p.isFile {
		pid, err := p.fromFile()
		if err != nil {
			p.let()
			return "", err
		}
		if pid == p.living() {
			return fmt.Sprintf("process %d", pid), nil
		}
		return p.hold(pid)
	}
	if pid := p.living(); pid != 0 {
		return fmt.Sprintf("process %d", pid), nil
	}
	pids, err := named(ctx, p.target)
	if err != nil {
		return "", err
	}
	for _, pid := range pids {
		if text, err := p.hold(pid); err == nil {
			return text, nil
		}
	}
	p.let()
	return "", fmt.Errorf("no process is called %s", p.target)
}

func (p *process) fromFile() (int, error) {
	raw, err := head(p.target, pidBytes)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return 0, fmt.Errorf("its file: %w", err)
	}
	word, _, _ := strings.Cut(strings.TrimSpace(string(raw)), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(word))
	if err != nil || pid <= 0 {
		return 0, errors.New("its file holds no process number")
	}
	return pid, nil
}

// pidBytes is how much of a file may hold a number.
const pidBytes = 64

// head reads the first bytes of a file, at most so many.
func head(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// hold takes a pidfd of a process that lives, and has wake called when it ends.
func (p *process) hold(pid int) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
	if p.over {
		return "", errors.New("the check is over")
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return "", fmt.Errorf("process %d is not there: %w", pid, err)
	}
	p.held, p.pid = os.NewFile(uintptr(fd), "pidfd"), pid
	if !p.alive() {
		p.drop()
		return "", fmt.Errorf("process %d has ended", pid)
	}
	conn, err := p.held.SyscallConn()
	if err != nil {
		return fmt.Sprintf("process %d", pid), nil // asked at each interval all the same
	}
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		if err := conn.Read(ended); err == nil {
			p.wake()
		}
	}()
	return fmt.Sprintf("process %d", pid), nil
}

// ended says whether the process of a pidfd has ended (pidfd_open(2): it is readable then).
func ended(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// living is the process that is held, 0 if it has ended or none is.
func (p *process) living() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alive() {
		return 0
	}
	return p.pid
}

// alive is living under the lock.
func (p *process) alive() bool {
	if p.held == nil {
		return false
	}
	conn, err := p.held.SyscallConn()
	if err != nil {
		return false
	}
	gone := true
	_ = conn.Control(func(fd uintptr) { gone = ended(fd) })
	return !gone
}

// let lets go of the process.
func (p *process) let() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
}

// end lets go for good: a run that still hangs will hold nothing.
func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.drop()
}

// drop is let under the lock.
func (p *process) drop() {
	if p.held == nil {
		return
	}
	_ = p.held.Close()
	if p.done != nil {
		<-p.done
	}
	p.held, p.done, p.pid = nil, nil, 0
}

// named lists the processes of a name, ascending: of comm, or of the program's own name where that
// is longer than comm.
func named(ctx context.Context, name string) ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry)
		if err != nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		comm, err := os.ReadFile("/proc/" + entry + "/comm")
		if err != nil || strings.TrimSuffix(string(comm), "\n") != name[:min(len(name), maxComm)] {
			continue
		}
		if len(name) > maxComm {
			line, err := os.ReadFile("/proc/" + entry + "/cmdline")
			program, _, _ := strings.Cut(string(line), "\x00")
			if err != nil || filepath.Base(program) != name {
				continue
			}
		}
		out = append(out, pid)
	}
	slices.Sort(out)
	return out, nil
}
