package identity

import (
	"fmt"
	"time"

	"havip-cluster/internal/limits"
)

// Profile names a set of timers for one kind of network.
type Profile string

const (
	ProfileFast Profile = "fast" // quiet hosts on one LAN
	ProfileLAN  Profile = "lan"  // ordinary cloud hosts in one zone; the default
	ProfileWAN  Profile = "wan"  // several zones, noisy hosts
)

const (
	leaseMax   = 60 * time.Second
	raftMax    = 5 * time.Second // an election slower than this only prolongs an outage
	renewShare = 5               // renewals per lease: three in a row may be lost
	// raftShare of a lease, in tenths, is the longest Raft heartbeat with which a follower stands as soon as the lease of a
	// leader that is gone has ended at a majority. It was last heard at most a renewal, a fifth of the lease, before
	// it was gone, so four fifths are silence by then, and standing takes half a heartbeat of it (membership, deafShare).
	raftShare = 16
)

// Timers are the periods that follow from a lease.
//
// Invariant: 0 < Renew < Lease, and 0 < RaftLeaderLease <= RaftHeartbeat <= RaftElection.
type Timers struct {
	Lease           time.Duration // how long a session lives without renewal, 10ms..60s
	Renew           time.Duration // between two renewals
	RaftHeartbeat   time.Duration // a follower that heard nothing for this long becomes a candidate
	RaftElection    time.Duration // a candidate that won nothing for this long tries again
	RaftLeaderLease time.Duration // a leader without a majority for this long steps down; no licence to own
}

// profileEntry is one row of the table of profiles. raftMin is the shortest Raft heartbeat: Raft's part
// is an ordinary program, and the pauses that hosts of this kind have anyway must not start elections.
// The lease may be shorter: real-time threads renew it. raftCalm is how long the heartbeat stays while the
// lease is shorter: up to raftShare of the lease it costs no failover anything.
type profileEntry struct {
	name     Profile
	meant    string
	leaseMin time.Duration
	raftMin  time.Duration
	raftCalm time.Duration
	timers   Timers
}

const ms = time.Millisecond

var profiles = []profileEntry{
	{ProfileFast, "quiet hosts on one LAN", limits.LeaseShortest, 50 * ms, 100 * ms, Timers{20 * ms, 4 * ms, 100 * ms, 100 * ms, 80 * ms}},
	{ProfileLAN, "hosts in one zone", limits.LeaseShortest, 100 * ms, 250 * ms, Timers{150 * ms, 30 * ms, 240 * ms, 240 * ms, 192 * ms}},
	{ProfileWAN, "several zones", 500 * ms, 500 * ms, 500 * ms, Timers{3000 * ms, 600 * ms, 1500 * ms, 1500 * ms, 1000 * ms}},
}

func findProfile(s string) (profileEntry, error) {
	for _, p := range profiles {
		if s == string(p.name) {
			return p, nil
		}
	}
	return profileEntry{}, fmt.Errorf("%w: profile %q: choose fast, lan or wan", ErrInvalid, s)
}

// ParseProfile returns the profile called s, or ErrInvalid.
func ParseProfile(s string) (Profile, error) {
	p, err := findProfile(s)
	return p.name, err
}

// TimersFor returns the timers of a profile with the given lease; a lease of 0, or the
// profile's own, means the profile as it stands. Otherwise the rest follows from the
// lease: renewal every L/5, Raft heartbeat and election L/2 within what the profile's
// hosts can keep, for short leases up to 1.6 L, leader lease 4/5 of the heartbeat. It returns ErrInvalid for an
// unknown profile, and for a lease that the profile's hosts cannot keep or that is
// longer than 60s.
func TimersFor(profile Profile, lease time.Duration) (Timers, error) {
	p, err := findProfile(string(profile))
	if err != nil {
		return Timers{}, err
	}
	switch {
	case lease == 0 || lease == p.timers.Lease:
		return p.timers, nil
	case lease < profiles[0].leaseMin:
		return Timers{}, fmt.Errorf("%w: lease %v is shorter than %v, of which a node misses four renewals whenever it stops for a moment",
			ErrInvalid, lease, profiles[0].leaseMin)
	case lease < p.leaseMin:
		return Timers{}, fmt.Errorf("%w: lease %v is too short for profile %s (%s), which needs %v or more; lengthen it or choose a faster profile",
			ErrInvalid, lease, p.name, p.meant, p.leaseMin)
	case lease > leaseMax:
		return Timers{}, fmt.Errorf("%w: lease %v is longer than %v: a crash would leave its HAVIPs silent for that long",
			ErrInvalid, lease, leaseMax)
	}
	calm := min(lease*raftShare/10, p.raftCalm)
	heartbeat := min(max(lease/2, calm, p.raftMin), raftMax)
	return Timers{
		Lease:           lease,
		Renew:           lease / renewShare,
		RaftHeartbeat:   heartbeat,
		RaftElection:    heartbeat,
		RaftLeaderLease: heartbeat * 4 / 5,
	}, nil
}
