package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const pidBytesMax = 16

// Lock takes the data directory for this process until release is called or the process
// ends, however it ends. It returns ErrLocked, naming the process, when another one has
// it, and ErrNoState when there is no directory. A second Lock in one process is refused
// like any other. release may be called more than once.
//
// The lock is the kernel's (flock) on the file `lock`; the number in the file is only for
// the error message. The file stays: removing it would let two processes lock two files.
func Lock(dir string) (release func(), err error) { return lock(dir, fileLock) }

func lock(dir, name string) (release func(), err error) {
	path := filepath.Join(dir, name)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, modeSecret)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist", ErrNoState, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if err := flock(file); err != nil {
		defer file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is held by %s; stop it first", ErrLocked, dir, lockHolder(file))
		}
		return nil, fmt.Errorf("identity: lock %s: %w", path, err)
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	_, writeErr := file.WriteAt([]byte(pid), 0)
	if err := errors.Join(writeErr, file.Truncate(int64(len(pid)))); err != nil {
		return nil, errors.Join(fmt.Errorf("identity: write %s: %w", path, err), file.Close())
	}
	return func() {
		_ = file.Truncate(0) // fails after a first release, then nothing is left to do
		_ = file.Close()     // ends the lock
	}, nil
}

// LockPlane takes the data directory for the lease plane of this process, beside an agent's Lock and in the same way:
// no two processes promise in one voter's name.
func LockPlane(dir string) (release func(), err error) { return lock(dir, filePlaneLock) }

// flock takes the lock without waiting, repeating only what a signal interrupted.
func flock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func lockHolder(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, pidBytesMax))
	pid, convErr := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || convErr != nil { // it has locked, but not yet written its number
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}
