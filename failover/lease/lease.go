package lease

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits of a lease length. Below LengthMin the fixed 2 ms of a promise and the jitter of
// an ordinary scheduler eat the lease; above LengthMax a failover takes longer than an
// operator with a pager.
const (
	LengthMin = 50 * time.Millisecond
	LengthMax = 60 * time.Second
)

const (
	// RoundsMax is how many unanswered rounds a holder remembers. A round is worth
	// something for one lease length, five renewals (rule 2); the rest is slack for
	// renewals that are sent early.
	RoundsMax = 8

	// NodesMax is how many nodes an acceptor or a closer keeps a record of.
	NodesMax = 1024

	// renewalsPerLease: a holder renews every L/5 (rule 2), so that four renewals in a
	// row may be lost.
	renewalsPerLease = 5
)

// ErrLength is returned when a lease length is outside LengthMin..LengthMax.
var ErrLength = errors.New("lease: length out of range")

// CheckLength returns ErrLength, wrapped with the permitted range, if no lease may have
// the given length.
func CheckLength(length time.Duration) error {
	if length < LengthMin || length > LengthMax {
		return fmt.Errorf("%w: %v is not within %v..%v", ErrLength, length, LengthMin, LengthMax)
	}
	return nil
}

// Promise returns P = 1.02 L + 2 ms, the time for which a voter that acknowledges a
// renewal of length L promises not to endorse the session's expiry.
//
// Why 1.02: P runs on the voter's clock and must outlast L on the holder's. The protocol
// is unsafe if the rates of two hosts differ by more than that; it assumes at most 1 %,
// which is already 20 times what NTP corrects. Why 2 ms: short leases get a margin that
// does not shrink with them.
func Promise(length time.Duration) time.Duration {
	return length + length/50 + 2*time.Millisecond
}

// Instant is a reading of the local CLOCK_BOOTTIME in nanoseconds. Instants of two hosts
// must never be compared; an Instant in a message is an opaque token to its receiver.
type Instant int64

// Add returns the instant d after i.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Before reports whether i is earlier than j.
func (i Instant) Before(j Instant) bool { return i < j }

// After reports whether i is later than j.
func (i Instant) After(j Instant) bool { return i > j }

// Session is one life of a node's lease. The log gives the number; numbers are unique in
// the cluster and only grow.
type Session struct {
	Node   string
	Number uint64
}

// BootID names one process of a voter: the caller draws it at random, and it is not 0.
type BootID uint64

// Boots is what a holder knows of the voters' boot ids, at most NodesMax of them.
type Boots map[string]BootID

// Learn notes a voter's boot id, from an acknowledgement or a correction. It returns true if
// another one was known, or none.
func (b Boots) Learn(voter string, boot BootID) bool {
	known, is := b[voter]
	if known == boot || !is && len(b) >= NodesMax {
		return false
	}
	b[voter] = boot
	return true
}

// ConfigID names a voter set by its members: equal sets have equal ids.
type ConfigID uint64

// VoterSet is the set of Raft voters in one configuration. The zero value has no voters
// and agrees with nobody.
type VoterSet struct {
	ID     ConfigID
	Voters []string // Invariant: sorted, without duplicates, never modified.

	// Index is that of the log entry that set these voters; the caller fills it in. It
	// does not travel and has no part in whether two nodes agree, but a set that comes
	// back after others is a new one for rules 4 and 5, even if nobody saw the others.
	Index uint64
}

// NewVoterSet returns the set of the given voters, in any order, without an Index. How many there are is
// bounded by the Raft configuration they come from.
func NewVoterSet(voters []string) VoterSet {
	sorted := slices.Clone(voters)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	hash := sha256.New()
	var size [8]byte
	for _, v := range sorted {
		// The size in front keeps {"ab"} and {"a", "b"} apart.
		binary.BigEndian.PutUint64(size[:], uint64(len(v)))
		hash.Write(size[:])
		hash.Write([]byte(v))
	}
	return VoterSet{ID: ConfigID(binary.BigEndian.Uint64(hash.Sum(nil))), Voters: sorted}
}

// Majority returns how many voters are more than half. Any two majorities of one set,
// and of two sets that differ by one voter, have a voter in common: the whole protocol
// rests on that voter.
func (s VoterSet) Majority() int {
	return len(s.Voters)/2 + 1
}

// Has reports whether node is a voter of the set.
func (s VoterSet) Has(node string) bool {
	_, found := slices.BinarySearch(s.Voters, node)
	return found
}

// sameEntry reports whether both were set by the same log entry.
func (s VoterSet) sameEntry(t VoterSet) bool {
	return s.ID == t.ID && s.Index == t.Index
}

// ballot counts each voter of a set at most once.
type ballot struct {
	set   VoterSet
	voted uint64 // a bit for each of the first 64 of set.Voters: a round allocates nothing
	more  []bool // for those after them; nil if there are none
	count int    // Invariant: the number of voters marked in voted and more.
}

const ballotBits = 64

func newBallot(set VoterSet) ballot {
	b := ballot{set: set}
	if n := len(set.Voters); n > ballotBits {
		b.more = make([]bool, n-ballotBits)
	}
	return b
}

// mark notes the vote of the i-th voter; false if it had voted before.
func (b *ballot) mark(i int) bool {
	if i < ballotBits {
		before := b.voted
		b.voted |= 1 << i
		return b.voted != before
	}
	before := b.more[i-ballotBits]
	b.more[i-ballotBits] = true
	return !before
}

// add counts a vote. It returns false if the node is no voter or has voted before.
func (b *ballot) add(node string) bool {
	i, found := slices.BinarySearch(b.set.Voters, node)
	if !found || !b.mark(i) {
		return false
	}
	b.count++
	return true
}

func (b *ballot) won() bool { return b.count >= b.set.Majority() }
