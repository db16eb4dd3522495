package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	diskBytes = 96 << 20
	// Freeze and thaw of a slow disk.
	slowStall = 60 * time.Millisecond
	slowPause = 15 * time.Millisecond

	ext4Shutdown  = 0x8004587d // EXT4_IOC_SHUTDOWN, fs/ext4/ext4.h
	withoutCommit = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH: what was not synced is lost
)

// Disk is the file system under the log of one node: ext4 on a loop device, which the kernel
// itself can stall (fsfreeze), fail (shutdown) and fill up. The rest of the data directory, the
// fence's pins among it, is not on it: a disk that fails must not take the fence along.
type Disk struct {
	image, dir string
}

// NewDisk puts the log of node i, whose agent must not run, on a disk of its own. It needs root,
// loop devices and mkfs.ext4. The kernel frees the loop device with the last mount.
func (c *Cluster) NewDisk(i int) (*Disk, error) {
	d := &Disk{image: c.DataDir(i) + ".img", dir: filepath.Join(c.DataDir(i), "raft")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return nil, fmt.Errorf("netns: disk: %w", err)
	}
	if err := os.Truncate(d.image, diskBytes); err != nil {
		return nil, fmt.Errorf("netns: disk: %w", err)
	}
	old := d.dir + ".old"
	if err := errors.Join(run("mkfs.ext4", "-q", "-F", "-m", "0", d.image), os.Rename(d.dir, old), os.Mkdir(d.dir, 0o700), d.mount()); err != nil {
		return nil, err
	}
	// Synced: Fail loses what is not, and the node has reason to believe that its log is.
	return d, errors.Join(run("cp", "-a", old+"/.", d.dir), run("sync", "-f", d.dir), os.RemoveAll(old))
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("netns: %s: %w: %s", name, err, out)
	}
	return nil
}

func (d *Disk) mount() error { return run("mount", "-o", "loop", d.image, d.dir) }

// Close gives the disk back; the agent must have ended.
func (d *Disk) Close() error {
	if err := unix.Unmount(d.dir, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("netns: disk %s: %w", d.dir, err)
	}
	return nil
}

// Hang stalls every write for a time, and returns when it is over. A process that waits for a frozen
// file system cannot be killed. So a child thaws it, whatever becomes of this process.
func (d *Disk) Hang(length time.Duration) error {
	return d.stall(fmt.Sprintf(`fsfreeze -f "$0" && sleep %.3f; fsfreeze -u "$0"`, length.Seconds()))
}

// Slow stalls writes again and again for a time, so that each takes up to slowStall, or what the
// freeze itself needs, and returns when it is over.
func (d *Disk) Slow(length time.Duration) error {
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(slowPause) {
		if err := d.Hang(slowStall); err != nil {
			return err
		}
	}
	return nil
}

func (d *Disk) stall(script string) error { return run("sh", "-c", script, d.dir) }

// Fail makes every further access an I/O error, as of a disk that is gone. What was not synced
// is lost.
func (d *Disk) Fail() error {
	dir, err := os.Open(d.dir)
	if err != nil {
		return fmt.Errorf("netns: disk: %w", err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, withoutCommit); err != nil {
		return fmt.Errorf("netns: shut down %s: %w", d.dir, err)
	}
	return nil
}

// Repair ends Fail; the agent must have ended. The file system replays its journal.
func (d *Disk) Repair() error { return errors.Join(d.Close(), d.mount()) }

// Fill leaves no free block; Empty ends it.
func (d *Disk) Fill() error {
	f, err := os.Create(d.filler())
	if err != nil {
		return fmt.Errorf("netns: fill disk: %w", err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for err = error(nil); err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("netns: fill disk: %w", err)
	}
	return nil
}

// Empty takes away what Fill has written.
func (d *Disk) Empty() error {
	if err := os.Remove(d.filler()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("netns: empty disk: %w", err)
	}
	return nil
}

func (d *Disk) filler() string { return filepath.Join(d.dir, "filler") }
