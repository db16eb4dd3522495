package fence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bpffsMagic is BPF_FS_MAGIC of linux/magic.h.
const bpffsMagic = 0xcafe4a11

// mountMark is an empty directory in a bpffs that ensureBPFFS mounted, so that
// removeBPFFS does not unmount anybody else's.
const mountMark = "mounted-by-fence"

// ensureBPFFS makes dir a directory on a bpffs, and mounts one there if the
// file system under it is another.
func ensureBPFFS(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("fence: pin directory: %w", err)
	}
	if ok, err := onBPFFS(dir); err != nil || ok {
		return err
	}
	if err := unix.Mount("bpffs", dir, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("fence: mount bpffs at %s: %w", dir, err)
	}
	if err := os.Mkdir(filepath.Join(dir, mountMark), 0o700); err != nil {
		return fmt.Errorf("fence: mark bpffs: %w", err)
	}
	return nil
}

func onBPFFS(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("fence: file system of %s: %w", dir, err)
	}
	return uint32(st.Type) == bpffsMagic, nil
}

// removeBPFFS undoes ensureBPFFS: it unmounts what the fence mounted and removes
// dir if it is empty then.
func removeBPFFS(dir string) error {
	mark := filepath.Join(dir, mountMark)
	if _, err := os.Stat(mark); err == nil {
		if err := errors.Join(os.Remove(mark), unix.Unmount(dir, unix.MNT_DETACH)); err != nil {
			return fmt.Errorf("fence: unmount bpffs at %s: %w", dir, err)
		}
	}
	err := os.Remove(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
		return nil // something of others is in it, or it is their mount point
	}
	return err
}
