package acceptor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// CountedVotersMax is how many other voters the kernel counts; in a larger set only the process does.
	CountedVotersMax = len(acceptorCounting{}.Voter)
	// RoundsMax is how many rounds the kernel knows at once: lease.RoundsMax.
	RoundsMax = len(acceptorRounds{}.At)
)

// ErrVoters is returned by Count beyond CountedVotersMax.
var ErrVoters = errors.New("acceptor: too many voters to count in the kernel")

// Counting is whose acknowledgements are counted for the session of this node, and how many it takes.
type Counting struct {
	Session  uint64    // 0: none
	Config   uint64    // id of the voter set
	Majority int       // votes, this node's own included
	Voters   []Channel // of other nodes: how they answer
}

func (c *Counting) same(d *Counting) bool {
	return c.Session == d.Session && c.Config == d.Config && c.Majority == d.Majority && slices.Equal(c.Voters, d.Voters)
}

// Counter has the program count the acknowledgements of this node's renewals, and move the deadline of the fence by
// them. All methods may be called from any goroutine. It ends with the Acceptor.
type Counter struct {
	program *ebpf.Map // counting
	rounds  *acceptorRounds

	mu     sync.Mutex
	memory []byte // of rounds; nil after close
	grant  uint64
	has    Counting // what the program has
	moved  uint64   // by what it had before
}

func newCounter(o *acceptorObjects) (*Counter, error) {
	memory, err := unix.Mmap(o.Rounds.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("acceptor: rounds: %w", os.NewSyscallError("mmap", err))
	}
	return &Counter{program: o.Counting, memory: memory, rounds: (*acceptorRounds)(unsafe.Pointer(&memory[0]))}, nil
}

// Count has the program count so from now on. It costs nothing where that is so already; otherwise what it has
// counted of rounds under way is forgotten, and they are left to the process. by.Voters is not kept.
func (c *Counter) Count(by Counting) error {
	if n := len(by.Voters); n > CountedVotersMax {
		return errors.Join(fmt.Errorf("%w: %d, at most %d", ErrVoters, n, CountedVotersMax), c.Stop())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has.same(&by) {
		return nil
	}
	v := acceptorCounting{Granted: 1, Session: wire(by.Session), Config: wire(by.Config), Majority: uint32(by.Majority), Voters: uint32(len(by.Voters))}
	for i, from := range by.Voters {
		peer, at := from.Peer.As16(), &v.Voter[i]
		at.Channel, at.Invite, at.Key = wire(from.Number), wire(from.Invitation), from.Answer
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&at.Peer)), len(peer)), peer[:])
	}
	if err := c.put(&v); err != nil {
		return err
	}
	by.Voters = append(c.has.Voters[:0], by.Voters...)
	c.has = by
	return nil
}

// Stop ends that: when it returns, the program moves no deadline. An error: that is not sure.
func (c *Counter) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has.Session == 0 {
		return nil
	}
	if err := c.put(&acceptorCounting{}); err != nil {
		return err
	}
	c.has = Counting{Voters: c.has.Voters[:0]}
	return nil
}

// put gives the program another value under its lock: what it does after that, it does by this one. With mu held.
func (c *Counter) put(v *acceptorCounting) (err error) {
	if c.memory == nil {
		return fmt.Errorf("acceptor: count: %w", os.ErrClosed)
	}
	moved := c.movedNow()
	v.Grant = c.grant + 1
	for range recallTries { // the kernel may have no memory
		if err = c.program.Update(uint32(0), v, ebpf.UpdateExist|ebpf.UpdateLock); err == nil {
			c.grant, c.moved = v.Grant, c.moved+moved
			return nil
		}
	}
	return fmt.Errorf("acceptor: count: %w", err)
}

// Round tells the program of a round before its renewals are sent: acknowledgements of others count for nothing. No
// system call.
func (c *Counter) Round(round uint64, sent int64, length time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.rounds.At[round%uint64(len(c.rounds.At))]
	atomic.StoreUint64(&r.Round, 0) // until the rest is there
	atomic.StoreUint64(&r.Own, 0)
	atomic.StoreInt64(&r.Sent, sent)
	atomic.StoreInt64(&r.Length, int64(length))
	atomic.StoreUint64(&r.Round, round)
}

// OwnVote tells the program that this node's own voter has acknowledged a round. It is looked at with the next
// acknowledgement that comes in.
func (c *Counter) OwnVote(round uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	atomic.StoreUint64(&c.rounds.At[round%uint64(len(c.rounds.At))].Own, round)
}

// Moved returns how often the program has moved the deadline.
func (c *Counter) Moved() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved + c.movedNow()
}

// movedNow is how often it has by what it has now. With mu held.
func (c *Counter) movedNow() uint64 {
	var v acceptorCounting
	if c.has.Session == 0 || c.program.LookupWithFlags(uint32(0), &v, ebpf.LookupLock) != nil {
		return 0
	}
	return v.Moved
}

// close ends it when the program is on no device any more.
func (c *Counter) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.has = Counting{}
	if c.memory != nil {
		_ = unix.Munmap(c.memory)
		c.memory, c.rounds = nil, new(acceptorRounds)
	}
}
