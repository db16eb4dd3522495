package membership

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ErrNoSpeaker is the reason for refusing a connection or a request at Raft's port.
var ErrNoSpeaker = errors.New("membership: it may not speak Raft here")

const (
	vouchLife  = 30 * time.Second // how long a word for a voter counts
	vouchPause = time.Second      // between two questions about one node
	vouchMax   = 16               // nodes that are asked about at one time
)

// roster says who may speak Raft to this node: the voters of the latest configuration in its
// log, committed or not, because that is the one by which Raft counts. A voter that the log
// here does not know yet, because it was made one while this node was away, speaks once a
// voter that the log does know has vouched for it.
//
// Before the log holds a configuration the sponsors count, which are the voters that the
// cluster named when it let this node in. A node that joined through an older version has none;
// it takes the word of any member until its log holds a configuration.
type roster struct {
	self     string
	book     *ledger
	sponsors []raft.Server
	// ask asks a voter for its servers.
	ask func(ctx context.Context, voter raft.Server) (servers, error)

	mu    sync.Mutex
	vouch map[string]*vouching // by the node
}

// servers is a configuration with the index of its entry, 0 when there is none yet.
type servers struct {
	Index   uint64        `json:"index"`
	Servers []raft.Server `json:"servers"`
}

// vouching is what is known about a node that the log here does not know as a voter.
type vouching struct {
	server raft.Server
	base   uint64    // the configuration here to which the word was added
	until  time.Time // the word counts until then
	retry  time.Time // not asked again before
}

func newRoster(self string, book *ledger, sponsors []raft.Server, ask func(context.Context, raft.Server) (servers, error)) *roster {
	return &roster{self: self, book: book, sponsors: sponsors, ask: ask, vouch: map[string]*vouching{}}
}

// known returns the servers that count here.
func (r *roster) known() servers {
	list, index := r.book.latest()
	if len(list) == 0 {
		return servers{0, r.sponsors}
	}
	return servers{index, list}
}

func find(list []raft.Server, node string) (raft.Server, bool) {
	at := slices.IndexFunc(list, func(s raft.Server) bool { return string(s.ID) == node })
	if at < 0 {
		return raft.Server{}, false
	}
	return list[at], true
}

// member reports whether a node is a server of the latest configuration here, voter or not.
func (r *roster) member(node string) bool {
	_, ok := find(r.known().Servers, node)
	return ok
}

// sourceOfMember reports whether a member has this address.
func (r *roster) sourceOfMember(source netip.Addr) bool {
	return slices.ContainsFunc(r.known().Servers, func(s raft.Server) bool {
		a, err := netip.ParseAddrPort(string(s.Address))
		return err == nil && a.Addr() == source
	})
}

// voters returns the other voters of the latest configuration here, if this node is one; else none.
func (r *roster) voters() []raft.Server {
	list, _ := r.book.latest()
	if self, listed := find(list, r.self); !listed || self.Suffrage != raft.Voter {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(list), func(s raft.Server) bool { return string(s.ID) == r.self || s.Suffrage != raft.Voter })
}

// at returns the id of the server that has an address, so that the dialler can name it.
func (r *roster) at(address raft.ServerAddress) (string, bool) {
	for _, s := range r.known().Servers {
		if s.Address == address {
			return string(s.ID), true
		}
	}
	return "", false
}

// speaker returns the server that node is, or ErrNoSpeaker. It asks nobody.
func (r *roster) speaker(node string) (raft.Server, error) {
	known := r.known()
	srv, listed := find(known.Servers, node)
	switch {
	case node == r.self:
		return raft.Server{}, fmt.Errorf("%w: somebody uses this node's own certificate; is there a copy of its data directory?", ErrNoSpeaker)
	case listed && srv.Suffrage == raft.Voter:
		return srv, nil
	case len(known.Servers) == 0: // it joined through an older version, and has heard nothing yet
		return raft.Server{ID: raft.ServerID(node), Suffrage: raft.Voter}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.vouch[node]; v != nil && v.base == known.Index && time.Now().Before(v.until) {
		return v.server, nil
	}
	if listed {
		return raft.Server{}, fmt.Errorf("%w: node %s is no voter in the configuration of entry %d", ErrNoSpeaker, node, known.Index)
	}
	return raft.Server{}, fmt.Errorf("%w: node %s is not in the configuration of entry %d", ErrNoSpeaker, node, known.Index)
}

// admit is speaker for a new connection. It asks the voters that are known here about a node
// that is not, at most every second for each node.
func (r *roster) admit(ctx context.Context, node string) (raft.Server, error) {
	srv, err := r.speaker(node)
	if err == nil || node == r.self || !r.mayAsk(node) {
		return srv, err
	}
	known := r.known()
	found, ok := r.question(ctx, node, known)
	if !ok {
		return srv, fmt.Errorf("%w, and no voter of it vouches for that node; if this node was away while all of those were replaced, remove it and join it again", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vouch[node] = &vouching{server: found, base: known.Index, until: time.Now().Add(vouchLife)}
	return found, nil
}

// mayAsk reserves a question about a node.
func (r *roster) mayAsk(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if v := r.vouch[node]; v != nil && now.Before(v.retry) {
		return false
	}
	for id, v := range r.vouch {
		if now.After(v.until) && now.After(v.retry) {
			delete(r.vouch, id)
		}
	}
	if len(r.vouch) >= vouchMax && r.vouch[node] == nil {
		return false
	}
	r.vouch[node] = &vouching{retry: now.Add(vouchPause)}
	return true
}

// question asks every voter that is known here whether node is a voter by a newer
// configuration. The first one that says so is enough: a voter is believed as it is in Raft.
func (r *roster) question(ctx context.Context, node string, known servers) (raft.Server, bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan servers)
	asked := 0
	for _, v := range known.Servers {
		if v.Suffrage != raft.Voter || string(v.ID) == r.self || string(v.ID) == node {
			continue
		}
		asked++
		go func() { // ends with ctx, which the caller limits
			got, err := r.ask(ctx, v)
			if err != nil {
				got = servers{}
			}
			select {
			case answers <- got:
			case <-ctx.Done():
			}
		}()
	}
	for range asked {
		select {
		case got := <-answers:
			srv, listed := find(got.Servers, node)
			if got.Index > known.Index && listed && srv.Suffrage == raft.Voter {
				return srv, true
			}
		case <-ctx.Done():
			return raft.Server{}, false
		}
	}
	return raft.Server{}, false
}

// headed is a request of Raft.
type headed interface{ GetRPCHeader() raft.RPCHeader }

// says checks that a request is its speaker's own: a node speaks for nobody else.
func says(speaker raft.Server, cmd any) error {
	req, ok := cmd.(headed)
	if !ok {
		return fmt.Errorf("%w: a request without a header", ErrNoSpeaker)
	}
	h := req.GetRPCHeader()
	address := string(speaker.Address)
	if address == "" { // see speaker: before there is a configuration
		address = string(h.Addr)
	}
	old := string(h.Addr) // the field that carried the address before there were headers
	switch c := cmd.(type) {
	case *raft.AppendEntriesRequest:
		//lint:ignore SA1019 an older raft believes this field, so it must not lie either
		old = string(c.Leader)
	case *raft.RequestVoteRequest:
		//lint:ignore SA1019 an older raft believes this field, so it must not lie either
		old = string(c.Candidate)
	case *raft.InstallSnapshotRequest:
		old = string(c.Leader)
	}
	if string(h.ID) != string(speaker.ID) || string(h.Addr) != address || old != address {
		return fmt.Errorf("%w: node %s at %s sent a request as %q at %q (%q)", ErrNoSpeaker, speaker.ID, speaker.Address, h.ID, h.Addr, old)
	}
	return nil
}
