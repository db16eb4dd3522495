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
	termsBeyond  = 8 // how far keyTerm is ahead of the term when it is raised, so one election in so many writes three times
	ballotFormat = 1 // the first byte below keyBallot
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
// A version before this one reads keyTerm and the two of the vote. A node that ends in good order
// leaves them as that version would (close). After a crash those of the vote are old, so in a
// node that has voted keyTerm is greater than each term that it may have voted in: the older version begins there, a few terms ahead,
// which costs an election. What it voted then is found again by openBallot.
//
// Any goroutine may call it.
type ballot struct {
	disk raft.StableStore
	mu   turn // for a write takes time
	// broken is called when the disk has refused a write: whoever cannot vote must not stand either, and Raft, which would
	// end here, has gone on by then. It must not block.
	broken func(error)

	now     termAndVote
	written termAndVote
	older   termAndVote // the vote that the version before would find
	voting  uint64      // of a vote for nobody yet
	beyond  uint64      // what keyTerm says
	kept    bool        // there is a value below keyBallot
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
	b := &ballot{disk: disk, mu: newTurn(), broken: func(error) {}}
	old, err := readOld(disk)
	if err != nil {
		return nil, err
	}
	b.beyond, b.now, b.older = old.term, old, old
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
	b.now, b.written, b.kept = kept, kept, true
	voted := old.voteTerm > kept.voteTerm // by a version before this one, since
	if voted {
		b.now.voteTerm, b.now.vote = old.voteTerm, old.vote
	}
	// Else that version has gone on to another term, or this one has left it the true one. What it has heard alone, just in the term in
	// which it began or that is the next beyond, is not seen: with neither vote nor entry nobody relies on it.
	if voted || old.term != beyond {
		b.now.term = max(kept.term, old.term)
	}
	b.now.term = max(b.now.term, b.now.voteTerm, logged)
	if b.beyond <= b.now.term {
		_ = b.raise(b.now, b.now.term) // while nobody waits; what fails here is done with the next vote
	}
	return b, nil
}

func readBallot(store Store, snaps raft.SnapshotStore) (*ballot, error) {
	newest, err := newestEntry(store, snaps)
	if err != nil {
		return nil, err
	}
	return openBallot(store, newest.Term)
}

// forgetDamagedBallot has the only voter of a cluster that begins again do without a term and a vote that cannot be read: keyTerm is
// at or above each term that it voted in, and logged, the term of its newest entry.
func forgetDamagedBallot(disk raft.StableStore, logged uint64) error {
	if _, err := openBallot(disk, logged); !errors.Is(err, ErrDamagedBallot) {
		return err
	}
	return disk.Set([]byte(keyBallot), nil)
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
	next := termAndVote{term: max(b.now.term, b.voting), voteTerm: b.voting, vote: bytes.Clone(value)}
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
	case string(key) == keyTerm && (b.now.term > 0 || b.kept):
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
func (b *ballot) write(s termAndVote) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("membership: write the term and the vote: %w", err)
			b.broken(err)
		}
	}()
	if s.voteTerm == 0 && !b.kept { // it has never voted, and leaves the version before its term
		err = b.disk.SetUint64([]byte(keyTerm), s.term)
		b.beyond = s.term
	} else {
		if s.term >= b.beyond {
			if err := b.raise(b.written, s.term); err != nil {
				return err
			}
		}
		err = b.disk.Set([]byte(keyBallot), encodeBallot(s, b.beyond))
	}
	if err == nil {
		b.written = s
	}
	return err
}

// raise makes keyTerm greater than a term. What it becomes is written first, with what the disk has anyway, so that a
// crash in between leaves the term as it is.
func (b *ballot) raise(known termAndVote, term uint64) error {
	beyond := term + termsBeyond
	if err := b.disk.Set([]byte(keyBallot), encodeBallot(known, beyond)); err != nil {
		return err
	}
	b.written, b.kept = known, true
	if err := b.disk.SetUint64([]byte(keyTerm), beyond); err != nil {
		return err
	}
	b.beyond = beyond
	return nil
}

// close leaves the version before what it would have written itself: the vote first, so that a crash in between leaves its term ahead.
// Raft has ended.
func (b *ballot) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.kept {
		return nil
	}
	var err error
	if b.older.voteTerm != b.written.voteTerm || !bytes.Equal(b.older.vote, b.written.vote) {
		err = b.disk.SetUint64([]byte(keyVoteTerm), b.written.voteTerm)
		if err == nil {
			err = b.disk.Set([]byte(keyVoteFor), b.written.vote)
		}
	}
	if err == nil {
		err = b.disk.SetUint64([]byte(keyTerm), b.now.term)
	}
	if err != nil {
		return fmt.Errorf("membership: leave the term and the vote to a version before this one: %w", err)
	}
	b.older, b.beyond = b.written, b.now.term
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
