package scenario

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	readers      = 16
	readsASecond = 5000 // linearizable, at the leader, over its local socket
	readP99      = 10 * time.Millisecond
)

var appliedLine = regexp.MustCompile(`(?m)^havip_applied_index (\S+)$`)

// TestReadsWriteNothing: who asks where a HAVIP is all the time, of the leader and of a follower,
// makes no entry of the log, and gets the newest answer each time.
func TestReadsWriteNothing(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	leader := b.Leader()
	d := 500 * time.Millisecond
	if measuring() {
		d = 5 * time.Second
	}
	for _, row := range []struct {
		what, query string
		node        int
	}{
		{"linearizable at the leader", "", leader},
		{"linearizable at a follower", "", leader%3 + 1},
		{"stale at the leader", "?consistency=stale", leader},
	} {
		before, began := b.index(leader), time.Now()
		took := b.read(row.node, "/v1/placement"+row.query, d)
		grown, seconds := b.index(leader)-before, int(time.Since(began).Seconds())
		rate := float64(len(took)) / d.Seconds()
		t.Logf("%s: %.0f a second by %d readers, p50 %s, p99 %s, max %s; the log grew by %d", row.what, rate, readers,
			took[len(took)/2], took[len(took)*99/100], took[len(took)-1], grown)
		if int(grown) > len(took)/10+5*(1+seconds) { // what the cluster itself has to say
			t.Errorf("%s: %d reads, and the log grew by %d entries", row.what, len(took), grown)
		}
		if row.node == leader && row.query == "" {
			if rate < readsASecond || took[len(took)*99/100] > readP99 {
				timely(t, "%.0f reads a second, p99 %s; the budget is %d and %s", rate, took[len(took)*99/100], readsASecond, readP99)
			}
		}
	}
}

// index is how far the log of a node has been applied, without a question to the others.
func (b *Bed) index(node int) uint64 {
	b.t.Helper()
	answer, err := b.socketClient(node).Get("http://node/metrics")
	b.must(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	b.must(err)
	m := appliedLine.FindSubmatch(body)
	if m == nil {
		b.t.Fatalf("no havip_applied_index in %s", body)
	}
	index, err := strconv.ParseFloat(string(m[1]), 64)
	b.must(err)
	return uint64(index)
}

func (b *Bed) socketClient(node int) *http.Client {
	socket := filepath.Join(b.Cluster.DataDir(node), "havip.sock")
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: readers,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
}

// read asks a node for a path for so long, and returns how long each answer took, the shortest first.
func (b *Bed) read(node int, path string, d time.Duration) []time.Duration {
	b.t.Helper()
	client, end := b.socketClient(node), time.Now().Add(d)
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var all []time.Duration
	var failed atomic.Pointer[error]
	var work sync.WaitGroup
	for range readers {
		work.Go(func() {
			var mine []time.Duration
			for time.Now().Before(end) {
				start := time.Now()
				answer, err := client.Get("http://node" + path)
				if err != nil {
					failed.Store(&err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
				if answer.StatusCode != http.StatusOK {
					err = errors.New(answer.Status)
					failed.Store(&err)
					return
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	work.Wait()
	if err := failed.Load(); err != nil {
		b.t.Fatalf("after %d answers: %v", len(all), *err)
	}
	if len(all) == 0 {
		b.t.Fatal("no answer at all")
	}
	slices.Sort(all)
	return all
}
