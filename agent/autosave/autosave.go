// Package autosave saves the replicated state of a voter into files of its own, by the plan that the
// cluster has agreed on. It never fills the disk on which the log lives, and nothing waits for it.
package autosave

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
)

const (
	// Folder is below the data directory; its files may be copied away at any time.
	Folder     = "snapshots"
	prefix     = "auto-"
	suffix     = ".snap"
	stamp      = "20060102T150405Z"
	unfinished = ".part" // of a file that is being written

	// RoomMin is what a snapshot leaves free on the disk at least, in bytes: the log needs it.
	RoomMin = 64 << 20
	// pollEvery is how often the plan is looked at; a retry after a failure comes no sooner.
	pollEvery = 10 * time.Second
	listMax   = 2 * fsm.SnapshotKeepMax // files that are listed
)

// File is one snapshot that was saved.
type File struct {
	Name  string
	Bytes int64
	Index uint64    // of the last command in it
	Made  time.Time // UTC
}

// List returns the snapshots of a data directory, newest first. A directory that is not there has none.
func List(dataDir string) ([]File, error) {
	entries, err := os.ReadDir(filepath.Join(dataDir, Folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("autosave: %w", err)
	}
	var out []File
	for _, e := range slices.Backward(entries) { // by name, and so by time
		f, ok := parse(e.Name())
		info, err := e.Info()
		if !ok || err != nil || !info.Mode().IsRegular() || len(out) == listMax {
			continue
		}
		f.Bytes = info.Size()
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b File) int {
		if d := b.Made.Compare(a.Made); d != 0 {
			return d
		}
		return strings.Compare(b.Name, a.Name)
	})
	return out, nil
}

func name(made time.Time, index uint64) string {
	return prefix + made.UTC().Format(stamp) + "-" + strconv.FormatUint(index, 10) + suffix
}

func parse(file string) (File, bool) {
	body, ok := strings.CutPrefix(file, prefix)
	body, ends := strings.CutSuffix(body, suffix)
	when, digits, found := strings.Cut(body, "-")
	made, err := time.Parse(stamp, when)
	index, numErr := strconv.ParseUint(digits, 10, 64)
	return File{Name: file, Made: made, Index: index}, ok && ends && found && err == nil && numErr == nil
}

// Saver saves snapshots of one node.
type Saver struct {
	Dir   string            // the data directory
	State func() *fsm.State // as this node has applied it
	Node  string            // id; only a voter or witness saves
	Log   *slog.Logger
	Now   func() time.Time                 // nil is the system's clock
	Room  func(dir string) (uint64, error) // free bytes; nil asks the kernel

	mu      sync.Mutex
	problem string
}

// Problem says why the last snapshot was not saved, "" if it was, or none was due.
func (s *Saver) Problem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

// Run looks at the plan until ctx ends.
func (s *Saver) Run(ctx context.Context) {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.SaveIfDue()
		}
	}
}

// SaveIfDue saves a snapshot if one is due, and removes what is more than the plan keeps.
func (s *Saver) SaveIfDue() {
	err := s.look()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.problem = ""
		return
	}
	s.problem = "the automatic snapshot was not saved: " + err.Error()
	s.Log.Warn("the automatic snapshot was not saved; it is tried again", "err", err)
}

func (s *Saver) look() error {
	st, now := s.State(), time.Now()
	if s.Now != nil {
		now = s.Now()
	}
	n, plan := st.Nodes[s.Node], st.Cluster.Snapshots
	if plan.Every == 0 || n.Removing || n.Role != fsm.RoleVoter && n.Role != fsm.RoleWitness {
		return nil
	}
	files, err := List(s.Dir)
	if err != nil {
		return err
	}
	due := !slices.ContainsFunc(files, func(f File) bool { return f.Made.After(now.Add(-plan.Every)) && !ahead(f, now) })
	if due {
		if err := s.save(st, now); err != nil {
			return err
		}
		if files, err = List(s.Dir); err != nil {
			return err
		}
	}
	// Each new one would be the first to go otherwise, for as long as the clock was ahead.
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(rank(a, now), rank(b, now)) })
	for _, f := range files[min(plan.Keep, len(files)):] {
		if err := os.Remove(filepath.Join(s.Dir, Folder, f.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old one: %w", err)
		}
	}
	return nil
}

// ahead says of a file that its stamp is still to come, so it is of a clock that was wrong. It does not
// hold up the next one, and counts as the oldest.
func ahead(f File, now time.Time) bool { return f.Made.After(now.Add(pollEvery)) }

func rank(f File, now time.Time) int {
	if ahead(f, now) {
		return 1
	}
	return 0
}

// removeUnfinished removes what an agent was writing when it was killed.
func removeUnfinished(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, prefix+"*"+suffix+unfinished))
	for _, file := range left {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// save writes one file, whole or not at all.
func (s *Saver) save(st *fsm.State, now time.Time) error {
	data, err := st.Snapshot()
	if err != nil {
		return err
	}
	dir := filepath.Join(s.Dir, Folder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := removeUnfinished(dir); err != nil {
		return err
	}
	room := s.Room
	if room == nil {
		room = freeBytes
	}
	free, err := room(dir)
	if err != nil {
		return err
	}
	if free < uint64(len(data))+RoomMin {
		return fmt.Errorf("%s has %d MiB free, and %d MiB stay free for the log; make room there, or keep fewer with `snapshot schedule --every %s --keep N`", dir, free>>20, RoomMin>>20, st.Cluster.Snapshots.Every)
	}
	final := filepath.Join(dir, name(now, st.Index))
	part := final + unfinished
	if err := writeFile(part, data); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if _, err := fsm.ReadSnapshot(bytes.NewReader(data)); err != nil { // it can be read again
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, final); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return syncDir(dir)
}

// syncDir makes sure that the name of a file outlives the power too.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
