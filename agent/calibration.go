package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"havip-cluster/agent/preflight"
	"havip-cluster/api"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
)

const (
	calibrationWait = 2 * time.Second         // for the answers of the other nodes
	syncsEach       = 4                       // flushes for one answer
	syncsWait       = calibrationWait * 3 / 4 // then the disk is given up, so that the rest of the answer arrives
	userHZ          = 100                     // of /proc/stat, on every architecture that Go runs on (proc(5))
)

// Calibration implements api.Backend: all nodes are asked at once.
func (b *backend) Calibration(ctx context.Context, seconds int, flush bool) []api.NodeCalibration {
	ctx, cancel := context.WithTimeout(ctx, calibrationWait)
	defer cancel()
	nodes := slices.DeleteFunc(b.State().NodeList(), func(n fsm.Node) bool { return n.Role == fsm.RoleWitness })
	out := make([]api.NodeCalibration, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			if n.ID == b.Self() {
				out[i] = b.OwnCalibration(seconds, flush)
				return
			}
			told, err := b.client(n).OwnCalibration(ctx, seconds, flush)
			if told.Node = n.Name; err != nil {
				told = api.NodeCalibration{Node: n.Name, Problem: err.Error(), Seconds: []api.CalibrationSecond{}}
			}
			out[i] = told
		})
	}
	all.Wait()
	return out
}

// OwnCalibration implements api.Backend.
func (b *backend) OwnCalibration(seconds int, sync bool) api.NodeCalibration {
	s := b.State()
	out := api.NodeCalibration{
		Node: s.NodeName(b.Self()), LeaseMS: s.Cluster.Lease.Milliseconds(), Plane: b.Local().Plane, Seconds: []api.CalibrationSecond{}, StealUS: stolen().Microseconds(),
	}
	if sync {
		worst, err := b.slowestSync(syncsWait, func() (time.Duration, error) { return preflight.SlowestSync(b.id.Dir, syncsEach) })
		if err != nil {
			out.Problem = err.Error()
		}
		out.SyncUS = worst.Microseconds()
	}
	if b.member.Session == nil {
		return out
	}
	boot, wall := int64(ports.Boot())/int64(time.Second), time.Now().Unix()
	for _, c := range b.member.Session.Course(boot - int64(seconds)) {
		out.Seconds = append(out.Seconds, api.CalibrationSecond{
			At: wall - boot + c.At, Renewals: c.Rounds, Answered: c.Answered, TookOver: c.TookOver,
			LateUS: c.Late.Microseconds(), TripUS: c.Trip.Microseconds(), LeastUS: c.Least.Microseconds(),
		})
	}
	return out
}

// slowestSync flushes the disk, for all who ask at the same time at once: on a disk that hangs one flush
// hangs, however often it is asked for.
func (b *backend) slowestSync(wait time.Duration, flush func() (time.Duration, error)) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	worst, err := b.flushes.Do(ctx, flush)
	if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return 0, fmt.Errorf("its disk has not flushed within %s; that flush, or an earlier one, is still under way", wait)
	}
	return worst, err
}

// stolen is the time that the hypervisor has taken from all cores since the boot, 0 where nothing says so.
func stolen() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return stealOf(string(text))
}

// stealOf reads the eighth figure of the first line of /proc/stat (proc(5)).
func stealOf(stat string) time.Duration {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0
	}
	ticks, err := strconv.ParseInt(fields[8], 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(ticks) * time.Second / userHZ
}
