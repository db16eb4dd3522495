package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

// file is good when a regular file is there, holds what it should and is not too old. What it
// holds is told to nobody. It is opened without waiting, so a pipe in its place hangs nothing.
func file(k fsm.Check) Probe {
	return func(context.Context) (string, error) {
		f, err := os.OpenFile(k.Target, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			var path *os.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			return "", err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return "", err
		}
		if !info.Mode().IsRegular() {
			return "", errors.New("it is no regular file")
		}
		age := time.Since(info.ModTime())
		if k.MaxAge != 0 && age > k.MaxAge {
			return "", fmt.Errorf("it was written %s ago, at most %s", age.Round(time.Second), k.MaxAge)
		}
		if k.Content != "" {
			text, err := io.ReadAll(io.LimitReader(f, limits.CheckRead))
			if err != nil {
				return "", err
			}
			if !strings.Contains(string(text), k.Content) {
				return "", fmt.Errorf("its first %d bytes do not hold what they should", len(text))
			}
		}
		return "as expected", nil
	}
}
