package membership

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

const (
	sparesKept  = 2                // for each voter: Raft takes one for heartbeats, one for entries
	sparesEvery = 5 * time.Second  // between two looks at them, while none is taken
	sparesAge   = 10 * time.Minute // then another one takes its place, whose certificates were looked at anew
	spareWait   = 3 * time.Second  // for one that is made
	// probeEvery is when the kernel asks the other end of a connection on which nothing was said: a host that was reset has
	// forgotten it without a word, and the first request would find that out.
	probeEvery = 5 * time.Second
)

// keepSpares keeps connections to the other voters ready, so that no election, and no leader that
// begins, waits for a handshake: each takes about as long as a round trip through both processes, twice. It returns when ctx ends.
// peers are the servers to keep some for, none on a node that has no vote.
func (d *dialler) keepSpares(ctx context.Context, peers func() []raft.Server) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			for _, c := range d.unwanted(nil) {
				_ = c.Close()
			}
			return
		case <-d.taken:
		case <-timer.C:
		}
		wanted := peers()
		for _, c := range d.unwanted(wanted) {
			_ = c.Close()
		}
		var wg sync.WaitGroup
		for _, s := range wanted { // at most fsm.MaxVoters; one that does not answer holds up no other
			wg.Go(func() { d.fill(ctx, s.Address) })
		}
		wg.Wait()
		timer.Reset(sparesEvery)
	}
}

// unwanted takes out what is for nobody among wanted, dead, or old.
func (d *dialler) unwanted(wanted []raft.Server) []*dialled {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := map[raft.ServerAddress]string{}
	for _, s := range wanted {
		now[s.Address] = string(s.ID)
	}
	var out []*dialled
	for address, list := range d.spares {
		var kept []*dialled
		for _, c := range list {
			if now[address] == c.node && time.Since(c.made) < sparesAge && c.alive() {
				kept = append(kept, c)
			} else {
				out = append(out, c)
			}
		}
		if d.spares[address] = kept; len(kept) == 0 {
			delete(d.spares, address)
		}
	}
	return out
}

// fill makes what is missing for a server. One that does not answer is tried again at the next look.
func (d *dialler) fill(ctx context.Context, address raft.ServerAddress) {
	for {
		d.mu.Lock()
		full := len(d.spares[address]) >= sparesKept
		d.mu.Unlock()
		if full || ctx.Err() != nil {
			return
		}
		c, err := d.connection(ctx, address, spareWait)
		if err != nil {
			return
		}
		d.mu.Lock()
		d.spares[address] = append(d.spares[address], c)
		d.mu.Unlock()
	}
}

// spare takes a connection that is ready, or nil.
func (d *dialler) spare(address raft.ServerAddress) *dialled {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.spares[address]) > 0 {
		list := d.spares[address]
		c := list[len(list)-1]
		d.spares[address] = list[:len(list)-1]
		select {
		case d.taken <- struct{}{}:
		default:
		}
		if node, ok := d.roster.at(address); ok && node == c.node && c.alive() {
			return c
		}
		delete(d.open, c)
		go func() { _ = c.Conn.Close() }() // TLS says good-bye, which may wait
	}
	return nil
}

// alive reports that the other end has neither closed the connection nor said anything: nobody has
// asked it yet. It does not wait.
func (c *dialled) alive() bool {
	secure, ok := c.Conn.(*tls.Conn)
	if !ok {
		return false
	}
	raw, ok := secure.NetConn().(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := raw.SyscallConn()
	if err != nil {
		return false
	}
	var said error
	err = rc.Control(func(fd uintptr) {
		var one [1]byte
		_, _, said = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err == nil && errors.Is(said, unix.EAGAIN)
}
