package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// Between nodes: what the one that forwards says of the caller. The receiver believes it as
// far as it would believe that node itself (see vouched).
const (
	headerCaller = "Havip-Caller" // root, or node:ID
	headerSource = "Havip-Source" // address that the request came from
)

// callerKey is the context key of who asks.
type callerKey struct{}

// CallerOf is who asks for what a Backend is called with; not ok where nobody does, and then
// nothing may be proposed.
func CallerOf(ctx context.Context) (fsm.Caller, bool) {
	w, ok := ctx.Value(callerKey{}).(fsm.Caller)
	return w, ok
}

// who is CallerOf for commands: nil for nobody.
func who(ctx context.Context) *fsm.Caller {
	if w, ok := CallerOf(ctx); ok {
		return &w
	}
	return nil
}

// caller finds out who sends a request. p is the other end of the connection, a member or the
// local root or nobody; a token in the request wins over both.
func (s *Server) caller(r *http.Request, p peer) (fsm.Caller, *Problem) {
	w := fsm.Caller{Principal: "nobody"}
	var refusal *Problem
	switch token, given := bearer(r); {
	case given && p.node == "" && !p.local && s.logins.wait(remoteHost(r), time.Now()) > 0:
		return w, problem(http.StatusTooManyRequests, CodeTooMany, "requests from %s had no valid token too often: %d at once, then one every %s; wait %s", remoteHost(r), joinFailuresMax, joinFailurePause, joinFailurePause)
	case given:
		if w, refusal = s.tokenCaller(r.Context(), token); refusal != nil && refusal.Status == http.StatusUnauthorized && p.node == "" && !p.local {
			s.logins.failed(remoteHost(r), time.Now())
		}
	case s.openTo(r):
		w.Principal = "join"
	case p.local:
		w = rootOf(s.Backend.State(), s.Backend.Self())
	case p.node != "":
		w = s.vouched(r, p.node)
	default:
		refusal = problem(http.StatusUnauthorized, CodeAuth, "%s; show a token (--token-file or HAVIP_TOKEN), use the socket of the local agent as root, or --data-dir with a node's certificate", plain(p.err))
	}
	w.Source = s.source(r, p)
	w.Request = strings.TrimSpace(s.pattern(r))
	if name, ok := s.names[w.Request]; ok {
		w.Request = name
	}
	return w, refusal
}

// bearer is the token of a request.
func bearer(r *http.Request) (text string, given bool) {
	value := r.Header.Get("Authorization")
	if value == "" {
		return "", false
	}
	scheme, token, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", true
	}
	return token, true
}

// tokenCaller is the bearer of a token. A node that lags may not know a new token, or still
// know one that was revoked; so it asks for the newest state before it refuses, and a read asks
// again with the state that it answers from.
func (s *Server) tokenCaller(ctx context.Context, text string) (fsm.Caller, *Problem) {
	nobody := fsm.Caller{Principal: "token"}
	t, err := identity.ParseAccessToken(text)
	if err != nil {
		return nobody, problem(http.StatusUnauthorized, CodeAuth, "%s", plain(err))
	}
	st := s.Backend.State()
	if _, known := st.CredentialOf(t.ID); !known {
		if st, err = s.newest(ctx); err != nil {
			return nobody, problemOf(err)
		}
	}
	cred, known := st.CredentialOf(t.ID)
	if !identity.SecretMatches(t.Secret, cred.SecretHash) || !known {
		return nobody, problem(http.StatusUnauthorized, CodeAuth, "the token is not known here: it was revoked, or it is of another cluster; `token list` shows those there are")
	}
	if cred.Expired(time.Now().UnixNano()) {
		return nobody, problem(http.StatusUnauthorized, CodeAuth, "token %s expired at %s; make a new one with `token create`", cred.Name, wall(cred.Expires).Format(time.RFC3339))
	}
	return cred.Caller(), nil
}

// still refuses a token that a state does not know any more: the one that a read answers from.
func still(ctx context.Context, st *fsm.State) *Problem {
	w, ok := CallerOf(ctx)
	if !ok || w.Credential == "" {
		return nil
	}
	if cred, known := st.CredentialOf(w.Credential); !known || cred.Right != w.Right || cred.Group != w.Group || cred.Expired(time.Now().UnixNano()) {
		return problem(http.StatusUnauthorized, CodeAuth, "%s was revoked, or has expired", w.Principal)
	}
	return nil
}

// rootOf is the root of a node. Who is root at a voter could vote as he likes and has the whole
// cluster in hand; at any other node he gets what that node must do, and the care of it.
func rootOf(st *fsm.State, node string) fsm.Caller {
	n := st.Nodes[node]
	w := fsm.Caller{Principal: "root@" + st.NodeName(node), Right: fsm.RightViewer, Node: node}
	if votes(n) || st.Cluster.ID == "" {
		w.Right = fsm.RightAdmin
	}
	return w
}

// votes reports whether the operator made a node one that votes, and it is not on its way out.
func votes(n fsm.Node) bool {
	return (n.Role == fsm.RoleVoter || n.Role == fsm.RoleWitness) && !n.Removing
}

// nodeCaller is a node's own certificate.
func nodeCaller(st *fsm.State, node string) fsm.Caller {
	w := fsm.Caller{Principal: "node:" + st.NodeName(node), Right: fsm.RightViewer, Node: node}
	return w
}

// vouched is the caller of a request that came with a member's certificate: the member itself,
// or whom it forwards for. Of its own root any member may speak; of another node only one that
// votes may, because a lie of that one would be worth nothing to it.
func (s *Server) vouched(r *http.Request, member string) fsm.Caller {
	st := s.Backend.State()
	if r.Header.Get(headerHops) == "" {
		return nodeCaller(st, member)
	}
	said := r.Header.Get(headerCaller)
	// A program before level 4 does not say who asked; there it was root.
	if said == "root" || said == "" && st.Nodes[member].CommandLevel() < 4 {
		return rootOf(st, member)
	}
	if other, ok := strings.CutPrefix(said, "node:"); ok && votes(st.Nodes[member]) {
		if _, known := st.Nodes[other]; known {
			return nodeCaller(st, other)
		}
	}
	return nodeCaller(st, member)
}

// vouch writes down, for the leader, who asked this node. A token travels as it is.
func (s *Server) vouch(r *http.Request, out http.Header) {
	p := peerOf(r.Context())
	switch token := r.Header.Get("Authorization"); {
	case token != "":
		out.Set("Authorization", token)
	case p.local:
		out.Set(headerCaller, "root")
	case p.node != "":
		out.Set(headerCaller, "node:"+p.node)
	}
	if !p.local {
		out.Set(headerSource, remoteHost(r))
	}
}

// source is where a request came from, as far as it is known here.
func (s *Server) source(r *http.Request, p peer) string {
	if p.local {
		return ""
	}
	if p.node != "" && r.Header.Get(headerHops) != "" {
		via := "via " + s.Backend.State().NodeName(p.node)
		if a, err := netip.ParseAddr(r.Header.Get(headerSource)); err == nil {
			return a.String() + " " + via
		}
		return via
	}
	return remoteHost(r)
}

// remoteHost is the address of a caller without its port.
func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
