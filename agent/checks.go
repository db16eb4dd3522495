package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"havip-cluster/api"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/health"
	"havip-cluster/netdev"
)

// The checks of services that this node runs. The definitions come from the log, and what has
// changed goes back into it. Nothing here holds a lock that a lease or a hand-off waits for.

const (
	// checksPause is at least between two reports of this node, whatever changes.
	checksPause = 100 * time.Millisecond
	// checksRetry is how long to wait after a report that was not taken.
	checksRetry = time.Second
)

// checks follows the log and the results.
type checks struct {
	node   string
	state  func() *fsm.State
	watch  func() (<-chan struct{}, func())
	submit ports.Submit
	runner *health.Runner
	log    *slog.Logger
}

// run runs the checks of this node and reports them until ctx ends.
func (c *checks) run(ctx context.Context) {
	ran := make(chan struct{})
	go func() { defer close(ran); c.runner.Run(ctx) }()
	defer func() { <-ran }()
	changes, stop := c.watch()
	defer stop()
	var seen *fsm.State
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		if s := c.state(); seen == nil || !sameChecks(seen, s, c.node) {
			seen = s
			c.runner.Set(checksOf(s, c.node))
		}
		wait := time.Duration(0)
		if report, due := differing(c.state(), c.node, c.runner.Latest()); due {
			if wait = checksPause; !c.report(ctx, report) {
				wait = checksRetry
			}
		}
		if wait > 0 {
			pause.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-pause.C:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-c.runner.Changed():
		case <-changes:
		}
	}
}

// sameChecks says that a node runs the same checks in two states: they are written by entries
// whose index they hold.
func sameChecks(a, b *fsm.State, node string) bool {
	if len(a.Checks) != len(b.Checks) || a.Nodes[node].Role != b.Nodes[node].Role || a.Nodes[node].Name != b.Nodes[node].Name {
		return false
	}
	for name, k := range a.Checks {
		if b.Checks[name].Revision != k.Revision {
			return false
		}
	}
	return true
}

// checksOf are the checks that a node runs. A HAVIP that leaves a check changes nothing of how it is run.
func checksOf(s *fsm.State, node string) []fsm.Check {
	var out []fsm.Check
	n, member := s.Nodes[node]
	if !member {
		return nil
	}
	for _, k := range s.CheckList() {
		if k.RunsOn(n) {
			k.HAVIPs = nil
			out = append(out, k)
		}
	}
	return out
}

// differing is what a node has to report: results that the log does not have. due is false when
// there is nothing, or nobody to report in the name of.
func differing(s *fsm.State, node string, latest []health.Latest) (r fsm.ReportChecks, due bool) {
	n := s.Nodes[node]
	if _, open := s.SessionOf(node); !open {
		return r, false
	}
	r = fsm.ReportChecks{Node: node, Session: n.LastSession}
	for _, l := range latest {
		k, known := s.Checks[l.Check]
		if !known || k.Revision != l.Revision || !k.RunsOn(n) || l.State == fsm.CheckUnknown {
			continue
		}
		if state, _ := s.ResultOf(k, n); state != l.State {
			r.Results = append(r.Results, fsm.ReportedResult{Check: l.Check, Revision: l.Revision, State: l.State, Output: strings.ToValidUTF8(l.Output[:min(len(l.Output), fsm.MaxCheckOutput)], "")})
		}
	}
	return r, len(r.Results) > 0
}

func (c *checks) report(ctx context.Context, r fsm.ReportChecks) bool {
	ctx, cancel := context.WithTimeout(ctx, ports.SubmitWait)
	defer cancel()
	res, err := c.submit(ctx, r)
	switch {
	case err != nil:
		c.log.Debug("results of checks not reported yet", "reason", err)
	case res.Refusal != nil:
		c.log.Debug("results of checks refused", "reason", res.Refusal.Message)
	default:
		return true
	}
	return false
}

// localChecks is what this node knows of its checks.
func localChecks(r *health.Runner) []api.LocalCheck {
	if r == nil {
		return nil
	}
	var out []api.LocalCheck
	for _, l := range r.Latest() {
		out = append(out, api.LocalCheck{Check: l.Check, Revision: l.Revision, State: l.State, Output: l.Output, Ran: l.Ran, Took: l.Took})
	}
	return out
}

// askNeighbour asks for an address by ARP or neighbour solicitation on the interface of this host
// in whose network it is, with that interface's own address as sender.
func askNeighbour(ctx context.Context, ip netip.Addr) (string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, link := range links {
		senders, inside := addressesBeside(link, ip)
		if !inside {
			continue
		}
		wait := time.Second
		if end, bounded := ctx.Deadline(); bounded {
			wait = time.Until(end)
		}
		answers, err := netdev.AskAll(ctx, link.Index, senders, []netip.Addr{ip}, wait)
		if macs := answers[ip]; len(macs) > 0 {
			return fmt.Sprintf("%s answers on %s", macs[0], link.Name), nil
		}
		if err == nil || ctx.Err() != nil {
			return fmt.Sprintf("nobody answers on %s", link.Name), context.DeadlineExceeded
		}
		return "", err
	}
	return "", errors.New("no interface of this host is in its network")
}

// addressesBeside are the addresses of an interface; inside says that ip is in the network of one.
func addressesBeside(link net.Interface, ip netip.Addr) (senders []netip.Addr, inside bool) {
	if link.Flags&net.FlagUp == 0 || link.Flags&net.FlagLoopback != 0 {
		return nil, false
	}
	addrs, err := link.Addrs()
	if err != nil {
		return nil, false
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits())
		if !p.IsSingleIP() { // a HAVIP is a /32 or /128, and asks nobody
			senders = append(senders, p.Addr())
			inside = inside || p.Contains(ip)
		}
	}
	return senders, inside
}
