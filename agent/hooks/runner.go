package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/failover/owner"
	"havip-cluster/internal/plain"
	"havip-cluster/internal/rootonly"
)

const (
	hooksAtOnce  = 8               // programs that run at the same time, for different HAVIPs
	hooksWaiting = 16              // changes of one HAVIP that wait; beyond, the oldest is dropped
	hookOutput   = 4096            // bytes of a program's output that are logged
	hookPipeWait = time.Second     // for output, when the program has ended
	EndWait      = 5 * time.Second // for what still runs or waits when the agent stops
	hookPath     = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Hooks runs the operator's programs when a HAVIP comes or goes: those of one HAVIP one
// after another, in the order of the changes. Nothing waits for them but the agent's end.
type Hooks struct {
	log    *slog.Logger
	report func(havip, text string) // a failure, for the cluster's journal; it does not block
	config atomic.Pointer[Config]

	ctx     context.Context
	stop    context.CancelFunc
	slots   chan struct{} // one element per program that runs
	workers sync.WaitGroup

	mu      sync.Mutex
	waiting map[string][]hookRun // by HAVIP id; an entry, also an empty one, has its worker
	dropped int
}

// hookRun is one program to run.
type hookRun struct {
	owner.Change
	command []string
	timeout time.Duration
}

// New makes what runs hooks. report is told of failures, for the cluster's journal; it must not block.
func New(log *slog.Logger, report func(havip, text string)) *Hooks {
	h := &Hooks{log: log, report: report, slots: make(chan struct{}, hooksAtOnce), waiting: map[string][]hookRun{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.config.Store(&Config{})
	return h
}

// Configure replaces what is run. Any goroutine may call it.
func (h *Hooks) Configure(c Config) { h.config.Store(&c) }

// Changed takes a change of a HAVIP. It does not block.
func (h *Hooks) Changed(c owner.Change) {
	command, timeout := h.config.Load().find(c.HAVIP.Name, c.Kind)
	if len(command) == 0 {
		return
	}
	id := c.HAVIP.ID
	h.mu.Lock()
	defer h.mu.Unlock()
	queue, worked := h.waiting[id]
	if len(queue) >= hooksWaiting { // the newest tells how things are
		queue = queue[1:]
		h.dropped++
	}
	h.waiting[id] = append(queue, hookRun{Change: c, command: command, timeout: timeout})
	if !worked {
		h.workers.Go(func() { h.work(id) })
	}
}

// work runs what waits for one HAVIP, until nothing does.
func (h *Hooks) work(id string) {
	for {
		h.slots <- struct{}{}
		run, more := h.next(id)
		if more {
			done := make(chan struct{})
			go func() { // on a thread of its own, see execute
				defer close(done)
				h.do(run)
			}()
			<-done
		}
		<-h.slots
		if !more {
			return
		}
	}
}

func (h *Hooks) next(id string) (run hookRun, more bool) {
	h.mu.Lock()
	queue, dropped := h.waiting[id], h.dropped
	h.dropped = 0
	if more = len(queue) > 0; more {
		run, h.waiting[id] = queue[0], queue[1:]
	} else {
		delete(h.waiting, id)
	}
	h.mu.Unlock()
	if dropped > 0 {
		h.log.Warn("hooks are too slow; the oldest changes have had none", "dropped", dropped)
	}
	return run, more
}

// do runs one program and says what came of it.
func (h *Hooks) do(run hookRun) {
	log := h.log.With("hook", "on-"+string(run.Kind), "havip", run.HAVIP.Name, "epoch", run.Claim.Epoch, "program", run.command[0])
	if h.ctx.Err() != nil {
		log.Warn("hook not run: the agent stops")
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, run.timeout)
	defer cancel()
	start := time.Now()
	out, err := run.execute(ctx)
	log = log.With("took", time.Since(start), "output", out.String())
	switch {
	case err == nil:
		log.Info("hook done")
		return
	case h.ctx.Err() != nil:
		err = errors.New("killed: the agent stops")
	case ctx.Err() != nil:
		err = fmt.Errorf("killed after its time-out of %s", run.timeout)
	}
	log.Error("hook failed", "err", err)
	h.report(run.HAVIP.Name, fmt.Sprintf("hook-failed: on-%s, %s: %v", run.Kind, run.command[0], err))
}

// execute runs the program in a process group of its own, which is killed when ctx ends.
//
// It runs on a thread that ends with the calling goroutine: the program gets this thread's
// ordinary priority, not the agent's, and dies with the thread, so also with the agent.
func (run hookRun) execute(ctx context.Context) (*headOf, error) {
	runtime.LockOSThread()
	out := &headOf{}
	program, err := rootonly.Program(run.command[0]) // it may have changed since the configuration was read
	if err != nil {
		return out, err
	}
	if raised, _ := unix.Getpriority(unix.PRIO_PROCESS, 0); raised > 20 { // 20 - nice, getpriority(2)
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 0); err != nil {
			return out, fmt.Errorf("setpriority: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = run.command
	cmd.Dir = "/"
	cmd.Env = append([]string{hookPath}, run.environment()...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = hookPipeWait
	if err := cmd.Start(); err != nil {
		return out, err
	}
	// Not shielded from the want of memory, as the agent is. It may have ended already.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte("0"), 0)
	if err = cmd.Wait(); errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has left something in the background
	}
	return out, err
}

func (run hookRun) environment() []string {
	return []string{
		"HAVIP_NAME=" + run.HAVIP.Name,
		"HAVIP_IP=" + run.HAVIP.IP.String(),
		"HAVIP_ENI=" + run.ENI.ID,
		"HAVIP_EPOCH=" + strconv.FormatUint(uint64(run.Claim.Epoch), 10),
		"HAVIP_REASON=" + plain.Line(run.Reason),
	}
}

// Finish lets what runs or waits come to its end until ctx ends, and kills the rest.
// Nothing may change any more.
func (h *Hooks) Finish(ctx context.Context) {
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		h.workers.Wait()
	}()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	h.stop()
	<-idle // at most hookPipeWait: everything has been killed
}

// headOf keeps the first hookOutput bytes and takes the rest, so that nobody is held up.
// One pipe feeds it, so one goroutine writes.
type headOf struct{ kept []byte }

func (o *headOf) Write(p []byte) (int, error) {
	o.kept = append(o.kept, p[:min(len(p), hookOutput-len(o.kept))]...)
	return len(p), nil
}

func (o *headOf) String() string { return string(o.kept) }
