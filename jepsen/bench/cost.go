package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Cost is what the node that needs most needs while nothing changes.
type Cost struct {
	Contender string
	Voters    int
	HAVIPs    int
	// CPU is in percent of one core.
	CPU float64
	// RSS and PSS are MB of all processes of the node together; a page that several share counts for each
	// in RSS, and in part in PSS (proc_pid_smaps(5)).
	RSS, PSS float64
	// Packets and Bytes of the node's device, both directions, each second.
	Packets, Bytes float64
	// Written is MB to disk in a day (write_bytes of proc_pid_io(5)).
	Written float64
}

const (
	costWait  = 10 * time.Second
	costCalm  = 5 * time.Second // before
	userHertz = 100             // USER_HZ, in which /proc/PID/stat counts (proc_pid_stat(5))
)

// used counts from the begin of a node's processes.
type used struct {
	cpu                     time.Duration
	rss, pss                uint64 // bytes, now
	packets, bytes, written uint64
}

func (u used) since(was used, took time.Duration) Cost {
	s := took.Seconds()
	return Cost{
		CPU: 100 * (u.cpu - was.cpu).Seconds() / s, RSS: float64(u.rss) / 1e6, PSS: float64(u.pss) / 1e6,
		Packets: float64(u.packets-was.packets) / s, Bytes: float64(u.bytes-was.bytes) / s,
		Written: float64(u.written-was.written) / s * 86400 / 1e6,
	}
}

// cost measures while nobody asks for anything.
func (b *bed) cost(ctx context.Context, r *results) error {
	if _, err := b.ready(ctx, fault{lead: anyone}); err != nil {
		return err
	}
	if b.swarm == nil {
		return b.rest(ctx, r)
	}
	b.swarm.Stop()
	return errors.Join(b.rest(ctx, r), b.ask(ctx))
}

// rest is cost once nobody asks.
func (b *bed) rest(ctx context.Context, r *results) error {
	time.Sleep(costCalm)
	var before []used
	for i := range b.lab.Nodes() {
		u, err := b.used(i + 1)
		if err != nil {
			return err
		}
		before = append(before, u)
	}
	start := time.Now()
	select {
	case <-time.After(costWait):
	case <-ctx.Done():
		return ctx.Err()
	}
	worst := Cost{CPU: -1}
	for i := range b.lab.Nodes() {
		u, err := b.used(i + 1)
		if err != nil {
			return err
		}
		if c := u.since(before[i], time.Since(start)); c.CPU > worst.CPU {
			worst = c
		}
	}
	worst.Contender, worst.Voters, worst.HAVIPs = b.scene.contender.name, b.scene.voters, b.scene.havips
	r.Costs = append(r.Costs, worst)
	fmt.Fprintf(os.Stderr, "%s, at rest: %.1f %% of a core, %.0f MB, %.0f packets/s, %.1f MB written a day\n", b.scene, worst.CPU, worst.RSS, worst.Packets, worst.Written)
	return nil
}

// used reads what a node has used so far.
func (b *bed) used(node int) (u used, err error) {
	pids, err := b.contender.Processes(node)
	if err != nil {
		return u, err
	}
	for _, pid := range pids {
		if err := u.process(pid); err != nil {
			return u, err
		}
	}
	host := b.lab.Node(node)
	err = host.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
			f := strings.Fields(rest)
			if !ok || name != host.Device(0) || len(f) < 10 {
				continue
			}
			u.bytes, u.packets = number(f[0])+number(f[8]), number(f[1])+number(f[9])
		}
		return nil
	})
	return u, err
}

func (u *used) process(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from field 3 on
	ticks := number(fields[14-3]) + number(fields[15-3])                      // utime, stime
	u.cpu += time.Duration(ticks) * time.Second / userHertz
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return err
	}
	u.rss += labelled(rollup, "Rss:") << 10
	u.pss += labelled(rollup, "Pss:") << 10
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return err
	}
	u.written += labelled(io, "write_bytes:")
	return nil
}

// labelled is the number behind a word at the begin of a line.
func labelled(text []byte, label string) uint64 {
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == label {
			return number(f[1])
		}
	}
	return 0
}

// number is 0 of what is none: the files of the kernel have none there only in a line that is not read.
func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}
