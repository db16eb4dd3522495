package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Create makes a node's data directory, or none of it. It returns ErrInvalid,
// ErrCorrupt, ErrForeign or ErrExpired when the parts of the spec do not make a node,
// ErrExists or ErrUnfinished when the directory holds state already, whatever state it
// is, ErrExposed when other users may use the directory, and ErrLocked when another
// Create is at work in it. Then nothing is changed.
//
// identity.json is written last. After a crash in between, Load and Create both return
// ErrUnfinished; after an error Create has removed what it wrote.
func Create(dir string, spec Spec) error {
	if _, err := assemble(spec, time.Now(), strict); err != nil {
		return err
	}
	if err := errors.Join(checkSocketPath(dir), checkVacant(dir)); err != nil {
		return err
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	release, err := Lock(dir)
	if err != nil {
		return err
	}
	defer release()
	if err := checkVacant(dir); err != nil { // again: now nobody else can be at it
		return err
	}
	steps, err := spec.steps(dir)
	if err != nil {
		return err
	}
	for i, s := range steps {
		if err := s.do(); err != nil {
			return errors.Join(fmt.Errorf("identity: make %s: %w", s.path, err), undo(steps[:i+1]))
		}
	}
	return nil
}

// step makes one entry of the data directory; path is what undo removes.
type step struct {
	path string
	do   func() error
}

// steps returns what Create does, in order.
func (s *Spec) steps(dir string) ([]step, error) {
	write := func(name string, mode fs.FileMode, text []byte) step {
		path := filepath.Join(dir, name)
		return step{path, func() error { return ReplaceFile(path, mode, text) }}
	}
	settings, err := encodeSettings(s.Settings)
	if err != nil {
		return nil, fmt.Errorf("identity: encode %s: %w", fileIdentity, err)
	}
	var steps []step
	for _, p := range s.parts() {
		if len(*p.text) > 0 {
			steps = append(steps, write(p.name, p.mode, *p.text))
		}
	}
	raft := step{RaftDir(dir), func() error { return errors.Join(os.Mkdir(RaftDir(dir), modeDir), syncDir(dir)) }}
	return append(steps, raft, write(fileIdentity, modePublic, settings)), nil
}

// undo removes what the steps made, last one first, so that identity.json goes before
// what it vouches for.
func undo(steps []step) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		err := os.Remove(steps[i].path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("identity: undo: %w", err))
		}
	}
	return errors.Join(errs...)
}

// checkVacant returns ErrExists or ErrUnfinished when dir holds state.
func checkVacant(dir string) error {
	err := checkComplete(dir)
	switch {
	case errors.Is(err, ErrNoState):
		return nil
	case err == nil:
		return fmt.Errorf("%w: %s holds a node; start it with 'havip-cluster agent', or name another directory with --data-dir", ErrExists, dir)
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrExists, err)
	}
	return err
}

// checkSocketPath refuses a directory so deep that the agent could not listen below it.
func checkSocketPath(dir string) error {
	path, err := filepath.Abs(SocketPath(dir))
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if len(path) > socketPathMax {
		return fmt.Errorf("%w: the socket's path %s has %d bytes, Linux allows %d; choose a shorter --data-dir", ErrInvalid, path, len(path), socketPathMax)
	}
	return nil
}

// makeDir makes dir with mode 0700, with the directories above it where they lack. An
// empty directory that exists is closed to others; one with other things in it is left
// as it is, and must be closed already: it may be anybody's.
func makeDir(dir string) error {
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	err := os.Mkdir(dir, modeDir)
	if err == nil {
		return syncDir(parent)
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("identity: %w", err)
	}
	if !isEmptyDir(dir) {
		return checkMode(dir, modeDir)
	}
	if err := os.Chmod(dir, modeDir); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return nil
}

// ReplaceFile replaces path by text, so that after a crash it has either the old or the
// new content: a temporary file, fsync, rename, fsync of the directory.
func ReplaceFile(path string, mode fs.FileMode, text []byte) error {
	tmp := path + tmpSuffix
	// The file is made anew: the mode of an old one would stay.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
