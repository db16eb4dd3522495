package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// What a disk refuses names the way out, and nothing else is touched.
func TestExplain(t *testing.T) {
	for cause, want := range map[error]string{
		syscall.EROFS:  "mount -o remount,rw",
		syscall.ENOSPC: "make room there",
		syscall.EDQUOT: "raise it",
		syscall.EIO:    "havip-cluster node replace",
	} {
		err := Explain("/var/lib/x", fmt.Errorf("identity: %w", &fs.PathError{Op: "open", Path: "/var/lib/x/lock", Err: cause}))
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/var/lib/x") {
			t.Errorf("%v", err)
		}
	}
	other := errors.New("something else")
	if Explain("d", nil) != nil || !errors.Is(Explain("d", other), other) || Explain("d", other).Error() != other.Error() {
		t.Error("an error that is not of the disk was changed")
	}
}
