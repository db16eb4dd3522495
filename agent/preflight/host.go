package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/internal/realtime"
	"havip-cluster/netdev"
	"havip-cluster/netdev/fence"
)

// kernel says which kernel runs. What it can do is shown by the fence's proof, not by its number.
func kernel(context.Context, Options) []Finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return []Finding{fault("kernel", "", "uname: %v", err)}
	}
	return []Finding{ok("kernel", "%s %s", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]))}
}

// needed are the capabilities without which a node does not work (capabilities(7)), and what for.
var needed = []struct {
	bit  uint
	name string
	what string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "addresses, routes and the fence"},
	{unix.CAP_NET_RAW, "CAP_NET_RAW", "ARP and neighbour discovery"},
}

// rights looks at the effective capabilities of this process.
func rights(context.Context, Options) []Finding {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return []Finding{fault("rights", "mount /proc", "%v", err)}
	}
	var have uint64
	for line := range strings.Lines(string(text)) {
		if value, is := strings.CutPrefix(line, "CapEff:"); is {
			have, _ = strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	var out []Finding
	for _, n := range needed {
		if have&(1<<n.bit) == 0 {
			out = append(out, fault("rights", "run as root, or give the unit or container "+n.name, "%s is missing, which %s need", n.name, n.what))
		}
	}
	if have&(1<<unix.CAP_SYS_ADMIN) == 0 { // CAP_BPF makes programs, but finds none again
		out = append(out, warning("rights", "give it CAP_SYS_ADMIN", "without CAP_SYS_ADMIN only the nftables fence is possible"))
	}
	if len(out) == 0 {
		out = append(out, ok("rights", "all capabilities that a node needs"))
	}
	return out
}

// proofWait bounds the proof of one kind of fence.
const proofWait = 10 * time.Second

// fences proves each kind, best first, as the agent does at its start; only one has to hold.
func fences(ctx context.Context, _ Options) []Finding {
	var out []Finding
	proved := false
	for _, hook := range []string{fence.HookTCX, fence.HookClsact, fence.HookNFTables} {
		proving, cancel := context.WithTimeout(ctx, proofWait)
		p, err := fence.Prove(proving, fence.Config{}, hook)
		cancel()
		if err == nil {
			proved = true
			out = append(out, ok("fence", "%s: silence outlives its process, %s", hook, p))
			continue
		}
		out = append(out, warning("fence", "nothing, if another kind is proved", "%s: %v", hook, err))
	}
	if !proved {
		out = append(out, fault("fence", "a kernel with eBPF (5.8) or nftables, and CAP_NET_ADMIN; `agent --no-fence` does without, at the risk that its help text names",
			"no kind of fence is possible: a killed agent's HAVIPs would go on answering"))
	}
	return out
}

// sysctls says what an agent would change, and what it cannot.
func sysctls(context.Context, Options) []Finding {
	enis, _, err := netdev.Inventory(nil, nil)
	if err != nil {
		return []Finding{fault("sysctl", "", "the interfaces cannot be listed: %v", err)}
	}
	var names []string
	for _, e := range enis {
		names = append(names, e.Device)
	}
	reader := netdev.NewSettings()
	defer reader.Close()
	settings, err := reader.Read(names)
	if err != nil {
		return []Finding{fault("sysctl", "mount /proc/sys", "%v", err)}
	}
	var out []Finding
	for _, name := range names {
		s, known := settings[name]
		if !known {
			continue
		}
		if err := s.Fault(); err != nil {
			out = append(out, fault("sysctl", "sysctl -w net.ipv4.conf.all.arp_ignore=1", "%s: %v", name, err))
			continue
		}
		for _, c := range netdev.Want(s, false) {
			out = append(out, ok("sysctl", "%s of %s is %d; the agent sets it to %d before a HAVIP comes there", c.Key, c.Device, c.Old, c.New))
		}
	}
	if err := unix.Access("/proc/sys/net/ipv4/conf/all/arp_ignore", unix.W_OK); err != nil {
		out = append(out, warning("sysctl", "mount /proc/sys writable, or set arp_ignore=1 and arp_announce=2 on the devices yourself", "/proc/sys/net cannot be written: %v", err))
	}
	if len(out) == 0 {
		out = append(out, ok("sysctl", "nothing has to be changed on %s", strings.Join(names, ", ")))
	}
	return out
}

// niceWanted is what agent and guard ask for.
const niceWanted = -15

// priority says whether this process may have the priority that a busy host needs.
func priority(context.Context, Options) []Finding {
	runtime.LockOSThread() // the nice value is the thread's
	defer runtime.UnlockOSThread()
	before, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 minus the nice value (getpriority(2))
	if err == nil {
		if err = unix.Setpriority(unix.PRIO_PROCESS, 0, niceWanted); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 20-before)
		}
	}
	var out []Finding
	if err != nil {
		out = append(out, warning("priority", "give the unit or container CAP_SYS_NICE", "nice %d is refused (%v): on a busy host a node may renew too late", niceWanted, err))
	} else {
		out = append(out, ok("priority", "nice %d is permitted", niceWanted))
	}
	budget, err := readNumber("/proc/sys/kernel/sched_rt_runtime_us")
	switch {
	case err != nil:
		out = append(out, ok("priority", "real-time budget: not known here"))
	case budget == 0:
		out = append(out, warning("priority", "sysctl -w kernel.sched_rt_runtime_us=950000", "the real-time budget is 0: no real-time thread gets a core"))
	default:
		out = append(out, ok("priority", "real-time budget: kernel.sched_rt_runtime_us=%d", budget))
	}
	return append(out, realTime())
}

// realTime tries what the threads that renew and answer ask for (internal/realtime).
func realTime() Finding {
	err := realtime.TryPriority()
	if err == nil {
		return ok("real time", "SCHED_RR %d is permitted for what renews and answers", realtime.Priority)
	}
	do := "nothing, with leases of 500 ms and more"
	if r, is := errors.AsType[*realtime.Refusal](err); is && r.Do != "" {
		return warning("real time", r.Do, "no real-time priority for what renews and answers: %s; a busy host needs a longer lease, such as 500ms", r.Why)
	}
	return warning("real time", do, "no real-time priority for what renews and answers: %v; a busy host needs a longer lease, such as 500ms", err)
}

// memory says whether this process may lock its memory. Nothing is locked.
func memory(context.Context, Options) []Finding {
	if err := realtime.MayLock(); err != nil {
		return []Finding{warning("memory", err.Do, "it cannot be locked: %s; where memory is short, what renews may wait for a disk", err.Why)}
	}
	return []Finding{ok("memory", "it can be locked")}
}

func readNumber(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

const (
	syncRuns = 16
	syncSlow = 50 * time.Millisecond // a tenth of the lease of profile lan
)

// disk writes and flushes a small file where the log will be.
func disk(_ context.Context, o Options) []Finding {
	folder := o.Dir
	for {
		if info, err := os.Stat(folder); err == nil && info.IsDir() {
			break
		}
		if up := filepath.Dir(folder); up != folder {
			folder = up
			continue
		}
		return []Finding{fault("disk", "", "%s: nothing above it exists", o.Dir)}
	}
	worst, err := SlowestSync(folder, syncRuns)
	switch {
	case err != nil:
		return []Finding{fault("disk", "make it writable, or name another --data-dir", "%s: %v", folder, err)}
	case worst > syncSlow:
		return []Finding{warning("disk", "a faster disk for --data-dir, or a longer lease", "the slowest of %d flushes took %s: changes wait for it, running leases do not", syncRuns, worst.Round(time.Millisecond))}
	}
	return []Finding{ok("disk", "%s: the slowest of %d flushes took %s", folder, syncRuns, worst.Round(10*time.Microsecond))}
}

// SlowestSync writes and flushes a small file in a folder n times (fdatasync(2)). The file has no name by then,
// so nothing is left of a process that dies of it.
func SlowestSync(folder string, n int) (worst time.Duration, err error) {
	f, err := os.CreateTemp(folder, ".flush")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return 0, err
	}
	for range n {
		start := time.Now()
		if _, err := f.Write(make([]byte, 512)); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, fmt.Errorf("flush: %w", err)
		}
		worst = max(worst, time.Since(start))
	}
	return worst, nil
}

// clock asks the kernel whether its clock follows others (adjtimex(2)). Leases do not need that; certificates and
// the times in events do.
func clock(context.Context, Options) []Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return []Finding{ok("clock", "%s; whether it is synchronised cannot be asked here: %v", time.Now().UTC().Format(time.RFC3339), err)}
	}
	const timeError = 5 // TIME_ERROR, timex.h
	if state == timeError || t.Status&unix.STA_UNSYNC != 0 {
		return []Finding{warning("clock", "run chrony or systemd-timesyncd", "%s, and nothing keeps it right: leases do not need it, certificates and the times in events do", time.Now().UTC().Format(time.RFC3339))}
	}
	return []Finding{ok("clock", "%s, synchronised", time.Now().UTC().Format(time.RFC3339))}
}

// sorted gives the names once, in order.
func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
