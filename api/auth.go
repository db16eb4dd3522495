package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/membership/identity"
)

// peerKey is the context key of who is at the other end.
type peerKey struct{}

// peer is who is at the other end of a connection: a node, the owner of the socket, or
// nobody in particular.
type peer struct {
	node  string // id from a verified certificate
	local bool   // root or our own user, over the unix socket
	err   error  // why it is neither
}

// peerOf gives the peer of a request.
func peerOf(ctx context.Context) peer {
	p, _ := ctx.Value(peerKey{}).(peer)
	return p
}

// withPeer looks at a new connection: the kernel says who is at the other end of a unix
// socket. The file's mode says so too; this is the second look.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*net.UnixConn); ok {
		return context.WithValue(ctx, peerKey{}, unixPeer(u))
	}
	return context.WithValue(ctx, openedKey{}, time.Now())
}

// openedKey is the context key of when a connection was opened.
type openedKey struct{}

func unixPeer(c *net.UnixConn) peer {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{err: fmt.Errorf("api: unix socket: %w", err)}
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return peer{err: fmt.Errorf("api: unix socket: %w %w", err, credErr)}
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Getuid() {
		return peer{err: fmt.Errorf("api: user %d may not use this socket; be root", cred.Uid)}
	}
	return peer{local: true}
}

// authenticate finds out who asks and lets nobody on whose credential is none, or who may not
// use the route. That a certificate is of this cluster, TLS has verified; that its node is
// still a member, the state says. A change that goes to the leader is judged there.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := peerOf(r.Context())
		if r.TLS != nil {
			p = tlsPeer(*r.TLS)
		} else if !p.local && p.err == nil {
			p.err = fmt.Errorf("api: neither TLS nor the local socket")
		}
		r = r.WithContext(context.WithValue(r.Context(), peerKey{}, p))
		caller, refusal := s.caller(r, p)
		seenOf(r.Context()).caller = caller
		if refusal == nil && p.node != "" && !s.openTo(r) {
			if refusal = s.checkEnded(r); refusal != nil {
				w.Header().Set("Connection", "close") // the next one shows the newer certificate
			} else {
				refusal = s.checkMember(r.Context(), p.node)
			}
		}
		if refusal == nil && (!s.goesOn(r) || s.Backend.IsLeader() || holdsFile(r)) {
			refusal = permit(s.pattern(r), p, caller)
		}
		if refusal != nil {
			if refusal.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			writeProblem(w, refusal)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
	})
}

func tlsPeer(cs tls.ConnectionState) peer {
	node, err := identity.PeerNodeID(cs)
	return peer{node: node, err: err}
}

// checkMember refuses the certificate of a node that was removed. This node may be behind
// and not know a new member yet, so it asks for the newest state before it refuses.
func (s *Server) checkMember(ctx context.Context, node string) *Problem {
	st := s.Backend.State()
	if _, ok := st.Nodes[node]; ok || st.Cluster.ID == "" {
		return nil // without a state every request gets NotReady anyway
	}
	st, err := s.newest(ctx)
	if err != nil {
		return problemOf(err)
	}
	if _, ok := st.Nodes[node]; !ok {
		return problem(http.StatusForbidden, CodeAuth, "node %s is not a member of this cluster; it was removed: wipe its data directory and join again with a new token", node)
	}
	return nil
}

// checkEnded bounds what a certificate that has ended opens, within its grace: what a node needs
// to get a new one and to keep what it owns meanwhile, and that only while it has no newer one.
// A connection that was opened in its time stays.
func (s *Server) checkEnded(r *http.Request) *Problem {
	opened, known := r.Context().Value(openedKey{}).(time.Time)
	if !known {
		opened = time.Now()
	}
	end, over := identity.Ended(*r.TLS, opened)
	switch {
	case !over:
		return nil
	case !strings.HasPrefix(r.URL.Path, "/v1/internal/"):
		return problem(http.StatusForbidden, CodeAuth, "the certificate ended at %s, this host's clock says %s; it is good for its renewal alone, which the agent does by itself", end.UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))
	case s.Backend.State().Superseded(tlsPeer(*r.TLS).node, end.Unix()):
		return problem(http.StatusForbidden, CodeAuth, "the certificate ended at %s, and its node has a newer one", end.UTC().Format(time.RFC3339))
	}
	return nil
}

// guardJoin applies the join limits to callers without a certificate; a node that
// forwards somebody's join has counted it itself.
func (s *Server) guardJoin(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if p := peerOf(r.Context()); p.node != "" || p.local {
		next.ServeHTTP(w, r)
		return
	}
	host := remoteHost(r)
	if wait := s.joins.wait(host, time.Now()); wait > 0 {
		w.Header().Set("Retry-After", seconds(wait))
		writeProblem(w, problem(http.StatusTooManyRequests, CodeTooMany, "joins from %s were refused too often: %d at once, then one every %s; wait %ss", host, joinFailuresMax, joinFailurePause, seconds(wait)))
		return
	}
	sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	next.ServeHTTP(sw, r)
	if sw.status >= http.StatusBadRequest && sw.status < http.StatusInternalServerError {
		s.joins.failed(host, time.Now())
		s.Log.Warn("a node asked to join and was refused", "address", host, "status", sw.status)
	}
}
