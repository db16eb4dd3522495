package membership

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

var (
	// ErrNoLog is returned by Open when the log's file is missing. A voter that starts
	// with an empty log has forgotten its votes, so it must come back as a new node.
	ErrNoLog = errors.New("membership: the log of this data directory is missing")
	// ErrLogGap is returned by Open when snapshots and log together lack something between
	// the beginning and the end. A voter that went on with less could forget what was committed.
	ErrLogGap = errors.New("membership: a part of the log of this data directory is missing")
)

const joinAgain = "move the data directory away, remove this node on another one, and join again with a new token"

// checkReach refuses snapshots of which none can be read, and a log that ends before one that
// cannot be. Raft passes over such a snapshot, and would begin with an older state, or with none.
func checkReach(dir string, log raft.LogStore) error {
	last, err := log.LastIndex()
	if err != nil {
		return fmt.Errorf("membership: read the log in %s: %w", dir, err)
	}
	snaps, err := raft.NewFileSnapshotStore(dir, snapshotsKept, io.Discard)
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	list, err := snapshotDirs(dir)
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	var gap error
	for _, s := range list {
		_, content, err := snaps.Open(s.name) // reads it whole and compares its checksum
		if err == nil {
			return content.Close()
		}
		gap = fmt.Errorf("%w (%s): snapshot %s cannot be read (%w), and the log ends at entry %d; %s", ErrLogGap, dir, s.name, err, last, joinAgain)
		if s.index > last {
			break
		}
	}
	return gap
}

type snapshotDir struct {
	name  string
	index uint64
}

// snapshotDirs lists the finished snapshots by their names, the newest first, whether they can
// be read or not.
func snapshotDirs(dir string) ([]snapshotDir, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	var out []snapshotDir
	for _, e := range entries {
		var term, at uint64
		s := snapshotDir{name: e.Name()}
		if n, _ := fmt.Sscanf(s.name, "%d-%d-%d", &term, &s.index, &at); n == 3 && !strings.HasSuffix(s.name, ".tmp") {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b snapshotDir) int { return cmp.Compare(b.index, a.index) })
	return out, err
}

// newRaft is raft.NewRaft, which panics when an entry between its snapshot and the end of
// the log is missing. No goroutine of it runs by then.
func newRaft(conf *raft.Config, m *Machine, log raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore, trans raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("%w: %v; %s", ErrLogGap, why, joinAgain)
		}
	}()
	return raft.NewRaft(conf, m, log, stable, snaps, trans)
}
