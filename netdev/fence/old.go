package fence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Versions before this one kept the fence in a directory of pins: the maps, and
// one TCX link per device and direction, in-INDEX and out-INDEX.

// bpffsMagic is BPF_FS_MAGIC of linux/magic.h.
const bpffsMagic = 0xcafe4a11

// oldMark is an empty directory in a bpffs that the fence itself mounted.
const oldMark = "mounted-by-fence"

var oldPins = []string{fenceMapHavips, fenceMapDeadlines, fenceMapCounters}

func onBPFFS(dir string) (bool, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("fence: file system of %s: %w", dir, err)
	}
	return uint32(st.Type) == bpffsMagic, nil
}

// oldMaps returns the ids of the maps pinned in dir, none if there are none.
func oldMaps(dir string) (map[string]ebpf.MapID, error) {
	if dir == "" {
		return nil, nil
	}
	if ok, err := onBPFFS(dir); err != nil || !ok {
		return nil, err
	}
	ids := map[string]ebpf.MapID{}
	for _, name := range oldPins {
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("fence: pin %s: %w", name, err)
		}
		info, err := m.Info()
		if err = errors.Join(err, m.Close()); err != nil {
			return nil, fmt.Errorf("fence: pin %s: %w", name, err)
		}
		ids[name], _ = info.ID()
	}
	return ids, nil
}

// removeOldPins removes the pins, unmounts what the fence had mounted, and
// removes dir if it is empty then.
func removeOldPins(dir string) error {
	if dir == "" {
		return nil
	}
	if ok, err := onBPFFS(dir); err != nil || !ok {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("fence: pins: %w", err)
	}
	var errs error
	marked := false
	for _, file := range files {
		name := file.Name()
		ours := name == oldMark || strings.HasPrefix(name, "in-") || strings.HasPrefix(name, "out-")
		for _, pin := range oldPins {
			ours = ours || name == pin
		}
		if ours {
			marked = marked || name == oldMark
			errs = errors.Join(errs, os.Remove(filepath.Join(dir, name)))
		}
	}
	if marked {
		errs = errors.Join(errs, unix.Unmount(dir, unix.MNT_DETACH))
	}
	err = os.Remove(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
		err = nil // something of others is in it, or it is their mount point
	}
	if errs = errors.Join(errs, err); errs != nil {
		return fmt.Errorf("fence: pins in %s: %w", dir, errs)
	}
	return nil
}
