package scenario

import (
	"fmt"
	"os/exec"
	"regexp"
	"time"
)

// freezes stalls every write of a node's disk for a time, and returns when it is over. A child thaws it, whatever becomes of this process.
func (w *watched) freezes(node int, length time.Duration) {
	began := time.Now()
	out, err := exec.Command("sh", "-c", fmt.Sprintf(`fsfreeze -f "$0" && sleep %.3f; fsfreeze -u "$0"`, length.Seconds()), w.Cluster.DataDir(node)).CombinedOutput()
	if err != nil {
		w.t.Errorf("freeze: %v: %s", err, out)
	}
	if took := time.Since(began); took > length+5*time.Second {
		w.t.Logf("a freeze of %s took %s", length, took)
	}
}

// busy writes to the log until stop.
func (w *watched) busy(at int) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			case <-time.After(100 * time.Millisecond):
				_, _ = w.Cluster.CLI(at, "havip", "update", "web", "--description", fmt.Sprint("entry ", i))
			}
		}
	}()
	return func() { close(ended); <-done }
}

// logStalled: the disk of a node takes no write for half a minute, and comes back.
func (w *watched) logStalled() {
	w.t.Helper()
	const node = 3
	w.names = map[string]string{"NODE": w.Cluster.NodeName(node)}
	over := make(chan struct{})
	go func() { defer close(over); w.freezes(node, 30*time.Second) }()
	stop := w.busy(1)
	w.raised()
	const says = "its disk does not take the log's writes"
	w.types(node, "havip-cluster status", says)
	w.types(1, "havip-cluster node standby NODE")
	<-over
	stop()
	w.does("It comes back: nothing has to be done")
	w.ended()
	w.lacks(node, "havip-cluster status", says)
	w.types(1, "havip-cluster node activate NODE")
}

// logSlow: each write of a node's disk takes up to 0.6 s.
func (w *watched) logSlow() {
	w.t.Helper()
	const node = 3
	stop := w.busy(1)
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ended:
				return
			case <-time.After(200 * time.Millisecond):
				w.freezes(node, 600*time.Millisecond)
			}
		}
	}()
	w.raised()
	w.prints(node, "havip-cluster preflight", "the slowest of 16 flushes took")
	w.does("iostat -x 1 5")
	w.types(1, "havip-cluster cluster set lease=1s")
	close(ended)
	<-done
	w.ended()
	stop()
	w.does("names less than 250 ms")
	w.within(alertWait, "the disk is as fast as the text says", func() bool {
		out, _ := w.Cluster.CLI(node, "preflight")
		m := regexp.MustCompile(`flushes took ([0-9.µm]+s)`).FindSubmatch(out)
		if m == nil {
			return false
		}
		took, err := time.ParseDuration(string(m[1]))
		return err == nil && took < 250*time.Millisecond
	})
}
