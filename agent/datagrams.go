package agent

import (
	"context"
	"strings"

	"havip-cluster/api"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
	"havip-cluster/membership"
	"havip-cluster/membership/datagram"
	"havip-cluster/membership/reach"
)

// openGossip starts what finds the other nodes. It carries messages of the lease only to and from
// nodes that have no key yet.
func (a *node) openGossip() (err error) {
	a.gossip, err = membership.OpenGossip(membership.GossipConfig{
		Cluster: a.id.ClusterID, Node: a.id.NodeID, Listen: a.listen(a.id.Ports.Gossip), Keys: a.id.GossipKeys(),
		Version: fsm.VersionWithLevel(a.options.Version), Logger: a.log,
		Receive: func(b []byte) {
			if m := a.backend.running.Load(); m != nil {
				m.ReceiveGossip(b)
			}
		},
		Changed: func() {
			if m := a.backend.running.Load(); m != nil && m.Agent != nil {
				m.Agent.AnnounceAgain("a node appeared or disappeared")
			}
		},
		Members: a.node.State,
	})
	return err
}

// carrier takes the messages of the lease to other nodes: the socket, or the lease plane in the guard.
type carrier interface {
	ports.Post
	Run(ctx context.Context) error
	Silent() []string
	Dropped() map[string]uint64
	Close() error
}

// openDatagrams starts to listen for the sealed messages of the lease: in the guard, where that can set the
// fence's deadline, else here.
func (a *node) openDatagrams() (err error) {
	if a.openPlane() {
		return nil
	}
	_ = realtime.TuneScheduler(realtime.PlaneSpare) // what the host refuses was told at the start
	socket, err := datagram.Open(datagram.Config{
		Cluster: a.id.ClusterID, Node: a.id.NodeID, Listen: a.listen(a.id.Ports.Lease),
		State: a.node.State, Keys: a.id.DatagramKeys, Logger: a.log, Plane: a.plane,
		Receive: func(from string, message []byte) {
			if m := a.backend.running.Load(); m != nil {
				m.Receive(from, message)
			}
		},
	})
	if err == nil {
		a.datagrams = socket
	}
	return err
}

// registrar keeps this node's key in the state.
func (a *node) registrar() *membership.Registrar {
	return &membership.Registrar{
		Node: a.id.NodeID, State: a.node.State, Watch: a.node.Watch, Submit: ports.Submit(a.backend.submit), Key: a.datagramKey, Logger: a.log,
	}
}

// datagramKey is this node's present key as the state has it, with the port for the messages.
func (a *node) datagramKey() (fsm.NodeKey, int, error) {
	keys, err := a.id.DatagramKeys()
	if err != nil {
		return fsm.NodeKey{}, 0, err
	}
	return fsm.NodeKey{Certificate: keys[0].Certificate, Public: keys[0].Public}, a.id.Ports.Lease, nil
}

// introduced is this node as the founder of its cluster names it, with its key.
func (a *node) introduced(n fsm.Node) fsm.Node {
	key, port, err := a.datagramKey()
	if err != nil {
		a.log.Warn("this node begins without a key for its messages", "err", err)
		return n
	}
	n.LeasePort, n.Keys = port, []fsm.NodeKey{key}
	return n
}

// runDatagrams runs what carries the messages of the lease.
func (a *node) runDatagrams(part func(name string, run func(context.Context) error)) {
	part("datagrams", a.datagrams.Run)
	part("keys", func(ctx context.Context) error { a.registrar().Run(ctx); return nil })
	part("reach", func(ctx context.Context) error { a.backend.prober.Run(ctx); return nil })
	part("rejoin", func(ctx context.Context) error { a.gossip.RunRejoin(ctx, a.node.State); return nil })
}

// newProber tries the doors of the other members, and tells them what fails.
func (b *backend) newProber() *reach.Prober {
	d := membership.Doors{Node: b.node, Gossip: b.gossip, Silent: b.datagrams.Silent}
	return &reach.Prober{Peers: d.Peers, Try: d.Try, Changed: b.gossip.TellUnreached}
}

// unreached is what a node says that it does not reach; this one is asked directly.
func (b *backend) unreached(node string) (out []api.Door, more int) {
	list, more := b.gossip.Unreached(node)
	if node == b.Self() {
		list, more = b.prober.Failures(), 0
	}
	for _, f := range list {
		use, protocol, _ := strings.Cut(string(f.Door), "/")
		out = append(out, api.Door{Node: f.Node, Use: use, UDP: protocol == "udp" || f.Door == reach.Lease, Why: string(f.Why), Since: f.Since})
	}
	return out, more
}
