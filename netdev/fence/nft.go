package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
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
	// chunk is the addresses per transaction: a netlink attribute holds 64 KiB, an
	// IPv6 element 28 bytes; and a socket without privileges sends 200 KB at once.
	chunk = 1024
	// changesMax is how often a transaction is tried: again with what the kernel
	// says after another process has changed the sets.
	changesMax = 2
)

// nftFence is the nftables kind. Timeouts are relative to the moment the kernel
// reads them, so every transaction that writes them is timed (see timed). Only one
// element has one, the gate, which all open HAVIPs need.
type nftFence struct {
	clock func() int64
	owner ownerID

	mu       sync.Mutex     // one transaction at a time
	conn     *nftables.Conn // see use
	rules    *ruleset
	open     map[netip.Addr]bool // every guarded HAVIP; the kernel's sets as last read or written
	ports    map[uint16]netip.Addr
	deadline int64
	stand    map[int]bool  // attached devices
	took     time.Duration // the last transaction with a timeout
	closed   bool
}

var _ kernelSide = (*nftFence)(nil)

func nftAt(cfg Config, table string) *nftFence {
	return &nftFence{clock: cfg.Clock, owner: idOf(cfg.Owner), rules: newRuleset(table), stand: map[int]bool{}}
}

func newNFT(cfg Config) (kernelSide, error) {
	f := nftAt(cfg, cfg.Table)
	// A base chain on lo that dies in the same transaction shows whether the
	// kernel has the egress hook (Linux 5.16).
	err := f.install(func(c *nftables.Conn) {
		probe := f.baseChain(egress, lo, "lo")
		c.AddChain(probe)
		c.DelChain(probe)
	})
	if err == nil {
		err = f.adopt()
	}
	if err != nil {
		return nil, fmt.Errorf("fence: nftables table %s: %w", cfg.Table, errors.Join(err, f.hangUp()))
	}
	return f, nil
}

// install makes the table, or brings one of another version up to this one.
func (f *nftFence) install(more func(c *nftables.Conn)) error {
	return f.commit(func(c *nftables.Conn) error {
		sets, _ := c.GetSets(f.rules.table) // none if there is no table
		if err := f.rules.install(c, f.owner); err != nil {
			return err
		}
		for _, s := range sets {
			if s.Name == "live4" || s.Name == "live6" { // of versions with a timeout per HAVIP
				c.DelSet(&nftables.Set{Table: f.rules.table, Name: s.Name})
			}
		}
		if more != nil {
			more(c)
		}
		return nil
	})
}

// adopt reads what is there.
func (f *nftFence) adopt() error {
	if err := f.reload(); err != nil {
		return err
	}
	chains, err := f.baseChains()
	for _, ch := range chains {
		index, _, _ := baseOf(ch.Name)
		f.stand[index] = true
	}
	return err
}

func tableOf(owner string) string {
	id := idOf(owner)
	return fmt.Sprintf("havip_%x", id[:4])
}

// nftTable is a fence's table, of any owner and version.
type nftTable struct {
	name  string
	owner ownerID
	owned bool // false: of a version without owners
}

// nftTables lists the fences in this network namespace; none where nftables is
// not permitted.
func nftTables() ([]nftTable, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, nil // no nftables, nothing left
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, nil
	}
	var found []nftTable
	for _, t := range tables {
		sets, err := c.GetSets(t)
		if err != nil {
			return nil, fmt.Errorf("fence: nftables table %s: %w", t.Name, err)
		}
		has := map[string]*nftables.Set{}
		for _, s := range sets {
			has[s.Name] = s
		}
		if has["shut4"] == nil || has["open4"] == nil || has["deadline"] == nil {
			continue
		}
		at := nftTable{name: t.Name}
		if s := has["owner"]; s != nil {
			elements, err := c.GetSetElements(s)
			if err != nil {
				return nil, fmt.Errorf("fence: nftables table %s: %w", t.Name, err)
			}
			for _, e := range elements {
				at.owned = copy(at.owner[:], e.Key) == len(at.owner)
			}
		}
		found = append(found, at)
	}
	return found, nil
}

// leftoverNFT opens the tables that are cfg's owner's or have its name.
func leftoverNFT(cfg Config) (left []kernelSide, err error) {
	return openTables(cfg, func(t nftTable) bool {
		return t.owned && t.owner == idOf(cfg.Owner) || t.name == cfg.Table
	})
}

func findNFT(owner string) (found []Fence, err error) {
	left, err := openTables(Config{Owner: owner}.complete(), func(t nftTable) bool {
		return owner == "" || t.owned && t.owner == idOf(owner) || t.name == tableOf(owner)
	})
	for _, f := range left {
		found = append(found, f)
	}
	return found, err
}

func openTables(cfg Config, wanted func(nftTable) bool) (left []kernelSide, err error) {
	tables, err := nftTables()
	for _, t := range tables {
		if !wanted(t) {
			continue
		}
		f := nftAt(cfg, t.name)
		var e error
		if f.owner = t.owner; !t.owned {
			e = f.install(nil)
		}
		if e == nil {
			e = f.adopt()
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("fence: nftables table %s: %w", t.name, e), f.hangUp())
			continue
		}
		left = append(left, f)
	}
	return left, err
}

func (f *nftFence) Kind() Kind { return NFTables }

func (f *nftFence) Hook() string { return HookNFTables }

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
	if err != nil {
		return err
	}
	return f.use(func(c *nftables.Conn) error {
		ports, err := f.readPorts(c)
		if err == nil {
			f.open, f.deadline, f.ports = open, deadline, ports
		}
		return err
	})
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

func (f *nftFence) Guarded() ([]Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.reload(); err != nil {
		return nil, err
	}
	return f.entries(), nil
}

func (f *nftFence) entries() []Entry {
	entries := make([]Entry, 0, len(f.open))
	for ip, open := range f.open {
		entries = append(entries, Entry{ip, open})
	}
	slices.SortFunc(entries, compareEntries)
	return entries
}

func (f *nftFence) Read() (Reading, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.reload()
	r := Reading{Entries: f.entries(), Deadline: f.deadline, Ports: maps.Clone(f.ports), Devices: map[int]error{}}
	switch {
	case err != nil && f.flushed(): // Attach puts back what f knows, shut
		r.Entries, r.Deadline, r.Ports = nil, 0, nil
	case err != nil:
		return Reading{}, err
	}
	err = f.use(func(c *nftables.Conn) error {
		shared := f.sharedIntact(c)
		for index := range f.stand {
			if r.Devices[index] = shared; shared == nil {
				r.Devices[index] = f.deviceIntact(c, index)
			}
		}
		return nil
	})
	return r, err
}

// flushed reports whether the kernel lists the tables, and ours is not among them or lacks a
// set. The library tells of no error which one it is, so that a set that cannot be read is not
// taken for one that is absent.
func (f *nftFence) flushed() (yes bool) {
	_ = f.use(func(c *nftables.Conn) error {
		tables, err := c.ListTablesOfFamily(f.rules.table.Family)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == f.rules.table.Name }) {
			yes = true
			return nil
		}
		sets, err := c.GetSets(f.rules.table)
		yes = err == nil && len(sets) < len(f.rules.sets())
		return err
	})
	return yes
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
		if err := f.commit(func(c *nftables.Conn) error { return write(c, timeout) }); err != nil {
			return fmt.Errorf("fence: renew: %w", err)
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

// rewrite queues the deadline and the gate, which cost the same for any number of
// HAVIPs. Flushing a set and filling it again in one transaction shows no empty
// set to any frame, and unlike deleting does not trip over an element that just
// expired.
func (f *nftFence) rewrite(c *nftables.Conn, deadline int64, timeout time.Duration) error {
	c.FlushSet(f.rules.deadline)
	at := []nftables.SetElement{{Key: binary.BigEndian.AppendUint64(nil, uint64(deadline))}}
	if err := c.SetAddElements(f.rules.deadline, at); err != nil {
		return err
	}
	c.FlushSet(f.rules.gate)
	if timeout < timeoutMin {
		return nil
	}
	return c.SetAddElements(f.rules.gate, []nftables.SetElement{{Key: gateKey, Timeout: timeout}})
}

func (f *nftFence) silence() error {
	err := f.commit(func(c *nftables.Conn) error {
		c.FlushSet(f.rules.gate)
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
		c.AddTable(f.rules.table) // no error if it has gone already
		c.DelTable(f.rules.table)
		return nil
	})
	if err != nil {
		return fmt.Errorf("fence: remove table %s: %w", f.rules.table.Name, err)
	}
	f.closed = true
	return f.hangUp()
}
