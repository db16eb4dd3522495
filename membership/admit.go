package membership

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
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
	Cert  []byte            // PEM
	CA    *x509.Certificate // that signed it: while the CA is replaced, not always this node's own
	CAKey []byte            // PEM; nil unless the state says that the node holds it
	// Voters are those of the latest configuration, for Prepare.
	Voters []raft.Server
}

// Signer has another node, which holds the CA's key, sign the certificate of a node that was
// just let in.
type Signer func(ctx context.Context, node fsm.Node, csr []byte) (cert []byte, err error)

// Admit uses a token up and has the applicant's certificate signed: here where this node holds
// the CA's key, else by sign. Only the leader can. Nothing is changed when it refuses. The
// same request repeated gets the same node id, because an answer can be lost.
func Admit(ctx context.Context, n *Node, id *identity.Identity, a Applicant, sign Signer) (Admitted, error) {
	keyHash, refusal := csrKeyHash(a.CSR)
	if refusal != nil {
		return Admitted{}, refusal
	}
	now := time.Now()
	node := fsm.Node{
		ID: identity.NewNodeID(), Name: a.Name, Address: a.Advertise.String(),
		APIPort: a.Ports.API, RaftPort: a.Ports.Raft, GossipPort: a.Ports.Gossip, KeyHash: keyHash, Version: a.Program,
	}
	if id.Authority() == nil && (sign == nil || n.State().Level() >= 4 && n.State().CAHolders() == 0) {
		return Admitted{}, fsm.Refuse(fsm.CodeNotReady, "this node has no CA key and cannot let others in; make a voter the leader that has it")
	}
	if err := admissible(id, a); err != nil {
		return Admitted{}, err
	}
	cert, err := signed(n.State(), id, a, node.ID, now)
	if err == nil {
		err = introduce(n.State(), &node, a.Ports.Lease, cert)
	}
	if err != nil {
		return Admitted{}, err
	}
	add := fsm.AddNode{Token: a.TokenID, SecretHash: identity.SecretHash(a.Secret), Node: node}
	if n.State().Level() >= 4 {
		add.WithCA = id.Authority() != nil
	}
	res, err := n.Propose(ctx, 0, "", add)
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
	switch {
	case cert == nil:
		out.Cert, err = sign(ctx, out.Node, a.CSR)
	case out.Node.ID == node.ID:
		out.Cert = cert
	default: // the answer to an earlier request was lost
		out.Cert, err = signed(s, id, a, out.Node.ID, now)
	}
	if err != nil {
		return Admitted{}, err
	}
	if out.CA, err = id.IssuerOf(out.Cert); err != nil {
		return Admitted{}, err
	}
	if ca := id.Held(identity.Fingerprint(out.CA)); ca != nil && getsCA(s, out.Node) {
		if out.CAKey, err = ca.KeyPEM(); err != nil {
			return Admitted{}, err
		}
	}
	n.cfg.Logger.Info("a node was let in", "node", out.Node.Name, "id", out.Node.ID, "role", string(out.Node.Role), "address", out.Node.Address, "ca_key", out.CAKey != nil)
	return out, nil
}

// getsCA reports whether the answer to a join holds the CA's key. Below level 4 the state does
// not say who has it; then every voter gets it, and nobody else.
func getsCA(s *fsm.State, n fsm.Node) bool {
	return n.HoldsCA || s.Level() < 4 && n.Role == fsm.RoleVoter
}

// admissible refuses what cannot be signed: it must not use the token up, and must not become a
// member.
func admissible(id *identity.Identity, a Applicant) error {
	if err := a.Ports.Check(); err != nil {
		return fsm.Refuse(fsm.CodeParameter, "%v", err)
	}
	if a.Advertise.IsLoopback() && !id.Advertise.IsLoopback() {
		return fsm.Refuse(fsm.CodeParameter, "node %s says that the others reach it at %s, which is their own host; join with --advertise and an address of its network", a.Name, a.Advertise)
	}
	return nil
}

// signed makes an applicant's certificate where this node has the CA's key, else nothing.
func signed(s *fsm.State, id *identity.Identity, a Applicant, nodeID string, now time.Time) ([]byte, error) {
	ca := id.Authority()
	if ca == nil {
		return nil, nil
	}
	cert, err := identity.SignCSRFor(ca, a.CSR, nodeID, a.Name, a.Advertise, now, s.Cluster.Keys.CertificateLife)
	if err != nil {
		return nil, fsm.Refuse(fsm.CodeParameter, "no certificate can be made for node %s: %v", a.Name, err)
	}
	return cert, nil
}

// signWait is how long a holder of the CA's key waits to hear of a node that was just let in.
const signWait = 3 * time.Second

// Sign makes the certificate of a member, at a node that holds the CA's key, whoever asks for
// it: it is of use only to who has the member's private key. Name and address are the state's.
func Sign(ctx context.Context, n *Node, id *identity.Identity, node string, csr []byte) ([]byte, error) {
	if id.Authority() == nil {
		return nil, fsm.Refuse(fsm.CodeNotReady, "this node does not hold the CA's key")
	}
	keyHash, refusal := csrKeyHash(csr)
	if refusal != nil {
		return nil, refusal
	}
	ctx, cancel := context.WithTimeout(ctx, signWait)
	defer cancel()
	watch, stop := n.Watch()
	defer stop()
	for {
		member, there := n.State().Nodes[node]
		if there && (member.KeyHash == "" || member.KeyHash != keyHash) {
			return nil, fsm.Refuse(fsm.CodeUnsupported, "the key is not that of node %s", member.Name)
		}
		if there {
			ip, err := netip.ParseAddr(member.Address)
			if err != nil {
				return nil, fmt.Errorf("membership: address of node %s: %w", member.Name, err)
			}
			return identity.SignCSRFor(id.Authority(), csr, member.ID, member.Name, ip, time.Now(), n.State().Cluster.Keys.CertificateLife)
		}
		select {
		case <-watch:
		case <-ctx.Done():
			return nil, fsm.Refuse(fsm.CodeNotReady, "no node %s is known here yet; try again in a moment", node)
		}
	}
}

// introduce puts the key of a new node's certificate into its record, so that there is no time
// in which others take words in its name without proof. A node without a lease port speaks by
// gossip, and a cluster below level 4 has no place for keys. One whose certificate another node
// signs afterwards registers its key itself.
func introduce(s *fsm.State, node *fsm.Node, leasePort int, certPEM []byte) error {
	if leasePort == 0 || s.Level() < keyLevel || certPEM == nil {
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
