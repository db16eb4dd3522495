package guard

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/membership/identity"
	"havip-cluster/netdev/fence"
)

func dataDir(t *testing.T) (string, *identity.Identity) {
	t.Helper()
	spec, err := identity.NewCluster(identity.Settings{
		Name: "n1", Advertise: netip.MustParseAddr("127.0.0.1"), Ports: identity.DefaultPorts, Profile: identity.ProfileLAN, Lease: 500 * time.Millisecond,
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "guard") // t.TempDir is too long for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	dir = filepath.Join(dir, "d")
	if err := identity.Create(dir, spec); err != nil {
		t.Fatal(err)
	}
	id, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, id
}

// journal is what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// firsts are the lines without repetitions: what is not answered within attemptWait is asked again.
func (j *journal) firsts() (out []string) {
	for _, line := range j.all() {
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// fakeFence guards one HAVIP, and misbehaves on demand.
type fakeFence struct {
	fence.Fence
	j        *journal
	deadline int64
	open     bool
	broken   error // of Shut
	deaf     bool  // it takes Shut and stays open
}

func (f *fakeFence) Guarded() ([]fence.Entry, error) {
	return []fence.Entry{{IP: netip.MustParseAddr("10.0.0.9"), Open: f.open}}, nil
}
func (f *fakeFence) Deadline() int64           { return f.deadline }
func (f *fakeFence) SetDeadline(t int64) error { f.deadline = t; return nil }
func (f *fakeFence) Shut(...netip.Addr) error {
	f.j.add("shut")
	f.open = f.open && (f.deaf || f.broken != nil)
	return f.broken
}

// leader is a member that answers a guard, and notes what it is asked.
func leader(t *testing.T, id *identity.Identity, j *journal, leads func() bool) Peer {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", id.ServerTLS(true))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !leads() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		j.add(r.URL.Path)
		_, _ = w.Write([]byte("{}"))
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return Peer{Node: id.NodeID, API: l.Addr().String()}
}

// alone runs do in a network namespace of its own: what is swept there is nobody's.
func alone(t *testing.T, do func()) {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			do()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
}

const (
	asked    = "/v1/internal/readindex"
	released = "/v1/internal/commands"
)

// A session may be reported released only when nothing of it can answer any more.
func TestGuardReportsOnlyWhatIsSilent(t *testing.T) {
	dir, id := dataDir(t)
	for _, row := range []struct {
		name  string
		spoil func(g *guard, f *fakeFence, w *Message)
		want  []string
	}{
		{"all is well", func(*guard, *fakeFence, *Message) {}, []string{asked, "shut", released}},
		{"the deadline has passed", func(_ *guard, f *fakeFence, _ *Message) { f.deadline = 1 }, []string{"shut", asked, released}},
		{"the fence refuses", func(_ *guard, f *fakeFence, _ *Message) { f.broken = errors.New("refused") }, []string{asked, "shut"}},
		{"the fence does not do it", func(_ *guard, f *fakeFence, _ *Message) { f.deaf = true }, []string{asked, "shut"}},
		{"the guard has no fence", func(g *guard, _ *fakeFence, _ *Message) { g.fence = nil }, nil},
		{"no session", func(_ *guard, _ *fakeFence, w *Message) { w.Session = 0 }, []string{"shut"}},
		{"nobody to tell", func(_ *guard, _ *fakeFence, w *Message) { w.Peers = nil }, []string{"shut"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			j := &journal{}
			f := &fakeFence{j: j, open: true, deadline: fence.BootNow() + int64(time.Minute)}
			g := &guard{dir: dir, log: slog.New(slog.DiscardHandler), id: id, fence: f}
			w := Message{Session: 7, Peers: []Peer{leader(t, id, j, func() bool { return true })}, Fence: fence.EBPF}
			row.spoil(g, f, &w)
			var err error
			limit := 20 * time.Second
			if row.name == "nobody to tell" {
				limit = 2 * time.Second
			}
			alone(t, func() { err = g.endSession(g.log, w, time.Now(), limit) })
			if got := j.firsts(); !slices.Equal(got, row.want) {
				t.Errorf("%q, want %q", got, row.want)
			}
			if done := slices.Contains(row.want, released) || row.name == "no session"; (err == nil) != done {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestGuardLeavesAnotherAgentAlone(t *testing.T) {
	dir, id := dataDir(t)
	unlock, err := identity.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	j := &journal{}
	g := &guard{dir: dir, id: id, fence: &fakeFence{j: j, open: true}}
	w := Message{Session: 7, Peers: []Peer{leader(t, id, j, func() bool { return true })}, Fence: fence.EBPF}
	if err := g.endSession(slog.New(slog.DiscardHandler), w, time.Now(), time.Second); !errors.Is(err, identity.ErrLocked) {
		t.Errorf("error %v", err)
	}
	if got := j.all(); len(got) > 0 {
		t.Errorf("it touched %q", got)
	}
}

// The one that led last is dead, the next leader has yet to be elected.
func TestReleaseFindsTheLeader(t *testing.T) {
	_, id := dataDir(t)
	var elected atomic.Bool
	j := &journal{}
	follower := leader(t, id, j, func() bool { return false })
	next := leader(t, id, j, elected.Load)
	r := &release{id: id, session: 7, peers: []Peer{{Node: id.NodeID, API: "127.0.0.1:1"}, follower, next}}
	defer r.close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r.findWithin(ctx, 50*time.Millisecond)
	time.AfterFunc(250*time.Millisecond, func() { elected.Store(true) })
	if err := r.send(ctx); err != nil {
		t.Fatal(err)
	}
	if got := j.firsts(); !slices.Equal(got, []string{asked, released}) {
		t.Errorf("%q", got)
	}
}

func TestWords(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	told := &Client{pipe: write}
	told.Send(Message{Session: 3, Fence: fence.None})
	told.Send(Message{Session: 3, Fence: fence.None}) // no news
	_, _ = write.WriteString(`{"v":1,"session":9`)    // cut off in the middle
	told.Send(Message{Session: 4, Fence: fence.None})
	_, _ = write.WriteString(`{"v":2,"session":9}` + "\n") // of a later version
	_, _ = write.WriteString(`{"v":1,"session":9`)         // its last breath
	_ = write.Close()
	g := &guard{log: slog.New(slog.DiscardHandler), prepared: make(chan struct{})}
	g.listen(bufio.NewScanner(read))
	if !g.heard || g.last.Session != 4 || g.fence != nil {
		t.Errorf("%+v", g.last)
	}
	_ = read.Close()
	told.Send(Message{Session: 5}) // the guard is dead: no panic, no wait
}

// TestHangupWaitsForTheAgent: the guard passes on no hangup before the agent has spoken, and one then.
func TestHangupWaitsForTheAgent(t *testing.T) {
	g := &guard{prepared: make(chan struct{})}
	signals, got := make(chan os.Signal), make(chan os.Signal, 8)
	go g.forward(signals, func(sig os.Signal) error { got <- sig; return nil })
	signals <- syscall.SIGHUP
	signals <- syscall.SIGHUP
	signals <- syscall.SIGTERM
	if sig := <-got; sig != syscall.SIGTERM {
		t.Errorf("before its first word it gets %v", sig)
	}
	close(g.prepared)
	if sig := <-got; sig != syscall.SIGHUP {
		t.Errorf("then it gets %v", sig)
	}
	signals <- syscall.SIGHUP
	signals <- syscall.SIGINT
	if first, second := <-got, <-got; first != syscall.SIGHUP || second != StopNow || len(got) > 0 {
		t.Errorf("later it gets %v, %v and %d more", first, second, len(got))
	}
}
