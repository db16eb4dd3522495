package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// NodeChange is a change of a node; what is absent stays.
type NodeChange struct {
	Standby     *bool `json:"standby,omitempty" doc:"It owns nothing"`
	Maintenance *bool `json:"maintenance,omitempty" doc:"What it owns stays where it is"`
	Capacity    *int  `json:"capacity,omitempty" doc:"Bounds the sum of the weights of what it owns"`
	NoCapacity  bool  `json:"no_capacity,omitempty" doc:"Takes that bound away"`
	Score       *int  `json:"score,omitempty" doc:"Is added for every HAVIP on it"`

	Health       *string `json:"health,omitempty" doc:"green, yellow or red; a change by itself"`
	HealthReason string  `json:"health_reason,omitempty" maxLength:"300"`

	Address string `json:"address,omitempty" doc:"Where the others reach it from now on; a change by itself, while it has no session"`
}

// TokenSpec asks for a join token.
type TokenSpec struct {
	Node       string `json:"node" doc:"Name of the node to come"`
	Role       string `json:"role,omitempty" enum:"voter,witness,agent" default:"voter"`
	TTLSeconds int64  `json:"ttl_seconds,omitempty" minimum:"60" maximum:"604800" default:"3600"`
}

// Token is a join token, shown this once.
type Token struct {
	Node    string    `json:"node"`
	Role    string    `json:"role"`
	Token   string    `json:"token" doc:"A secret"`
	Expires time.Time `json:"expires"`
	Command string    `json:"command" doc:"To type at the new node"`
}

// Join is a node's request to be let in.
type Join struct {
	Token      string `json:"token" maxLength:"512"`
	Name       string `json:"name" maxLength:"63"`
	Advertise  string `json:"advertise" maxLength:"64" doc:"Address by which the others reach it"`
	APIPort    int    `json:"api_port" minimum:"1" maximum:"65535"`
	RaftPort   int    `json:"raft_port" minimum:"1" maximum:"65535"`
	GossipPort int    `json:"gossip_port" minimum:"1" maximum:"65535"`
	CSR        string `json:"csr" maxLength:"8192" doc:"Certificate request, PEM"`
}

type nodeBody struct {
	Key
	Name string `path:"name" doc:"Name or id"`
	Body NodeChange
}

type nodeRemove struct {
	Key
	Name  string `path:"name" doc:"Name or id"`
	Force bool   `query:"force" doc:"Also when too few other voters are seen alive for a majority, or a HAVIP loses its last possible owner"`
	// KeepCA is of use when the node has the CA's key.
	KeepCA bool `query:"keep_ca" doc:"Do not replace the CA although the node has its key"`
}

type tokenCreate struct {
	Key
	Body TokenSpec
}

// joinInput has the program and the lease port in headers, because a server that does not know
// them has to let the node in all the same.
type joinInput struct {
	LeasePort int `header:"Havip-Lease-Port" minimum:"0" maximum:"65535" doc:"UDP port for the words of the lease"`

	Program string `header:"Havip-Program" maxLength:"60" doc:"Version of the node's program, with its level of commands"`
	Body    Join
}

func (s *Server) nodeRoutes() {
	read(s, "/v1/nodes", "list-nodes", "All nodes", func(st *fsm.State, _ *Consistency) ([]Node, error) {
		return s.nodeViews(st, st.NodeList()), nil
	})
	read(s, "/v1/nodes/{name}", "show-node", "One node", func(st *fsm.State, in *namePath) (Node, error) {
		return s.showNode(st, in.Name)
	})
	write(s, http.MethodPatch, "/v1/nodes/{name}", "update-node", "Standby, maintenance, capacity, score and health",
		func(ctx context.Context, in *nodeBody) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, func(st *fsm.State) (fsm.Body, error) {
				n, err := findNode(st, in.Name)
				if err != nil {
					return nil, err
				}
				return updateNode(n, in.Body)
			})
		},
		func(st *fsm.State, in *nodeBody, _ fsm.Result) (Node, error) { return s.showNode(st, in.Name) })
	write(s, http.MethodDelete, "/v1/nodes/{name}", "remove-node", "Remove a node, after its session has ended",
		func(ctx context.Context, in *nodeRemove) (fsm.Result, error) {
			if s.invited(in.Name) {
				return s.commit(ctx, in.Key.Key, one(fsm.VoidToken{Node: in.Name}))
			}
			if err := s.keepCA(ctx, in); err != nil {
				return fsm.Result{}, err
			}
			err := s.Backend.RemoveNode(ctx, in.Name, in.Force)
			return fsm.Result{Index: s.Backend.State().Index}, err
		}, removed)
	s.tokenRoute()
	s.joinRoute()
}

// invited reports whether a name is that of no member, and a join token for it is open.
func (s *Server) invited(name string) bool {
	st := s.Backend.State()
	_, member := st.NodeNamed(name)
	_, open := st.OpenToken(name, time.Now().UnixNano())
	return !member && open && st.Level() >= 4
}

// removed says what was done: a member is gone, or the join token of one that was to become a member is void.
func removed(_ *fsm.State, in *nodeRemove, res fsm.Result) (Done, error) {
	d := Done{Object: in.Name, Index: res.Index, Repeated: res.Repeated}
	if res.Object != "" { // of VoidToken
		d.Note = fmt.Sprintf("node %s had not joined; its join token is void now", in.Name)
	}
	return d, nil
}

// keepCA records whether the CA survives the removal of a node that has its key.
func (s *Server) keepCA(ctx context.Context, in *nodeRemove) error {
	st := s.Backend.State()
	n, err := findNode(st, in.Name)
	if err != nil || n.KeepCA == in.KeepCA || st.Level() < 4 {
		return err
	}
	res, err := s.Backend.Propose(ctx, fsm.UpdateNode{ID: n.ID, KeepCA: &in.KeepCA}, "")
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	return err
}

func updateNode(n fsm.Node, b NodeChange) (fsm.Body, error) {
	switch only := (NodeChange{Health: b.Health, HealthReason: b.HealthReason}); {
	case b.Address != "" && b != (NodeChange{Address: b.Address}):
		return nil, fsm.Refuse(fsm.CodeParameter, "address is a change by itself; send the others in a second request")
	case b.Address != "":
		return fsm.SetAddress{Node: n.ID, Address: b.Address}, nil
	case b == NodeChange{}:
		return nil, fsm.Refuse(fsm.CodeMissing, "say what to change: standby, maintenance, capacity, no_capacity, score, health or address")
	case b.Health == nil && b.HealthReason != "":
		return nil, fsm.Refuse(fsm.CodeMissing, "a health_reason goes with health")
	case b.Health != nil && b != only:
		return nil, fsm.Refuse(fsm.CodeParameter, "health is a change by itself; send the others in a second request")
	case b.Health != nil:
		return fsm.ReportHealth{Node: n.ID, Health: fsm.Health(*b.Health), Reason: b.HealthReason}, nil
	}
	return fsm.UpdateNode{
		ID: n.ID, Standby: b.Standby, Maintenance: b.Maintenance, Capacity: b.Capacity, NoCapacity: b.NoCapacity, Score: b.Score,
	}, nil
}

func findNode(st *fsm.State, name string) (fsm.Node, error) {
	n, ok := st.NodeNamed(name)
	if !ok {
		return n, fsm.Refuse(fsm.CodeNotFound, "no node is called %q; `node list` shows those there are", name)
	}
	return n, nil
}

func (s *Server) showNode(st *fsm.State, name string) (Node, error) {
	n, err := findNode(st, name)
	if err != nil {
		return Node{}, err
	}
	return s.nodeViews(st, []fsm.Node{n})[0], nil
}

// caWait is how long a new join token waits while the cluster's CA is being replaced, as after the removal of a node that had its key: a token
// names the CA that signs now, and one that names the old CA is of no use once that is dropped. With all nodes up it takes
// less than a second; while one is down the old CA stays, and so does the token.
const caWait = 3 * time.Second

// tokenRoute makes join tokens. The secret is drawn anew for every request, so the key of
// a repeat is of no use here; but a new token for a name replaces the older one, so there
// is never more than one that works.
func (s *Server) tokenRoute() {
	op := huma.Operation{
		Method: http.MethodPost, Path: "/v1/tokens", OperationID: "create-token", Summary: "Make a one-time join token",
		DefaultStatus: http.StatusCreated, Errors: writeErrors, MaxBodyBytes: -1, BodyReadTimeout: -1,
	}
	huma.Register(s.huma, op, func(ctx context.Context, in *tokenCreate) (*reply[Token], error) {
		s.await(ctx, caWait, func(st *fsm.State) bool { return !st.Cluster.Keys.CA.Runs() })
		st := s.Backend.State()
		expires := time.Now().Add(time.Duration(in.Body.TTLSeconds) * time.Second)
		t, err := identity.NewToken(st.Cluster.ID, identity.Fingerprint(s.Identity.Issuer()), in.Body.Node, identity.Role(in.Body.Role), expires)
		if err != nil {
			return nil, problemOf(err)
		}
		res, err := s.Backend.Propose(ctx, fsm.CreateToken{Token: fsm.Token{
			ID: t.ID, SecretHash: identity.SecretHash(t.Secret), Node: t.Name, Role: fsm.Role(t.Role), Expires: t.Expires.UnixNano(),
		}}, "")
		if err != nil {
			return nil, problemOf(err)
		}
		if res.Refusal != nil {
			return nil, problemOf(res.Refusal)
		}
		return &reply[Token]{Index: res.Index, Body: Token{
			Node: t.Name, Role: string(t.Role), Token: t.Text(), Expires: t.Expires,
			Command: fmt.Sprintf("havip-cluster join --node %s --advertise IP --token-file - %s", t.Name, s.peerAddress()),
		}}, nil
	})
}

// peerAddress is where a joining node finds this one.
func (s *Server) peerAddress() string {
	if n, ok := s.Backend.State().Nodes[s.Backend.Self()]; ok {
		return apiAddress(n)
	}
	return net.JoinHostPort(s.Identity.Advertise.String(), strconv.Itoa(s.Identity.Ports.API))
}

func apiAddress(n fsm.Node) string { return net.JoinHostPort(n.Address, strconv.Itoa(n.APIPort)) }

// joinRoute lets nodes in. It is the only operation without a certificate, so everything
// about it is bounded, and nothing of the token is repeated in an answer.
func (s *Server) joinRoute() {
	op := huma.Operation{
		Method: http.MethodPost, Path: "/v1/join", OperationID: "join", Summary: "Let a node in, by its token",
		Description: "Needs no client certificate.", Errors: writeErrors, MaxBodyBytes: -1, BodyReadTimeout: -1,
	}
	huma.Register(s.huma, op, func(ctx context.Context, in *joinInput) (*reply[JoinAnswer], error) {
		req, err := s.parseJoin(in.Body, in.LeasePort, time.Now())
		if err != nil {
			return nil, problemOf(err)
		}
		req.Program = in.Program
		if w, ok := CallerOf(ctx); ok {
			w.Principal = "join:" + req.Name
			ctx = context.WithValue(ctx, callerKey{}, w)
		}
		admitted, err := s.Backend.Admit(ctx, req)
		if err != nil {
			return nil, problemOf(err)
		}
		if admitted.Peers == nil {
			admitted.Peers = []string{}
		}
		return answer(s.Backend.State(), admitted), nil
	})
}

// parseJoin takes a request apart and refuses what the leader need not be asked about.
func (s *Server) parseJoin(b Join, leasePort int, now time.Time) (JoinRequest, error) {
	t, err := identity.ParseToken(b.Token)
	if err != nil {
		return JoinRequest{}, err
	}
	if err := t.CheckExpiry(now); err != nil {
		return JoinRequest{}, err
	}
	ours := s.Backend.State().Cluster.ID
	switch {
	case ours == "":
		return JoinRequest{}, fsm.Refuse(fsm.CodeNotReady, "the cluster has not been initialised yet; try again in a moment")
	case t.ClusterID != ours:
		return JoinRequest{}, fsm.Refuse(fsm.CodeTokenRefused, "the join token is for cluster %s, this is %s", t.ClusterID, ours)
	case t.Name != b.Name:
		return JoinRequest{}, fsm.Refuse(fsm.CodeTokenRefused, "the join token is for node %s, not %s", t.Name, b.Name)
	}
	addr, err := netip.ParseAddr(b.Advertise)
	if err != nil {
		return JoinRequest{}, fsm.Refuse(fsm.CodeMalformed, "advertise %q is not an address such as 10.0.0.2", b.Advertise)
	}
	ports := identity.Ports{API: b.APIPort, Raft: b.RaftPort, Gossip: b.GossipPort, Lease: leasePort}
	for _, err := range []error{identity.CheckAdvertise(addr), ports.Check()} {
		if err != nil {
			return JoinRequest{}, err
		}
	}
	return JoinRequest{TokenID: t.ID, Secret: t.Secret, Name: b.Name, Advertise: addr, Ports: ports, CSR: []byte(b.CSR)}, nil
}
