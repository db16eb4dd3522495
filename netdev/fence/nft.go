package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"

	"havip-cluster/internal/mutant"
)

const (
	// slackMin is taken off every timeout at first: a transaction that takes
	// longer may start its timeouts too late and is repeated with more.
	slackMin = 5 * time.Millisecond
	// timeoutMin is the shortest timeout written. The kernel counts in ticks of
	// up to 10 ms and makes 0 either one tick or, for a set, forever.
	timeoutMin = 10 * time.Millisecond
	// attemptsMax bounds the repetitions of a slow transaction.
	attemptsMax = 4
	// chunk is the elements per message: a netlink attribute holds 64 KiB, an
	// IPv6 element with its timeout 44 bytes.
	chunk = 1024
)

// nftFence is the nftables kind. Timeouts are relative to the moment the kernel
// reads them, so every transaction that writes them is timed (see timed).
type nftFence struct {
	clock func() int64

	mu       sync.Mutex     // one transaction at a time
	conn     *nftables.Conn // see use
	rules    *ruleset
	open     map[netip.Addr]bool // every guarded HAVIP; the kernel's sets as last read or written
	deadline int64
	took     time.Duration // the last transaction with timeouts
	closed   bool
}

var _ kernelSide = (*nftFence)(nil)

func newNFT(cfg Config) (kernelSide, error) {
	f := &nftFence{clock: cfg.Clock, rules: newRuleset(cfg.Table)}
	// A base chain on lo that dies in the same transaction shows whether the
	// kernel has the egress hook (Linux 5.16).
	err := f.commit(func(c *nftables.Conn) error {
		if err := f.rules.install(c); err != nil {
			return err
		}
		probe := f.baseChain(egress, 1, "lo")
		c.AddChain(probe)
		c.DelChain(probe)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("fence: nftables table %s: %w", cfg.Table, errors.Join(err, f.hangUp()))
	}
	if err := f.reload(); err != nil {
		return nil, errors.Join(err, f.hangUp())
	}
	return f, nil
}

// leftoverNFT opens the nftables fence that a dead process left, nil if none.
func leftoverNFT(cfg Config) (kernelSide, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, nil // no nftables, nothing left
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, nil
	}
	for _, t := range tables {
		if t.Name == cfg.Table {
			return newNFT(cfg)
		}
	}
	return nil, nil
}

func (f *nftFence) Kind() Kind { return NFTables }

// use runs do on the fence's socket. The socket is kept, because closing one
// waits for the kernel to clean up after the last transaction (10 ms and more);
// but after an error it can hold unread answers, so then it is replaced.
func (f *nftFence) use(do func(c *nftables.Conn) error) error {
	if f.closed {
		return ErrClosed
	}
	if f.conn == nil {
		c, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return err
		}
		f.conn = c
	}
	err := do(f.conn)
	if err != nil {
		err = errors.Join(err, f.hangUp())
	}
	return err
}

func (f *nftFence) hangUp() error {
	c := f.conn
	f.conn = nil
	if c == nil {
		return nil
	}
	return c.CloseLasting()
}

// commit sends what fill queues as one transaction.
func (f *nftFence) commit(fill func(c *nftables.Conn) error) error {
	return f.use(func(c *nftables.Conn) error {
		if err := fill(c); err != nil {
			return err
		}
		return c.Flush()
	})
}

// reload takes the kernel's state for the truth.
func (f *nftFence) reload() error {
	open, deadline, err := f.read()
	if err == nil {
		f.open, f.deadline = open, deadline
	}
	return err
}

// read returns the guarded HAVIPs, true if open, and the deadline.
func (f *nftFence) read() (known map[netip.Addr]bool, deadline int64, err error) {
	err = f.use(func(c *nftables.Conn) error {
		known, deadline, err = f.readFrom(c)
		return err
	})
	return known, deadline, err
}

func (f *nftFence) readFrom(c *nftables.Conn) (known map[netip.Addr]bool, deadline int64, err error) {
	known = map[netip.Addr]bool{}
	for _, fam := range []family{f.rules.ip4, f.rules.ip6} {
		for _, s := range []*nftables.Set{fam.open, fam.shut} { // shut has the last word
			elements, err := c.GetSetElements(s)
			if err != nil {
				return nil, 0, fmt.Errorf("fence: read set %s: %w", s.Name, err)
			}
			for _, e := range elements {
				if ip, ok := netip.AddrFromSlice(e.Key); ok {
					known[ip] = s == fam.open
				}
			}
		}
	}
	elements, err := c.GetSetElements(f.rules.deadline)
	if err != nil {
		return nil, 0, fmt.Errorf("fence: read the deadline: %w", err)
	}
	for _, e := range elements {
		if len(e.Key) == 8 {
			deadline = int64(binary.BigEndian.Uint64(e.Key))
		}
	}
	return known, deadline, nil
}

// change commits and remembers ip's new state; after an error it reads back what
// is true.
func (f *nftFence) change(verb string, ip netip.Addr, open bool, fill func(c *nftables.Conn) error) error {
	if err := f.commit(fill); err != nil {
		return errors.Join(wrap(verb, ip, err), f.reload())
	}
	f.open[ip] = open
	return nil
}

func (f *nftFence) Guard(ip netip.Addr) error {
	ip, err := checked(ip)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.open[ip]; !known && len(f.open) >= HAVIPsMax {
		return fmt.Errorf("%w: %d", ErrFull, HAVIPsMax)
	}
	return f.shut("guard", ip)
}

// shut puts ip into the shut set, which the rules ask first. What is left of it
// in live changes nothing and goes with the next renewal.
func (f *nftFence) shut(verb string, ip netip.Addr) error {
	return f.change(verb, ip, false, func(c *nftables.Conn) error {
		if f.open[ip] {
			if err := c.SetDeleteElements(f.rules.family(ip).open, one(ip)); err != nil {
				return err
			}
		}
		return f.addShut(c, ip)
	})
}

func (f *nftFence) addShut(c *nftables.Conn, ip netip.Addr) error {
	if ip.Is4() {
		if err := c.SetAddElements(f.rules.twins, twin(ip)); err != nil {
			return err
		}
	}
	return c.SetAddElements(f.rules.family(ip).shut, one(ip))
}

func (f *nftFence) Shut(ip netip.Addr) error {
	if mutant.Active("fence-not-shut") {
		return nil
	}
	ip, err := checked(ip)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.open[ip]; !known {
		return fmt.Errorf("%w: %v", ErrNotGuarded, ip)
	}
	return f.shut("shut", ip)
}

func (f *nftFence) Open(ip netip.Addr) error {
	ip, err := checked(ip)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	open, known := f.open[ip]
	if !known {
		return fmt.Errorf("%w: %v", ErrNotGuarded, ip)
	}
	if open {
		return nil
	}
	// A stale element of ip in live is no danger: it ends by the deadline, since
	// every move of the deadline rewrites the set.
	fam := f.rules.family(ip)
	err = f.timed(f.deadline, func(c *nftables.Conn, timeout time.Duration) error {
		if f.open[ip] { // the second attempt
			return f.rewrite(c, f.deadline, timeout)
		}
		f.open[ip] = true
		if timeout >= timeoutMin {
			if err := c.SetAddElements(fam.live, []nftables.SetElement{{Key: ip.AsSlice(), Timeout: timeout}}); err != nil {
				return err
			}
		}
		return errors.Join(c.SetDeleteElements(fam.shut, one(ip)), c.SetAddElements(fam.open, one(ip)))
	})
	if err != nil {
		return errors.Join(wrap("open", ip, err), f.reload())
	}
	return nil
}

func (f *nftFence) Forget(ip netip.Addr) error {
	ip, err := checked(ip)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	open, known := f.open[ip]
	if !known {
		return nil
	}
	err = f.change("forget", ip, false, func(c *nftables.Conn) error {
		fam := f.rules.family(ip)
		s := fam.shut
		if open {
			s = fam.open
		}
		if ip.Is4() {
			if err := c.SetDeleteElements(f.rules.twins, twin(ip)); err != nil {
				return err
			}
		}
		return c.SetDeleteElements(s, one(ip))
	})
	if err == nil {
		delete(f.open, ip)
	}
	return err
}

func (f *nftFence) Guarded() ([]Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.reload(); err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(f.open))
	for ip, open := range f.open {
		entries = append(entries, Entry{ip, open})
	}
	slices.SortFunc(entries, compareEntries)
	return entries, nil
}

func (f *nftFence) Deadline() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deadline
}

func (f *nftFence) SetDeadline(bootNanos int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	deadline := max(bootNanos, 0)
	err := f.timed(deadline, func(c *nftables.Conn, timeout time.Duration) error {
		return f.rewrite(c, deadline, timeout)
	})
	if err != nil {
		return errors.Join(err, f.reload())
	}
	f.deadline = deadline
	return nil
}

// timed commits what write queues and answers for the time it took. The kernel
// starts a timeout when it reads the message, somewhere between the two readings
// of the clock; so a transaction longer than the slack is repeated with more,
// and if the deadline has passed by then, all is silenced at once.
func (f *nftFence) timed(deadline int64, write func(c *nftables.Conn, timeout time.Duration) error) error {
	// A host that was slow a moment ago is slow again, and a process that dies between two
	// attempts leaves the first one's timeouts behind: begin with what was needed last.
	slack := max(slackMin, min(2*f.took, time.Duration(deadline-f.clock())/2))
	for range attemptsMax {
		before := f.clock()
		timeout := time.Duration(deadline-before) - slack
		mutant.Pause("fence-renew") // a process that is stopped here
		if err := f.commit(func(c *nftables.Conn) error { return write(c, timeout) }); err != nil {
			return fmt.Errorf("fence: renew: %w", err)
		}
		if mutant.Active("fence-stale-timeout") {
			return nil
		}
		after := f.clock()
		took := time.Duration(after - before)
		f.took = took
		switch {
		case timeout < timeoutMin: // nothing live was written
			return nil
		case after >= deadline:
			return f.silence()
		case took <= slack:
			return nil
		}
		slack = 2 * took
	}
	return errors.Join(fmt.Errorf("fence: renew: %d transactions too slow, last slack %v", attemptsMax, slack), f.silence())
}

// rewrite queues the deadline and a live element per open HAVIP. Flushing a set
// and filling it again in one transaction shows no empty set to any frame, and
// unlike deleting one by one does not trip over elements that just expired.
func (f *nftFence) rewrite(c *nftables.Conn, deadline int64, timeout time.Duration) error {
	c.FlushSet(f.rules.deadline)
	at := []nftables.SetElement{{Key: binary.BigEndian.AppendUint64(nil, uint64(deadline))}}
	if err := c.SetAddElements(f.rules.deadline, at); err != nil {
		return err
	}
	for _, fam := range []family{f.rules.ip4, f.rules.ip6} {
		c.FlushSet(fam.live)
		if timeout < timeoutMin {
			continue
		}
		var live []nftables.SetElement
		for ip, open := range f.open {
			if open && f.rules.family(ip) == fam {
				live = append(live, nftables.SetElement{Key: ip.AsSlice(), Timeout: timeout})
			}
		}
		for part := range slices.Chunk(live, chunk) {
			if err := c.SetAddElements(fam.live, part); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *nftFence) silence() error {
	err := f.commit(func(c *nftables.Conn) error {
		c.FlushSet(f.rules.ip4.live)
		c.FlushSet(f.rules.ip6.live)
		return nil
	})
	if err != nil {
		return fmt.Errorf("fence: silence: %w", err)
	}
	return nil
}

func (f *nftFence) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.hangUp()
}

func (f *nftFence) Uninstall() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.commit(func(c *nftables.Conn) error {
		c.DelTable(f.rules.table)
		return nil
	})
	if err != nil {
		return fmt.Errorf("fence: remove table %s: %w", f.rules.table.Name, err)
	}
	f.closed = true
	return f.hangUp()
}

func one(ip netip.Addr) []nftables.SetElement {
	return []nftables.SetElement{{Key: ip.AsSlice()}}
}

func twin(ip netip.Addr) []nftables.SetElement {
	return []nftables.SetElement{{Key: append(ip.AsSlice(), ip.AsSlice()...)}}
}
