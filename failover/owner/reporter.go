package owner

import (
	"context"
	"slices"
	"strings"
	"time"

	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
)

const (
	reportEvery = 5 * time.Second        // look again even if nothing seemed to change
	reportPause = 200 * time.Millisecond // after a report that did not get through
)

// reporter keeps the log's picture of this node's ENIs up to date.
type reporter struct {
	cfg   Config
	agent *Agent
	wake  chan struct{}
	said  recent
}

func newReporter(cfg Config, a *Agent) *reporter {
	return &reporter{cfg: cfg, agent: a, wake: make(chan struct{}, 1)}
}

func (r *reporter) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run reports until ctx ends. The kernel is asked when it says that something changed, and
// every reportEvery; a change of the log only has the last answer compared again.
func (r *reporter) run(ctx context.Context) {
	seen := map[string]fsm.ENI{}
	watch, stop := r.cfg.Log.Watch()
	defer stop()
	var enis []fsm.ENI
	leftOut, words := "", ""
	look, last := true, time.Time{}
	for ctx.Err() == nil {
		if now := operatorWords(r.cfg.Log.State(), r.cfg.Node); now != words { // they decide what counts as an ENI
			words, look = now, true
		}
		if look || time.Since(last) >= reportEvery {
			list, left, err := r.cfg.Edge.Inventory(r.cfg.Log.State())
			if err != nil {
				if r.said.fresh(r.cfg.Clock(), err.Error()) {
					r.cfg.Logger.Warn("cannot list this node's interfaces", "err", err)
				}
				r.rest(ctx, reportPause)
				continue // what was not seen is not gone
			}
			enis, leftOut, look, last = list, left, false, time.Now()
			r.noticeLinks(seen, enis)
			r.agent.Wake() // the fence may have to stand on another device
		}
		pause := time.Until(last.Add(reportEvery)) // however often the log changes meanwhile
		if !r.report(ctx, enis, leftOut) {
			pause = reportPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.wake:
			look = true
		case <-timer.C:
			look = true
		case <-watch: // the operator may have changed subnets, or the log may be there at last
			if pause == reportPause {
				r.rest(ctx, reportPause)
				look = true
			}
		}
		timer.Stop()
	}
}

// operatorWords are the subnets that the operator has set for the ENIs of a node.
func operatorWords(s *fsm.State, node string) string {
	var words []string
	for _, e := range s.ENIs {
		if e.Node == node && e.SetSubnet != "" {
			words = append(words, e.Device+" "+e.SetSubnet)
		}
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}

// noticeLinks has everything announced again when a link comes up or a MAC changes.
func (r *reporter) noticeLinks(seen map[string]fsm.ENI, enis []fsm.ENI) {
	for _, e := range enis {
		was, known := seen[e.Device]
		if known && (!was.Up && e.Up || was.MAC != e.MAC) {
			r.agent.AnnounceAgain("the link of " + e.Device + " came up, or its MAC changed")
		}
		seen[e.Device] = e
	}
}

// report tells the leader what differs; false means that it must be tried again.
func (r *reporter) report(ctx context.Context, enis []fsm.ENI, leftOut string) bool {
	s := r.cfg.Log.State()
	if _, member := s.Nodes[r.cfg.Node]; !member {
		return false
	}
	if !differs(s, r.cfg.Node, enis) && (s.Level() < 3 || s.Nodes[r.cfg.Node].Leftout == leftOut) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, ports.SubmitWait)
	defer cancel()
	report := fsm.ReportENIs{Node: r.cfg.Node, ENIs: enis}
	if s.Level() > 1 {
		report.Session = s.Nodes[r.cfg.Node].LastSession
	}
	if s.Level() > 2 {
		report.Leftout = leftOut
	}
	res, err := r.cfg.Submit(ctx, report)
	if err != nil {
		r.cfg.Logger.Debug("inventory not reported yet", "reason", err)
		return false
	}
	if res.Refusal != nil {
		if r.said.fresh(r.cfg.Clock(), res.Refusal.Message) {
			r.cfg.Logger.Warn("inventory refused", "reason", res.Refusal.Message)
		}
		return false
	}
	return true
}

// differs compares an inventory with what the log knows.
func differs(s *fsm.State, node string, enis []fsm.ENI) bool {
	known := 0
	for _, e := range s.ENIs {
		if e.Node == node && !e.Detached {
			known++
		}
	}
	if known != len(enis) {
		return true
	}
	for _, e := range enis {
		k, ok := s.ENIOf(node, e.Device)
		if !ok || k.Detached || k.Up != e.Up || k.Fault != e.Fault || k.MAC != e.MAC || k.Primary != e.Primary || k.Gateway != e.Gateway || k.Cloud != e.Cloud || !slices.Equal(k.Prefixes, e.Prefixes) {
			return true
		}
	}
	return false
}

// rest waits, unless the interfaces change.
func (r *reporter) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.wake:
	case <-t.C:
	}
}
