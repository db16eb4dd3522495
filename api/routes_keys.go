package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// KeyGiver is what a node gives to other members about keys. st is the newest state, and caller
// the node whose certificate the other end has shown; each may be refused.
type KeyGiver interface {
	// SignRenewal signs the key of a request; claimed is whose the request says it is.
	SignRenewal(st *fsm.State, caller, claimed string, csr []byte) (certPEM []byte, err error)
	GossipKey(st *fsm.State, caller, id string) ([]byte, error)
	CAKey(st *fsm.State, caller, id string) (keyPEM []byte, err error)
}

// KeyView is a certificate or a key of the cluster. What is secret is never shown.
type KeyView struct {
	What      string     `json:"what" enum:"certificate,ca,gossip"`
	Node      string     `json:"node,omitempty" doc:"Whose certificate it is"`
	ID        string     `json:"id" doc:"Fingerprint (SHA-256 of the certificate), or name of a gossip key"`
	Issuer    string     `json:"issuer,omitempty" doc:"Id of the CA that signed it"`
	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
	DaysLeft  *float64   `json:"days_left,omitempty"`
	Holders   []string   `json:"holders,omitempty" doc:"Nodes that have the secret key"`
	State     string     `json:"state" enum:"ok,warning,ended,due,new,old,unknown" doc:"due: it is to be replaced; new, old: of a replacement that runs"`
	Phase     string     `json:"phase,omitempty" enum:"make,spread,use" doc:"Of the replacement that runs"`
	Since     *time.Time `json:"since,omitempty" doc:"When that phase began"`
	Awaited   []string   `json:"awaited,omitempty" doc:"Nodes that the phase waits for"`
}

// KeyRotation asks for the replacement of a key.
type KeyRotation struct {
	What  string `json:"what" enum:"gossip,node,ca"`
	Node  string `json:"node,omitempty" doc:"Name or id, with node; absent: all nodes"`
	Force bool   `json:"force,omitempty" doc:"Ends the present phase of a replacement of the CA without the nodes that have not confirmed it"`
}

type rotateRequest struct {
	Idempotency string `header:"Idempotency-Key" maxLength:"128" doc:"A repeat with the same key and content is done once"`
	Body        KeyRotation
}

// Renewal is a member's request for a certificate with a new key.
type Renewal struct {
	Node string `json:"node" maxLength:"63"`
	CSR  string `json:"csr" maxLength:"8192"`
}

// Secret is a key or a certificate that one node gives to another.
type Secret struct {
	Certificate string `json:"certificate,omitempty"`
	Key         []byte `json:"key,omitempty"`
}

type keyID struct {
	ID string `path:"id" maxLength:"64"`
}

func (s *Server) keyRoutes() {
	read(s, "/v1/keys", "list-keys", "Certificates and keys, and what is being replaced", func(st *fsm.State, _ *Consistency) ([]KeyView, error) {
		return keyViews(st, time.Now()), nil
	})
	write(s, http.MethodPost, "/v1/keys/rotate", "rotate-keys", "Replace a key of the cluster, or certificates of nodes", s.rotateKeys,
		func(st *fsm.State, _ *rotateRequest, _ fsm.Result) ([]KeyView, error) {
			return keyViews(st, time.Now()), nil
		})
	hidden := func(method, path, id string) huma.Operation {
		return huma.Operation{Method: method, Path: "/v1/internal/keys/" + path, OperationID: id, Hidden: true, MaxBodyBytes: -1, BodyReadTimeout: -1}
	}
	huma.Register(s.huma, hidden(http.MethodPost, "renew", "renew-own"), func(ctx context.Context, in *struct{ Body Renewal }) (*reply[Secret], error) {
		return s.give(ctx, func(k KeyGiver, st *fsm.State, caller string) (out Secret, err error) {
			cert, err := k.SignRenewal(st, caller, in.Body.Node, []byte(in.Body.CSR))
			return Secret{Certificate: string(cert)}, err
		})
	})
	huma.Register(s.huma, hidden(http.MethodGet, "gossip/{id}", "gossip-key"), func(ctx context.Context, in *keyID) (*reply[Secret], error) {
		return s.give(ctx, func(k KeyGiver, st *fsm.State, caller string) (out Secret, err error) {
			out.Key, err = k.GossipKey(st, caller, in.ID)
			return out, err
		})
	})
	huma.Register(s.huma, hidden(http.MethodGet, "ca/{id}", "ca-key"), func(ctx context.Context, in *keyID) (*reply[Secret], error) {
		return s.give(ctx, func(k KeyGiver, st *fsm.State, caller string) (out Secret, err error) {
			out.Key, err = k.CAKey(st, caller, in.ID)
			return out, err
		})
	})
}

// give answers a member by the newest state, so that one that was removed gets nothing.
func (s *Server) give(ctx context.Context, what func(k KeyGiver, st *fsm.State, caller string) (Secret, error)) (*reply[Secret], error) {
	caller := peerOf(ctx).node
	if caller == "" {
		return nil, problem(http.StatusForbidden, CodeAuth, "only members may use this endpoint, with their own certificate")
	}
	if s.Keys == nil {
		return nil, problemOf(fsm.Refuse(fsm.CodeNotReady, "this node gives no keys"))
	}
	st, err := s.newest(ctx)
	if err != nil {
		return nil, problemOf(err)
	}
	out, err := what(s.Keys, st, caller)
	if err != nil {
		return nil, problemOf(err)
	}
	return answer(st, out), nil
}

func (s *Server) rotateKeys(ctx context.Context, in *rotateRequest) (fsm.Result, error) {
	b := in.Body
	return s.commit(ctx, in.Idempotency, func(st *fsm.State) (fsm.Body, error) {
		r := st.Cluster.Keys.Rotation(b.What)
		switch {
		case b.Force && b.What != fsm.KeyOfCA:
			return nil, fsm.Refuse(fsm.CodeParameter, "force goes with ca: only a replacement of the CA waits for nodes that are off")
		case b.Force && r.Phase != fsm.PhaseSpread && r.Phase != fsm.PhaseUse:
			return nil, fsm.Refuse(fsm.CodeParameter, "no replacement of the CA waits for a node")
		case b.Force:
			return fsm.AdvanceKeys{What: b.What, Phase: r.Phase, New: r.New, Force: true}, nil
		case b.Node == "":
			return fsm.RotateKeys{What: b.What, Why: "asked for"}, nil
		}
		n, err := findNode(st, b.Node)
		if err != nil {
			return nil, err
		}
		return fsm.RotateKeys{What: b.What, Node: n.ID, Why: "asked for"}, nil
	})
}

// keyViews shows CAs, gossip keys and then certificates, each in the order of the state.
func keyViews(st *fsm.State, now time.Time) []KeyView {
	k := st.Cluster.Keys
	out := []KeyView{}
	for _, ca := range k.CAs {
		v := KeyView{What: "ca", ID: ca.ID, State: "ok", Holders: names(st.HoldersOf(ca.ID))}
		if cert, err := identity.ParseCert("a CA", []byte(ca.Cert)); err == nil {
			v.span(cert.NotBefore, cert.NotAfter, identity.Life(cert), now)
		}
		v.rotates(st, fsm.KeyOfCA, len(k.CAs) > 1)
		out = append(out, v)
	}
	for _, id := range k.Gossip {
		v := KeyView{What: "gossip", ID: id, State: "ok"}
		v.rotates(st, fsm.KeyOfGossip, len(k.Gossip) > 1)
		out = append(out, v)
	}
	for _, n := range st.NodeList() {
		r := n.KeyReport
		v := KeyView{What: "certificate", Node: n.Name, ID: r.Cert, Issuer: r.Issuer, State: "ok"}
		if r.Cert == "" {
			v.State = "unknown"
			out = append(out, v)
			continue
		}
		v.span(time.Unix(r.From, 0), time.Unix(r.Until, 0), reportLife(r), now)
		if v.State == "ok" && (n.RenewFrom == r.Cert || k.Issuer != "" && r.Issuer != k.Issuer) {
			v.State = "due"
		}
		out = append(out, v)
	}
	return out
}

func names(nodes []fsm.Node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Name)
	}
	return out
}

// reportLife is how long a reported certificate was made for.
func reportLife(r fsm.KeyReport) time.Duration {
	return identity.LifeOf(time.Unix(r.From, 0), time.Unix(r.Until, 0))
}

func (v *KeyView) span(from, until time.Time, life time.Duration, now time.Time) {
	from, until = from.UTC(), until.UTC()
	left := until.Sub(now)
	days := math.Floor(left.Hours()/24*1000) / 1000
	v.NotBefore, v.NotAfter, v.DaysLeft = &from, &until, &days
	switch step := identity.WarnStep(left, life); {
	case step == identity.WarnEnded:
		v.State = "ended"
	case step > 0:
		v.State = "warning"
	}
}

// rotates says what a replacement makes of a key.
func (v *KeyView) rotates(st *fsm.State, what string, several bool) {
	r := st.Cluster.Keys.Rotation(what)
	if !r.Runs() {
		return
	}
	since := time.Unix(0, r.Since).UTC()
	v.Phase, v.Since, v.Awaited = r.Phase, &since, names(st.Awaited(what))
	switch {
	case v.ID == r.New:
		v.State = "new"
	case several:
		v.State = "old"
	}
}

// keyPatience is how long a phase of a replacement may take before the status names who it waits for.
const keyPatience = time.Minute

// keys tells of certificates that end, and of replacements that wait.
func (h *health) keys(st *fsm.State, now time.Time) {
	for _, v := range keyViews(st, now) {
		what := "the certificate of node " + v.Node
		if v.What == "ca" {
			what = "the cluster's CA"
		}
		switch v.State {
		case "ended":
			h.many("keys", HealthYellow, "%s ended at %s; the members accept it until %s, and renew it by themselves; `keys status`", what, v.NotAfter.Format(time.RFC3339), v.NotAfter.Add(time.Duration(identity.Grace)).Format(time.RFC3339))
		case "warning":
			h.many("keys", HealthYellow, "%s ends at %s, in %s, and has not been renewed; `keys status`", what, v.NotAfter.Format(time.RFC3339), v.NotAfter.Sub(now).Round(time.Second))
		}
	}
	h.rest("keys", HealthYellow, "%d more certificates end; `keys status`")
	for _, what := range []string{fsm.KeyOfCA, fsm.KeyOfGossip} {
		r := st.Cluster.Keys.Rotation(what)
		if took := now.Sub(time.Unix(0, r.Since)); r.Runs() && took > keyPatience {
			h.worse(HealthYellow, "the replacement of the key of %s has been in phase %s for %s and waits for %s; `keys status`", what, r.Phase, took.Round(time.Second), orNobody(names(st.Awaited(what))))
		}
	}
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "a node that makes the new one"
	}
	return "node " + strings.Join(names, ", ")
}

// Keys lists certificates and keys.
func (c *Client) Keys(ctx context.Context) ([]KeyView, error) {
	return get[[]KeyView](ctx, c, "/v1/keys", nil)
}

// RotateKeys replaces a key.
func (c *Client) RotateKeys(ctx context.Context, b KeyRotation) ([]KeyView, error) {
	return change[[]KeyView](ctx, c, http.MethodPost, "/v1/keys/rotate", nil, b)
}

// Renew asks for a certificate of the calling node; once.
func (c *Client) Renew(ctx context.Context, node string, csr []byte) ([]byte, error) {
	raw, err := json.Marshal(Renewal{Node: node, CSR: string(csr)})
	if err != nil {
		return nil, fmt.Errorf("api: encode request: %w", err)
	}
	out, err := once[Secret](ctx, c, http.MethodPost, "/v1/internal/keys/renew", raw)
	return []byte(out.Certificate), err
}

// GossipKey asks for a gossip key of the present state; once.
func (c *Client) GossipKey(ctx context.Context, id string) ([]byte, error) {
	out, err := once[Secret](ctx, c, http.MethodGet, "/v1/internal/keys/gossip/"+url.PathEscape(id), nil)
	return out.Key, err
}

// CAKey asks for the key of a CA that the calling node shall hold; once.
func (c *Client) CAKey(ctx context.Context, id string) ([]byte, error) {
	out, err := once[Secret](ctx, c, http.MethodGet, "/v1/internal/keys/ca/"+url.PathEscape(id), nil)
	return out.Key, err
}
