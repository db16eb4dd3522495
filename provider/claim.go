package provider

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Claim asks a cloud to send a HAVIP's address to an interface of this host. It is made after the
// lease has opened and the address answers here; the log has decided, the call follows.
type Claim struct {
	HAVIP   string     // id
	Name    string     // of the HAVIP
	Address netip.Addr // of the HAVIP
	Node    string     // name
	ENI     string     // the cluster's id, NODE/DEVICE
	Device  string     // such as eth0
	MAC     string     // lower case, with colons
	// Epoch is the fencing number: a claim of a lower one is of an owner that was.
	Epoch uint64
	// Deadline is when the lease ends that is held now; it is prolonged while all is well.
	Deadline time.Time
}

// Place is where a cloud sends an address.
type Place struct {
	// Here: to the interface of the claim.
	Here bool
	// Where names the place in the cloud's words, "" if it does not say.
	Where string
}

// Claimer is a cloud in which a call, not an announcement, moves an address (Capabilities.ClaimByAPI).
// Only the holder of the lease calls it, for what it serves. Calls are repeated: each is done
// once or again with the same end.
type Claimer interface {
	// Claim has the address sent to the interface, whoever has it now. The cloud may take its time.
	Claim(ctx context.Context, c Claim) error
	// Where says where the address is sent now.
	Where(ctx context.Context, c Claim) (Place, error)
	// Release tells that this host does not serve it any more. Clouds that need no such word do nothing.
	Release(ctx context.Context, c Claim) error
}

// CallKind is one of the calls of a Claimer.
type CallKind string

// The calls.
const (
	CallClaim   CallKind = "claim"
	CallWhere   CallKind = "describe"
	CallRelease CallKind = "release"
)

// Call is one call that is to be made now, and whose result is to be told.
type Call struct {
	Kind  CallKind
	Claim Claim
}

// The pace of claims.
const (
	// CallsMax is how many calls are under way at one time. One HAVIP has one.
	CallsMax = 8
	// claimRetry is the pause after a call that failed; twice as long each time, claimSlow at most.
	claimRetry = 200 * time.Millisecond
	claimSlow  = 10 * time.Second
	// lookFirst is when the cloud is asked whether the address has come; twice as long each time, lookSlow at most.
	lookFirst = 100 * time.Millisecond
	lookSlow  = 2 * time.Second
	// claimAgain is how long a claim that was taken may stay without effect before it is made again.
	claimAgain = 15 * time.Second
	// recheck is how often the cloud is asked whether an address is still here.
	recheck = 10 * time.Second
	// releaseTries is how often a release is tried. Nobody waits for it.
	releaseTries = 3
)

// Claims decides which calls a node makes. It is pure: one goroutine tells it what is served and
// what became of calls, and asks what to do. An answer counts only for the epoch that was asked for.
type Claims struct {
	by map[string]*claimState
	// under are the calls under way, by HAVIP. They outlive what they were made for: two calls for
	// one HAVIP at a time could end in the wrong order.
	under map[string]Call
}

// claimState is one HAVIP.
type claimState struct {
	claim     Claim
	leaving   bool
	claimed   time.Time // when the cloud took the claim; zero: not yet
	confirmed bool      // the cloud has shown it here under this epoch
	tries     int       // in a row without the wanted end
	next      time.Time // when the next call is due
	failure   string
}

// NewClaims has none yet.
func NewClaims() *Claims { return &Claims{by: map[string]*claimState{}, under: map[string]Call{}} }

// Forget is for a node whose cloud is another one now, or none: nothing is claimed or released any more.
// Calls that are under way still have to be told as done.
func (c *Claims) Forget() { clear(c.by) }

// Serve takes what this node serves now, under the lease that it holds. What is not in the list any
// more is released.
func (c *Claims) Serve(now time.Time, list []Claim) {
	served := map[string]bool{}
	for _, claim := range list {
		served[claim.HAVIP] = true
		st := c.by[claim.HAVIP]
		if st == nil || st.leaving || st.claim.Epoch != claim.Epoch || st.claim.MAC != claim.MAC || st.claim.Address != claim.Address {
			c.by[claim.HAVIP] = &claimState{claim: claim, next: now}
			continue
		}
		st.claim = claim
	}
	for id, st := range c.by {
		if !served[id] && !st.leaving {
			*st = claimState{claim: st.claim, leaving: true, next: now}
		}
	}
}

// Due gives the calls that are to be made now, oldest first, and notes that they are under way.
func (c *Claims) Due(now time.Time) []Call {
	var due []*claimState
	for _, id := range slices.Sorted(maps.Keys(c.by)) {
		st := c.by[id]
		if _, calling := c.under[id]; !calling && !now.Before(st.next) {
			due = append(due, st)
		}
	}
	slices.SortStableFunc(due, func(a, b *claimState) int { return a.next.Compare(b.next) })
	var out []Call
	for _, st := range due[:min(len(due), max(CallsMax-len(c.under), 0))] {
		call := Call{st.kind(), st.claim}
		c.under[st.claim.HAVIP] = call
		out = append(out, call)
	}
	return out
}

func (st *claimState) kind() CallKind {
	switch {
	case st.leaving:
		return CallRelease
	case st.claimed.IsZero():
		return CallClaim
	}
	return CallWhere
}

// Next is when something is due without news; zero: nothing is, or nothing may be called before a call ends.
func (c *Claims) Next() (at time.Time) {
	if len(c.under) >= CallsMax {
		return at
	}
	for id, st := range c.by {
		if _, calling := c.under[id]; !calling && (at.IsZero() || st.next.Before(at)) {
			at = st.next
		}
	}
	return at
}

// Void reports whether the result of a call counts no more, so that it had better end.
func (c *Claims) Void(call Call) bool {
	st := c.by[call.Claim.HAVIP]
	return st == nil || st.leaving != (call.Kind == CallRelease) ||
		st.claim.Epoch != call.Claim.Epoch || st.claim.MAC != call.Claim.MAC || st.claim.Address != call.Claim.Address
}

// Effect is what a result means.
type Effect struct {
	Confirmed bool // the cloud shows the address here for the first time under this epoch
	Lost      bool // the cloud sent it here, and does not any more
	Failed    bool // the first of failures in a row
}

// Done takes the result of a call. That of one that is void makes room for the next one, no more.
func (c *Claims) Done(now time.Time, call Call, place Place, err error) (out Effect) {
	if c.under[call.Claim.HAVIP] != call {
		return out
	}
	delete(c.under, call.Claim.HAVIP)
	if c.Void(call) {
		return out
	}
	st := c.by[call.Claim.HAVIP]
	if err != nil {
		st.failure = err.Error()
		out.Failed = st.tries == 0
		st.tries++
		st.next = now.Add(pause(claimRetry, claimSlow, st.tries))
		if !st.confirmed && st.old(now) {
			st.claimed = time.Time{}
		}
		if st.leaving && st.tries >= releaseTries {
			delete(c.by, call.Claim.HAVIP)
		}
		return out
	}
	st.failure = ""
	switch {
	case call.Kind == CallRelease:
		delete(c.by, call.Claim.HAVIP)
	case call.Kind == CallClaim:
		st.claimed, st.tries = now, 0
		st.next = now.Add(lookFirst)
	case place.Here:
		out.Confirmed = !st.confirmed
		st.confirmed, st.tries, st.next = true, 0, now.Add(recheck)
	case st.confirmed: // somebody took it, or an old owner's call came late: the lease says whose it is
		out.Lost = true
		st.claimed, st.confirmed, st.tries, st.next = time.Time{}, false, 0, now
	case st.old(now):
		st.claimed, st.next = time.Time{}, now
	default:
		st.tries++
		st.next = now.Add(pause(lookFirst, lookSlow, st.tries))
		if again := st.claimed.Add(claimAgain); st.next.After(again) {
			st.next = again
		}
	}
	return out
}

// old reports whether a claim has had its time. It is made again after a look, never without one: a
// cloud that is slow, with many HAVIPs, would hear of nothing but claims.
func (st *claimState) old(now time.Time) bool { return now.Sub(st.claimed) >= claimAgain }

// pause is the first one, doubled with each try, and bounded.
func pause(first, most time.Duration, tries int) time.Duration {
	return min(first<<min(max(tries-1, 0), 16), most)
}

// Stands reports whether the cloud has shown a HAVIP here under an epoch.
func (c *Claims) Stands(havip string, epoch uint64) bool {
	st := c.by[havip]
	return st != nil && !st.leaving && st.claim.Epoch == epoch && st.confirmed
}

// Waiting is a claim that the cloud has not followed yet.
type Waiting struct {
	Claim   Claim
	Failure string // of the last call; "": it was taken, and has no effect yet
}

// Waiting lists what is served here and not sent here by the cloud, by name.
func (c *Claims) Waiting() (out []Waiting) {
	for _, st := range c.by {
		if !st.leaving && !st.confirmed {
			out = append(out, Waiting{st.claim, st.failure})
		}
	}
	slices.SortFunc(out, func(a, b Waiting) int {
		return cmp.Or(cmp.Compare(a.Claim.Name, b.Claim.Name), cmp.Compare(a.Claim.HAVIP, b.Claim.HAVIP))
	})
	return out
}
