package identity

import (
	"errors"
	"fmt"
	"syscall"
)

// Explain adds to an error of the disk below a data directory what to do about it; another error, and nil, stay as
// they are. Whatever was written meanwhile is whole or not there.
func Explain(dir string, err error) error {
	for _, row := range []struct {
		cause syscall.Errno
		text  string
	}{
		{syscall.EROFS, "the file system of %[1]s is read-only, often because its disk failed (`dmesg`): see to the disk, `mount -o remount,rw` it, and start again; nothing of the node is lost by that"},
		{syscall.ENOSPC, "no room is left where %[1]s is (`df %[1]s`): make room there and start again; in the directory itself only what is below events/ and snapshots/ may be deleted"},
		{syscall.EDQUOT, "the quota where %[1]s is has been used up: raise it or make room, and start again"},
		{syscall.EIO, "the disk of %[1]s has failed to read or write (`dmesg`): replace it, and this node with `havip-cluster node replace`"},
	} {
		if errors.Is(err, row.cause) {
			return fmt.Errorf("%w; "+row.text, err, dir)
		}
	}
	return err
}
