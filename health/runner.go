package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
	"havip-cluster/internal/plain"
)

// ErrSkipped is returned by a probe that did not look, and so says nothing.
var ErrSkipped = errors.New("health: not run")

// Probe looks once. It returns by the end of ctx, with one line for people; nil means good.
type Probe func(ctx context.Context) (output string, err error)

// Config is what a Runner needs.
type Config struct {
	// Neighbour asks whether somebody has an address on one of this node's links, and returns
	// who answered; nil: checks of type arp say that they cannot.
	Neighbour func(ctx context.Context, ip netip.Addr) (string, error)
	Log       *slog.Logger
}

// Runner runs the checks of one node. Its goroutines share no lock with a lease, and none of them
// waits for another: a check that hangs holds up itself.
type Runner struct {
	cfg   Config
	start time.Time

	programs slots

	mu      sync.Mutex
	wanted  map[string]fsm.Check // by name
	local   Programs
	tasks   map[string]*task
	wake    chan struct{} // one token: wanted has changed
	changed chan struct{} // one token: some state has changed
}

// task is one check that runs.
type task struct {
	check  fsm.Check
	local  Program
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	machine *Machine
	last    Latest
}

// Latest is what this node knows of one of its checks.
type Latest struct {
	Check    string
	Revision uint64
	State    fsm.CheckState
	Output   string
	// Ran is when the last run ended, zero = none did. Took is how long it took.
	Ran  time.Time
	Took time.Duration
	Runs uint64
}

// NewRunner makes a Runner without checks.
func NewRunner(cfg Config) *Runner {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Runner{
		cfg: cfg, start: time.Now(), programs: make(slots, limits.CheckPrograms),
		tasks: map[string]*task{}, wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
}

// slots bounds how many programs run at one time.
type slots chan struct{}

func (r *Runner) now() Instant { return time.Since(r.start) }

// Set says which checks this node runs. One that is the same as before goes on.
func (r *Runner) Set(checks []fsm.Check) {
	wanted := make(map[string]fsm.Check, len(checks))
	for _, k := range checks {
		if len(wanted) < limits.Checks {
			wanted[k.Name] = k
		}
	}
	r.mu.Lock()
	r.wanted = wanted
	r.mu.Unlock()
	token(r.wake)
}

// Allow says which programs checks of type exec may run here.
func (r *Runner) Allow(p Programs) {
	r.mu.Lock()
	r.local = p
	r.mu.Unlock()
	token(r.wake)
}

func token(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Changed gives a token after the state of a check has changed.
func (r *Runner) Changed() <-chan struct{} { return r.changed }

// Run runs the checks until ctx ends, and returns when all of them have.
func (r *Runner) Run(ctx context.Context) {
	defer r.stop(func(*task) bool { return true })
	for {
		r.reconcile(ctx)
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
	}
}

// reconcile makes what runs what is wanted.
func (r *Runner) reconcile(ctx context.Context) {
	r.stop(func(t *task) bool {
		k, still := r.wanted[t.check.Name]
		return !still || !reflect.DeepEqual(k, t.check) || !reflect.DeepEqual(t.local, r.local.of(k))
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, k := range r.wanted {
		if r.tasks[name] != nil {
			continue
		}
		own, cancel := context.WithCancel(ctx)
		t := &task{check: k, local: r.local.of(k), cancel: cancel, done: make(chan struct{}), machine: NewMachine(k, r.now())}
		r.tasks[name] = t
		go func() {
			defer close(t.done)
			defer cancel()
			r.work(own, t)
		}()
	}
}

// stop ends the tasks that match, and waits for them. which is called under the lock.
func (r *Runner) stop(which func(t *task) bool) {
	r.mu.Lock()
	var ended []*task
	for name, t := range r.tasks {
		if which(t) {
			delete(r.tasks, name)
			ended = append(ended, t)
		}
	}
	r.mu.Unlock()
	for _, t := range ended {
		t.cancel()
	}
	for _, t := range ended {
		<-t.done
	}
}

// work runs one check until ctx ends.
func (r *Runner) work(ctx context.Context, t *task) {
	wake := make(chan struct{}, 1)
	probe, end := r.probeOf(t, func() { token(wake) })
	defer end()
	timer := time.NewTimer(t.machine.First(rand.Float64()))
	defer timer.Stop()
	var stuck chan Outcome // of a run that did not end in time
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake: // the kernel says that something happened
		case <-timer.C:
		}
		begin := time.Now()
		var o Outcome
		o, stuck = t.once(ctx, probe, stuck)
		if ctx.Err() != nil {
			return
		}
		t.mu.Lock()
		changed := t.machine.Observe(r.now(), o)
		t.last.Ran, t.last.Took, t.last.Runs = time.Now(), time.Since(begin), t.last.Runs+1
		t.mu.Unlock()
		if changed {
			token(r.changed)
		}
		timer.Reset(max(0, t.machine.Due(r.now()-time.Since(begin), rand.Float64())-r.now()))
	}
}

// once makes one run. What has not ended by its time-out has failed; a probe that does not even
// end then, such as a read of a dead file server, is left alone and not started a second time.
func (t *task) once(ctx context.Context, probe Probe, stuck chan Outcome) (Outcome, chan Outcome) {
	if endsByItself(t.check.Type) {
		return t.run(ctx, probe), nil
	}
	limit := time.NewTimer(t.check.Timeout + stuckAfter)
	defer limit.Stop()
	if stuck != nil {
		select {
		case <-stuck:
		default:
			return Outcome{Output: "an earlier run still hangs in the kernel"}, stuck
		}
	}
	answer := make(chan Outcome, 1)
	go func() { answer <- t.run(ctx, probe) }()
	select {
	case o := <-answer:
		return o, nil
	case <-ctx.Done(): // the others wait for the end of this check, so it gets no more than a moment
		select {
		case <-answer:
		case <-time.After(stuckAfter):
		}
		return Outcome{}, nil
	case <-limit.C:
		return Outcome{Output: fmt.Sprintf("no answer within %s, and it cannot be stopped", t.check.Timeout)}, answer
	}
}

// run is one run, which ends with its time-out if the probe does.
func (t *task) run(ctx context.Context, probe Probe) Outcome {
	ctx, cancel := context.WithTimeout(ctx, t.check.Timeout)
	defer cancel()
	output, err := probe(ctx)
	return outcomeOf(ctx, t.check.Timeout, output, err)
}

// endsByItself says of a type of checks that its probe waits for sockets alone, and so for nothing that
// the kernel would not let go.
func endsByItself(of fsm.CheckType) bool {
	return of == fsm.CheckTCP || of == fsm.CheckHTTP || of == fsm.CheckPing
}

// stuckAfter is how long after its time-out a probe may take to end.
const stuckAfter = time.Second

func outcomeOf(ctx context.Context, timeout time.Duration, output string, err error) Outcome {
	switch {
	case err == nil:
		return Outcome{Good: true, Output: plain.Line(output)}
	case errors.Is(err, ErrSkipped):
		return Outcome{Skipped: true, Output: plain.Line(err.Error())}
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded):
		output = cmp.Or(output, "no answer")
		return Outcome{Output: plain.Line(fmt.Sprintf("%s within %s", output, timeout))}
	}
	text := err.Error()
	if output != "" {
		text += ": " + output
	}
	return Outcome{Output: plain.Line(text)}
}

// Latest is what each check comes to now, in the order of their names.
func (r *Runner) Latest() []Latest {
	r.mu.Lock()
	tasks := make([]*task, 0, len(r.tasks))
	for _, t := range r.tasks {
		tasks = append(tasks, t)
	}
	r.mu.Unlock()
	out := make([]Latest, 0, len(tasks))
	now := r.now()
	for _, t := range tasks {
		t.mu.Lock()
		l := t.last
		l.State, l.Output = t.machine.State(now)
		t.mu.Unlock()
		l.Check, l.Revision = t.check.Name, t.check.Revision
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Latest) int { return strings.Compare(a.Check, b.Check) })
	return out
}

// probeOf makes the probe of a check. wake has it run at once; end lets go what the probe holds.
func (r *Runner) probeOf(t *task, wake func()) (probe Probe, end func()) {
	k, nothing := t.check, func() {}
	switch k.Type {
	case fsm.CheckTCP:
		return tcp(k.Target), nothing
	case fsm.CheckHTTP:
		return web(k), nothing
	case fsm.CheckFile:
		return file(k), nothing
	case fsm.CheckPing:
		return ping(netip.MustParseAddr(k.Target)), nothing
	case fsm.CheckARP:
		return neighbour(r.cfg.Neighbour, netip.MustParseAddr(k.Target)), nothing
	case fsm.CheckProcess:
		p := newProcess(k.Target, wake)
		return p.probe, p.end
	case fsm.CheckExec:
		return programProbe(t.local, r.programs), nothing
	case fsm.CheckSystemd:
		return unit(k.Target), nothing
	}
	return func(context.Context) (string, error) {
		return "", fmt.Errorf("this program does not know checks of type %s", k.Type)
	}, nothing
}

// neighbour asks by ARP, or by neighbour solicitation.
func neighbour(ask func(ctx context.Context, ip netip.Addr) (string, error), ip netip.Addr) Probe {
	return func(ctx context.Context) (string, error) {
		if ask == nil {
			return "", errors.New("this node asks nobody")
		}
		return ask(ctx, ip)
	}
}
