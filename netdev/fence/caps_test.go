package fence

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var capNumbers = map[string]int{
	"net_admin": unix.CAP_NET_ADMIN, "net_raw": unix.CAP_NET_RAW, "sys_admin": unix.CAP_SYS_ADMIN,
	"bpf": unix.CAP_BPF, "perfmon": unix.CAP_PERFMON,
}

// withCapabilities drops all but the named capabilities and then proves the hook.
func withCapabilities(names, hook string, fail func(error) int) int {
	if os.Getenv("FENCE_AGAIN") == "" {
		// As LimitMEMLOCK=infinity of the unit does: before Linux 5.11 eBPF is counted against it.
		infinite := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &infinite); err != nil && !kernelFrom([2]int{5, 11}) {
			return fail(err)
		}
		if err := keepOnly(names); err != nil {
			return fail(err)
		}
		// Threads keep their own sets: run on with the reduced ones after an exec.
		return fail(unix.Exec("/proc/self/exe", os.Args[:1], append(os.Environ(), "FENCE_AGAIN=1")))
	}
	cfg := Config{Owner: "caps", Prove: true, Prefer: EBPF, Hook: hook}
	if hook == HookNFTables {
		cfg.Prefer, cfg.Hook = NFTables, ""
	}
	f, why, err := New(cfg)
	if err != nil {
		return fail(err)
	}
	index, err := strconv.Atoi(os.Getenv("FENCE_INDEX"))
	ip := host4(1, 1)
	err = errors.Join(err, f.Attach(index), f.Guard(ip), f.Open(ip), f.SetDeadline(BootNow()+time.Minute.Nanoseconds()), f.Healthy(index), f.Uninstall())
	if err != nil {
		return fail(err)
	}
	fmt.Println(why)
	return 0
}

func keepOnly(names string) error {
	var keep uint64
	for _, name := range strings.Fields(names) {
		keep |= 1 << capNumbers[name]
	}
	// Root gets all of the bounding set again with each exec. CAP_SETPCAP goes last.
	var errs error
	for c := range unix.CAP_LAST_CAP + 1 {
		if keep&(1<<c) == 0 && c != unix.CAP_SETPCAP {
			errs = errors.Join(errs, unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0))
		}
	}
	return errors.Join(errs, unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SETPCAP, 0, 0, 0))
}

// TestCapabilities holds the table of DESIGN.md: what each hook needs, and that
// without it New refuses instead of giving a fence that nobody finds again.
func TestCapabilities(t *testing.T) {
	const refused = "not proved"
	for _, c := range []struct {
		hook, caps, want string
	}{
		{HookTCX, "net_admin net_raw sys_admin", "in a network namespace of its own"},
		{HookTCX, "net_admin net_raw bpf perfmon", refused},
		{HookTCX, "net_raw sys_admin", refused},
		{HookClsact, "net_admin net_raw sys_admin", "in a network namespace of its own"},
		{HookClsact, "net_admin net_raw bpf perfmon", refused},
		{HookNFTables, "net_admin net_raw sys_admin", "in a network namespace of its own"},
		{HookNFTables, "net_admin net_raw", "on devices of its own"},
		{HookNFTables, "net_raw sys_admin", refused},
	} {
		t.Run(c.hook+" with "+c.caps, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.name = c.hook
				w.kernelHas()
				w.wire()
				out, err := capsChild(c.caps, c.hook, index(w.eni))
				for range 5 {
					if !strings.Contains(string(out), errTooSlow.Error()) {
						break
					}
					out, err = capsChild(c.caps, c.hook, index(w.eni))
				}
				t.Logf("%s", out)
				if (err == nil) != (c.want != refused) || !strings.Contains(string(out), c.want) {
					t.Errorf("%v: %s", err, out)
				}
				if found, err := Find(""); err != nil || len(found) > 0 {
					t.Errorf("left: %d fences, error %v", len(found), err)
				}
			})
		})
	}
}

func capsChild(caps, hook string, device int) ([]byte, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FENCE_TEST_CHILD=caps", "FENCE_CAPS="+caps, "FENCE_HOOK="+hook, "FENCE_INDEX="+strconv.Itoa(device))
	return cmd.CombinedOutput()
}
