package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The layout of a data directory.
const (
	fileIdentity  = "identity.json" // written last: it makes the directory a node's
	fileCACert    = "ca.crt"
	fileCAKey     = "ca.key" // only on nodes that may let others in
	fileCert      = "node.crt"
	fileKey       = "node.key"
	fileGossipKey = "gossip.key"
	fileKeys      = "keys.json" // from the first renewal on; then it counts
	fileLock      = "lock"
	filePlaneLock = "plane.lock" // from the first start on
	fileSocket    = "havip.sock"
	dirRaft       = "raft"

	tmpSuffix = ".tmp" // of a file that is being written
)

const (
	modeDir    fs.FileMode = 0o700
	modeSecret fs.FileMode = 0o600
	modePublic fs.FileMode = 0o644

	remedy = "restore the files from one backup, or remove the node and join it again"

	fileBytesMax  = 64 << 10
	socketPathMax = 107 // bytes of a Unix socket's path, unix(7)
)

// RaftDir returns where the node keeps its log and snapshots.
func RaftDir(dir string) string { return filepath.Join(dir, dirRaft) }

// SocketPath returns the path of the local API socket.
func SocketPath(dir string) string { return filepath.Join(dir, fileSocket) }

// part is one file beside identity.json.
type part struct {
	name     string
	mode     fs.FileMode
	text     *[]byte
	optional bool
}

func (s *Spec) parts() []part {
	copies := len(s.Keys) > 0
	return []part{
		{fileKeys, modeSecret, &s.Keys, true}, // first: it says whether the others count
		{fileCACert, modePublic, &s.CACert, copies},
		{fileCAKey, modeSecret, &s.CAKey, true},
		{fileCert, modePublic, &s.Cert, copies},
		{fileKey, modeSecret, &s.Key, copies},
		{fileGossipKey, modeSecret, &s.GossipKey, copies},
	}
}

// Load reads the data directory and verifies everything that it says: permissions,
// format, ids, that keys, certificates and CA belong together and to this node, and that
// they are valid today, or ended less than Grace ago. It changes nothing. It returns
// ErrNoState, ErrUnfinished, ErrExposed, ErrCorrupt, ErrFormat, ErrForeign or ErrExpired.
func Load(dir string) (*Identity, error) { return load(dir, time.Now(), Grace) }

// LoadEnded is Load however long ago the certificate ended: for making or asking for another
// one, and for nothing else.
func LoadEnded(dir string) (*Identity, error) { return load(dir, time.Now(), forEver) }

func load(dir string, now time.Time, t tolerance) (*Identity, error) {
	if err := checkComplete(dir); err != nil {
		return nil, err
	}
	if err := checkMode(dir, modeDir); err != nil {
		return nil, err
	}
	spec, err := readSpec(dir)
	if err != nil {
		return nil, withRemedy(dir, err)
	}
	id, err := assemble(spec, now, t)
	if err != nil {
		return nil, withRemedy(dir, err)
	}
	id.Dir = dir
	return id, nil
}

// LoadSettings reads what identity.json says and nothing of keys and certificates, which may
// have expired. It returns ErrNoState, ErrUnfinished, ErrExposed, ErrCorrupt or ErrFormat.
func LoadSettings(dir string) (Settings, error) {
	if err := checkComplete(dir); err != nil {
		return Settings{}, err
	}
	if err := checkMode(dir, modeDir); err != nil {
		return Settings{}, err
	}
	s, err := readSettings(dir)
	if err != nil {
		return Settings{}, withRemedy(dir, err)
	}
	return s, nil
}

func readSettings(dir string) (Settings, error) {
	text, err := readFile(dir, fileIdentity, modePublic)
	if err != nil {
		return Settings{}, err
	}
	s, err := decodeSettings(text)
	if err != nil {
		return Settings{}, err
	}
	if err := s.Check(); err != nil {
		return Settings{}, fmt.Errorf("%w: %s: %w", ErrCorrupt, fileIdentity, err)
	}
	s.Was, err = readMoved(dir)
	return s, err
}

func readSpec(dir string) (Spec, error) {
	var s Spec
	var err error
	if s.Settings, err = readSettings(dir); err != nil {
		return Spec{}, err
	}
	for i := range s.parts() {
		p := s.parts()[i] // anew: the first one decides about the others
		*p.text, err = readFile(dir, p.name, p.mode)
		if err != nil && (!p.optional || !errors.Is(err, fs.ErrNotExist)) {
			return Spec{}, err
		}
	}
	return s, nil
}

// withRemedy says what to do about an error whose text cannot know it: the same
// certificate may be refused at a connection or in the data directory.
func withRemedy(dir string, err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrForeign) {
		return fmt.Errorf("data directory %s: %w; %s", dir, err, remedy)
	}
	return fmt.Errorf("data directory %s: %w", dir, err)
}

// checkComplete tells a node's directory from an empty one (ErrNoState), one that Create
// left half-made (ErrUnfinished), and one that lost a piece (ErrCorrupt).
func checkComplete(dir string) error {
	found, err := stateIn(dir)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return fmt.Errorf("%w in %s; make the first node with 'havip-cluster bootstrap', every other one with 'havip-cluster join'", ErrNoState, dir)
	}
	hasLog := !isEmptyDir(RaftDir(dir))
	_, err = os.Stat(filepath.Join(dir, fileIdentity))
	switch {
	case err == nil && !isDir(RaftDir(dir)):
		return fmt.Errorf("%w: %s is missing, and with it the log; remove the node and join it again", ErrCorrupt, RaftDir(dir))
	case err == nil:
		return nil
	case hasLog:
		return fmt.Errorf("%w: %s holds a log, but %s is missing; %s", ErrCorrupt, dir, fileIdentity, remedy)
	}
	return fmt.Errorf("%w: %s holds %s but no %s, so making it was interrupted and no node ever ran from it; "+
		"remove these files and run bootstrap or join again (a join needs a new token)",
		ErrUnfinished, dir, strings.Join(found, ", "), fileIdentity)
}

// stateIn returns the names of our files in dir, in a fixed order and without the lock
// and the socket, which say nothing. An absent directory holds none.
func stateIn(dir string) ([]string, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w: data directory %s is a file; name a directory", ErrInvalid, dir)
	}
	var found []string
	names := []string{fileIdentity, dirRaft}
	for _, p := range new(Spec).parts() {
		names = append(names, p.name)
	}
	for _, name := range names {
		for _, candidate := range []string{name, name + tmpSuffix} {
			_, err := os.Lstat(filepath.Join(dir, candidate))
			if err == nil {
				found = append(found, candidate)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("identity: %w; run this as the user who owns %s", err, dir)
			}
		}
	}
	return found, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func isEmptyDir(path string) bool {
	entries, err := os.ReadDir(path)
	return len(entries) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist))
}

// checkMode returns ErrExposed when path allows others more than want does.
func checkMode(path string, want fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return checkInfo(path, info, want)
}

func checkInfo(path string, info fs.FileInfo, want fs.FileMode) error {
	const others = 0o077
	mode := info.Mode().Perm()
	if mode&others&^want == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s has mode %04o, other users may get at it; run: chmod %04o %s", ErrExposed, path, mode, want, path)
}

// readFile reads a regular file of at most 64 KiB that allows others no more than want.
func readFile(dir, name string, want fs.FileMode) ([]byte, error) {
	path := filepath.Join(dir, name)
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not stop us
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > fileBytesMax {
		return nil, fmt.Errorf("%w: %s is not a file of at most %d bytes", ErrCorrupt, path, fileBytesMax)
	}
	if err := checkInfo(path, info, want); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, fileBytesMax))
	if err != nil {
		return nil, fmt.Errorf("identity: read %s: %w", path, err)
	}
	return text, nil
}
