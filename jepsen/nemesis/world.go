package nemesis

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"havip-cluster/jepsen/history"
	"havip-cluster/jepsen/netns"
)

// ErrNothing is returned by a fault that found nothing to break: the process was already dead.
var ErrNothing = errors.New("nemesis: nothing to break")

// World is what can be broken.
type World struct {
	Cluster *netns.Cluster
	Disks   []*netns.Disk // by node
	Leader  func() int    // 0: none known
	Owner   func() int    // of the first watched HAVIP; 0: none known
	Log     func(format string, args ...any)

	mu      sync.Mutex
	faults  []history.Fault
	removed map[int]bool // nodes that are no members at the moment
}

func (w *World) lab() *netns.Lab { return w.Cluster.Lab }

func (w *World) nodes() int { return len(w.lab().Nodes()) }

// pick is the node that a planned fault is for.
func (w *World) pick(p Planned) int {
	n := 0
	switch p.Role {
	case Leader:
		n = w.Leader()
	case Owner:
		n = w.Owner()
	}
	if n == 0 {
		n = p.Node
	}
	return n
}

// others are all nodes but one.
func (w *World) others(not int) []*netns.Host {
	var list []*netns.Host
	for i, h := range w.lab().Nodes() {
		if i+1 != not {
			list = append(list, h)
		}
	}
	return list
}

// Faults returns those of the run so far.
func (w *World) Faults() []history.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.faults)
}

// Removed reports whether a node is to join again.
func (w *World) Removed(i int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.removed[i]
}

// SetRemoved says whether a node is a member.
func (w *World) SetRemoved(i int, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.removed == nil {
		w.removed = map[int]bool{}
	}
	w.removed[i] = on
}

// Break runs the faults of an episode and returns when all are healed. A fault that finds nothing to
// break is left out; any other error is that of the laboratory and is returned.
func (w *World) Break(e Episode) error {
	failed := make([]error, len(e.Faults))
	var running sync.WaitGroup
	for i, p := range e.Faults {
		running.Go(func() {
			time.Sleep(p.After)
			failed[i] = w.one(p, len(e.Faults) > 1)
		})
	}
	running.Wait()
	return errors.Join(failed...)
}

// one runs one fault. Together with another one it may take the majority away.
func (w *World) one(p Planned, together bool) error {
	begin, ok := begins[p.Kind]
	if !ok {
		return fmt.Errorf("nemesis: no kind is called %q", p.Kind)
	}
	since := w.lab().Now()
	target, end, err := begin(w, p, rand.New(rand.NewPCG(p.Dice, 1)))
	if errors.Is(err, ErrNothing) || errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		w.Log("%s: %v", p, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("nemesis: %s: %w", p, err)
	}
	w.mu.Lock()
	at := len(w.faults)
	w.faults = append(w.faults, history.Fault{Name: p.Kind, Target: target, Begin: since, Outage: outage(p.Kind) || together})
	w.mu.Unlock()
	if rest := p.Length - time.Duration(w.lab().Now()-since); rest > 0 {
		time.Sleep(rest)
	}
	if end != nil {
		err = end()
	}
	w.mu.Lock()
	w.faults[at].End = w.lab().Now()
	w.mu.Unlock()
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		err = nil // the other fault killed it
	}
	if err != nil {
		return fmt.Errorf("nemesis: end of %s: %w", p, err)
	}
	return nil
}

// Heal takes away what a fault may have left: it is called between two episodes, when all
// have ended.
func (w *World) Heal() error {
	err := w.lab().Heal()
	for _, d := range w.Disks {
		_ = d.Empty() // if it was filled up and failed before it could be emptied
	}
	for i := range w.lab().Nodes() {
		carrier, failed := w.lab().Node(i + 1).Carrier(0)
		if failed == nil && !carrier {
			failed = w.lab().Node(i+1).SetLink(0, true)
		}
		err = errors.Join(err, failed)
		if w.Cluster.Running(i + 1) {
			_ = w.Cluster.Kill(i+1, syscall.SIGCONT)
		}
	}
	return err
}
