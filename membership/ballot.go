package membership

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// What hashicorp/raft keeps beside its log (v1.8.0, raft.go), and where this node keeps it.
const (
	keyTerm      = "CurrentTerm"
	keyVoteTerm  = "LastVoteTerm"
	keyVoteFor   = "LastVoteCand"
	keyBallot    = "TermAndVote"
	termsBeyond  = 1000 // how far keyTerm is ahead of the term when it is written
	ballotFormat = 1    // the first byte below keyBallot
)

// ErrDamagedBallot is returned for a term and a vote that are not what was written. A node
// that went on without them could vote twice.
var ErrDamagedBallot = errors.New("membership: the term and the vote on disk are damaged")

// ballot keeps Raft's term and vote (Raft, figure 2: currentTerm and votedFor) in one write of the disk.
//
// By itself hashicorp/raft writes each election three times, the term, the term of the vote and the
// vote, and bbolt waits twice for the disk in each. That is most of what an election takes. So a
// term waits in memory for the vote that follows it, and both are one value. What Raft needs is
// kept: the vote is on disk before anybody hears of it, this node's own count included. A term
// without a vote is written, by settle, before an answer leaves this node, before an entry of the log is written or cut
// off, and before a snapshot is. Only this node's own questions for votes may be ahead of it: whoever asks and
// forgets that it did has not voted, and so has not won.
//
// A version before this one reads keyTerm and the two of the vote. Those of the vote stay as
// they were, so keyTerm is always greater than each term that this node may have voted in:
// the older version begins there, which costs the cluster an election and nothing else. What it voted
// then is found again by open.
//
// Any goroutine may call it.
type ballot struct {
	disk raft.StableStore
	mu   turn // for a write takes time

	now     termAndVote
	written termAndVote
	voting  uint64 // of a vote for nobody yet
	beyond  uint64 // what keyTerm says
}

// termAndVote is a term, and the last vote with its term; 0 and nil: none yet.
type termAndVote struct {
	term, voteTerm uint64
	vote           []byte
}

func (s termAndVote) equal(o termAndVote) bool {
	return s.term == o.term && s.voteTerm == o.voteTerm && bytes.Equal(s.vote, o.vote)
}

// openBallot reads the term and the vote; logged is the term of the newest entry in the log or the snapshot, which a version before
// this one may have taken in the very term in which it began. It returns ErrDamagedBallot.
func openBallot(disk raft.StableStore, logged uint64) (*ballot, error) {
	b := &ballot{disk: disk, mu: newTurn()}
	old, err := readOld(disk)
	if err != nil {
		return nil, err
	}
	b.beyond, b.now = old.term, old
	text, err := disk.Get([]byte(keyBallot))
	if missing(err) || err == nil && len(text) == 0 {
		b.written = b.now // by the version before, or not at all
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	kept, beyond, err := decodeBallot(text)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, joinAgain)
	}
	b.now, b.written = kept, kept
	if old.voteTerm > kept.voteTerm { // a version before this one has voted since
		b.now.voteTerm, b.now.vote = old.voteTerm, old.vote
	}
	if old.term != beyond { // it has gone on to another term, or a write was cut off between its two parts
		b.now.term = max(kept.term, old.term)
	}
	b.now.term = max(b.now.term, b.now.voteTerm, logged)
	return b, nil
}

func readBallot(store Store, snaps raft.SnapshotStore) (*ballot, error) {
	newest, err := newestEntry(store, snaps)
	if err != nil {
		return nil, err
	}
	return openBallot(store, newest.Term)
}

// readOld reads what a version before this one would.
func readOld(disk raft.StableStore) (s termAndVote, err error) {
	if s.term, err = disk.GetUint64([]byte(keyTerm)); err != nil && !missing(err) {
		return s, err
	}
	if s.voteTerm, err = disk.GetUint64([]byte(keyVoteTerm)); err != nil && !missing(err) {
		return s, err
	}
	if s.vote, err = disk.Get([]byte(keyVoteFor)); err != nil && !missing(err) {
		return s, err
	}
	return s, nil
}

// missing reports that a value is not there: hashicorp/raft knows it by this text too.
func missing(err error) bool { return err != nil && err.Error() == "not found" }

// SetUint64 implements raft.StableStore. A term, and that of a vote, are on disk with the vote itself, or after settle.
func (b *ballot) SetUint64(key []byte, value uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch string(key) {
	case keyTerm:
		b.now.term = value
	case keyVoteTerm:
		b.voting = value
	default:
		return b.disk.SetUint64(key, value)
	}
	return nil
}

// Set implements raft.StableStore. A vote is on disk when it returns without an error, and was never given otherwise.
func (b *ballot) Set(key, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if string(key) != keyVoteFor {
		return b.disk.Set(key, value)
	}
	if b.voting == 0 {
		return errors.New("membership: a vote without its term")
	}
	next := termAndVote{term: b.voting, voteTerm: b.voting, vote: bytes.Clone(value)}
	if err := b.write(next); err != nil {
		return err
	}
	b.now, b.voting = next, 0
	return nil
}

// GetUint64 implements raft.StableStore.
func (b *ballot) GetUint64(key []byte) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case string(key) == keyTerm && b.now.term > 0:
		return b.now.term, nil
	case string(key) == keyVoteTerm && b.now.voteTerm > 0:
		return b.now.voteTerm, nil
	}
	return b.disk.GetUint64(key)
}

// Get implements raft.StableStore.
func (b *ballot) Get(key []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if string(key) == keyVoteFor && b.now.voteTerm > 0 {
		return bytes.Clone(b.now.vote), nil
	}
	return b.disk.Get(key)
}

// settle writes a term that waits for a vote; without one it does nothing.
func (b *ballot) settle() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now.equal(b.written) {
		return nil
	}
	return b.write(b.now)
}

// write writes with mu held.
func (b *ballot) write(s termAndVote) error {
	if s.term >= b.beyond || b.beyond == 0 {
		beyond := s.term + termsBeyond
		if err := b.disk.SetUint64([]byte(keyTerm), beyond); err != nil {
			return fmt.Errorf("membership: write a term: %w", err)
		}
		b.beyond = beyond
	}
	if err := b.disk.Set([]byte(keyBallot), encodeBallot(s, b.beyond)); err != nil {
		return fmt.Errorf("membership: write the term and the vote: %w", err)
	}
	b.written = s
	return nil
}

// encodeBallot: format, term, term of the vote, what keyTerm says, the vote, CRC-32C of all before.
func encodeBallot(s termAndVote, beyond uint64) []byte {
	out := []byte{ballotFormat}
	for _, n := range []uint64{s.term, s.voteTerm, beyond} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	out = append(out, s.vote...)
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

func decodeBallot(text []byte) (s termAndVote, beyond uint64, err error) {
	const numbers, sum = 1 + 3*8, 4
	switch {
	case len(text) < numbers+sum:
		return s, 0, fmt.Errorf("%w: %d bytes", ErrDamagedBallot, len(text))
	case text[0] != ballotFormat:
		return s, 0, fmt.Errorf("%w, or of a later version of havip-cluster: their format is %d", ErrDamagedBallot, text[0])
	}
	body, kept := text[:len(text)-sum], binary.BigEndian.Uint32(text[len(text)-sum:])
	if crc32.Checksum(body, castagnoli) != kept {
		return s, 0, fmt.Errorf("%w: the checksum does not fit", ErrDamagedBallot)
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(body[1+8*i:]) }
	return termAndVote{term: n(0), voteTerm: n(1), vote: bytes.Clone(body[numbers:])}, n(2), nil
}
