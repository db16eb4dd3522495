package failover

import (
	"errors"
	"net/netip"

	"havip-cluster/netdev/fence"
)

var errNotFenced = errors.New("it did not stand on the device")

// forgetAll ends the guard over everything; what is a HAVIP is guarded again at once.
func (e *NetEdge) forgetAll() error {
	if e.fence == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.guarded)
	entries, err := e.fence.Guarded()
	errs := []error{err}
	for _, g := range entries {
		if e.managed(g.IP) {
			e.guarded[g.IP] = true
			continue
		}
		errs = append(errs, e.fence.Forget(g.IP))
	}
	return errors.Join(errs...)
}

// guardAll makes the fence know every HAVIP of the cluster, shut, wherever it is: another
// program that puts one on this host achieves nothing, and Up has less to do.
func (e *NetEdge) guardAll() error {
	if e.fence == nil {
		return nil
	}
	present := map[netip.Addr]bool{}
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, v := range e.state().HAVIPs {
		present[v.IP] = true
		errs = append(errs, e.guard(v.IP))
	}
	for ip := range e.guarded {
		if present[ip] {
			continue
		}
		if err := e.fence.Forget(ip); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(e.guarded, ip)
	}
	return errors.Join(errs...)
}

// guard makes the fence know an address, once; call it with mu held.
func (e *NetEdge) guard(ip netip.Addr) error {
	if e.guarded[ip] {
		return nil
	}
	if err := e.fence.Guard(ip); err != nil {
		return err
	}
	e.guarded[ip] = true
	return nil
}

// stand puts the fence on a device, or puts it right where it stood before, and notes that.
func (e *NetEdge) stand(index int) error {
	e.mu.Lock()
	stood, known := e.fenced[index]
	e.mu.Unlock()
	var sick error
	switch {
	case stood:
		sick = e.fence.Healthy(index)
	case known:
		sick = errNotFenced
	}
	err := e.fence.Attach(index)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fenced[index] = err == nil
	if err == nil && sick != nil {
		e.mends, e.sick = e.mends+1, sick
	}
	return err
}

// open opens the fence for an address that is owned here, which it knows unless somebody
// emptied it.
func (e *NetEdge) open(ip netip.Addr) error {
	e.mu.Lock()
	mends := e.mends // before: one that comes meanwhile is another
	e.mu.Unlock()
	err := e.fence.Open(ip)
	if errors.Is(err, fence.ErrNotGuarded) {
		err = errors.Join(e.fence.Guard(ip), e.fence.Open(ip))
	}
	if err == nil {
		e.mu.Lock()
		e.opened[ip] = mends
		e.mu.Unlock()
	}
	return err
}

// mended tells whether the fence was put right since it was opened for the address, and
// what it lacked: then it may be shut. It is one fence for all devices, and whoever looks
// at it first, Inventory or Keep of any HAVIP, puts it right for all of them.
func (e *NetEdge) mended(ip netip.Addr) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.opened[ip] != e.mends, e.sick
}

// ready has the fence stand on the device and know the address.
func (e *NetEdge) ready(index int, ip netip.Addr) error {
	if e.fence == nil {
		return nil
	}
	e.mu.Lock()
	stands := e.fenced[index]
	e.mu.Unlock()
	if !stands {
		if err := e.stand(index); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.guard(ip)
}
