// Package guard is the parent of an agent: when the agent dies while it has a session, it silences what
// that owned and reports the session released. DESIGN.md of the folder says in which order and why.
package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"havip-cluster/failover/plane"
	"havip-cluster/membership/identity"
	"havip-cluster/netdev/fence"
)

const (
	// StopNow is the guard's message to the agent that a second stop signal came. The agent
	// takes any number of SIGTERM and SIGINT for one: a terminal or killall sends them to
	// both processes, and the guard passes its own on.
	StopNow = syscall.SIGUSR1

	lastMessageWait = 50 * time.Millisecond // should somebody else hold the pipe open
	guardScore      = -1000                 // oom_score_adj: never killed for memory
)

// releaseWait bounds the report that the session is released, by the number of signals to
// stop that came: a person who has asked twice does not wait.
var releaseWait = [...]time.Duration{3 * time.Second, time.Second, 250 * time.Millisecond}

// guard is the parent of an agent. It waits, and when the agent dies while it has a
// session, it makes sure that nothing of it answers any more and says so to the leader:
// then nobody has to wait for the lease to run out. DESIGN.md says why in this order.
type guard struct {
	dir    string
	log    *slog.Logger
	id     *identity.Identity
	choice fence.Choice // of the agent

	mu    sync.Mutex
	heard bool // the agent has spoken
	last  Message
	fence fence.Fence // opened at the first message; nil: none, or not yet
	asked int         // signals to stop that came, at most 2

	page   *os.File // what the acceptor in the kernel shares with agent and plane; nil: there is none
	noPage error    // why

	prepared chan struct{} // closed after the first message, when the fence is open if there is one
}

// End is the exit code of an agent that has said itself what was wrong.
type End int

func (e End) Error() string { return fmt.Sprintf("the agent ended with code %d", int(e)) }

// ExitCode is asked by api.ExitCode.
func (e End) ExitCode() int { return int(e) }

// Run runs this very program again as the agent, and ends as it does.
func Run(dir string, choice fence.Choice, log *slog.Logger) error {
	id, err := identity.Load(dir)
	if err != nil {
		return err
	}
	g := &guard{dir: dir, choice: choice, log: log.With("node", id.Name, "part", "guard"), id: id, prepared: make(chan struct{})}
	defer g.close()
	return g.run()
}

func (g *guard) run() error {
	// The kernel tells the agent of its guard's death when this *thread* ends (prctl(2),
	// PR_SET_PDEATHSIG), so it stays with this function.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Caught for good: nothing interrupts what comes after the agent's death.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	messages, pipe, err := os.Pipe()
	if err != nil {
		return err
	}
	defer messages.Close()
	release, err := lockPlane(g.dir, planeWait)
	if err != nil {
		return err
	}
	defer release()
	ends, ours, err := plane.Pair(g.newPage())
	if err != nil {
		return err
	}
	cmd, err := startAgent(pipe, ends)
	if err != nil {
		ours.Close()
		return err
	}
	if err := errors.Join(RaisePriority(), SetOOMScore(guardScore)); err != nil {
		g.log.Debug("the guard is not shielded as it should be", "err", err)
	}
	stopPlane, err := g.serve(ours) // after the agent was started: it inherits no priority
	if err != nil {
		g.log.Warn("no lease plane in the guard; the agent renews by itself", "err", err)
		stopPlane = func() {}
	}
	go g.forward(signals, cmd.Process.Signal)
	over := make(chan struct{})
	defer close(over)
	if os.Getpid() == 1 {
		go reap(over, cmd.Process.Pid)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		g.listen(bufio.NewScanner(messages))
	}()
	// Only a process that has been waited for is surely dead. The end of the pipe is no
	// proof: it comes early when the agent closes it, late when a child of it holds it.
	waitErr := cmd.Wait()
	died := time.Now()
	stopPlane() // from here on nobody but this function touches the fence
	release()
	_ = messages.SetReadDeadline(died.Add(lastMessageWait))
	<-read
	if _, exited := errors.AsType[*exec.ExitError](waitErr); waitErr != nil && !exited {
		return fmt.Errorf("wait for the agent: %w", waitErr)
	}
	return g.after(cmd.ProcessState, died)
}

// startAgent starts the agent and gives it the writing end of the pipe and its ends of the lease plane,
// which it closes here.
func startAgent(pipe *os.File, ends plane.Ends) (*exec.Cmd, error) {
	defer pipe.Close()
	defer ends.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = append([]*os.File{pipe}, ends.Files()...)
	cmd.Env = append(os.Environ(), ChildEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd, cmd.Start()
}

// forward passes signals on, for as long as the guard lives. A hangup would end an agent that has only just
// begun, so it waits for the agent's first message.
func (g *guard) forward(signals <-chan os.Signal, signal func(os.Signal) error) {
	begun, hangup := g.prepared, false
	for {
		select {
		case <-begun:
			begun = nil
			if hangup {
				_ = signal(syscall.SIGHUP) // it may have ended already, here and below
			}
		case sig := <-signals:
			if sig == syscall.SIGHUP && begun != nil {
				hangup = true
				continue
			}
			if sig != syscall.SIGHUP {
				g.mu.Lock()
				sig = syscall.SIGTERM
				if g.asked > 0 {
					sig = StopNow
				}
				g.asked = min(g.asked+1, len(releaseWait)-1)
				g.mu.Unlock()
			}
			_ = signal(sig)
		}
	}
}

// listen takes the agent's messages until the pipe ends.
func (g *guard) listen(lines *bufio.Scanner) {
	lines.Buffer(nil, messageMax)
	for lines.Scan() {
		w, ok := parseMessage(lines.Bytes())
		if !ok {
			continue // half a line, or none of ours: the last good one counts
		}
		g.mu.Lock()
		first := !g.heard
		g.heard, g.last = true, w
		g.mu.Unlock()
		if first {
			g.prepare(w)
			close(g.prepared)
		}
	}
}

// prepare opens the fence that the agent has installed, so that later nothing slow is left
// to do, and nothing that needs memory.
func (g *guard) prepare(w Message) {
	if w.Fence == "" || w.Fence == fence.None {
		return
	}
	cfg := g.choice.On(FenceConfig(g.dir, g.id.NodeID))
	cfg.Prefer = w.Fence       // another kind would take this one's place
	defer debug.FreeOSMemory() // from here on it only waits
	start := time.Now()
	f, _, err := fence.New(cfg)
	if err != nil {
		g.log.Warn("the guard cannot open the fence; if the agent dies, the HAVIPs wait for its lease", "err", err)
		return
	}
	g.log.Debug("the guard holds the fence", "kind", f.Kind(), "took", time.Since(start))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fence = f
}

// after does what is to be done when the agent is dead.
func (g *guard) after(state *os.ProcessState, died time.Time) error {
	code := state.ExitCode()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	g.mu.Lock()
	heard, last, asked := g.heard, g.last, g.asked
	g.mu.Unlock()
	if heard && last.Fence != "" && (code != 0 || last.Session != 0) {
		log := g.log.With("agent", state.String(), "session", last.Session)
		if err := g.endSession(log, last, died, releaseWait[asked]); err != nil {
			log.Error("the agent has died, and its session is not reported released: what it owned fails over when its lease ends", "err", err)
		}
	}
	if code != 0 {
		return End(code)
	}
	return nil
}

// endSession has the session of a dead agent closed, in an order that is safe and keeps the gap
// short: a leader is found while the kernel still lets the HAVIPs answer, at most until the
// deadline; they are silenced; that is read back; only then the session is reported.
func (g *guard) endSession(log *slog.Logger, last Message, died time.Time, limit time.Duration) error {
	// Without the lock another agent may run here already, which has cleaned up itself.
	unlock, err := identity.Lock(g.dir)
	if err != nil {
		return err
	}
	defer unlock()
	left, err := newLeftovers(log, g.fence)
	if err != nil {
		return err
	}
	defer left.close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r := &release{id: g.freshIdentity(), peers: last.Peers, session: last.Session}
	defer r.close()
	if last.Session != 0 {
		r.findWithin(ctx, remaining(g.fence))
	}
	found := time.Since(died)
	if last.Fence != fence.None && g.fence == nil {
		err = errors.New("the guard has no hold of the fence")
	}
	if err = errors.Join(err, left.remove()); err != nil {
		return err
	}
	silent := time.Since(died)
	if last.Session == 0 {
		log.Info("the agent has ended without a session; nothing of it is left", "silent", silent)
		return nil
	}
	if err := r.send(ctx); err != nil {
		return err
	}
	log.Warn("the agent has died; nothing of it answers any more, and its session is released",
		"leader", found, "shut", left.shut.Sub(died), "silent", silent, "released", time.Since(died))
	return nil
}

// remaining is how long the fence lets HAVIPs answer without being told to; 0 without one.
func remaining(f fence.Fence) time.Duration {
	if f == nil {
		return 0
	}
	if _, err := f.Guarded(); err != nil { // nftables reads its deadline along with this
		return 0
	}
	return time.Duration(f.Deadline() - fence.BootNow())
}

// freshIdentity is this node's, with the certificate that it has now.
func (g *guard) freshIdentity() *identity.Identity {
	if fresh, err := identity.Load(g.dir); err == nil {
		return fresh
	}
	return g.id
}

// close gives the handles back. The kernel's side stays, shut, for the next agent.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fence != nil {
		_ = g.fence.Close()
	}
}
