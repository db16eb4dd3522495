// Package rootonly tells programs that nobody but root can change from others. What an agent
// runs with its rights, or on its word, has to be one of the former.
package rootonly

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Program returns the program that a path leads to. Nobody but root may be able to change it or
// to put another one in its place; the error says what is wrong and what to do.
func Program(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is no absolute path", path)
	}
	program, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(program)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", program)
	case info.Mode()&0o111 == 0:
		return "", fmt.Errorf("%s is not executable: chmod 755 it", program)
	}
	for part := program; ; part = filepath.Dir(part) {
		if err := Owned(part); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		if part == "/" {
			return program, nil
		}
	}
}

// Owned refuses a file or directory that others may change. In a sticky directory, such as
// /tmp, they cannot touch what is root's.
func Owned(part string) error {
	info, err := os.Lstat(part)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 {
		return fmt.Errorf("%s is not owned by root: chown root it", part)
	}
	if info.Mode()&0o022 != 0 && info.Mode()&(fs.ModeDir|fs.ModeSticky) != fs.ModeDir|fs.ModeSticky {
		return fmt.Errorf("%s may be written by others than root: chmod go-w it", part)
	}
	return nil
}
