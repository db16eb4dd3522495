package membership

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

// entry makes a log entry of a command.
func entry(t testing.TB, index uint64, body fsm.Body) *raft.Log {
	t.Helper()
	c := must[fsm.Command](t)(fsm.NewCommand(1_700_000_000, "n-1", "", body))
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: must[[]byte](t)(c.Encode())}
}

func initCluster() fsm.InitCluster {
	return fsm.InitCluster{ID: "c-0000000000000001", Profile: "lan", Lease: testLease, Node: fsm.Node{
		ID: "n-1", Name: "node-1", Address: "192.0.2.1", APIPort: 1, RaftPort: 2, GossipPort: 3, Role: fsm.RoleVoter,
	}}
}

func apply(t testing.TB, m *Machine, index uint64, body fsm.Body) fsm.Result {
	t.Helper()
	res, ok := m.Apply(entry(t, index, body)).(fsm.Result)
	if !ok || res.Refusal != nil {
		t.Fatalf("entry %d: %v %v", index, res.Refusal, m.Halted())
	}
	return res
}

// memSink is a snapshot in memory.
type memSink struct {
	bytes.Buffer
	fail      error
	cancelled bool
}

func (s *memSink) Write(p []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	return s.Buffer.Write(p)
}
func (s *memSink) Close() error  { return nil }
func (s *memSink) ID() string    { return "snap" }
func (s *memSink) Cancel() error { s.cancelled = true; return nil }

func TestMachineHaltsAtWhatItCannotRead(t *testing.T) {
	for _, tc := range []struct {
		name string
		data []byte
		want error
	}{
		{"a newer version", []byte("\x63{}"), fsm.ErrCommandVersion},
		{"an unknown kind", []byte("\x01" + `{"kind":"fly","at":1,"body":{}}`), fsm.ErrCommandVersion},
		{"no command", []byte("\x01nonsense"), fsm.ErrCommandCorrupt},
		{"nothing", nil, fsm.ErrCommandCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := NewMachine()
			apply(t, m, 1, initCluster())
			before := m.State()
			watch, stop := m.Watch()
			defer stop()
			<-watch
			err, _ := m.Apply(&raft.Log{Index: 2, Data: tc.data}).(error)
			if !errors.Is(err, tc.want) || !errors.Is(m.Halted(), tc.want) {
				t.Fatalf("got %v, halted by %v, want %v", err, m.Halted(), tc.want)
			}
			select {
			case <-watch:
			default:
				t.Error("nobody was told")
			}
			// For good: a command that it could read is not applied, or it would diverge.
			if err, _ := m.Apply(entry(t, 3, fsm.SetLease{Lease: 2 * testLease})).(error); !errors.Is(err, tc.want) {
				t.Errorf("it went on: %v", err)
			}
			if m.State() != before {
				t.Error("the state changed")
			}
			if _, err := m.Snapshot(); err == nil {
				t.Error("a snapshot would let Raft drop the entry that this node could not read")
			}
		})
	}
}

func TestSnapshotAndRestore(t *testing.T) {
	m := NewMachine()
	apply(t, m, 1, initCluster())
	apply(t, m, 2, fsm.SetLease{Lease: 2 * testLease})
	snap := must[raft.FSMSnapshot](t)(m.Snapshot())
	apply(t, m, 3, fsm.SetLease{Lease: 3 * testLease}) // while the snapshot is being written
	var sink memSink
	check(t, snap.Persist(&sink))
	snap.Release()

	again := NewMachine()
	check(t, again.Restore(indexedReader{io.NopCloser(&sink), 7}))
	if s := again.State(); s.Index != 2 || s.Cluster.Lease != 2*testLease {
		t.Errorf("restored index %d and lease %s, want those when the snapshot was taken", s.Index, s.Cluster.Lease)
	}
	if again.reached.Load() != 7 {
		t.Errorf("it has seen the log up to %d, the snapshot goes to 7", again.reached.Load())
	}
}

func TestRestoreHaltsOnACorruptSnapshot(t *testing.T) {
	m := NewMachine()
	apply(t, m, 1, initCluster())
	before := m.State()
	if err := m.Restore(io.NopCloser(bytes.NewReader([]byte("HAVIPSNP and nothing")))); !errors.Is(err, fsm.ErrSnapshotCorrupt) {
		t.Fatalf("got %v", err)
	}
	if m.State() != before || !errors.Is(m.Halted(), fsm.ErrSnapshotCorrupt) {
		t.Errorf("halted by %v, the state changed: %v", m.Halted(), m.State() != before)
	}
}

func TestPersistCancelsOnAnError(t *testing.T) {
	m := NewMachine()
	sink := memSink{fail: errors.New("disk full")}
	err := must[raft.FSMSnapshot](t)(m.Snapshot()).Persist(&sink)
	if !errors.Is(err, sink.fail) || !sink.cancelled {
		t.Errorf("got %v, cancelled: %v", err, sink.cancelled)
	}
}

func TestWatchersCoalesce(t *testing.T) {
	m := NewMachine()
	watch, stop := m.Watch()
	<-watch // one token from the start
	for i := range uint64(5) {
		m.Apply(entry(t, i+1, initCluster()))
	}
	if <-watch; len(watch) != 0 {
		t.Error("five changes gave more than one token")
	}
	if m.State().Index != 5 {
		t.Error("the token came before the state")
	}
	stop()
	m.Apply(entry(t, 6, initCluster()))
	if len(watch) != 0 {
		t.Error("a token after the end of the watch")
	}
}

func TestAStateNeverChangesAfterItWasReturned(t *testing.T) {
	m := NewMachine()
	apply(t, m, 1, initCluster())
	s := m.State()
	image := must[[]byte](t)(s.Snapshot())
	apply(t, m, 2, fsm.SetLease{Lease: 2 * testLease})
	apply(t, m, 3, fsm.OpenSession{Node: "n-1", Attempt: "a"})
	if !bytes.Equal(image, must[[]byte](t)(s.Snapshot())) {
		t.Error("it changed")
	}
}
