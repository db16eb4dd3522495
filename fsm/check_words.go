package fsm

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
)

// CheckSum counts the nodes with a session that run a check, by what it says of them.
type CheckSum struct{ Runs, Passing, Failing, Unknown int }

// SumCheck counts what a check says.
func (s *State) SumCheck(k Check) (sum CheckSum) {
	for _, n := range s.Nodes {
		if _, open := s.SessionOf(n.ID); !open || !k.RunsOn(n) {
			continue
		}
		sum.Runs++
		switch state, _ := s.ResultOf(k, n); state {
		case CheckPassing:
			sum.Passing++
		case CheckFailing:
			sum.Failing++
		default:
			sum.Unknown++
		}
	}
	return sum
}

// ownService says that a check looks at its own node alone, whatever network that has.
func (k Check) ownService() bool {
	host := ""
	switch k.Type {
	case CheckTCP:
		host, _, _ = net.SplitHostPort(k.Target)
	case CheckHTTP:
		if u, err := url.Parse(k.Target); err == nil {
			host = u.Hostname()
		}
	case CheckPing, CheckARP:
		return false
	default:
		return true
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// DiagnoseCheck tells a service that is down everywhere from a node whose own view is the
// problem: what a failing check of a node means, beside the others. "" where it does not fail.
func (s *State) DiagnoseCheck(k Check, n Node) string {
	if state, _ := s.ResultOf(k, n); state != CheckFailing {
		return ""
	}
	sum := s.SumCheck(k)
	switch {
	case sum.Runs <= 1:
		return "no other node runs it, so nobody can tell whether it is this node or what it looks at"
	case sum.Failing == sum.Runs && k.ownService():
		return fmt.Sprintf("it fails on all %d nodes that run it: the service is down everywhere, no node is to blame", sum.Runs)
	case sum.Failing == sum.Runs:
		return fmt.Sprintf("it fails on all %d nodes that run it: what it looks at (%s) is down, no node is to blame", sum.Runs, k.Target)
	}
	if why := s.blind(k, n); why != "" {
		return fmt.Sprintf("it passes on %d of %d nodes, and %s: the view of node %s is the problem", sum.Passing, sum.Runs, why, n.Name)
	}
	switch {
	case sum.Passing == 0:
		return fmt.Sprintf("it fails on %d of %d nodes and passes on none", sum.Failing, sum.Runs)
	case k.ownService():
		return fmt.Sprintf("it passes on %d of %d nodes: the service of node %s is the problem", sum.Passing, sum.Runs, n.Name)
	}
	return fmt.Sprintf("it passes on %d of %d nodes: the view of node %s is the problem, or its way to %s", sum.Passing, sum.Runs, n.Name, k.Target)
}

// blind says what else a node does not reach that others do: the gateway of an interface, or the
// target of another check that leaves the host. "" = nothing is known.
func (s *State) blind(k Check, n Node) string {
	for _, e := range s.ENIList() {
		if e.Node == n.ID && !e.Detached && e.Fault != "" {
			return fmt.Sprintf("ENI %s has a fault (%s)", e.ID, e.Fault)
		}
	}
	if k.ownService() {
		return ""
	}
	for _, other := range s.CheckList() {
		if other.Name == k.Name || other.ownService() || !other.RunsOn(n) {
			continue
		}
		if state, _ := s.ResultOf(other, n); state == CheckFailing && s.SumCheck(other).Passing > 0 {
			return fmt.Sprintf("check %s fails here and passes elsewhere, too", other.Name)
		}
	}
	return ""
}
