package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// Limits of what a node remembers of those who are logged in.
const (
	sessionsMax   = 256           // sessions; beyond it the one that was idle longest ends
	sessionsOwner = 16            // of one token; beyond it its own that was idle longest ends
	sessionLife   = 8 * time.Hour // from the login on
	sessionIdle   = time.Hour     // without a page; an open page is not idle, as it is told of changes
	onceLife      = time.Minute   // of an address that opens the console once
	oncesMax      = 8             // such addresses at the same time
)

// id is the hash of a secret: what is in memory, a dump of it included, opens nothing.
type id = [sha256.Size]byte

// session is somebody who is logged in.
type session struct {
	token     string // shown to the API; "" where the client has its own credential
	principal string
	began     time.Time
	used      time.Time
	streams   chan struct{} // a place for each stream over HTTP/1.1, see liveOld
}

// sessions are those who are logged in at this node. They end with the process.
type sessions struct {
	mu  sync.Mutex
	all map[id]*session
}

// open begins a session and gives the secret of its cookie.
func (s *sessions) open(token, principal string, now time.Time) string {
	secret := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[id]*session{}
	}
	s.sweep(now)
	if token != "" {
		s.makeRoom(sessionsOwner, func(one *session) bool { return one.token == token })
	}
	s.makeRoom(sessionsMax, func(*session) bool { return true })
	s.all[sha256.Sum256([]byte(secret))] = &session{token: token, principal: principal, began: now, used: now, streams: make(chan struct{}, liveOld)}
	return secret
}

// sweep forgets what has ended. s.mu is held.
func (s *sessions) sweep(now time.Time) {
	for k, one := range s.all {
		if one.over(now) {
			delete(s.all, k)
		}
	}
}

// makeRoom ends the session that was idle longest where there are as many as may be. s.mu is held.
func (s *sessions) makeRoom(most int, of func(*session) bool) {
	var oldest id
	var found *session
	count := 0
	for k, one := range s.all {
		if !of(one) {
			continue
		}
		if count++; found == nil || one.used.Before(found.used) {
			oldest, found = k, one
		}
	}
	if count >= most {
		delete(s.all, oldest)
	}
}

func (s *session) over(now time.Time) bool {
	return now.Sub(s.began) >= sessionLife || now.Sub(s.used) >= sessionIdle
}

// of is the session of a secret, and takes note that it is used.
func (s *sessions) of(secret string, now time.Time) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sha256.Sum256([]byte(secret))
	one, ok := s.all[key]
	if !ok {
		return session{}, false
	}
	if one.over(now) {
		delete(s.all, key)
		return session{}, false
	}
	one.used = now
	return *one, true
}

// stream takes one of a session's places for streams, and waits a moment for it: a page that was left a moment ago may
// still have it. leave gives it back.
func (s *sessions) stream(ctx context.Context, secret string) (leave func(), ok bool) {
	s.mu.Lock()
	one := s.all[sha256.Sum256([]byte(secret))]
	s.mu.Unlock()
	if one == nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, liveRoom)
	defer cancel()
	select {
	case one.streams <- struct{}{}:
		return func() { <-one.streams }, true
	case <-ctx.Done():
		return nil, false
	}
}

// end ends the session of a secret.
func (s *sessions) end(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(secret)))
}

// onces are the secrets of addresses that open the console once.
type onces struct {
	mu  sync.Mutex
	all map[id]time.Time // until when each holds
}

// make gives a new secret.
func (o *onces) make(now time.Time) string {
	secret := rand.Text()
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, until := range o.all {
		if now.After(until) || len(o.all) >= oncesMax {
			delete(o.all, k)
		}
	}
	if o.all == nil {
		o.all = map[id]time.Time{}
	}
	o.all[sha256.Sum256([]byte(secret))] = now.Add(onceLife)
	return secret
}

// take uses a secret up, and says whether it was one.
func (o *onces) take(secret string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := sha256.Sum256([]byte(secret))
	until, ok := o.all[key]
	delete(o.all, key)
	return ok && !now.After(until)
}
