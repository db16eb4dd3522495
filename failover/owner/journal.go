package owner

import (
	"context"
	"time"

	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
)

const (
	journalPending = 256             // events that wait to be reported; more are dropped, the log file has them
	journalQuiet   = 5 * time.Second // between two events of one kind about one HAVIP
	journalKeys    = 1024            // kinds and HAVIPs whose last event is remembered
)

// journal reports to the cluster what this node sees at its own interfaces, so that
// `events` tells it on every node. What repeats is told once in journalQuiet.
type journal struct {
	cfg   Config
	queue chan fsm.ReportEvent
}

func newJournal(cfg Config) *journal {
	return &journal{cfg: cfg, queue: make(chan fsm.ReportEvent, journalPending)}
}

// ReportFault tells the cluster of a fault around a HAVIP on this node. It does not block.
func (a *Agent) ReportFault(havip, text string) { a.journal.note("fault", havip, text) }

// note takes an event. It does not block.
func (j *journal) note(kind, havip, text string) {
	select {
	case j.queue <- fsm.ReportEvent{Node: j.cfg.Node, Kind: kind, HAVIP: havip, Text: text}:
	default:
	}
}

// run reports until ctx ends. An event that no leader takes in time is dropped: it is in
// this node's own log.
func (j *journal) run(ctx context.Context) {
	type key struct{ kind, havip string }
	last := map[key]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-j.queue:
			k := key{e.Kind, e.HAVIP}
			if time.Since(last[k]) < journalQuiet {
				continue
			}
			if len(last) >= journalKeys {
				clear(last)
			}
			last[k] = time.Now()
			wait, cancel := context.WithTimeout(ctx, ports.SubmitWait)
			if _, err := j.cfg.Submit(wait, e); err != nil {
				j.cfg.Logger.Debug("an event could not be reported", "event", e.Text, "reason", err)
			}
			cancel()
		}
	}
}
