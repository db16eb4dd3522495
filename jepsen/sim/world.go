package sim

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

// World is one run of a schedule. It lives in a bubble of testing/synctest.
type World struct {
	// Trace takes a line for each thing worth telling; nil costs nothing.
	Trace func(at time.Duration, text string)

	sched Schedule
	prof  profile
	start time.Time
	hosts []*host
	net   *network
	wg    sync.WaitGroup

	mu        sync.Mutex // never held across a wait
	fabric    *fabric
	procs     []*process
	stats     Stats
	over      bool
	verdict   *Violation
	broken    chan struct{} // closed at the first violation
	terms     map[uint64]string
	activated map[string]fsm.Epoch // by HAVIP id: the newest that anybody activated
	wanted    map[string]fsm.Epoch // the newest that anybody wanted up, activated or not
	lastEvent uint64
	lagged    map[uint64]bool // sessions that the log has called behind
	acked     []acked
	ops       int
	rng       dice
	healed    chan struct{}  // closed when no more faults come
	heals     map[int]func() // what ends the faults under way
	healSeq   int
	made      map[string]*object // by HAVIP name
	asking    sync.WaitGroup     // operators
	awaited   direction          // of whose next renewal a schedule waits
	renewed   chan struct{}      // closed when it is sent
	length    struct {           // the last change of the lease length
		index   uint64
		at      time.Duration
		longest time.Duration
	}
}

// Violation is what must never happen, and did.
type Violation struct {
	Rule string
	At   time.Duration
	Text string
}

func (v Violation) String() string { return fmt.Sprintf("%s at %v: %s", v.Rule, v.At, v.Text) }

// Limits of a run, in virtual time.
const (
	formBound = 60 * time.Second // from the first start until all are members and own what there is
	// settleBound is how long after the end of all faults everything must be owned, and
	// settleLeases is added to it. The longest single waits in it: 10 s in which an ENI that
	// failed is not eligible, 10 s of raft's longest back-off towards a node that was away,
	// 5 s until the next announcement.
	settleBound  = 30 * time.Second
	settleLeases = 10
	settleTick   = 50 * time.Millisecond
	closeWait    = 20 * time.Second // after the end, for what is still under way
)

// Play runs a schedule in the bubble of the caller, and returns what happened.
func Play(s Schedule, trace func(at time.Duration, text string)) (Stats, *Violation) {
	w := &World{
		Trace: trace, sched: s, prof: profiles[s.Profile], start: time.Now(), broken: make(chan struct{}),
		terms: map[uint64]string{}, activated: map[string]fsm.Epoch{}, wanted: map[string]fsm.Epoch{}, rng: newDice(s.Seed, 1), heals: map[int]func(){},
		healed: make(chan struct{}), made: map[string]*object{}, lagged: map[uint64]bool{},
	}
	w.net = newNetwork(w, len(s.Roles))
	w.fabric = newFabric(w)
	for i, role := range s.Roles {
		w.addHost(i, role)
	}
	w.run()
	w.close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Runs = 1
	w.stats.Virtual = w.now()
	w.stats.Frames = w.fabric.frames
	return w.stats, w.verdict
}

func (w *World) run() {
	if !w.form() {
		return
	}
	began := time.Now()
	w.count(func(st *Stats) { st.Faulty = w.sched.Duration })
	for _, e := range w.sched.Events {
		if !w.wait(began.Add(e.At)) {
			return
		}
		w.notef("> %s", e)
		w.count(func(st *Stats) { st.Faults++ })
		ops[e.Op].do(w, e.Args)
		if e.Op == "align" || e.Op == "back" {
			began = time.Now().Add(-e.At)
		}
	}
	if w.wait(began.Add(w.sched.Duration)) {
		w.settle()
	}
}

// wait sleeps until an instant; false when a violation came first.
func (w *World) wait(until time.Time) bool {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
		return !w.isBroken()
	case <-w.broken:
		return false
	}
}

func (w *World) isBroken() bool {
	select {
	case <-w.broken:
		return true
	default:
		return false
	}
}

// close ends everything that runs in the bubble.
func (w *World) close() {
	w.mu.Lock()
	w.over = true
	procs := w.procs
	w.mu.Unlock()
	for _, h := range w.hosts {
		h.kill(false)
	}
	for _, p := range procs {
		<-p.ended
	}
	w.wg.Wait()
	time.Sleep(closeWait) // timers of what was under way
}

func (w *World) now() time.Duration { return time.Since(w.start) }

func (w *World) notef(format string, args ...any) {
	if w.Trace != nil {
		w.Trace(w.now(), fmt.Sprintf(format, args...))
	}
}

func (w *World) count(f func(st *Stats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.stats)
}

// violate notes the first violation, and ends the run.
func (w *World) violate(rule, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violateLocked(rule, format, args...)
}

func (w *World) violateLocked(rule, format string, args ...any) {
	if w.verdict != nil || w.over {
		return
	}
	w.verdict = &Violation{rule, w.now(), fmt.Sprintf(format, args...)}
	w.notef("VIOLATION %v", w.verdict)
	close(w.broken)
}

func (w *World) byAddress(address string) *host {
	for _, h := range w.hosts {
		if h.address == address {
			return h
		}
	}
	return nil
}

// tune makes raft take snapshots often, so that restarts and joins meet them.
func (w *World) tune(c *raft.Config) {
	c.SnapshotThreshold, c.TrailingLogs, c.SnapshotInterval = 128, 64, 5*time.Second
}

// form starts the cluster: the first host bootstraps it, the others join, the HAVIPs are made.
func (w *World) form() bool {
	w.enrol(w.hosts[0])
	first := w.hosts[0]
	first.founder = &fsm.InitCluster{ID: "c-sim", Profile: w.sched.Profile, Lease: w.sched.Lease, Node: first.asNode()}
	first.boot()
	end := time.Now().Add(formBound)
	for _, h := range w.hosts[1:] {
		for !w.join(h) {
			if time.Now().After(end) || w.isBroken() {
				w.violate("liveness", "host %s could not join a healthy cluster within %v", h.name, formBound)
				return false
			}
		}
	}
	for i := range w.sched.HAVIPs {
		w.create(fmt.Sprintf("v%d", i))
	}
	for !w.settled(nil) || !w.sched.Grow && !w.allVote(nil) {
		if time.Now().After(end) || w.isBroken() {
			w.violate("liveness", "a healthy cluster does not form within %v: %s", formBound, w.why())
			return false
		}
		time.Sleep(settleTick)
	}
	w.notef("formed")
	return !w.isBroken()
}

// enrol gives a host a new id, with an empty disk.
func (w *World) enrol(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h.lives++
	h.node = fmt.Sprintf("%s%d", h.name, h.lives)
	h.founder = nil               // a new node joins
	h.old = h.old && h.lives == 1 // what is installed again is the new program
	h.data = newDisk()
}
