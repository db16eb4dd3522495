package program

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A run is marked twice, so that what it has begun is found wherever it went: by a group of its own among the
// supplementary groups of its processes, which they cannot lay down and anybody may read (/proc/PID/status), and
// by a word in its environment, which a program may have cleared, and which of another user's process only
// somebody with CAP_SYS_PTRACE may read. A program that runs as root has the word alone.
const (
	// marksFrom is the first of the group ids that are used: those up to 0x7fffffff belong to nobody by the
	// conventions of systemd and of the distributions.
	marksFrom = 0x7000_0000
	// marksEach is how many ids one process uses, in turn; which ones it draws, for others may run on this host.
	marksEach  = 1 << 12
	marksBlock = 1 << 16
	// staleEvery is how often it is looked for what runs left behind that ended in time.
	staleEvery = time.Minute
	// sweeps bounds how often one sweep looks for more processes.
	sweeps = 50
)

// marks are those of this process.
type marks struct {
	from uint32 // the first; 0: groups of that kind are not known here

	mu     sync.Mutex
	next   uint32
	active map[uint32]bool
	looked time.Time // when it was looked for stale ones
}

// own are the marks of this process.
var own = sync.OnceValue(func() *marks {
	m := &marks{active: map[uint32]bool{}, looked: time.Now()}
	text, err := os.ReadFile("/proc/self/gid_map")
	if from := uint32(marksFrom + rand.IntN(marksBlock)*marksEach); err == nil && known(string(text), from) {
		m.from = from
	}
	return m
})

// known reports whether a user namespace has all group ids of a block, by its gid_map.
func known(table string, from uint32) bool {
	for line := range strings.Lines(table) {
		var inside, outside, count uint64
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 && inside <= uint64(from) && uint64(from)+marksEach <= inside+count {
			return true
		}
	}
	return false
}

// take gives a run its group, 0 for none.
func (m *marks) take() uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.from == 0 {
		return 0
	}
	for range marksEach {
		id := m.from + m.next%marksEach
		if m.next++; !m.active[id] {
			m.active[id] = true
			return id
		}
	}
	return 0
}

func (m *marks) drop(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.active, id)
}

// stale reports whether a group is of a run that is over.
func (m *marks) stale(id uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.from != 0 && id >= m.from && id < m.from+marksEach && !m.active[id]
}

// due reports whether it is time to look for what ended runs left behind.
func (m *marks) due(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.from == 0 || now.Sub(m.looked) < staleEvery {
		return false
	}
	m.looked = now
	return true
}

// marked is a user with the group of a run.
func marked(user *syscall.Credential, group uint32) *syscall.Credential {
	if user == nil || group == 0 {
		return user
	}
	c := *user
	c.Groups = append(c.Groups[:len(c.Groups):len(c.Groups)], group)
	return &c
}

// sweep kills all processes that is says yes to, and what they begin meanwhile: first they are stopped, until
// there are no more of them.
func sweep(is func(pid string) bool) {
	stopped := map[int]bool{}
	for range sweeps {
		more := false
		for _, pid := range processes(is) {
			if !stopped[pid] {
				more, stopped[pid] = true, true
				_ = unix.Kill(pid, unix.SIGSTOP)
			}
		}
		if !more {
			break
		}
	}
	if len(stopped) == 0 {
		return
	}
	for _, pid := range processes(is) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

func processes(is func(pid string) bool) (out []int) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what was read before an error counts
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() && is(name) {
			out = append(out, pid)
		}
	}
	return out
}

// hasWord reports whether a process has a word in its environment.
func hasWord(pid, word string) bool {
	env, err := os.ReadFile("/proc/" + pid + "/environ")
	return err == nil && bytes.Contains(env, []byte(word))
}

// groupsOf are the supplementary groups of a process.
func groupsOf(pid string) (out []uint32) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(text), "\nGroups:")
	line, _, _ := strings.Cut(rest, "\n")
	for word := range strings.FieldsSeq(line) {
		if id, err := strconv.ParseUint(word, 10, 32); err == nil {
			out = append(out, uint32(id))
		}
	}
	return out
}
