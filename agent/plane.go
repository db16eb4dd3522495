package agent

import (
	"context"
	"sync/atomic"

	"havip-cluster/agent/guard"
	"havip-cluster/api"
	"havip-cluster/failover"
	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/plane"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
	"havip-cluster/membership"
	"havip-cluster/netdev/fence"
)

// openPlane has the guard renew and answer. False: it cannot.
func (a *node) openPlane() bool {
	if a.guard == nil {
		return false
	}
	ends := guard.PlaneEnds()
	if a.edge != nil && a.fenceKind() != fence.EBPF {
		ends.Close()
		return false
	}
	running := func() *failover.Member { return a.backend.running.Load() }
	client, err := plane.NewClient(ends, plane.ClientConfig{
		Log: a.replica, Clock: ports.Boot, Logger: a.log, Keys: a.planeKeys, Measure: a.figures.measure(),
		Word: func(from string, message []byte) {
			if m := running(); m != nil {
				m.Receive(from, message)
			}
		},
		WordOut: func(to fsm.Node, message []byte) { _ = a.gossip.Send(to, message) }, // a lost one is ordinary
		Owner: func() shell.Listener {
			if m := running(); m != nil && m.Agent != nil {
				return m.Agent
			}
			return nil
		},
	})
	if err == nil {
		a.node.Reconfiguring(client.Reconfiguring)
		if err = client.Start(plane.Start{Cluster: a.id.ClusterID, Node: a.id.NodeID, Listen: a.listen(a.id.Ports.Lease), Lease: a.id.Lease, Owner: a.edge != nil}); err != nil {
			_ = client.Close()
		}
	}
	if err != nil {
		a.log.Warn("the guard does not renew and answer for this agent, which does it itself: a lease below 100 ms may end on a busy host", "err", err)
		return false
	}
	a.apart, a.datagrams = client, client
	return true
}

// planeKeys are this node's keys for datagrams; none, while they cannot be read.
func (a *node) planeKeys() (out []plane.Key) {
	keys, err := a.id.DatagramKeys()
	if err != nil {
		return nil
	}
	for _, k := range keys {
		out = append(out, plane.Key{Certificate: k.Certificate, Secret: k.Secret.Bytes()})
	}
	return out
}

// setApart gives the parts over there to the member.
func (a *node) setApart(cfg *failover.Config) {
	if a.apart == nil {
		return // a nil *plane.Client would be no nil failover.Apart
	}
	cfg.Apart = a.apart
	a.backend.plane = func() api.Plane {
		out, counted := planeOf("guard", a.apart.Report()), a.apart.Counted()
		if counted.NoKernel == "" && counted.Kernel != "" {
			out.Acceptor = "kernel"
		}
		out.AcceptorDevices, out.AcceptorRefused, out.AcceptorAcked = counted.Kernel, counted.NoKernel, counted.InKernel
		out.AcceptorCounted = counted.Counted
		return out
	}
}

// ownPlane is what this process has of its host, where it renews and answers itself.
func (a *node) ownPlane() api.Plane {
	out := planeOf("agent", a.plane.Report())
	out.AcceptorRefused = "only a guard has the kernel answer, with the fence ebpf"
	return out
}

// planeOf is what a person is told of what a process has of its host.
func planeOf(process string, r realtime.Report) api.Plane {
	return api.Plane{
		Process: process, RealTime: r.RealTime, MemoryLocked: r.Locked, Refused: r.Refused, Throttled: r.Throttled, Acceptor: "process",
	}
}

// keepMemory locks the memory of what renews, where that is this process.
func (a *node) keepMemory(ctx context.Context) error {
	if a.apart == nil {
		a.plane.KeepMemory(ctx)
	}
	return nil
}

// raftLog is the log as the failover package sees it.
type raftLog struct {
	*membership.Node
	set atomic.Pointer[voterSetOf]
}

// voterSetOf is the set that was made of a list of voters.
type voterSetOf struct {
	ids []string
	lease.VoterSet
}

// VoterSet implements ports.Log. It is asked for with each word of the lease, so the set is made
// anew only when the voters are others.
func (l *raftLog) VoterSet() lease.VoterSet {
	ids, index := l.Voters()
	if known := l.set.Load(); known != nil && known.Index == index && same(known.ids, ids) {
		return known.VoterSet
	}
	set := lease.NewVoterSet(ids)
	set.Index = index
	l.set.Store(&voterSetOf{ids, set})
	return set
}

// same reports whether two lists are one.
func same(a, b []string) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }
