package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"havip-cluster/agent/autosave"
	"havip-cluster/api"
	"havip-cluster/failover"
	"havip-cluster/failover/leader"
	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/health"
	"havip-cluster/internal/shared"
	"havip-cluster/membership"
	"havip-cluster/membership/identity"
	"havip-cluster/membership/reach"
)

const (
	// leaderPatience is how long a node waits for an answer of the one that it takes for
	// the leader, before it looks again who that is.
	leaderPatience = time.Second
	leaderPause    = 20 * time.Millisecond
	// freeLeast is how many bytes a data directory's disk has left at least while nobody has to know.
	freeLeast = 64 << 20
	// signPatience is how long one holder of the CA's key is waited for.
	signPatience = 4 * time.Second
)

// backend joins the parts of a running node for the API, and carries this node's own
// commands to whoever leads.
type backend struct {
	id        *identity.Identity
	version   string // of the program
	node      *membership.Node
	gossip    *membership.Gossip
	datagrams carrier
	member    *failover.Member
	// running is the same Member for datagrams, which may come before it is made.
	running atomic.Pointer[failover.Member]
	edge    *Edge // nil in a witness
	fence   string
	hook    string // of the fence; "": none
	proved  bool   // at the start
	// plane says what renews and answers has of its host.
	plane func() api.Plane
	// elsewhere says who else answered for this node's address at the start; "" is nobody.
	elsewhere string
	prober    *reach.Prober
	saver     *autosave.Saver
	wall      *wallClock
	// unsent says what stands here and the cloud does not send here; nil: nothing is known of it.
	unsent func() []string

	reads   shared.Call[uint64]        // of the leader's read index
	flushes shared.Call[time.Duration] // of the disk, for a calibration

	mu      sync.Mutex
	clients map[string]connection // by API address
	health  *health.Runner        // nil: none
}

// connection is the one to the node that has an address now. A node that was removed and
// has joined again has its old address and a new identity.
type connection struct {
	node   string
	client *api.Client
}

var _ api.Backend = (*backend)(nil)

func (b *backend) Self() string      { return b.id.NodeID }
func (b *backend) State() *fsm.State { return b.node.State() }

func (b *backend) Watch() (<-chan struct{}, func()) { return b.node.Watch() }

func (b *backend) IsLeader() bool {
	_, ok := b.node.Leading()
	return ok
}

func (b *backend) Leader() (fsm.Node, bool) {
	n, ok := b.node.State().Nodes[b.node.LeaderID()]
	return n, ok
}

// client returns the connection to another node's API.
func (b *backend) client(n fsm.Node) *api.Client {
	address := membership.APIAddress(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.clients[address]
	if c.node == n.ID {
		return c.client
	}
	if known {
		c.client.Close()
	}
	c = connection{n.ID, api.NewClient(address, b.id.ClientTLSTo(n.ID))}
	b.clients[address] = c
	b.disconnect(n)
	return c.client
}

// disconnect forgets connections to nodes that are members no more, or have another address, but
// that to a node of which the state may not know yet. Call with mu held.
func (b *backend) disconnect(but fsm.Node) {
	members := b.State().Nodes
	maps.DeleteFunc(b.clients, func(address string, c connection) bool {
		n, member := members[c.node]
		if c.node == but.ID || member && membership.APIAddress(n) == address {
			return false
		}
		c.client.Close()
		return true
	})
}

// reconnect lets the next requests to other nodes show this node's present certificate.
func (b *backend) reconnect() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.clients {
		c.client.Close()
	}
}

// apiError says in the API's words why Raft did not do it.
func apiError(err error) error {
	switch {
	case errors.Is(err, membership.ErrNotLeader):
		return fmt.Errorf("%w: %w", api.ErrNotLeader, err)
	case errors.Is(err, membership.ErrUnknownOutcome):
		return fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	}
	return err
}

func (b *backend) Linearizable(ctx context.Context) (*fsm.State, error) {
	for {
		index, err := b.readIndex(ctx)
		if err == nil {
			return b.node.WaitIndex(ctx, index)
		}
		select { // the leader may be changing: look again who it is
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", api.ErrNoLeader, err)
		case <-time.After(leaderPause):
		}
	}
}

// readIndex asks whoever seems to lead, once, and not for long: it may be gone. Reads that come
// together share a question to another node.
func (b *backend) readIndex(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	index, err := b.node.ReadIndex(ctx)
	if !errors.Is(err, membership.ErrNotLeader) {
		return index, err
	}
	return b.reads.Do(ctx, func() (uint64, error) {
		leader, ok := b.Leader()
		if !ok || leader.ID == b.Self() {
			return 0, api.ErrNoLeader
		}
		asking, cancel := context.WithTimeout(context.Background(), leaderPatience)
		defer cancel()
		return b.client(leader).ReadIndex(asking)
	})
}

func (b *backend) ReadIndex(ctx context.Context) (uint64, error) {
	index, err := b.node.ReadIndex(ctx)
	return index, apiError(err)
}

func (b *backend) Propose(ctx context.Context, body fsm.Body, key string) (fsm.Result, error) {
	ctx, err := onBehalf(ctx)
	if err != nil {
		return fsm.Result{}, err
	}
	res, err := b.node.Propose(ctx, 0, key, body)
	return res, apiError(err)
}

// onBehalf hands the API's caller on to the log. What comes from the API and has none is not done.
func onBehalf(ctx context.Context) (context.Context, error) {
	caller, ok := api.CallerOf(ctx)
	if !ok {
		return nil, errors.New("a change without a caller")
	}
	return membership.WithCaller(ctx, caller), nil
}

// submit carries a command of this node's own life to the leader.
func (b *backend) submit(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	if refusal := b.mayOpen(body); refusal != nil {
		return fsm.Result{Refusal: refusal}, nil
	}
	res, err := b.node.Propose(ctx, 0, "", body)
	if !errors.Is(err, membership.ErrNotLeader) {
		return res, err
	}
	leader, ok := b.Leader()
	if !ok || leader.ID == b.Self() {
		return b.ask(ctx, body)
	}
	return b.command(ctx, leader, body)
}

// command sends one command to another node. That this node is no member any more comes
// as a refusal, as it would from the log.
func (b *backend) command(ctx context.Context, to fsm.Node, body fsm.Body) (fsm.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	res, err := b.client(to).Command(ctx, body)
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Code == api.CodeAuth {
		return fsm.Result{Refusal: &fsm.Refusal{Code: fsm.CodeNotFound, Message: p.Detail}}, nil
	}
	return res, err
}

// ask tries every other node while none is known to lead: a node that was removed hears
// of no leader any more, and this is how it learns why.
func (b *backend) ask(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	err := api.ErrNoLeader
	if !b.node.State().Nodes[b.Self()].Removing {
		return fsm.Result{}, err
	}
	for _, n := range b.node.State().NodeList() {
		if n.ID == b.Self() {
			continue
		}
		var res fsm.Result
		if res, err = b.command(ctx, n, body); err == nil {
			return res, nil
		}
	}
	return fsm.Result{}, err
}

// ProposeFor lets a node speak for itself and for nobody else.
func (b *backend) ProposeFor(ctx context.Context, node, kind string, raw json.RawMessage) (fsm.Result, error) {
	body, refusal := fsm.OwnCommand(b.node.State(), node, kind, raw)
	if refusal != nil {
		return fsm.Result{Refusal: refusal}, nil
	}
	if refusal := b.mayOpen(body); refusal != nil {
		return fsm.Result{Refusal: refusal}, nil
	}
	res, err := b.node.ProposeFor(ctx, node, 0, "", body)
	return res, apiError(err)
}

// mayOpen is the leader's word on a request for a session; other nodes have none.
func (b *backend) mayOpen(body fsm.Body) *fsm.Refusal {
	if _, leads := b.node.Leading(); !leads {
		return nil
	}
	switch o := body.(type) {
	case fsm.OpenSession:
		return b.member.MayOpen(o)
	case *fsm.OpenSession:
		return b.member.MayOpen(*o)
	}
	return nil
}

func (b *backend) Live() map[string]api.Live {
	servers := b.node.Suffrages()
	out := map[string]api.Live{}
	for id, n := range b.node.State().Nodes {
		l := api.Live{Status: b.gossip.Status(id), Version: n.Version, Suffrage: servers[id]}
		if id == b.Self() {
			l.Status, l.Version = api.StatusAlive, b.version
		}
		if l.Status == "" {
			l.Status = api.StatusLost
		}
		if v := b.gossip.Version(id); v != "" {
			l.Version = v
		}
		if sess, ok := b.node.State().SessionOf(id); ok {
			left, _ := b.member.Voter.Promised(lease.Session{Node: id, Number: sess.Number})
			l.LeaseRemaining = max(left, 0)
		}
		if l.Status == api.StatusAlive && id != b.Self() && b.isLate(n, servers[b.Self()] == "voter") {
			l.Status = api.StatusSuspect
		}
		l.AppliedIndex, _ = b.member.Controller.Applied(id)
		l.Unreached, l.MoreUnreached = b.unreached(id)
		out[id] = l
	}
	return out
}

// isLate reports whether a node that gossip sees does not do its work: it should have a
// session and has none, or, as far as this node hears its renewals, as a voter does, it has
// missed some. That is known seconds before gossip calls the node lost.
func (b *backend) isLate(n fsm.Node, voter bool) bool {
	if n.Role == fsm.RoleWitness {
		return false
	}
	st := b.node.State()
	sess, open := st.SessionOf(n.ID)
	if !open {
		return true
	}
	s := lease.Session{Node: n.ID, Number: sess.Number}
	left, promised := b.member.Voter.Promised(s)
	return voter && promised && !b.member.Voter.Refuses(s) && left < st.RenewsBy(sess)/2
}

func (b *backend) Local() api.Local {
	disk := b.node.Disk()
	out := api.Local{Fence: b.fence, FenceHook: b.hook, FenceProved: b.proved, LogBytes: disk.Bytes}
	out.Voters, out.Votes = b.otherVoters()
	out.Heard = b.node.LeaderHeard()
	out.Plane = b.plane()
	if disk.Stalled {
		out.Conditions = append(out.Conditions, "its disk does not take the log's writes; it does not lead while that lasts")
	}
	if disk.Free >= 0 && disk.Free < freeLeast {
		out.Conditions = append(out.Conditions, fmt.Sprintf("the disk of its data directory %s has %d MiB left: when it is full, this node keeps what it serves and gets nothing new; make room", b.id.Dir, disk.Free>>20))
	}
	if why := b.wall.Problem(); why != "" {
		out.Conditions = append(out.Conditions, why)
	}
	if b.fence == "none" && b.edge != nil {
		out.Conditions = append(out.Conditions, "it has no fence: only the agent itself ends a lease in time")
	}
	if b.edge != nil {
		out.FenceNote = b.edge.FenceNote()
	}
	if b.hook != "" && !b.proved {
		out.Conditions = append(out.Conditions, "its fence could not be proved at the start, the host was too slow; a restart tries again")
	}
	if b.elsewhere != "" {
		out.Conditions = append(out.Conditions, b.elsewhere)
	}
	if why := b.saver.Problem(); why != "" {
		out.Conditions = append(out.Conditions, why)
	}
	if b.member.Session == nil {
		return out
	}
	out.Conditions = append(out.Conditions, b.edge.Warnings()...)
	if b.unsent != nil {
		out.Conditions = append(out.Conditions, b.unsent()...)
	}
	session, deadline := b.member.Session.Lease()
	if out.Session = session; session != 0 {
		out.LeaseRemaining = max(deadline.Sub(ports.Boot()), 0)
	}
	out.Observed = b.observed(out.LeaseRemaining > 0)
	out.Checks = localChecks(b.health)
	return out
}

// observed is the edge's last picture of what this node holds: nothing is asked of the kernel.
func (b *backend) observed(open bool) []api.Observation {
	var out []api.Observation
	for _, h := range b.member.Agent.Activations() {
		out = append(out, api.Observation{
			ID: h.HAVIP.ID, HAVIP: h.HAVIP.Name, ENI: h.ENI.ID, Address: h.HAVIP.IP.String(), Epoch: uint64(h.Claim.Epoch),
			Present: h.Stands, Open: h.Stands && open,
		})
	}
	return out
}

func (b *backend) Admit(ctx context.Context, req api.JoinRequest) (api.JoinAnswer, error) {
	ctx, err := onBehalf(ctx)
	if err != nil {
		return api.JoinAnswer{}, err
	}
	got, err := membership.Admit(ctx, b.node, b.id, membership.Applicant(req), b.sign)
	if err != nil {
		return api.JoinAnswer{}, apiError(err)
	}
	s := b.node.State()
	answer := api.JoinAnswer{
		ClusterID: s.Cluster.ID, NodeID: got.Node.ID, Profile: s.Cluster.Profile, LeaseMS: got.Lease.Milliseconds(),
		Role: string(got.Node.Role), Certificate: string(got.Cert), CA: string(identity.CertPEM(got.CA)),
		CAKey: string(got.CAKey), GossipKey: b.id.GossipKeys()[0],
	}
	for _, v := range got.Voters {
		answer.Voters = append(answer.Voters, api.RaftVoter{Node: string(v.ID), Address: string(v.Address)})
	}
	for _, n := range s.NodeList() {
		if n.ID != got.Node.ID {
			answer.Peers = append(answer.Peers, membership.APIAddress(n))
		}
	}
	return answer, nil
}

// Sign implements api.Backend.
func (b *backend) Sign(ctx context.Context, node string, csr []byte) ([]byte, error) {
	return membership.Sign(ctx, b.node, b.id, node, csr)
}

// sign asks those that hold the CA's key, one after the other.
func (b *backend) sign(ctx context.Context, node fsm.Node, csr []byte) ([]byte, error) {
	var names []string
	for _, n := range b.node.State().NodeList() {
		if !n.HoldsCA || n.ID == b.Self() {
			continue
		}
		names = append(names, n.Name)
		asking, cancel := context.WithTimeout(ctx, signPatience)
		cert, err := b.client(n).Sign(asking, node.ID, csr)
		cancel()
		if err == nil {
			return cert, nil
		}
	}
	return nil, fsm.Refuse(fsm.CodeNotReady, "this node does not hold the CA's key, and none of those that do signed the certificate of node %s: %s; start one of them and repeat the join", node.Name, strings.Join(names, ", "))
}

func (b *backend) RemoveNode(ctx context.Context, name string, force bool) error {
	ctx, err := onBehalf(ctx)
	if err != nil {
		return err
	}
	return apiError(membership.RemoveNode(ctx, b.node, name, force, b.gossip.Alive))
}

// hearWait is how long a move waits for a word of its target; a new leader has heard nobody yet.
const (
	hearWait = time.Second
	hearTick = 20 * time.Millisecond
)

// deaf refuses a move to a node that would learn late that the HAVIP is its own.
func (b *backend) deaf(place fsm.Place) *fsm.Refusal {
	for _, a := range place.Assignments {
		name := b.node.State().NodeName(a.Node)
		switch {
		case !b.member.Controller.Hears(a.Node):
			return fsm.Refuse(fsm.CodeUnsupported, "node %s keeps its lease, but the leader does not hear it, so it would learn late that the HAVIP is its own; look at the network between the two, or move it elsewhere", name)
		case !b.member.Controller.Learns(a.Node, a.Session):
			return fsm.Refuse(fsm.CodeNotReady, "the log of node %s has not come as far as its own session %d, so it would learn late that the HAVIP is its own; ask again, or move it elsewhere", name, a.Session)
		}
	}
	return nil
}

// Taken implements api.Backend.
func (b *backend) Taken(ctx context.Context, ip netip.Addr) string {
	if b.edge == nil {
		return ""
	}
	return b.edge.Taken(ctx, ip)
}

func (b *backend) MoveHAVIP(ctx context.Context, id, to, key string) (fsm.Result, error) {
	place, refusal := b.move(ctx, id, to)
	if refusal != nil {
		return fsm.Result{Refusal: refusal}, nil
	}
	return b.Propose(ctx, place, key)
}

// move decides a move, and decides it again while its target is deaf: that may have another session meanwhile.
func (b *backend) move(ctx context.Context, id, to string) (fsm.Place, *fsm.Refusal) {
	ctx, cancel := context.WithTimeout(ctx, hearWait)
	defer cancel()
	for {
		place, refusal := leader.Move(b.node.State(), time.Now().UnixNano(), id, to)
		if refusal != nil {
			return place, refusal
		}
		if refusal = b.deaf(place); refusal == nil {
			return place, nil
		}
		select {
		case <-ctx.Done():
			return place, refusal
		case <-time.After(hearTick):
		}
	}
}
