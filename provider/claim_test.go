package provider

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	t0      = time.Unix(1_000_000, 0)
	errCall = errors.New("it fails here")
)

func claimed(n int, epoch uint64) Claim {
	return Claim{HAVIP: fmt.Sprintf("havip-%d", n), Name: fmt.Sprintf("v%d", n), Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), MAC: "02:00:00:00:00:01", Epoch: epoch}
}

// sole gives the one call that is due.
func sole(t *testing.T, c *Claims, now time.Time, kind CallKind) Call {
	t.Helper()
	due := c.Due(now)
	if len(due) != 1 || due[0].Kind != kind {
		t.Fatalf("due %+v, want one %s", due, kind)
	}
	return due[0]
}

func TestAClaimIsMadeOnceAndConfirmed(t *testing.T) {
	c := NewClaims()
	c.Serve(t0, []Claim{claimed(1, 3)})
	call := sole(t, c, t0, CallClaim)
	if again := c.Due(t0.Add(time.Hour)); len(again) != 0 {
		t.Fatalf("a second call beside the first: %+v", again)
	}
	c.Done(t0, call, Place{}, nil)
	now := c.Next()
	if c.Stands("havip-1", 3) || len(c.Waiting()) != 1 {
		t.Error("taken is not done")
	}
	call = sole(t, c, now, CallWhere)
	if e := c.Done(now, call, Place{}, nil); e.Confirmed || e.Lost {
		t.Errorf("not here yet: %+v", e)
	}
	now = c.Next()
	call = sole(t, c, now, CallWhere)
	if e := c.Done(now, call, Place{Here: true}, nil); !e.Confirmed || !c.Stands("havip-1", 3) || c.Stands("havip-1", 4) {
		t.Errorf("here: %+v", e)
	}
	if rest := c.Next().Sub(now); rest != recheck {
		t.Errorf("the next look is in %v", rest)
	}
	now = c.Next()
	call = sole(t, c, now, CallWhere)
	if e := c.Done(now, call, Place{Where: "eni-b"}, nil); !e.Lost || c.Stands("havip-1", 3) {
		t.Errorf("taken away by an old owner's late call: %+v", e)
	}
	sole(t, c, now, CallClaim)
}

// An answer counts for the epoch that was asked for, and a new epoch claims anew.
func TestEpochsFence(t *testing.T) {
	c := NewClaims()
	c.Serve(t0, []Claim{claimed(1, 3)})
	old := sole(t, c, t0, CallClaim)
	c.Serve(t0, []Claim{claimed(1, 5)})
	if due := c.Due(t0); len(due) != 0 || !c.Void(old) {
		t.Fatalf("%+v beside the claim of epoch 3", due)
	}
	c.Done(t0, old, Place{}, errCall)
	call := sole(t, c, t0, CallClaim)
	c.Done(t0, call, Place{}, nil)
	now := c.Next()
	look := sole(t, c, now, CallWhere)
	stale := Call{CallWhere, claimed(1, 3)} // of a cloud that was configured before
	if e := c.Done(now, stale, Place{Here: true}, nil); e.Confirmed || c.Stands("havip-1", 5) || c.Stands("havip-1", 3) {
		t.Errorf("an answer of epoch 3 confirms: %+v", e)
	}
	if due := c.Due(now); len(due) != 0 {
		t.Errorf("what was not asked has ended a call: %+v", due)
	}
	if e := c.Done(now, look, Place{Here: true}, nil); !e.Confirmed || c.Void(look) {
		t.Errorf("%+v", e)
	}
	c.Serve(now, nil)
	if c.Stands("havip-1", 5) {
		t.Error("what is not served stands")
	}
	release := sole(t, c, now, CallRelease)
	c.Done(now, look, Place{Here: true}, nil) // late, and of no weight
	if c.Done(now, release, Place{}, nil); len(c.by) != 0 {
		t.Errorf("left: %+v", c.by)
	}
}

func TestFailuresBackOff(t *testing.T) {
	c := NewClaims()
	c.Serve(t0, []Claim{claimed(1, 1)})
	now, firsts := t0, 0
	var pauses []time.Duration
	for range 10 {
		call := sole(t, c, now, CallClaim)
		if c.Done(now, call, Place{}, errCall).Failed {
			firsts++
		}
		pauses = append(pauses, c.Next().Sub(now))
		now = c.Next()
	}
	if firsts != 1 || pauses[0] != claimRetry || pauses[9] != claimSlow || pauses[2] != 4*claimRetry {
		t.Errorf("told %d times, pauses %v", firsts, pauses)
	}
	if w := c.Waiting(); len(w) != 1 || w[0].Failure != errCall.Error() {
		t.Errorf("%+v", w)
	}
	c.Serve(now, nil)
	for range releaseTries {
		c.Done(now, sole(t, c, now, CallRelease), Place{}, errCall)
		now = now.Add(time.Minute)
	}
	if len(c.Due(now)) != 0 || len(c.by) != 0 {
		t.Error("a release is tried for ever")
	}
}

// A claim that was taken and has no effect is made again; calls are bounded, one for each HAVIP.
func TestClaimsAreRepeatedAndBounded(t *testing.T) {
	c := NewClaims()
	var list []Claim
	for n := range 3 * CallsMax {
		list = append(list, claimed(n, 1))
	}
	c.Serve(t0, list)
	first := c.Due(t0)
	if len(first) != CallsMax || len(c.Due(t0)) != 0 {
		t.Fatalf("%d calls at a time", len(first))
	}
	if at := c.Next(); !at.IsZero() {
		t.Errorf("something is due at %v, and nothing may be called before a call ends", at)
	}
	c.Done(t0, first[0], Place{}, nil)
	if at := c.Next(); !at.Equal(t0) || len(c.Due(t0)) != 1 {
		t.Errorf("a call has ended, the next one is due at %v", at)
	}
	c = NewClaims()
	c.Serve(t0, list[:1])
	c.Done(t0, sole(t, c, t0, CallClaim), Place{}, nil)
	looks := 0
	for now := c.Next(); ; now = c.Next() {
		call := c.Due(now)[0]
		if call.Kind == CallClaim {
			if at := now.Sub(t0); at != claimAgain {
				t.Errorf("claimed again after %v", at)
			}
			break
		}
		if looks++; looks > 100 {
			t.Fatal("never claimed again")
		}
		c.Done(now, call, Place{}, nil)
	}
}

// A HAVIP that comes back while its release is under way is claimed after that one has ended, and a
// cloud that is configured anew finds no two calls for one HAVIP either.
func TestOneCallForAHAVIP(t *testing.T) {
	c := NewClaims()
	c.Serve(t0, []Claim{claimed(1, 7)})
	c.Done(t0, sole(t, c, t0, CallClaim), Place{}, nil)
	c.Serve(t0, nil)
	release := sole(t, c, t0, CallRelease)
	c.Serve(t0, []Claim{claimed(1, 8)})
	if due := c.Due(t0); len(due) != 0 || !c.Void(release) {
		t.Fatalf("%+v beside the release of epoch 7", due)
	}
	c.Done(t0, release, Place{}, nil)
	claim := sole(t, c, t0, CallClaim)
	c.Forget()
	c.Serve(t0, []Claim{claimed(1, 8)})
	if due := c.Due(t0); len(due) != 0 {
		t.Fatalf("%+v beside the claim in the cloud before", due)
	}
	c.Done(t0, claim, Place{}, errCall)
	c.Due(t0.Add(time.Minute))
	moved := claimed(1, 8)
	moved.MAC = "02:00:00:00:00:02"
	c.Serve(t0, []Claim{moved})
	if !c.Void(claim) {
		t.Error("a call for another interface counts")
	}
}

// Whatever comes: one call for a HAVIP, no call but a release for what is not served, none of an older epoch, and in the
// end, when calls succeed, all that is served stands.
func TestClaimsRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := NewClaims()
		now, epoch := t0, uint64(1)
		serving := map[string]Claim{}
		here := map[string]uint64{} // what the cloud has, by the epoch of the claim that came last
		var open []Call
		finish := func(i int, fail bool) {
			call := open[i]
			open = append(open[:i:i], open[i+1:]...)
			if fail {
				c.Done(now, call, Place{}, errCall)
				return
			}
			if call.Kind == CallClaim {
				here[call.Claim.HAVIP] = call.Claim.Epoch
			}
			c.Done(now, call, Place{Here: here[call.Claim.HAVIP] == call.Claim.Epoch}, nil)
		}
		turn := func() {
			var list []Claim
			for _, s := range serving {
				list = append(list, s)
			}
			c.Serve(now, list)
			for _, call := range c.Due(now) {
				if s, ok := serving[call.Claim.HAVIP]; call.Kind != CallRelease && (!ok || s.Epoch != call.Claim.Epoch) || call.Kind == CallRelease && ok && s.Epoch == call.Claim.Epoch {
					rt.Fatalf("%+v is called, and %+v is served", call, s)
				}
				if slices.ContainsFunc(open, func(o Call) bool { return o.Claim.HAVIP == call.Claim.HAVIP }) {
					rt.Fatalf("%+v is called beside another one: %+v", call, open)
				}
				open = append(open, call)
			}
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			n := rapid.IntRange(1, 4).Draw(rt, "havip")
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				epoch++
				serving[claimed(n, 0).HAVIP] = claimed(n, epoch)
			case 1:
				delete(serving, claimed(n, 0).HAVIP)
			case 2:
				if len(open) > 0 {
					finish(rapid.IntRange(0, len(open)-1).Draw(rt, "call"), rapid.Bool().Draw(rt, "fails"))
				}
			case 3:
				here[claimed(n, 0).HAVIP] = 0 // another program
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(rt, "ms")) * time.Millisecond)
			turn()
		}
		for range 200 {
			for len(open) > 0 {
				finish(0, false)
			}
			now = now.Add(time.Second)
			turn()
		}
		for id, s := range serving {
			if !c.Stands(id, s.Epoch) {
				rt.Errorf("%s of epoch %d does not stand: %+v", id, s.Epoch, c.by[id])
			}
		}
	})
}
