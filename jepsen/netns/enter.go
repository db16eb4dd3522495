package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// enter turns this process into the command of an entry. It returns only with an error.
func enter(text string) error {
	// Capabilities, the filter and the death signal are of the thread; execve(2) makes it the process.
	runtime.LockOSThread()
	var e entry
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return fmt.Errorf("netns: %s: %w", enterEnv, err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("netns: death signal: %w", err)
	}
	var err error
	switch e.Kind {
	case InUnshare: // done by the parent
	case InNetnsExec:
		err = freshSys()
	case InUnit:
		err = e.restrict()
	case InRoot:
		if err = enterRoot(e.Root); err == nil && e.Sandbox != nil {
			err = e.restrict()
		}
	default:
		err = fmt.Errorf("netns: environment %q cannot be entered", e.Kind)
	}
	if err != nil {
		return err
	}
	env := make([]string, 0, len(os.Environ()))
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, enterEnv+"=") {
			env = append(env, v)
		}
	}
	return fmt.Errorf("netns: %s: %w", e.Path, syscall.Exec(e.Path, e.Argv, env))
}

// freshSys mounts a /sys that shows the devices of the calling process's network namespace. Root of
// a user namespace may not be permitted to, and keeps the machine's.
func freshSys() error {
	_ = unix.Unmount("/sys", unix.MNT_DETACH) // a mount that came with a user namespace is locked: the new one covers it
	err := unix.Mount("havip-sys", "/sys", "sysfs", 0, "")
	if err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("netns: mount /sys: %w", err)
	}
	return nil
}

// restrict does what systemd does between fork and exec, in its order: mounts, capabilities, filter.
func (e entry) restrict() error {
	if err := e.mounts(); err != nil {
		return err
	}
	s := e.Sandbox
	program, err := s.filter()
	if err != nil {
		return err
	}
	if err := dropCapabilities(s.Capabilities); err != nil {
		return err
	}
	if s.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("netns: no_new_privs: %w", err)
		}
	}
	return install(program)
}

// mounts makes the file system what the unit shows. Folders to keep are held open while something
// is mounted over them.
func (e entry) mounts() error {
	held := map[string]int{}
	for _, path := range append(append([]string(nil), e.Keep...), e.Write...) {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("netns: %s: %w", path, err)
		}
		held[path] = fd
	}
	var cover []string
	if e.Sandbox.PrivateTmp {
		cover = append(cover, "/tmp", "/var/tmp")
	}
	if e.Sandbox.ProtectHome {
		cover = append(cover, "/home", "/root", "/run/user")
	}
	for _, path := range cover {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := unix.Mount("havip-private", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
			return fmt.Errorf("netns: mount over %s: %w", path, err)
		}
	}
	if e.Sandbox.PrivateDevices {
		if err := privateDevices(); err != nil {
			return err
		}
	}
	for _, path := range append(append([]string(nil), e.Keep...), e.Write...) {
		err := os.MkdirAll(path, 0o755)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", held[path]), path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("netns: keep %s: %w", path, err)
		}
	}
	return e.readOnly()
}

// readOnly makes the tree read-only as far as the unit does.
func (e entry) readOnly() error {
	type step struct {
		path string
		on   bool
	}
	var steps []step
	if e.Sandbox.ReadOnly {
		steps = append(steps, step{"/", true}, step{"/dev", false}, step{"/proc", false}, step{"/sys", false}, step{"/tmp", false}, step{"/var/tmp", false})
		for _, path := range e.Keep {
			steps = append(steps, step{path, true})
		}
	}
	for _, path := range e.Write {
		steps = append(steps, step{path, false})
	}
	if e.Sandbox.Tunables {
		if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("netns: bind /proc/sys: %w", err)
		}
		steps = append(steps, step{"/proc/sys", true}, step{"/sys", true})
	}
	if e.Sandbox.ControlGroups {
		steps = append(steps, step{"/sys/fs/cgroup", true})
	}
	for _, s := range steps {
		attr := &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
		if s.on {
			attr = &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		}
		err := unix.MountSetattr(unix.AT_FDCWD, s.path, unix.AT_RECURSIVE, attr)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: no mount point
			return fmt.Errorf("netns: read-only %t for %s: %w", s.on, s.path, err)
		}
	}
	return nil
}

// privateDevices covers /dev with one that has only what every program may have.
func privateDevices() error {
	names := []string{"null", "zero", "full", "random", "urandom", "tty"}
	held := map[string]int{}
	for _, name := range names {
		fd, err := unix.Open(filepath.Join("/dev", name), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // a container may lack it
		}
		held[name] = fd
	}
	if err := unix.Mount("havip-dev", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755"); err != nil {
		return fmt.Errorf("netns: mount over /dev: %w", err)
	}
	for _, name := range names {
		fd, ok := held[name]
		if !ok {
			continue
		}
		path := filepath.Join("/dev", name)
		err := os.WriteFile(path, nil, 0o644)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("netns: %s: %w", path, err)
		}
	}
	return nil
}

// dropCapabilities leaves the calling thread no more than the named ones, now and after exec.
func dropCapabilities(names []string) error {
	var keep uint64
	for _, name := range names {
		n := capabilityNumber(name)
		if n < 0 {
			return fmt.Errorf("netns: capability %q is not known", name)
		}
		keep |= 1 << n
	}
	for n := 0; n <= unix.CAP_LAST_CAP; n++ {
		if keep&(1<<n) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("netns: drop capability %d: %w", n, err)
			}
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("netns: capabilities: %w", err)
	}
	for i := range data {
		half := uint32(keep >> (32 * i))
		data[i].Effective &= half
		data[i].Permitted &= half
		data[i].Inheritable = 0
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("netns: capabilities: %w", err)
	}
	return nil
}

// capabilityNames are those of linux/capability.h, in its order.
const capabilityNames = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast " +
	"net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time " +
	"sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"

func capabilityNumber(name string) int {
	word, ok := strings.CutPrefix(name, "CAP_")
	for i, known := range strings.Fields(capabilityNames) {
		if ok && known == strings.ToLower(word) {
			return i
		}
	}
	return -1
}
