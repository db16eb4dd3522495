package trial

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"havip-cluster/jepsen/history"
	"havip-cluster/jepsen/nemesis"
	"havip-cluster/jepsen/workload"
)

const (
	askTime    = 3 * time.Second
	startAgain = time.Second // between two attempts to start an agent
	wholePoll  = 50 * time.Millisecond
	scrapeTime = 2 * time.Second

	activateMax = 5 // attempts to take a standby back
)

// ErrNotWhole is returned when the cluster did not recover within recoverWait.
var ErrNotWhole = errors.New("trial: the cluster is not whole again")

// episodes leads through the schedule until the time or the number is up.
func (r *run) episodes(ctx context.Context) error {
	n := r.Episodes
	if n == 0 {
		n = episodesMax
	}
	end := time.Now().Add(r.Duration)
	for _, e := range nemesis.Schedule(r.Seed, r.Kinds, r.Nodes, n) {
		if ctx.Err() != nil || (r.Duration > 0 && time.Now().After(end)) {
			return nil
		}
		r.Log("%8v  %3d  %s", time.Duration(r.lab.Now()).Round(time.Second), e.Number, e.Name())
		if err := r.episode(ctx, e); err != nil {
			return fmt.Errorf("episode %d (%v): %w", e.Number, e.Faults, err)
		}
	}
	return nil
}

// episode is: clients begin, faults come and go, clients end, everything is healed and awaited,
// every node is read.
func (r *run) episode(ctx context.Context, e nemesis.Episode) error {
	plan := r.plan(e)
	working, done := context.WithCancel(ctx)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		r.client.Run(working, r.rec, plan)
	}()
	time.Sleep(quietTime)
	err := r.world.Break(e)
	done()
	if err == nil { // at once: clients go on asking until their last operation has ended
		err = r.recover(e.Name())
	}
	<-finished
	if err != nil {
		return err
	}
	if err := r.settle(ctx, plan); err != nil {
		return err
	}
	for _, name := range append(append([]string{}, plan.Names...), watched...) {
		for i := range r.Nodes {
			r.client.Final(ctx, r.rec, name, i+1)
		}
	}
	r.readChanges()
	r.sampleUsage()
	for _, name := range plan.Names {
		r.client.Delete(ctx, r.rec, "cleaner", name, 1+e.Number%r.Nodes)
	}
	return nil
}

// settle takes back what the clients may have left: a node in standby would own nothing for the
// rest of the run. Then every node has what was done.
func (r *run) settle(ctx context.Context, plan workload.Plan) error {
	for attempt := 0; plan.Standby != ""; attempt++ {
		op := r.client.Standby(ctx, r.rec, "cleaner", plan.Standby, false, 1)
		if op.Outcome == history.OK || ctx.Err() != nil {
			break
		}
		if attempt == activateMax {
			return fmt.Errorf("%w: %s is left in standby: %s %s", ErrNotWhole, plan.Standby, op.Outcome, op.Code)
		}
	}
	return r.caughtUp()
}

// plan is the work of an episode. The last node comes and goes, so no range names it.
func (r *run) plan(e nemesis.Episode) workload.Plan {
	p := workload.Plan{
		Watched: watched, Objects: map[string]string{}, Nodes: r.Nodes, Clients: clients, Pause: clientPause, Seed: e.Seed,
	}
	for i := range objects {
		name := fmt.Sprintf("e%d-%c", e.Number, 'a'+i)
		p.Names = append(p.Names, name)
		p.Objects[name] = r.lab.Address(byte(110 + (e.Number*objects+i)%80)).String() // others than those of the last episodes
	}
	for i := range r.Nodes - 1 {
		p.Members = append(p.Members, r.cluster.NodeName(i+1))
	}
	if e.Number%3 == 0 {
		p.Standby = r.cluster.NodeName(1 + e.Number%(r.Nodes-1))
	}
	return p
}

// recover heals what is left and waits until the cluster is whole.
func (r *run) recover(name string) error {
	if err := r.world.Heal(); err != nil {
		return err
	}
	healed := r.lab.Now()
	r.marks = append(r.marks, history.Mark{Kind: history.MarkHeal, At: healed, Text: name})
	if err := r.rejoin(); err != nil {
		r.marks = append(r.marks, history.Mark{Kind: history.MarkBroken, At: r.lab.Now(), Text: err.Error()})
		return err
	}
	err := r.awaitWhole(recoverWait)
	mark := history.Mark{Kind: history.MarkWhole, At: r.lab.Now()}
	if err != nil {
		mark.Kind, mark.Text = history.MarkBroken, err.Error()
		r.dump()
	}
	r.marks = append(r.marks, mark)
	return err
}

// dump has every agent write its stacks into its log, and end: for whoever looks for the reason.
func (r *run) dump() {
	for i := 1; i <= r.Nodes; i++ {
		if a, err := r.client.Do(context.Background(), i, http.MethodGet, "/v1/nodes?consistency=stale", "", nil); err == nil {
			r.Log("%s, index %d: %s", r.cluster.NodeName(i), a.Index, a.Body)
		}
		if pid, err := r.cluster.AgentPID(i); err == nil {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
		}
	}
	time.Sleep(time.Second)
}

// awaitWhole starts agents that have ended until all nodes take part.
func (r *run) awaitWhole(limit time.Duration) error {
	var last error
	started := map[int]time.Time{}
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(wholePoll) {
		for i := 1; i <= r.Nodes; i++ {
			if !r.world.Removed(i) && r.cluster.Gone(i) && time.Since(started[i]) > startAgain {
				started[i] = time.Now()
				if err := r.cluster.Start(i); err != nil {
					return err
				}
			}
		}
		if last = r.whole(); last == nil {
			return nil
		}
	}
	return fmt.Errorf("%w after %v: %w", ErrNotWhole, limit, last)
}

// whole says what is missing. An agent whose guard has ended is about to end, too: it hands over first, for seconds
// where it finds no leader, and is as alive as the others meanwhile.
func (r *run) whole() error {
	for i := 1; i <= r.Nodes; i++ {
		if !r.world.Removed(i) && !r.cluster.Running(i) {
			return fmt.Errorf("%s has no guard", r.cluster.NodeName(i))
		}
	}
	var nodes []node
	if err := r.anywhere("/v1/nodes", &nodes); err != nil {
		return err
	}
	if len(nodes) != r.Nodes {
		return fmt.Errorf("%d nodes, not %d", len(nodes), r.Nodes)
	}
	for _, n := range nodes {
		if n.Session == 0 || n.Status != "alive" || (n.Suffrage != "" && n.Suffrage != "voter") {
			return fmt.Errorf("%s: status %s, session %d, suffrage %q", n.Name, n.Status, n.Session, n.Suffrage)
		}
	}
	var owned []placement
	if err := r.anywhere("/v1/placement", &owned); err != nil {
		return err
	}
	for _, p := range owned {
		if p.Node == nil && slices.Contains(watched, p.Name) {
			return fmt.Errorf("%s has no owner", p.Name)
		}
	}
	return nil
}

// anywhere asks the nodes in turn.
func (r *run) anywhere(path string, v any) error {
	var err error
	for i := range r.Nodes {
		if err = r.client.Get(i+1, path, askTime, v); err == nil {
			return nil
		}
	}
	return err
}

// rejoin lets a node that the nemesis removed join again, with nothing on its disk.
func (r *run) rejoin() error {
	for i := 1; i <= r.Nodes; i++ {
		if !r.world.Removed(i) {
			continue
		}
		if err := r.removed(i); err != nil {
			return err
		}
		if err := r.world.Wipe(i); err != nil {
			return err
		}
		if err := r.cluster.JoinVia(1, i, "voter"); err != nil {
			return err
		}
		disk, err := r.newDisk(i)
		if err != nil {
			return err
		}
		r.world.Disks[i-1] = disk
		r.world.SetRemoved(i, false)
	}
	return nil
}

// removed makes sure that node i is no member and that its agent has ended. The removal may have
// failed, and the other fault of the episode may have killed whoever should end by itself.
func (r *run) removed(i int) error {
	name, last := r.cluster.NodeName(i), errors.New("not asked")
	for j := 1; j < i; j++ { // whoever leads must run
		if r.cluster.Gone(j) {
			if err := r.cluster.Start(j); err != nil {
				return err
			}
		}
	}
	for end := time.Now().Add(recoverWait); time.Now().Before(end); time.Sleep(10 * wholePoll) {
		var nodes []node
		if last = r.anywhere("/v1/nodes", &nodes); last != nil {
			continue
		}
		member := false
		for _, n := range nodes {
			member = member || n.Name == name
		}
		if !member {
			if r.cluster.Running(i) { // it was cut off and has not heard of it
				_ = r.cluster.Stop(i)
			}
			return r.cluster.AwaitEnd(i)
		}
		_, last = r.cluster.CLI(1, "node", "remove", name, "--timeout", "15s")
	}
	return fmt.Errorf("%w: %s is still a member: %w", ErrNotWhole, name, last)
}

// caughtUp waits until every node has applied what a linearizable read shows now.
func (r *run) caughtUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), recoverWait)
	defer cancel()
	for index := uint64(0); ; time.Sleep(wholePoll) {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: a node lags behind index %d", ErrNotWhole, index)
		}
		if index == 0 {
			if a, err := r.client.Do(ctx, 1, http.MethodGet, "/v1/placement", "", nil); err == nil && a.Status == http.StatusOK {
				index = a.Index
			}
		}
		behind := index == 0
		for i := 1; i <= r.Nodes && !behind; i++ {
			a, err := r.client.Do(ctx, i, http.MethodGet, "/v1/placement?consistency=stale", "", nil)
			behind = err != nil || a.Index < index
		}
		if !behind {
			return nil
		}
	}
}

// sampleUsage notes what every agent takes up now.
func (r *run) sampleUsage() {
	for i := 1; i <= r.Nodes; i++ {
		pid, err := r.cluster.AgentPID(i)
		if err != nil {
			continue // a node without samples makes the verdict unknown
		}
		u := history.Usage{Node: r.cluster.NodeName(i), At: r.lab.Now(), PID: pid, Goroutines: -1}
		u.RSS, u.Threads = procStatus(pid)
		if list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
			u.FDs = len(list)
		}
		_ = filepath.WalkDir(r.cluster.DataDir(i), func(_ string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil // what has just vanished is none
			}
			if info, err := e.Info(); err == nil {
				u.Files++
				u.Bytes += info.Size()
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
		if a, err := r.client.Do(ctx, i, http.MethodGet, "/metrics", "", nil); err == nil {
			u.Goroutines = goroutines(string(a.Body))
		}
		cancel()
		r.usage = append(r.usage, u)
	}
}

// procStatus reads VmRSS in bytes and Threads of a process (proc_pid_status(5)).
func procStatus(pid int) (rss int64, threads int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return -1, -1
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "VmRSS:":
			rss = n << 10
		case "Threads:":
			threads = int(n)
		}
	}
	return rss, threads
}

// goroutines finds go_goroutines among metrics; -1 if it is not there.
func goroutines(metrics string) int {
	for line := range strings.Lines(metrics) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "go_goroutines "); ok {
			if n, err := strconv.Atoi(text); err == nil {
				return n
			}
		}
	}
	return -1
}
