package membership

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

const (
	// keyLevel is the level of the log from which on nodes register keys, and the cluster replaces them.
	keyLevel = 4
	// keyGrace is how long the key before counts beside a new one: every member has applied the
	// registration by then, or is so far behind that it votes for nothing.
	keyGrace = 30 * time.Second

	registerWait  = 5 * time.Second // for one request to the leader
	registerPause = 250 * time.Millisecond
	registerPoll  = 10 * time.Second // whatever the log does, the own certificate is looked at so often
)

// keyOf is the record of a certificate's key.
func keyOf(cert *x509.Certificate) (fsm.NodeKey, error) {
	public, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fsm.NodeKey{}, fmt.Errorf("membership: a certificate with a key of kind %T cannot speak", cert.PublicKey)
	}
	raw, err := public.Bytes()
	if err != nil {
		return fsm.NodeKey{}, fmt.Errorf("membership: the key of a certificate: %w", err)
	}
	return fsm.NodeKey{Certificate: identity.Fingerprint(cert), Public: base64.StdEncoding.EncodeToString(raw)}, nil
}

// Registrar keeps the keys of this node in the state equal to those of its certificates: a new
// key is registered at once, beside the one before, and after keyGrace it is the only one.
type Registrar struct {
	Node   string // id
	State  func() *fsm.State
	Watch  func() (<-chan struct{}, func())
	Submit func(ctx context.Context, body fsm.Body) (fsm.Result, error)
	// Key is that of the present certificate, with the port for the words of the lease.
	Key    func() (fsm.NodeKey, int, error)
	Logger *slog.Logger
	// Now is for keyGrace; nil is the system's clock.
	Now func() time.Time

	since time.Time // when both keys were seen in the state first; zero: there is one
	said  string
}

// Run works until ctx ends.
func (r *Registrar) Run(ctx context.Context) {
	watch, stop := r.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch:
		case <-timer.C:
		}
		pause := registerPoll
		if !r.step(ctx) {
			pause = registerPause
			select { // the log may change all the time
			case <-ctx.Done():
				return
			case <-time.After(registerPause):
			}
		}
		timer.Reset(pause)
	}
}

// step registers what is due. False: it must be tried again.
func (r *Registrar) step(ctx context.Context) bool {
	body, err := r.due(r.now())
	if err != nil {
		r.say(err.Error())
		return false
	}
	if body == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, registerWait)
	defer cancel()
	res, err := r.Submit(ctx, *body)
	switch {
	case err != nil:
		r.Logger.Debug("this node's key is not registered yet", "reason", err)
		return false
	case res.Refusal != nil:
		r.say(res.Refusal.Message)
		return false
	}
	r.said = ""
	return true
}

// due compares the state with the present certificate; nil: nothing is to be done.
func (r *Registrar) due(now time.Time) (*fsm.RegisterKey, error) {
	s := r.State()
	me, member := s.Nodes[r.Node]
	if !member || s.Level() < keyLevel {
		return nil, nil
	}
	key, port, err := r.Key()
	if err != nil {
		return nil, err
	}
	if len(me.Keys) == 0 || me.Keys[0] != key || me.LeasePort != port {
		r.since = time.Time{}
		return &fsm.RegisterKey{Node: r.Node, Key: key, LeasePort: port}, nil
	}
	if len(me.Keys) == 1 {
		r.since = time.Time{}
		return nil, nil
	}
	if r.since.IsZero() {
		r.since = now
	}
	if now.Sub(r.since) < keyGrace {
		return nil, nil
	}
	return &fsm.RegisterKey{Node: r.Node, Key: key, LeasePort: port, Alone: true}, nil
}

func (r *Registrar) now() time.Time {
	if r.Now == nil {
		return time.Now()
	}
	return r.Now()
}

// say logs a reason once, until there is another one.
func (r *Registrar) say(why string) {
	if why != r.said {
		r.said = why
		r.Logger.Warn("this node's key cannot be registered: its words of the lease go by gossip, or nowhere", "reason", why)
	}
}
