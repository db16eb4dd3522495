package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// disk is what a host keeps over restarts: log, term and vote, snapshots. A write takes a
// while, and what had not come to its end at a crash is there or not, as the fault says,
// but whole or not at all: that is what bbolt's transactions give.
type disk struct {
	mu          sync.Mutex // never held while a write takes its time
	logs        map[uint64]*raft.Log
	first, last uint64
	values      map[string][]byte
	snaps       []*snap // newest last
	serial      int
	underway    map[*batch]bool
}

// batch is one write that is under way.
type batch struct{ apply func(*disk) }

type snap struct {
	meta raft.SnapshotMeta
	data []byte
}

const snapsKept = 2

func newDisk() *disk {
	return &disk{logs: map[uint64]*raft.Log{}, values: map[string][]byte{}, underway: map[*batch]bool{}}
}

// crash returns what the next life finds. The process that wrote goes on with its own
// copy, which nobody reads.
func (d *disk) crash(keep bool) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := &disk{
		logs: maps.Clone(d.logs), first: d.first, last: d.last, values: maps.Clone(d.values),
		snaps: slices.Clone(d.snaps), serial: d.serial, underway: map[*batch]bool{},
	}
	if keep {
		for b := range d.underway {
			b.apply(next)
		}
	}
	return next
}

func (d *disk) put(logs []*raft.Log) {
	for _, l := range logs {
		c := *l
		d.logs[l.Index] = &c
		if d.first == 0 {
			d.first = l.Index
		}
		d.first, d.last = min(d.first, l.Index), max(d.last, l.Index)
	}
}

func (d *disk) remove(lo, hi uint64) {
	for i := lo; i <= hi; i++ {
		delete(d.logs, i)
	}
	if len(d.logs) == 0 {
		d.first, d.last = 0, 0
		return
	}
	for d.logs[d.first] == nil {
		d.first++
	}
	for d.logs[d.last] == nil {
		d.last--
	}
}

// condition is how a host's disk does at present; guarded by the world's lock.
type condition struct {
	full  int           // faults under way that make it full
	extra time.Duration // longer writes
	// stalled is closed at the end of a stall, nil without one.
	stalled chan struct{}
	stalls  int
}

// store is one process's way to the disk: raft's log and stable store.
type store struct {
	p *process
	d *disk
}

var errNotFound = errors.New("not found") // raft compares the text

// write carries out a write that takes its time.
func (s *store) write(apply func(*disk), room bool) error {
	s.p.gate.pass("disk")
	w := s.p.h.w
	w.mu.Lock()
	full, stalled := s.p.h.disk.full > 0 && room, s.p.h.disk.stalled
	takes := s.p.h.rng.diskTime() + s.p.h.disk.extra
	w.mu.Unlock()
	if full {
		return fmt.Errorf("sim: %w", syscall.ENOSPC)
	}
	b := &batch{apply}
	s.d.mu.Lock()
	s.d.underway[b] = true
	s.d.mu.Unlock()
	alive := true
	if stalled != nil {
		select {
		case <-stalled:
		case <-s.p.gate.dead:
			alive = false
		}
	}
	if alive {
		s.p.gate.sleep(takes)
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	delete(s.d.underway, b)
	apply(s.d)
	return nil
}

func (s *store) FirstIndex() (uint64, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return s.d.first, nil
}

func (s *store) LastIndex() (uint64, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return s.d.last, nil
}

func (s *store) GetLog(index uint64, l *raft.Log) error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	found := s.d.logs[index]
	if found == nil {
		return raft.ErrLogNotFound
	}
	*l = *found
	return nil
}

func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *store) StoreLogs(logs []*raft.Log) error {
	return s.write(func(d *disk) { d.put(logs) }, true)
}

func (s *store) DeleteRange(lo, hi uint64) error {
	return s.write(func(d *disk) { d.remove(lo, hi) }, false)
}

// Set never fails for want of room: raft ends the process if it does, and so would the
// real one; a restart until there is room again is played by kill.
func (s *store) Set(key, value []byte) error {
	k, v := string(key), bytes.Clone(value)
	return s.write(func(d *disk) { d.values[k] = v }, false)
}

func (s *store) Get(key []byte) ([]byte, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	v, ok := s.d.values[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return bytes.Clone(v), nil
}

func (s *store) SetUint64(key []byte, v uint64) error { return s.Set(key, fmt.Append(nil, v)) }

func (s *store) GetUint64(key []byte) (v uint64, err error) {
	raw, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(string(raw), &v)
	return v, err
}

func (s *store) Close() error { return nil }

// Snapshots.

type sink struct {
	s    *store
	meta raft.SnapshotMeta
	buf  bytes.Buffer
	over bool
}

func (s *store) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.d.mu.Lock()
	s.d.serial++
	id := fmt.Sprintf("%d-%d-%d", term, index, s.d.serial)
	s.d.mu.Unlock()
	return &sink{s: s, meta: raft.SnapshotMeta{Version: v, ID: id, Index: index, Term: term, Configuration: c, ConfigurationIndex: ci}}, nil
}

func (s *store) List() ([]*raft.SnapshotMeta, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	var out []*raft.SnapshotMeta
	for _, sn := range slices.Backward(s.d.snaps) {
		m := sn.meta
		out = append(out, &m)
	}
	return out, nil
}

func (s *store) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for _, sn := range s.d.snaps {
		if sn.meta.ID == id {
			m := sn.meta
			return &m, io.NopCloser(bytes.NewReader(sn.data)), nil
		}
	}
	return nil, nil, fmt.Errorf("sim: no snapshot %s", id)
}

func (k *sink) ID() string                  { return k.meta.ID }
func (k *sink) Write(b []byte) (int, error) { return k.buf.Write(b) }

func (k *sink) Cancel() error {
	k.over = true
	return nil
}

func (k *sink) Close() error {
	if k.over {
		return nil
	}
	k.over = true
	k.meta.Size = int64(k.buf.Len())
	made := &snap{k.meta, bytes.Clone(k.buf.Bytes())}
	err := k.s.write(func(d *disk) {
		d.snaps = append(slices.Clip(d.snaps), made)
		if n := len(d.snaps); n > snapsKept {
			d.snaps = slices.Clone(d.snaps[n-snapsKept:])
		}
	}, true)
	if err == nil {
		k.s.p.h.w.count(func(st *Stats) { st.Snapshots++ })
	}
	return err
}
