package membership

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/netip"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// Applicant is a node that asks to be let in.
type Applicant struct {
	TokenID   string
	Secret    identity.Secret
	Name      string
	Advertise netip.Addr
	Ports     identity.Ports
	CSR       []byte // PEM
	Program   string // its version with its level of commands, "" if it did not say
}

// Admitted is what the applicant gets.
type Admitted struct {
	Node  fsm.Node
	Lease time.Duration
	Cert  []byte // PEM
	CAKey []byte // PEM; nil unless the node votes: any voter may have to let others in
	// Voters are those of the latest configuration, for Prepare.
	Voters []raft.Server
}

// Admit uses a token up and signs the applicant's certificate. Only the leader can, and
// it needs the CA's key, which every voter has. Nothing is changed when it refuses. The
// same request repeated gets the same node id, because an answer can be lost.
func Admit(ctx context.Context, n *Node, id *identity.Identity, a Applicant) (Admitted, error) {
	if id.CA == nil {
		return Admitted{}, fsm.Refuse(fsm.CodeNotReady, "this node has no CA key and cannot let others in; make a voter the leader")
	}
	keyHash, refusal := csrKeyHash(a.CSR)
	if refusal != nil {
		return Admitted{}, refusal
	}
	now := time.Now()
	node := fsm.Node{
		ID: identity.NewNodeID(), Name: a.Name, Address: a.Advertise.String(),
		APIPort: a.Ports.API, RaftPort: a.Ports.Raft, GossipPort: a.Ports.Gossip, KeyHash: keyHash, Version: a.Program,
	}
	// What cannot be signed must not use the token up, and must not become a member.
	if err := a.Ports.Check(); err != nil {
		return Admitted{}, fsm.Refuse(fsm.CodeParameter, "%v", err)
	}
	if a.Advertise.IsLoopback() && !id.Advertise.IsLoopback() {
		return Admitted{}, fsm.Refuse(fsm.CodeParameter, "node %s says that the others reach it at %s, which is their own host; join with --advertise and an address of its network", a.Name, a.Advertise)
	}
	cert, err := identity.SignCSR(id.CA, a.CSR, node.ID, a.Name, a.Advertise, now)
	if err != nil {
		return Admitted{}, fsm.Refuse(fsm.CodeParameter, "no certificate can be made for node %s: %v", a.Name, err)
	}
	if err := introduce(n.State(), &node, a.Ports.Lease, cert); err != nil {
		return Admitted{}, err
	}
	res, err := n.Propose(ctx, 0, "", fsm.AddNode{Token: a.TokenID, SecretHash: identity.SecretHash(a.Secret), Node: node})
	if err != nil {
		return Admitted{}, err
	}
	if res.Refusal != nil {
		n.cfg.Logger.Warn("a join was refused", "node", a.Name, "address", node.Address, "reason", res.Refusal.Message)
		return Admitted{}, res.Refusal
	}
	s := n.State()
	out := Admitted{Node: s.Nodes[res.Object], Lease: s.Cluster.Lease}
	for _, srv := range n.Servers() {
		if srv.Suffrage == raft.Voter {
			out.Voters = append(out.Voters, srv)
		}
	}
	if out.Cert = cert; out.Node.ID != node.ID { // the answer to an earlier request was lost
		out.Cert, err = identity.SignCSR(id.CA, a.CSR, out.Node.ID, out.Node.Name, a.Advertise, now)
		if err != nil {
			return Admitted{}, err
		}
	}
	if out.Node.Role != fsm.RoleAgent {
		if out.CAKey, err = id.CA.KeyPEM(); err != nil {
			return Admitted{}, err
		}
	}
	n.cfg.Logger.Info("a node was let in", "node", out.Node.Name, "id", out.Node.ID, "role", string(out.Node.Role), "address", out.Node.Address)
	return out, nil
}

// introduce puts the key of a new node's certificate into its record, so that there is no time
// in which others take words in its name without proof. A node without a lease port speaks by
// gossip, and a cluster below level 4 has no place for keys.
func introduce(s *fsm.State, node *fsm.Node, leasePort int, certPEM []byte) error {
	if leasePort == 0 || s.Level() < keyLevel {
		return nil
	}
	cert, err := identity.ParseCert("the new certificate", certPEM)
	if err != nil {
		return err
	}
	key, err := keyOf(cert)
	if err != nil {
		return err
	}
	node.LeasePort, node.Keys = leasePort, []fsm.NodeKey{key}
	return nil
}

// csrKeyHash identifies the key that asks, so that only it may repeat its request.
func csrKeyHash(csr []byte) (string, *fsm.Refusal) {
	block, _ := pem.Decode(csr)
	if block == nil {
		return "", fsm.Refuse(fsm.CodeMalformed, "the certificate request is not PEM")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = req.CheckSignature()
	}
	if err != nil {
		return "", fsm.Refuse(fsm.CodeMalformed, "the certificate request cannot be used: %v", err)
	}
	sum := sha256.Sum256(req.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:]), nil
}
