package fence

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"havip-cluster/internal/limits"
)

// baseChain hooks the device; the name tells index and device apart, because
// newer kernels bind the hook again to a new device of the same name.
func (f *nftFence) baseChain(dir direction, index int, name string) *nftables.Chain {
	hook := nftables.ChainHookIngress
	if dir == egress {
		hook = nftables.ChainHookEgress
	}
	return &nftables.Chain{
		Table: f.rules.table, Name: fmt.Sprintf("%s-%d-%s", dir, index, name), Type: nftables.ChainTypeFilter,
		Hooknum: hook, Priority: nftables.ChainPriorityRaw, Device: name,
	}
}

// baseOf parses the name of a base chain.
func baseOf(chain string) (index int, name string, ok bool) {
	_, rest, _ := strings.Cut(chain, "-")
	number, name, ok := strings.Cut(rest, "-")
	index, err := strconv.Atoi(number)
	return index, name, ok && err == nil
}

// baseChains lists the base chains in the table.
func (f *nftFence) baseChains() ([]*nftables.Chain, error) {
	var all []*nftables.Chain
	err := f.use(func(c *nftables.Conn) (err error) {
		all, err = c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fence: chains: %w", err)
	}
	return slices.DeleteFunc(all, func(ch *nftables.Chain) bool {
		_, _, base := baseOf(ch.Name)
		return ch.Table.Name != f.rules.table.Name || !base
	}), nil
}

func (f *nftFence) Attach(index int) error {
	name, err := deviceName(index)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stand[index] && len(f.stand) >= limits.FenceDevices {
		return fmt.Errorf("%w: %d devices", ErrFull, limits.FenceDevices)
	}
	if err := f.repair(); err != nil {
		return err
	}
	err = f.hookUp(index, name)
	if err == nil {
		f.stand[index] = true
	}
	return err
}

func (f *nftFence) Detach(index int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.stand, index)
	return f.hookUp(index, "")
}

// repair puts back the table if another program flushed it: the HAVIPs that this
// process knows and the kernel does not come back shut.
func (f *nftFence) repair() error {
	now, _, err := f.read()
	if err != nil {
		now = nil // the table is gone, or half of it
	}
	ports := f.ports
	if err := f.install(nil); err != nil {
		return fmt.Errorf("fence: table %s: %w", f.rules.table.Name, err)
	}
	var lost []netip.Addr
	for ip := range f.open {
		if _, ok := now[ip]; !ok {
			lost = append(lost, ip)
		}
	}
	slices.SortFunc(lost, netip.Addr.Compare)
	if err := f.reload(); err != nil {
		return err
	}
	fails := failures{verb: "repair", of: len(lost)}
	f.change(lost, &fails, f.queueShut)
	return errors.Join(fails.err(), f.tieAgain(ports))
}

// hookUp leaves the device with that index and name with one base chain per
// direction, and removes any other chain of that index or name; "" is no device.
func (f *nftFence) hookUp(index int, name string) error {
	old, err := f.baseChains()
	if err != nil {
		return err
	}
	err = f.commit(func(c *nftables.Conn) error {
		for _, ch := range old {
			i, n, _ := baseOf(ch.Name)
			if (i == index) != (n == name) || i == index && name == "" {
				c.DelChain(&nftables.Chain{Table: f.rules.table, Name: ch.Name})
			}
		}
		if name == "" {
			return nil
		}
		for _, dir := range []direction{ingress, egress} {
			ch := f.baseChain(dir, index, name)
			c.AddChain(ch)
			c.FlushChain(ch)
			c.AddRule(&nftables.Rule{Table: f.rules.table, Chain: ch, Exprs: join(
				f.rules.count(dir, "all"), jump(f.rules.chain(dir, "")))})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("fence: hook device %d (%s): %w", index, name, err)
	}
	return nil
}

func (f *nftFence) devices() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.stand))
}

func (f *nftFence) Healthy(index int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.use(func(c *nftables.Conn) error {
		if err := f.sharedIntact(c); err != nil {
			return errors.Join(err, gone(index))
		}
		return f.deviceIntact(c, index)
	})
}

// gone is ErrNoDevice if it is.
func gone(index int) error {
	_, err := deviceName(index)
	return err
}

// sharedIntact counts the sets and rules that the frames of all devices meet.
func (f *nftFence) sharedIntact(c *nftables.Conn) error {
	sets, err := c.GetSets(f.rules.table)
	if err != nil {
		return fmt.Errorf("%w: table %s: %w", ErrUnhealthy, f.rules.table.Name, err)
	}
	if len(sets) < len(f.rules.sets()) {
		return fmt.Errorf("%w: table %s: %d sets", ErrUnhealthy, f.rules.table.Name, len(sets))
	}
	for _, chain := range slices.Sorted(maps.Keys(f.rules.rules)) {
		if err := f.chainIntact(c, chain, f.rules.rules[chain]); err != nil {
			return err
		}
	}
	return nil
}

// deviceIntact looks for the hooks of one device.
func (f *nftFence) deviceIntact(c *nftables.Conn, index int) error {
	name, err := deviceName(index)
	if err != nil {
		return err
	}
	for _, dir := range []direction{ingress, egress} {
		if err := f.chainIntact(c, f.baseChain(dir, index, name).Name, 1); err != nil {
			return err
		}
	}
	return nil
}

func (f *nftFence) chainIntact(c *nftables.Conn, chain string, n int) error {
	got, err := c.GetRules(f.rules.table, &nftables.Chain{Name: chain})
	if err != nil {
		return fmt.Errorf("%w: chain %s: %w", ErrUnhealthy, chain, err)
	}
	if len(got) != n {
		return fmt.Errorf("%w: chain %s: %d rules of %d", ErrUnhealthy, chain, len(got), n)
	}
	return nil
}

func deviceName(index int) (string, error) {
	if err := device(index); err != nil {
		return "", err
	}
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return "", fmt.Errorf("%w: index %d: %w", ErrNoDevice, index, err)
	}
	return l.Attrs().Name, nil
}

func (f *nftFence) Counters() (Counters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var objects []nftables.Obj
	err := f.use(func(c *nftables.Conn) (err error) {
		objects, err = c.GetNamedObjects(f.rules.table)
		return err
	})
	if err != nil {
		return Counters{}, fmt.Errorf("fence: read counters: %w", err)
	}
	packets := map[string]uint64{}
	for _, o := range objects {
		if named, ok := o.(*nftables.NamedObj); ok {
			if counter, ok := named.Obj.(*expr.Counter); ok {
				packets[named.Name] = counter.Packets
			}
		}
	}
	read := func(dir direction) Verdicts {
		v := Verdicts{
			Open: packets[f.rules.counter(dir, "open")], Announce: packets[f.rules.counter(dir, "announce")],
			Shut: packets[f.rules.counter(dir, "shut")], Expired: packets[f.rules.counter(dir, "expired")],
		}
		judged := v.Open + v.Announce + v.Dropped()
		v.Other = max(packets[f.rules.counter(dir, "all")], judged) - judged
		return v
	}
	return Counters{read(ingress), read(egress)}, nil
}
