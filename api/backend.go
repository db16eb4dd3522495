// Package api is how operators, programs and the other nodes speak with a node: JSON over
// HTTP, on a TLS port for the cluster and on a unix socket for root of the same host. It
// holds the server, which forwards changes to the leader, and the client, which repeats
// them safely.
//
// The server decides nothing: it translates between requests and what its Backend does.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// Errors that a Backend returns when the Raft cluster cannot do what was asked. Both
// become problem NoLeader, which a client may repeat.
var (
	// ErrNotLeader is returned by what only the leader does, at any other node.
	ErrNotLeader = errors.New("api: this node is not the leader")
	// ErrNoLeader is returned when no leader is known, or none answered in time.
	ErrNoLeader = errors.New("api: no leader")
)

// Backend is what the API needs of the node it runs in. All methods may be called at the
// same time; those with a context return soon after it ends.
type Backend interface {
	// Self is the id of this node.
	Self() string
	// State is what this node has applied; never nil.
	State() *fsm.State
	// Watch gives a token after each change of State, until the function is called.
	Watch() (<-chan struct{}, func())
	// Linearizable works at any node. What it returns holds every change that was
	// acknowledged before the call. It looks for a leader until the context ends.
	Linearizable(ctx context.Context) (*fsm.State, error)
	// ReadIndex is that promise for other nodes: at the leader, the index which they must
	// have applied before they answer.
	ReadIndex(ctx context.Context) (uint64, error)
	// Propose carries a change through the log; leader only. When it returns without an
	// error, State holds the result. A refusal is a result, not an error.
	Propose(ctx context.Context, body fsm.Body, key string) (fsm.Result, error)
	// ProposeFor does the same for a command of node's own life; leader only. node is the
	// id in the certificate of the caller. It refuses kinds and bodies that are not node's.
	ProposeFor(ctx context.Context, node, kind string, body json.RawMessage) (fsm.Result, error)
	// Leader is the present leader as this node knows it; not ok when it knows none.
	Leader() (fsm.Node, bool)
	// IsLeader is true once this node leads and has applied all that was committed before.
	IsLeader() bool
	// Live is what this node sees of each node, by node id.
	Live() map[string]Live
	// Local is what only this node knows of itself.
	Local() Local
	// Calibration is how each node says that it has kept its lease in the last seconds, by name; with sync
	// each flushes its disk for it. OwnCalibration is that of this node alone.
	Calibration(ctx context.Context, seconds int, sync bool) []NodeCalibration
	OwnCalibration(seconds int, sync bool) NodeCalibration
	// Admit lets a node in, by its token; leader only.
	Admit(ctx context.Context, req JoinRequest) (JoinAnswer, error)
	// Sign makes the certificate of a member of which the request has the key; only where the
	// CA's key is.
	Sign(ctx context.Context, node string, csr []byte) ([]byte, error)
	// RemoveNode takes a node out and waits for it within ctx; leader only.
	RemoveNode(ctx context.Context, name string, force bool) error
	// Taken asks the neighbours of this node whether somebody outside the cluster has an
	// address, and says who; "" is nobody, or that this node has no interface in its subnet.
	Taken(ctx context.Context, ip netip.Addr) string
	// MoveHAVIP moves a HAVIP to a node (its name) or an ENI (its id); leader only.
	MoveHAVIP(ctx context.Context, id, to, key string) (fsm.Result, error)
}

// Statuses of a node as another one sees it.
const (
	StatusAlive   = "alive"
	StatusSuspect = "suspect" // gossip sees it, but it has no session, or has missed some renewals
	StatusLost    = "lost"    // it is silent
	StatusLeft    = "left"    // it said good-bye
)

// Live is what one node sees of another one: a hint, never a reason to own something.
type Live struct {
	Status         string        // alive, suspect, lost, left
	LeaseRemaining time.Duration // of its session, as far as it is known here
	Version        string        // of its program
	AppliedIndex   uint64
	Suffrage       string // voter, nonvoter or "" when not in Raft's configuration
	// Unreached is what that node says that it does not reach, sorted; MoreUnreached counts what it
	// had no room to say.
	Unreached     []Door
	MoreUnreached int
}

// Door is a port of a node that another one does not reach.
type Door struct {
	Node  string // id
	Use   string // api, raft, gossip, lease
	UDP   bool
	Why   string
	Since time.Time
}

// Local is what only the node itself knows: the columns "leased" and "observed".
type Local struct {
	Fence          string // ebpf, nftables, or none
	FenceHook      string // tcx, clsact, nftables, or ""
	FenceProved    bool   // it was shown at the start that it outlives its process
	FenceNote      string // what this kind of fence cannot do; "" is nothing
	Plane          Plane
	Session        uint64 // 0 = none
	LeaseRemaining time.Duration
	Observed       []Observation // sorted by HAVIP
	LogBytes       int64         // size of the log's file
	Conditions     []string      // what is wrong with this node, a sentence each
	Checks         []LocalCheck  // sorted by name
	// Voters are the others who vote by the newest configuration in this node's log, sorted: names, or addresses
	// where the state is not there yet. Votes: this node votes, too.
	Voters []string
	Votes  bool
	// Heard is when a leader was last heard; zero: not since the agent's start, or this node leads.
	Heard time.Time
}

// LocalCheck is what the node itself knows of one of its checks: newer than the log, which only
// gets to know of changes.
type LocalCheck struct {
	Check    string
	Revision uint64
	State    fsm.CheckState
	Output   string        // of the last run
	Ran      time.Time     // when it ended; zero = there was none
	Took     time.Duration // how long it took
}

// Plane is what the threads that renew and answer have of the host.
type Plane struct {
	Process      string `json:"process" enum:"guard,agent" doc:"Which process renews and answers: the guard, which does little else, or the agent itself"`
	RealTime     bool   `json:"realtime" doc:"They have real-time priority (SCHED_RR)"`
	MemoryLocked bool   `json:"memory_locked" doc:"Their memory is not taken away"`
	Refused      string `json:"refused,omitempty" doc:"What the host refuses, and the way out"`
	Throttled    uint64 `json:"throttled" doc:"How often one of them used more than half of a core, and had an ordinary priority for a second"`

	Acceptor        string `json:"acceptor,omitempty" enum:"kernel,process" doc:"What answers the renewals of other nodes first: a program in the kernel, whatever the processes of this node do, or the process. Versions before do not say it"`
	AcceptorDevices string `json:"acceptor_devices,omitempty" doc:"The network devices that the program in the kernel is on"`
	AcceptorRefused string `json:"acceptor_refused,omitempty" doc:"Why there is no program in the kernel on this host"`
	AcceptorAcked   uint64 `json:"acceptor_acked" doc:"How many renewals the program in the kernel has answered"`
	AcceptorCounted uint64 `json:"acceptor_counted" doc:"How often the program in the kernel, by the answers to this node's own renewals, has extended its lease"`
}

// Observation is one HAVIP as this host's kernel shows it.
type Observation struct {
	ID      string `json:"id"`
	HAVIP   string `json:"havip" doc:"Name"`
	ENI     string `json:"eni"`
	Address string `json:"address"`
	Epoch   uint64 `json:"epoch"`
	Present bool   `json:"present" doc:"The address is on the interface"`
	Open    bool   `json:"open" doc:"The fence lets its frames pass"`
	Problem string `json:"problem,omitempty"`
}

// JoinRequest is a node's request to be let in, with its token taken apart.
type JoinRequest struct {
	TokenID   string
	Secret    identity.Secret
	Name      string
	Advertise netip.Addr
	Ports     identity.Ports
	CSR       []byte // PEM
	Program   string // its version with its level of commands, "" if it did not say
}

// JoinAnswer is everything a new node needs for its data directory.
type JoinAnswer struct {
	ClusterID   string   `json:"cluster_id"`
	NodeID      string   `json:"node_id"`
	Profile     string   `json:"profile"`
	LeaseMS     int64    `json:"lease_ms"`
	Role        string   `json:"role"`
	Certificate string   `json:"certificate" doc:"PEM"`
	CA          string   `json:"ca" doc:"PEM"`
	CAKey       string   `json:"ca_key,omitempty" doc:"PEM; only for nodes that vote"`
	GossipKey   []byte   `json:"gossip_key"`
	Peers       []string `json:"peers" doc:"API addresses (host:port) of the members"`
	// Voters are whom the new node believes in Raft until its log says who votes.
	Voters []RaftVoter `json:"voters,omitempty" maxItems:"64"`
}

// RaftVoter is a voter, and where its Raft listens.
type RaftVoter struct {
	Node    string `json:"node" doc:"Id"`
	Address string `json:"address" doc:"host:port"`
}

// Limits of the server.
const (
	bodyMax          = 1 << 20  // bytes of a request's body; as long as a log entry
	joinBodyMax      = 16 << 10 // bytes of a join request
	fileBodyMax      = 9 << 20  // bytes of a request with a configuration in it; above manifest.MaxBytes
	headerMax        = 32 << 10 // bytes of a request's header
	headerTimeout    = 5 * time.Second
	bodyTimeout      = 10 * time.Second
	requestTimeout   = 60 * time.Second // longest wait of a request, `node remove` included
	idleTimeout      = 2 * time.Minute
	writeGrace       = 5 * time.Second        // to send an answer after requestTimeout
	stopGrace        = 5 * time.Second        // to finish requests when the server stops
	leaderWait       = 5 * time.Second        // for a leader to forward to
	leaderPoll       = 20 * time.Millisecond  // between two looks for one
	forwardBodyMax   = 8 << 20                // bytes of a forwarded answer
	followersMax     = 64                     // event streams at the same time
	followPoll       = 100 * time.Millisecond // between two looks at what is in no state
	followRecheck    = time.Second            // between two looks whether a reader may still read
	followHeartbeat  = 15 * time.Second       // of an idle stream, so that a dead reader is found
	followWrite      = 10 * time.Second       // for one piece of a stream to be taken
	joinFailuresMax  = 10                     // refused joins of one address at once
	joinFailurePause = 6 * time.Second        // after those: one refused join in this time
	joinAddressesMax = 1024                   // addresses with refused joins of the last minute; beyond it all are refused
	tokenTTLMax      = 7 * 24 * time.Hour
	fileWait         = 5 * time.Second // for a place to read a configuration
	plansMax         = 1               // plans at the same time: they take a core each, which leases need
	lossesMax        = 200_000         // nodes times HAVIPs of a plan with n_minus_one; about 4 s
)

const (
	headerIndex    = "X-Havip-Index"    // Raft index of the state that an answer was made from
	headerRevision = "X-Havip-Revision" // how often the configuration had changed by then
	headerKey      = "Idempotency-Key"  // the same key and request are done once
	headerProgram  = "Havip-Program"    // a joining node's version, with its level of commands
	headerLease    = "Havip-Lease-Port" // a joining node's port for the words of the lease
	headerPatience = "Havip-Patience"   // milliseconds for which the caller still waits: no node on the way waits longer
	headerHops     = "X-Havip-Hops"     // a request that was forwarded is not forwarded again
)
