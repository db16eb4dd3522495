package scenario

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	idleWait   = 10 * time.Second // CPU and log are watched for so long
	idleCPU    = 0.02             // of a core, each node
	idleRSS    = 60 << 20         // bytes, agent and guard together, up to 1,000 HAVIPs
	readBudget = 100 * time.Millisecond
	readRuns   = 5
	userHertz  = 100 // USER_HZ, in which /proc/PID/stat counts (proc_pid_stat(5))
)

// usage is what the processes of one node have used and hold.
type usage struct {
	cpu time.Duration
	rss int
	pss int    // as rss, but a page that several processes share counts for each in part
	of  string // the resident memory of each process
	log int    // bytes
}

func (s *sizes) usage(node int) usage {
	s.t.Helper()
	guard, err := s.Cluster.GuardPID(node)
	s.must(err)
	agent, err := s.Cluster.AgentPID(node)
	s.must(err)
	var u usage
	for _, pid := range []int{guard, agent} {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		s.must(err)
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from field 3 on
		for _, i := range []int{14, 15} {                                         // utime, stime
			ticks, err := strconv.Atoi(fields[i-3])
			s.must(err)
			u.cpu += time.Duration(ticks) * time.Second / userHertz
		}
		pages, err := strconv.Atoi(fields[24-3])
		s.must(err)
		u.rss += pages * os.Getpagesize()
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		s.must(err)
		kinds := map[string]int{}
		for line := range strings.Lines(string(rollup)) {
			if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
				kinds[f[0]], err = strconv.Atoi(f[1])
				s.must(err)
			}
		}
		u.pss += kinds["Pss:"] << 10
		u.of += fmt.Sprintf(" %d kB (%d of its own)", kinds["Rss:"], kinds["Pss_Anon:"])
	}
	info, err := os.Stat(s.Cluster.LogPath(node))
	s.must(err)
	u.log = int(info.Size())
	return u
}

// get reads a path from the local socket of a node.
func (s *sizes) get(node int, path string) ([]byte, error) {
	socket := filepath.Join(s.Cluster.DataDir(node), "havip.sock")
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	answer, err := client.Get("http://node" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, answer.Status, body)
	}
	return body, err
}

// reads measures what people and monitors ask for most, at every node.
func (s *sizes) reads() {
	s.t.Helper()
	for _, path := range []string{"/v1/status", "/v1/placement", "/v1/havips", "/metrics"} {
		stop := s.profiles("reads" + strings.ReplaceAll(path, "/", "-"))
		for node := 1; node <= 3; node++ {
			var took []time.Duration
			length := 0
			for range readRuns {
				start := time.Now()
				body, err := s.get(node, path)
				s.must(err)
				took, length = append(took, time.Since(start)), len(body)
			}
			slices.Sort(took)
			s.t.Logf("GET %s at node-%d: p50 %s, max %s, %d bytes", path, node, took[readRuns/2].Round(100*time.Microsecond), took[readRuns-1].Round(100*time.Microsecond), length)
			if took[readRuns/2] > readBudget && path != "/v1/havips" {
				timely(s.t, "GET %s at node-%d takes %s, the budget is %s", path, node, took[readRuns/2], readBudget)
			}
		}
		stop()
	}
}

// profile keeps a CPU profile of a node while others wait, if HAVIP_PROFILE names a folder for it.
func (s *sizes) profile(node int, name string, seconds int) {
	folder := os.Getenv("HAVIP_PROFILE")
	if folder == "" {
		return
	}
	body, err := s.get(node, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s-node%d.pprof", name, node)), body, 0o600)
	}
	if err != nil {
		s.t.Logf("profile: %v", err)
	}
}

// timelines keeps those of a fault, if HAVIP_PROFILE names a folder for them.
func (s *sizes) timelines(name string) {
	folder := os.Getenv("HAVIP_PROFILE")
	if folder == "" {
		return
	}
	time.Sleep(4 * time.Second) // until owners have told all and the log has it
	s.must(os.WriteFile(filepath.Join(folder, name+"-failovers.json"), s.CLI(1, "failovers", "-o", "json"), 0o600))
}

// profiles takes CPU profiles of nodes 1 and 3 for a moment, along with what goes on.
func (s *sizes) profiles(name string) (wait func()) {
	var both sync.WaitGroup
	for _, node := range []int{1, 3} {
		both.Go(func() { s.profile(node, name, 2) })
	}
	if os.Getenv("HAVIP_PROFILE") != "" {
		time.Sleep(100 * time.Millisecond) // until they have begun
	}
	return both.Wait
}

// A cluster with many HAVIPs, in which nothing changes, costs next to nothing, says nothing, and
// answers quickly who asks.
func TestSizeIdle(t *testing.T) {
	s := newSizes(t)
	s.formAll()
	s.ask()
	s.spread(2)
	s.spread(3)
	s.swarm.Stop()
	time.Sleep(idleWait / 2)
	var before []usage
	for node := 1; node <= 3; node++ {
		before = append(before, s.usage(node))
	}
	start := time.Now()
	time.Sleep(idleWait)
	for node := 1; node <= 3; node++ {
		now, was := s.usage(node), before[node-1]
		cpu := (now.cpu - was.cpu).Seconds() / time.Since(start).Seconds()
		t.Logf("node-%d, %d HAVIPs, nothing changes: %.1f %% of a core, RSS of guard and agent %d MB, PSS %d MB:%s; %d bytes of log", node, len(s.list), 100*cpu, now.rss>>20, now.pss>>20, now.of, now.log-was.log)
		if cpu > idleCPU && len(s.list) <= 1000 {
			timely(t, "node-%d needs %.1f %% of a core", node, 100*cpu)
		}
		if now.rss > idleRSS && len(s.list) <= 1000 {
			timely(t, "node-%d holds %d MB", node, now.rss>>20)
		}
		if now.log != was.log {
			t.Errorf("node-%d said something while nothing changed:\n%s", node, s.Cluster.Tail(node))
		}
	}
	s.profile(2, "idle", 8)
	s.reads()
}
