package membership

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// ErrSuperseded is the reason for refusing a certificate that has ended, although that is less
// than identity.Grace ago: its node has a newer one.
var ErrSuperseded = errors.New("membership: the certificate has ended, and its node has a newer one")

// lateComers judges connections whose certificate has ended. Within its grace it is accepted, so
// that a cluster can elect a leader when all have ended; the log says so once a minute for each
// node, and it ends when the node has renewed it.
type lateComers struct {
	state func() *fsm.State
	log   *slog.Logger

	mu   sync.Mutex
	said map[string]time.Time // by node
}

// judge returns ErrSuperseded, or nil.
func (l *lateComers) judge(node string, cs tls.ConnectionState) error {
	now := time.Now()
	end, over := identity.Ended(cs, now)
	if !over {
		return nil
	}
	s := l.state()
	if s.Superseded(node, end.Unix()) {
		return fmt.Errorf("%w: node %s, %s", ErrSuperseded, s.NodeName(node), end.Format(time.RFC3339))
	}
	if l.loud(node, now) {
		l.log.Error("raft: the certificate of a member has ended; it is accepted for 90 days, and renewed as soon as there is a leader",
			"node", s.NodeName(node), "ended", end.Format(time.RFC3339), "now", now.UTC().Format(time.RFC3339))
	}
	return nil
}

// loud reports whether it is time for a line about a node.
func (l *lateComers) loud(node string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.said[node]) < loudEvery {
		return false
	}
	if l.said == nil || len(l.said) >= fsm.MaxNodes {
		l.said = map[string]time.Time{}
	}
	l.said[node] = now
	return true
}
