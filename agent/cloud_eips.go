package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/provider"
)

const (
	// eipTimeout bounds the work on the EIP of one HAVIP, eipsMax how many are worked on at a time, and
	// eipsWaiting how many HAVIPs may be worked on or wait for it.
	eipTimeout  = 3 * time.Minute
	eipsMax     = 4
	eipsWaiting = 256
	// eipLook is how often it is seen that a call has become useless, or that another HAVIP has given an EIP up.
	eipLook = 200 * time.Millisecond
)

// eips are the HAVIPs whose EIP in the cloud follows the log: each has one worker, which looks at the
// log when its turn comes, so that the newest change wins and no two calls for one HAVIP meet.
type eips struct {
	places chan struct{} // a place for each call

	mu   sync.Mutex
	jobs map[string]*eipJob // by the id of the HAVIP
}

// eipJob is one HAVIP.
type eipJob struct {
	again bool // the log has changed since the worker has looked
	// gone are the EIPs that the log took from the HAVIP and the cloud may still have there. Another
	// one stays in the cloud: somebody has bound it there by hand.
	gone []netip.Addr
}

func newEIPs() *eips {
	return &eips{places: make(chan struct{}, eipsMax), jobs: map[string]*eipJob{}}
}

// take notes a change. It returns the job that has to be started, nil where one runs; not ok: too many wait.
func (e *eips) take(id string, was netip.Addr) (job *eipJob, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	j := e.jobs[id]
	if j == nil {
		if len(e.jobs) >= eipsWaiting {
			return nil, false
		}
		j = &eipJob{}
		e.jobs[id], job = j, j
	}
	j.again = true
	if was.IsValid() && !slices.Contains(j.gone, was) {
		j.gone = append(j.gone, was)
	}
	return job, true
}

// next reports whether a job has something to do; else it is over.
func (e *eips) next(id string, j *eipJob) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !j.again {
		delete(e.jobs, id)
		return false
	}
	j.again = false
	return true
}

// mine reports whether the log took an EIP from the HAVIP of a job.
func (e *eips) mine(j *eipJob, eip netip.Addr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(j.gone, eip)
}

// only notes what the cloud has there: all other EIPs are free as far as this HAVIP goes.
func (e *eips) only(j *eipJob, has netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	j.gone = slices.DeleteFunc(j.gone, func(g netip.Addr) bool { return g != has })
}

// awaited reports whether another HAVIP is about to give an EIP up.
func (e *eips) awaited(j *eipJob, eip netip.Addr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, other := range e.jobs {
		if other != j && slices.Contains(other.gone, eip) {
			return true
		}
	}
	return false
}

// FollowEIP implements api.Cloud.
func (c *cloud) FollowEIP(v fsm.HAVIP, was netip.Addr) {
	p, _ := c.Provider()
	c.mu.Lock()
	living := c.living
	c.mu.Unlock()
	if binderOf(p) == nil || living == nil {
		return
	}
	job, ok := c.eips.take(v.ID, was)
	switch {
	case !ok:
		text := fmt.Sprintf("the EIP of %s was not changed in the cloud: %d other HAVIPs wait for theirs; later: %s", v.Name, eipsWaiting, syncToCloud)
		c.log.Warn(text)
		go c.Tell(living, v.Name, text)
	case job != nil:
		go c.followEIP(living, v, job)
	}
}

const syncToCloud = "`havip-cluster provider sync --to-cloud`"

// binderOf is a provider that binds EIPs, or nil.
func binderOf(p provider.Provider) provider.EIPBinder {
	binder, ok := p.(provider.EIPBinder)
	if !ok || !p.Caps().EIP {
		return nil
	}
	return binder
}

// followEIP works on one HAVIP until the cloud has what the log has, or it failed.
func (c *cloud) followEIP(ctx context.Context, v fsm.HAVIP, job *eipJob) {
	for c.eips.next(v.ID, job) {
		call, cancel := context.WithTimeout(ctx, eipTimeout)
		text := c.carryEIP(call, v, job)
		cancel()
		c.Tell(ctx, v.Name, text)
	}
}

// carryEIP brings the EIP of one HAVIP in the cloud to what the log has, and says how it ended.
func (c *cloud) carryEIP(ctx context.Context, v fsm.HAVIP, job *eipJob) string {
	for {
		v = c.asLogged(v)
		fail := func(why string) string {
			return fmt.Sprintf("the EIP of %s was not changed in the cloud%s", v.Name, why)
		}
		p, _ := c.Provider()
		binder := binderOf(p)
		if binder == nil || !c.leads() {
			return fail(fmt.Sprintf(": %v; later: %s", errElsewhere, syncToCloud))
		}
		last, err := c.Refresh(ctx)
		if err != nil {
			return fail(fmt.Sprintf(": %v; later: %s", err, syncToCloud))
		}
		i := slices.IndexFunc(last.Observed, func(o provider.Observed) bool { return o.Address == v.IP })
		if i < 0 {
			c.eips.only(job, netip.Addr{})
			return fail(fmt.Sprintf(", which has no HAVIP %s: %s", v.IP, syncToCloud))
		}
		o := last.Observed[i]
		c.eips.only(job, o.EIP)
		switch {
		case o.EIP == v.EIP:
			return fmt.Sprintf("%s has in the cloud what it has here: %s", v.Name, eipText(v.EIP))
		case o.EIP.IsValid() && !c.eips.mine(job, o.EIP):
			return fail(fmt.Sprintf(", where %s has EIP %s: `havip-cluster provider sync --to-cloud --prune` unbinds that", o.ID, o.EIP))
		}
		did, err := c.stepEIP(ctx, binder, v, o, job)
		_, _ = c.Refresh(ctx) // what is shown from now on is what is there; if it fails, the next poll brings it
		switch is := c.asLogged(v).EIP; {
		case errors.Is(err, errChanged):
		case err != nil:
			return fmt.Sprintf("the EIP of %s was not %s %s in the cloud: %v; again: %s", v.Name, did, o.ID, err, syncToCloud)
		case is == v.EIP && v.EIP.IsValid() != o.EIP.IsValid():
			return fmt.Sprintf("the EIP of %s was %s %s in the cloud", v.Name, did, o.ID)
		}
	}
}

// asLogged is a HAVIP as the log has it now. One that is deleted has no EIP.
func (c *cloud) asLogged(v fsm.HAVIP) fsm.HAVIP {
	if now, there := c.state().HAVIPs[v.ID]; there {
		return now
	}
	v.EIP = netip.Addr{}
	return v
}

// errElsewhere is why a node does nothing more about an EIP.
var errElsewhere = errors.New("another node leads by now, or another provider is configured")

// errChanged is why a call was cut off: the log wants something else by now.
var errChanged = errors.New("the log has changed")

// stepEIP takes an EIP from a HAVIP in the cloud, or gives it one. Its call ends when the log wants something else, or
// this node leads no more. did says what the step does.
func (c *cloud) stepEIP(ctx context.Context, binder provider.EIPBinder, v fsm.HAVIP, o provider.Observed, job *eipJob) (did string, err error) {
	token := fmt.Sprintf("%s-%d-eip", v.ID, c.state().Index)
	useless := func() bool { return c.asLogged(v).EIP == o.EIP }
	did, call := "unbound from", func(ctx context.Context) error { return binder.UnbindEIP(ctx, o.ID, o.EIP, token) }
	if !o.EIP.IsValid() {
		useless = func() bool { return c.asLogged(v).EIP != v.EIP }
		did, call = "bound to", func(ctx context.Context) error { return binder.BindEIP(ctx, o.ID, v.EIP, token) }
		for c.eips.awaited(job, v.EIP) && !useless() { // of another HAVIP, which needs no place held here
			if !wait(ctx, eipLook) {
				return did, context.Cause(ctx)
			}
		}
	}
	if useless() {
		return did, errChanged
	}
	select {
	case c.eips.places <- struct{}{}:
		defer func() { <-c.eips.places }()
	case <-ctx.Done():
		return did, context.Cause(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for wait(ctx, eipLook) {
			switch {
			case useless():
				cancel(errChanged)
			case !c.leads():
				cancel(errElsewhere)
			}
		}
	}()
	if err = call(ctx); err == nil {
		c.eips.only(job, netip.Addr{}) // what it had is free for another HAVIP
	}
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errChanged) || errors.Is(cause, errElsewhere)) {
		err = cause
	}
	return did, err
}

func eipText(eip netip.Addr) string {
	if !eip.IsValid() {
		return "none"
	}
	return eip.String()
}
