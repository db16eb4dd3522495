package membership

import (
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

const (
	// configsKept is how many configurations of the log are remembered. Raft uses the
	// latest one, or after a cut the one before it.
	configsKept = 64
	// unknownIndex is that of a configuration whose entry was not seen. No state ever
	// comes as far, so nobody acts on such a configuration.
	unknownIndex = math.MaxUint64
)

// ledger knows what Raft does not tell of its own log: which entry holds which
// configuration (Raft's GetConfiguration always says 0), and which entry is the last that
// the state machine has to see (Raft counts an entry as applied when it is queued for
// the machine). The stores below report to it.
type ledger struct {
	mu      sync.Mutex
	configs map[uint64][]raft.Server // by the index of the entry
	// last is the newest entry in the log that the machine sees: a command or a
	// configuration. start is what last was when the process began, or less when entries
	// of then were cut off, because those were never committed.
	last, start uint64
	moved       chan struct{} // gets a token when the configurations change; see latest
	changes     atomic.Uint64 // of the configurations
	// writing is how many changes of the configurations are being taken note of; before is called before each.
	writing atomic.Int32
	before  atomic.Pointer[func()]
}

// changing is called when the log's configurations have changed on disk and Raft does not act on it yet, and its
// result when the ledger knows it.
func (l *ledger) changing() (done func()) {
	l.writing.Add(1) // before the look at before: Reconfiguring is the other way round
	if f := l.before.Load(); f != nil {
		(*f)()
	}
	return func() { l.writing.Add(-1) }
}

// from reports whether there is a configuration at an index or after it.
func (l *ledger) from(index uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.configs {
		if i >= index {
			return true
		}
	}
	return false
}

// newLedger reads the end of a log.
func newLedger(s raft.LogStore) (*ledger, error) {
	end, err := s.LastIndex()
	if err != nil {
		return nil, err
	}
	l := &ledger{configs: map[uint64][]raft.Server{}, moved: make(chan struct{}, 1)}
	if l.last, err = lastSeen(s, end); err != nil {
		return nil, err
	}
	l.start = l.last
	return l, nil
}

// lastSeen returns the newest entry up to an index that the machine sees, or 0.
func lastSeen(s raft.LogStore, upTo uint64) (uint64, error) {
	first, err := s.FirstIndex()
	if err != nil || first == 0 {
		return 0, err
	}
	for i := upTo; i >= first; i-- {
		var l raft.Log
		err := s.GetLog(i, &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			return 0, nil // a gap, which a snapshot from the leader leaves: it holds what is below
		}
		if err != nil {
			return 0, err
		}
		if l.Type == raft.LogCommand || l.Type == raft.LogConfiguration {
			return i, nil
		}
	}
	return 0, nil
}

// stored takes note of entries that are in the log.
func (l *ledger) stored(logs ...*raft.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range logs {
		if e.Type == raft.LogCommand || e.Type == raft.LogConfiguration {
			l.last = max(l.last, e.Index)
		}
	}
	l.keep(logs)
}

// read takes note of an entry that was read from the log: at start Raft reads them all.
func (l *ledger) read(e *raft.Log) {
	if e.Type != raft.LogConfiguration {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep([]*raft.Log{e})
}

func (l *ledger) keep(logs []*raft.Log) {
	for _, e := range logs {
		if e.Type == raft.LogConfiguration {
			l.put(e.Index, raft.DecodeConfiguration(e.Data).Servers)
		}
	}
}

func (l *ledger) put(index uint64, servers []raft.Server) {
	l.configs[index] = slices.Clone(servers)
	for len(l.configs) > configsKept {
		oldest := uint64(math.MaxUint64)
		for i := range l.configs {
			oldest = min(oldest, i)
		}
		delete(l.configs, oldest)
	}
	l.signal()
}

func (l *ledger) signal() {
	l.changes.Add(1)
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// latest returns the servers of the latest configuration in the log, committed or not, with the
// index of its entry; none and 0 before there is one. Nobody may change the list.
func (l *ledger) latest() ([]raft.Server, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := uint64(0)
	for i := range l.configs {
		newest = max(newest, i)
	}
	return l.configs[newest], newest
}

// snapshot takes note of the configuration that a snapshot carries.
func (l *ledger) snapshot(index uint64, servers []raft.Server) {
	l.mu.Lock()
	known, there := l.configs[index]
	l.mu.Unlock()
	if !there || !slices.Equal(known, servers) {
		defer l.changing()()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(index, servers)
}

// cut takes note that the entries from an index on are gone, and of the newest one below
// that the machine sees.
func (l *ledger) cut(from, newest uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.configs {
		if i >= from {
			delete(l.configs, i)
			l.signal()
		}
	}
	if l.last >= from {
		l.last = newest
	}
	if l.start >= from {
		l.start = newest
	}
}

// indexOf returns the entry that put these servers into force: 0 if there are none.
func (l *ledger) indexOf(servers []raft.Server) uint64 {
	if len(servers) == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	found, known := uint64(0), false
	for i, c := range l.configs {
		if slices.Equal(c, servers) && (!known || i > found) {
			found, known = i, true
		}
	}
	if !known {
		return unknownIndex
	}
	return found
}

func (l *ledger) newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *ledger) atStart() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start
}

// notedSnapshots is a snapshot store that reports to the ledger. What it opens carries
// the log index, for the machine.
type notedSnapshots struct {
	raft.SnapshotStore
	book   *ledger
	ballot *ballot
}

// Create is called to write a snapshot, of this node's own or of a leader.
func (s notedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if err := s.ballot.settle(); err != nil {
		return nil, err
	}
	return s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
}

// Open is called to restore a snapshot, and to send it.
func (s notedSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, rc, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	s.book.snapshot(meta.ConfigurationIndex, meta.Configuration.Servers)
	return meta, indexedReader{rc, meta.Index}, nil
}

// indexedReader is a snapshot that knows up to which entry it goes. The state inside
// knows only the last command.
type indexedReader struct {
	io.ReadCloser
	index uint64
}

// snapshotIndex returns the index of a snapshot that Raft hands over, 0 if it has none.
func snapshotIndex(rc io.ReadCloser) uint64 {
	if w, ok := rc.(raft.ReadCloserWrapper); ok {
		rc = w.WrappedReadCloser()
	}
	r, _ := rc.(indexedReader)
	return r.index
}
