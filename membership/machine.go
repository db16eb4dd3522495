package membership

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

var (
	_ raft.FSM                = (*Machine)(nil)
	_ raft.ConfigurationStore = (*Machine)(nil)
)

// Machine is the raft.FSM around the pure state: it keeps the present one where any
// goroutine may read it, and wakes those who watch.
type Machine struct {
	state  atomic.Pointer[fsm.State]
	halted atomic.Pointer[error]
	// reached is the last entry that the machine has seen: a command, a configuration, or
	// the end of a snapshot. Every command up to it is in the state.
	reached atomic.Uint64
	// known is a command that this node has just proposed and has the body of; nil: none. See expect.
	known atomic.Pointer[fsm.Command]
	// applied is told of each command, in Raft's goroutine; nil: nobody is.
	applied func(before, after *fsm.State, c fsm.Command)

	mu       sync.Mutex
	watchers map[chan struct{}]struct{}
}

// NewMachine returns a machine with the empty state.
func NewMachine() *Machine {
	m := &Machine{watchers: map[chan struct{}]struct{}{}}
	m.state.Store(fsm.New())
	return m
}

// State returns the present state; it never changes after it was returned.
func (m *Machine) State() *fsm.State { return m.state.Load() }

// Halted returns why the machine has stopped applying, or nil. It stops for good at an
// entry that it cannot read: going on would make this replica differ from the others.
func (m *Machine) Halted() error {
	if p := m.halted.Load(); p != nil {
		return *p
	}
	return nil
}

// Watch returns a channel that has a token after each change of the state, and a
// function to end that. Several changes may give one token.
func (m *Machine) Watch() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{} // whoever begins to watch looks once
	m.mu.Lock()
	m.watchers[ch] = struct{}{}
	m.mu.Unlock()
	return ch, func() {
		m.mu.Lock()
		delete(m.watchers, ch)
		m.mu.Unlock()
	}
}

func (m *Machine) publish(s *fsm.State) {
	m.state.Store(s)
	m.wake()
}

func (m *Machine) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ch := range m.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (m *Machine) halt(err error) error {
	m.halted.CompareAndSwap(nil, &err)
	m.wake()
	return err
}

// knownFrom is the size of a body, in bytes, from which a proposer spares its own machine to read it again.
const knownFrom = 16 << 10

// expect tells the machine of a command that this node proposes, until the function is called. Of several at a time it
// knows the last.
func (m *Machine) expect(c *fsm.Command) (done func()) {
	m.known.Store(c)
	return func() { m.known.CompareAndSwap(c, nil) }
}

// Apply is called by Raft, in one goroutine, for each committed command. Its answer is a
// fsm.Result, or an error once the machine has halted.
func (m *Machine) Apply(l *raft.Log) any {
	if err := m.Halted(); err != nil {
		return err
	}
	c, err := fsm.DecodeKnown(l.Data, m.known.Load())
	if err != nil {
		return m.halt(fmt.Errorf("membership: log entry %d: %w", l.Index, err))
	}
	before := m.State()
	next, res, err := fsm.ApplyEntry(before, l.Index, l.Term, c)
	if err != nil {
		return m.halt(fmt.Errorf("membership: log entry %d: %w", l.Index, err))
	}
	m.publish(next)
	m.reached.Store(l.Index)
	if m.applied != nil && res.Refusal == nil && !res.Repeated {
		m.applied(before, next, c)
	}
	return res
}

// StoreConfiguration is called by Raft between two Apply, for each committed
// configuration. It only counts: the state says nothing of Raft's servers.
func (m *Machine) StoreConfiguration(index uint64, _ raft.Configuration) {
	if m.Halted() == nil {
		m.reached.Store(index)
		m.wake()
	}
}

// Snapshot is called by Raft between two Apply; the state is immutable, so it is only
// remembered here.
func (m *Machine) Snapshot() (raft.FSMSnapshot, error) {
	if err := m.Halted(); err != nil {
		return nil, err
	}
	return snapshot{m.State()}, nil
}

// Restore is called by Raft with a snapshot from disk or from the leader.
func (m *Machine) Restore(rc io.ReadCloser) error {
	defer rc.Close()
	s, err := fsm.ReadSnapshot(rc)
	if err != nil {
		return m.halt(err)
	}
	m.publish(s)
	m.reached.Store(max(s.Index, snapshotIndex(rc)))
	return nil
}

type snapshot struct{ s *fsm.State }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	b, err := s.s.Snapshot()
	if err == nil {
		_, err = io.Copy(sink, bytes.NewReader(b))
	}
	if err != nil {
		_ = sink.Cancel() // the first error is the one to tell
		return fmt.Errorf("membership: write snapshot: %w", err)
	}
	return sink.Close()
}

func (snapshot) Release() {}
