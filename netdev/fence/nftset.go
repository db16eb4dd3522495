package fence

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"havip-cluster/internal/limits"
)

// queueing queues what becomes of some addresses, and says what they are then.
type queueing func(c *nftables.Conn, ips []netip.Addr) (after map[netip.Addr]bool, err error)

// change makes transactions of up to chunk addresses. One that fails leaves its
// addresses as they were, is tried once more with what the kernel says then, and
// stops no other.
func (f *nftFence) change(ips []netip.Addr, fails *failures, queue queueing) {
	for part := range slices.Chunk(ips, chunk) {
		var err error
		for range changesMax {
			var after map[netip.Addr]bool
			err = f.commit(func(c *nftables.Conn) (err error) {
				after, err = queue(c, part)
				return err
			})
			if err == nil {
				for _, ip := range part {
					if open, known := after[ip]; known {
						f.open[ip] = open
					} else {
						delete(f.open, ip)
					}
				}
				break
			}
			if again := f.reload(); again != nil {
				err = errors.Join(err, again)
				break
			}
		}
		if err != nil {
			fails.add(len(part), wrapAddr(part[0], err))
		}
	}
}

// known drops the addresses that are not guarded, and notes them.
func (f *nftFence) known(ips []netip.Addr, fails *failures) []netip.Addr {
	return slices.DeleteFunc(ips, func(ip netip.Addr) bool {
		_, ok := f.open[ip]
		if !ok {
			fails.add(1, wrapAddr(ip, ErrNotGuarded))
		}
		return !ok
	})
}

func (f *nftFence) Guard(ips ...netip.Addr) error {
	fails := failures{verb: "guard", of: len(ips)}
	f.mu.Lock()
	defer f.mu.Unlock()
	room := limits.FenceEntries - len(f.open)
	good := slices.DeleteFunc(fails.check(ips), func(ip netip.Addr) bool {
		if _, ok := f.open[ip]; ok {
			return false
		}
		if room--; room < 0 {
			fails.add(1, wrapAddr(ip, fmt.Errorf("%w: %d HAVIPs", ErrFull, limits.FenceEntries)))
		}
		return room < 0
	})
	f.change(good, &fails, f.queueShut)
	return fails.err()
}

func (f *nftFence) Shut(ips ...netip.Addr) error {
	fails := failures{verb: "shut", of: len(ips)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change(f.known(fails.check(ips), &fails), &fails, f.queueShut)
	return fails.err()
}

// Open writes no timeout: the gate has it, and is what it was.
func (f *nftFence) Open(ips ...netip.Addr) error {
	fails := failures{verb: "open", of: len(ips)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change(f.known(fails.check(ips), &fails), &fails, f.queueOpen)
	return fails.err()
}

func (f *nftFence) Forget(ips ...netip.Addr) error {
	fails := failures{verb: "forget", of: len(ips)}
	f.mu.Lock()
	defer f.mu.Unlock()
	good := slices.DeleteFunc(fails.check(ips), func(ip netip.Addr) bool {
		_, ok := f.open[ip]
		return !ok
	})
	f.change(good, &fails, f.queueForget)
	return fails.err()
}

// elements are the set elements of some addresses, IPv4 and IPv6 apart.
type elements struct{ ip4, ip6, announced []nftables.SetElement }

func (e *elements) add(ip netip.Addr) {
	key := nftables.SetElement{Key: ip.AsSlice()}
	if ip.Is4() {
		e.ip4 = append(e.ip4, key)
		e.announced = append(e.announced, nftables.SetElement{Key: append(ip.AsSlice(), ip.AsSlice()...)})
		return
	}
	e.ip6 = append(e.ip6, key)
}

// each calls do for those of the sets that there is something for.
func (e elements) each(ip4, ip6 *nftables.Set, do func(*nftables.Set, []nftables.SetElement) error) error {
	var errs error
	if len(e.ip4) > 0 {
		errs = do(ip4, e.ip4)
	}
	if len(e.ip6) > 0 {
		errs = errors.Join(errs, do(ip6, e.ip6))
	}
	return errs
}

// split returns the elements of all, of those that are open now, and of those
// that are known and shut.
func (f *nftFence) split(ips []netip.Addr) (all, open, shut elements) {
	for _, ip := range ips {
		all.add(ip)
		switch isOpen, known := f.open[ip]; {
		case isOpen:
			open.add(ip)
		case known:
			shut.add(ip)
		}
	}
	return all, open, shut
}

// queueShut makes them known and shut.
func (f *nftFence) queueShut(c *nftables.Conn, ips []netip.Addr) (map[netip.Addr]bool, error) {
	r := f.rules
	all, open, _ := f.split(ips)
	err := errors.Join(
		open.each(r.ip4.open, r.ip6.open, c.SetDeleteElements),
		all.each(r.ip4.shut, r.ip6.shut, c.SetAddElements),
	)
	if len(all.announced) > 0 {
		err = errors.Join(err, c.SetAddElements(r.announced, all.announced))
	}
	return states(ips, false), err
}

// queueOpen opens those that are known and shut.
func (f *nftFence) queueOpen(c *nftables.Conn, ips []netip.Addr) (map[netip.Addr]bool, error) {
	r := f.rules
	_, _, shut := f.split(ips)
	for _, ip := range ips {
		if _, known := f.open[ip]; !known { // another process has forgotten it meanwhile
			return nil, fmt.Errorf("%w: %v", ErrNotGuarded, ip)
		}
	}
	return states(ips, true), errors.Join(
		shut.each(r.ip4.shut, r.ip6.shut, c.SetDeleteElements),
		shut.each(r.ip4.open, r.ip6.open, c.SetAddElements),
	)
}

// queueForget removes those that are known.
func (f *nftFence) queueForget(c *nftables.Conn, ips []netip.Addr) (map[netip.Addr]bool, error) {
	r := f.rules
	_, open, shut := f.split(ips)
	err := errors.Join(
		shut.each(r.ip4.shut, r.ip6.shut, c.SetDeleteElements),
		open.each(r.ip4.open, r.ip6.open, c.SetDeleteElements),
	)
	if announced := slices.Concat(open.announced, shut.announced); len(announced) > 0 {
		err = errors.Join(err, c.SetDeleteElements(r.announced, announced))
	}
	return nil, err
}

func states(ips []netip.Addr, open bool) map[netip.Addr]bool {
	all := make(map[netip.Addr]bool, len(ips))
	for _, ip := range ips {
		all[ip] = open
	}
	return all
}
