package nemesis

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/jepsen/faults"
	"havip-cluster/jepsen/netns"
)

// begin breaks something and returns what, and how to heal it.
type begin func(w *World, p Planned, rng *rand.Rand) (target string, end func() error, err error)

// begins has one for each fault of the catalogue that trials play.
var begins map[string]begin

func init() { // not a literal: the functions look kinds up
	begins = map[string]begin{
		"partition":    partition,
		"isolate":      isolate,
		"bridge":       bridge,
		"one-way out":  oneWayOut,
		"one-way in":   oneWayIn,
		"loss":         loss,
		"link down":    linkDown,
		"freeze agent": freeze(agentOnly),
		"freeze guard": freeze(guardOnly),
		"freeze both":  freeze(both),
		"kill agent":   killAgent,
		"kill guard":   killGuard,
		"kill both":    killBoth,
		"kill leader":  killLeader,
		"kill all":     killAll,
		"restart":      restart,
		"stop":         stop,
		"membership":   membership,
		"slow disk":    slowDisk,
		"hung disk":    hungDisk,
		"failing disk": failingDisk,
		"full disk":    fullDisk,
		"other clock":  otherClock,
		"busy cores":   busyCores,
	}
}

// Names returns the names of all kinds.
func Names() []string { return faults.Trials() }

// outage: see faults.Fault.
func outage(name string) bool {
	return slices.ContainsFunc(faults.Catalogue, func(f faults.Fault) bool { return f.Name == name && f.Outage })
}

// partition cuts the LAN in two; clients reach both sides.
func partition(w *World, p Planned, rng *rand.Rand) (string, func() error, error) {
	hosts := w.lab().Nodes()
	first := w.lab().Node(w.pick(p))
	rest := w.others(w.pick(p))
	rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	size := rng.IntN((len(hosts) - 1) / 2) // beside the first: a minority
	minority := append([]*netns.Host{first}, rest[:size]...)
	text := ""
	for _, h := range minority {
		text += h.Name + " "
	}
	return text + "| rest", w.whole, w.lab().Partition(minority, rest[size:])
}

func (w *World) whole() error { return w.lab().Partition() }

func isolate(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	heal, err := faults.Isolate(w.lab(), n)
	return w.Cluster.NodeName(n), heal, err
}

// bridge cuts two nodes from each other, while both reach the rest.
func bridge(w *World, p Planned, rng *rand.Rand) (string, func() error, error) {
	a := w.pick(p)
	rest := w.others(a)
	b := rest[rng.IntN(len(rest))]
	rest = slices.DeleteFunc(rest, func(h *netns.Host) bool { return h == b })
	one, two := append([]*netns.Host{w.lab().Node(a)}, rest...), append([]*netns.Host{b}, rest...)
	return w.Cluster.NodeName(a) + " | " + b.Name, w.whole, w.lab().Partition(one, two)
}

func oneWayOut(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	var err error
	for _, h := range w.others(n) {
		err = errors.Join(err, w.lab().OneWay(w.lab().Node(n), h))
	}
	return w.Cluster.NodeName(n) + " is not heard", w.whole, err
}

func oneWayIn(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	var err error
	for _, h := range w.others(n) {
		err = errors.Join(err, w.lab().OneWay(h, w.lab().Node(n)))
	}
	return w.Cluster.NodeName(n) + " is deaf", w.whole, err
}

func loss(w *World, _ Planned, rng *rand.Rand) (string, func() error, error) {
	percent := float64(5 + rng.IntN(46))
	return fmt.Sprintf("%.0f %%", percent), func() error { return w.lab().Loss(0) }, w.lab().Loss(percent)
}

func linkDown(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	heal, err := faults.LinkDown(w.lab(), n)
	return w.Cluster.NodeName(n), heal, err
}

// Which processes of a node a freeze is for.
const (
	agentOnly = iota
	guardOnly
	both
)

func freeze(which int) func(*World, Planned, *rand.Rand) (string, func() error, error) {
	return func(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
		n := w.pick(p)
		if !w.Cluster.Running(n) {
			return "", nil, ErrNothing
		}
		send := func(sig syscall.Signal) error {
			if which == both {
				return w.Cluster.Kill(n, sig)
			}
			pid, err := w.Cluster.AgentPID(n)
			if which == guardOnly {
				pid, err = w.Cluster.GuardPID(n)
			}
			if err != nil {
				return errors.Join(ErrNothing, err)
			}
			return unix.Kill(pid, sig)
		}
		end := func() error {
			if err := send(syscall.SIGCONT); err != nil && !errors.Is(err, ErrNothing) {
				return err
			}
			return nil
		}
		return w.Cluster.NodeName(n), end, send(syscall.SIGSTOP)
	}
}

// dead is for what the other fault of an episode has broken first: a process that had ended, a
// disk that is gone. Then there is nothing to break.
func dead(err error) error {
	if err != nil {
		return errors.Join(ErrNothing, err)
	}
	return nil
}

func killAgent(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	return w.Cluster.NodeName(n), nil, dead(w.Cluster.KillAgent(n))
}

func killGuard(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	_, err := w.Cluster.KillGuard(n)
	return w.Cluster.NodeName(n), nil, dead(err)
}

func killBoth(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	return w.Cluster.NodeName(n), nil, dead(w.Cluster.Kill(n, syscall.SIGKILL))
}

func killLeader(w *World, p Planned, rng *rand.Rand) (string, func() error, error) {
	p.Role = Leader
	return killBoth(w, p, rng)
}

func killAll(w *World, _ Planned, _ *rand.Rand) (string, func() error, error) {
	for i := range w.nodes() {
		if w.Cluster.Running(i + 1) {
			if err := w.Cluster.Kill(i+1, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return "", nil, err
			}
		}
	}
	return "every node", nil, nil
}

func restart(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	if !w.Cluster.Running(n) {
		return "", nil, ErrNothing
	}
	err := w.Cluster.Stop(n)
	if errors.Is(err, netns.ErrTimeout) {
		w.Log("restart: %v", err) // it was cut off or frozen by another fault, and is dead now
	}
	return w.Cluster.NodeName(n), nil, w.start(n)
}

func stop(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	if !w.Cluster.Running(n) {
		return "", nil, ErrNothing
	}
	if err := w.Cluster.Stop(n); err != nil {
		w.Log("stop: %v", err)
	}
	return w.Cluster.NodeName(n), nil, nil
}

// start starts the agent of a node, unless another fault at work has done so meanwhile.
func (w *World) start(i int) error {
	err := w.Cluster.Start(i)
	if errors.Is(err, netns.ErrRuns) {
		w.Log("%v", err)
		return nil
	}
	return err
}

// membership removes a node for good; it joins again, with an empty data directory, when the
// episode is recovered from.
func membership(w *World, _ Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.nodes()
	via := 1
	if leader := w.Leader(); leader != 0 && leader != n {
		via = leader
	}
	w.SetRemoved(n, true)
	if _, err := w.Cluster.CLI(via, "node", "remove", w.Cluster.NodeName(n), "--timeout", "15s"); err != nil {
		w.Log("membership: %v", err) // with an unknown outcome; who recovers looks
	}
	return w.Cluster.NodeName(n), nil, nil
}

// Wipe puts the data directory of a removed node aside; its agent must have ended.
func (w *World) Wipe(i int) error {
	dir := w.Cluster.DataDir(i)
	_ = unix.Unmount(filepath.Join(dir, "bpf"), unix.MNT_DETACH)
	return errors.Join(w.Disks[i-1].Close(), os.RemoveAll(dir))
}

func slowDisk(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	return w.Cluster.NodeName(n), nil, dead(w.Disks[n-1].Slow(p.Length))
}

func hungDisk(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	return w.Cluster.NodeName(n), nil, dead(w.Disks[n-1].Hang(p.Length))
}

// failingDisk gives I/O errors until the node's processes have ended; it is another disk then.
func failingDisk(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	end := func() error {
		if w.Cluster.Running(n) {
			if err := w.Cluster.Kill(n, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		}
		if err := w.Cluster.AwaitEnd(n); err != nil {
			return err
		}
		return w.Disks[n-1].Repair()
	}
	return w.Cluster.NodeName(n), end, dead(w.Disks[n-1].Fail())
}

func fullDisk(w *World, p Planned, _ *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	return w.Cluster.NodeName(n), w.Disks[n-1].Empty, dead(w.Disks[n-1].Fill())
}

// otherClock starts a node again with clocks that are ahead by up to 30 days.
func otherClock(w *World, p Planned, rng *rand.Rand) (string, func() error, error) {
	n := w.pick(p)
	seconds := 1 + rng.Int64N(30*24*3600)
	w.Cluster.ShiftClock(n, seconds)
	if w.Cluster.Running(n) {
		if err := w.Cluster.Stop(n); err != nil {
			w.Log("other clock: %v", err)
		}
	}
	end := func() error { // recovery starts it with the machine's clock again
		w.Cluster.ShiftClock(n, 0)
		if w.Cluster.Running(n) {
			if err := w.Cluster.Stop(n); err != nil { // with another fault at work; it has ended in any case
				w.Log("other clock: %v", err)
			}
		}
		return nil
	}
	return fmt.Sprintf("%s is %v ahead", w.Cluster.NodeName(n), time.Duration(seconds)*time.Second), end, w.start(n)
}

// busyNice is the priority that the agents have.
const busyNice = -15

// busyCores keeps every core busy, at the agents' own priority.
func busyCores(_ *World, _ Planned, _ *rand.Rand) (string, func() error, error) {
	var burners []*exec.Cmd
	end := func() error {
		for _, c := range burners {
			_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
			_ = c.Wait()
		}
		return nil
	}
	for range 2 * runtime.NumCPU() {
		// It ends by itself, too, should this process die first.
		c := exec.Command("timeout", "--foreground", "15", "sh", "-c", "while :; do :; done")
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			return "", nil, errors.Join(err, end())
		}
		burners = append(burners, c)
		_ = unix.Setpriority(unix.PRIO_PROCESS, c.Process.Pid, busyNice)
	}
	return fmt.Sprintf("%d processes", len(burners)), end, nil
}
