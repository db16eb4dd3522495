package membership

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hashicorp/raft"

	"havip-cluster/testbed/labtest"
)

var errCut = errors.New("the power is gone")

// ballotDisk is a disk that counts writes, and from one on takes none: what comes then is lost, or
// written without a word, as a power cut leaves it.
type ballotDisk struct {
	raft.StableStore
	writes int
	left   int  // writes until the cut; -1: never
	kept   bool // the write that is cut off is on the disk
}

func (d *ballotDisk) write(do func() error) error {
	if d.left == 0 {
		if d.kept {
			d.kept = false
			_ = do()
		}
		return errCut
	}
	d.left--
	d.writes++
	return do()
}

func (d *ballotDisk) Set(key, value []byte) error {
	return d.write(func() error { return d.StableStore.Set(key, value) })
}

func (d *ballotDisk) SetUint64(key []byte, value uint64) error {
	return d.write(func() error { return d.StableStore.SetUint64(key, value) })
}

// elector votes as hashicorp/raft does (v1.8.0, raft.go, requestVote), on a ballot or, as the version
// before did, on the disk itself.
type elector struct {
	store raft.StableStore
	term  uint64
	// settle comes before each answer.
	settle func() error
}

// vote is asked for a vote; it returns whether it is given, and an error if nothing is answered.
func (e *elector) vote(term uint64, candidate string) (granted bool, err error) {
	if term < e.term {
		return false, e.settle()
	}
	if term > e.term {
		if err := e.hear(term); err != nil {
			return false, err
		}
	}
	last, _ := e.store.GetUint64([]byte(keyVoteTerm))
	who, _ := e.store.Get([]byte(keyVoteFor))
	if last == term && who != nil {
		return string(who) == candidate, e.settle()
	}
	if err := e.store.SetUint64([]byte(keyVoteTerm), term); err != nil {
		return false, err
	}
	if err := e.store.Set([]byte(keyVoteFor), []byte(candidate)); err != nil {
		return false, err
	}
	return true, e.settle()
}

// stand is a candidate's vote for itself, which counts without an answer (electSelf).
func (e *elector) stand() error {
	if err := e.hear(e.term + 1); err != nil {
		return err
	}
	if err := e.store.SetUint64([]byte(keyVoteTerm), e.term); err != nil {
		return err
	}
	return e.store.Set([]byte(keyVoteFor), []byte("itself"))
}

// hear is told a later term.
func (e *elector) hear(term uint64) error {
	if err := e.store.SetUint64([]byte(keyTerm), term); err != nil {
		return err
	}
	e.term = term
	return nil
}

// openElector starts a node: of this version, or of the one before.
func openElector(t *testing.T, disk raft.StableStore, old bool) *elector {
	t.Helper()
	e := &elector{store: disk, settle: func() error { return nil }}
	if !old {
		b, err := openBallot(disk, 0)
		if err != nil {
			t.Fatal(err)
		}
		e.store, e.settle = b, b.settle
	}
	e.term, _ = e.store.GetUint64([]byte(keyTerm))
	return e
}

// However often a node is cut off, and whichever version starts on its disk, it gives one vote in a
// term, and does not fall behind a term that it has told.
func TestOneVoteInATerm(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 1))
		disk := &ballotDisk{StableStore: raft.NewInmemStore(), left: -1}
		given := map[uint64]string{}
		var told uint64
		said := ""
		for range 12 { // lives
			disk.left, disk.kept = -1, r.IntN(2) == 0
			old := r.IntN(4) == 0
			e := openElector(t, disk, old)
			said += fmt.Sprintf("\nold %v: term %d", old, e.term)
			start := e.term
			if e.term < told {
				t.Fatalf("seed %d: it starts in term %d and has told %d%s", seed, e.term, told, said)
			}
			disk.left = r.IntN(12)
			for {
				term := max(2, e.term+uint64(r.IntN(4))) - 1
				if r.IntN(20) == 0 {
					term += termsBeyond - 2 + uint64(r.IntN(4))
				}
				if r.IntN(6) == 0 {
					if e.stand() != nil {
						break
					}
					said += fmt.Sprintf("; stands in %d", e.term)
					if given[e.term] != "" {
						t.Fatalf("seed %d: in term %d it has voted for %s and for itself%s", seed, e.term, given[e.term], said)
					}
					given[e.term] = "itself"
					continue
				}
				candidate := string(rune('a' + r.IntN(3)))
				if r.IntN(3) == 0 && term > e.term {
					if e.hear(term) != nil || e.settle() != nil {
						break
					}
					said += fmt.Sprintf("; told %d", term)
					told = max(told, term)
					continue
				}
				ok, err := e.vote(term, candidate)
				said += fmt.Sprintf("; %s asks in %d: %v %v", candidate, term, ok, err)
				if err != nil {
					break
				}
				if !old || ok || e.term > start { // an older version that only says no leaves no trace
					told = max(told, e.term)
				}
				if ok && given[term] != "" && given[term] != candidate {
					t.Fatalf("seed %d: in term %d it has voted for %s and for %s%s", seed, term, given[term], candidate, said)
				}
				if ok {
					given[term] = candidate
				}
			}
		}
	}
}

// An election costs one write of the disk, and a term that is only heard one more.
func TestAnElectionIsOneWrite(t *testing.T) {
	t.Parallel()
	disk := &ballotDisk{StableStore: raft.NewInmemStore(), left: -1}
	e := openElector(t, disk, false)
	if _, err := e.vote(1, "a"); err != nil { // writes how far the terms of an older version are, too
		t.Fatal(err)
	}
	for term := uint64(2); term < 2+termsBeyond-2; term++ {
		before := disk.writes
		if ok, err := e.vote(term, "b"); !ok || err != nil {
			t.Fatalf("term %d: %v, %v", term, ok, err)
		}
		if n := disk.writes - before; n != 1 {
			t.Fatalf("term %d took %d writes", term, n)
		}
	}
	before := disk.writes
	labtest.Must(t, e.settle())
	if disk.writes != before {
		t.Error("nothing has changed, and it was written")
	}
}

// What is on the disk stays readable.
func TestBallotOnDisk(t *testing.T) {
	t.Parallel()
	const golden = "01000000000000000700000000000000060000000000000" + "3ef" + "31302e302e302e313a37343031"
	s := termAndVote{term: 7, voteTerm: 6, vote: []byte("10.0.0.1:7401")}
	text := encodeBallot(s, 1007)
	if got := hex.EncodeToString(text[:len(text)-4]); got != golden {
		t.Errorf("it is %s, not %s", got, golden)
	}
	if got, beyond, err := decodeBallot(text); err != nil || !got.equal(s) || beyond != 1007 {
		t.Errorf("read: %+v, %d, %v", got, beyond, err)
	}
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if _, _, err := decodeBallot(bad); !errors.Is(err, ErrDamagedBallot) {
			t.Errorf("byte %d is another one: %v", i, err)
		}
		if _, _, err := decodeBallot(text[:i]); !errors.Is(err, ErrDamagedBallot) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}

// No node starts on a term and a vote that it cannot read.
func TestDamagedBallotIsRefused(t *testing.T) {
	t.Parallel()
	disk := raft.NewInmemStore()
	labtest.Must(t, disk.Set([]byte(keyBallot), []byte{ballotFormat, 2, 3}))
	if _, err := openBallot(disk, 0); !errors.Is(err, ErrDamagedBallot) {
		t.Error(err)
	}
}

// No answer leaves a node before what it says is on disk, no entry is written or removed, and no snapshot written.
func TestTermIsOnDiskBefore(t *testing.T) {
	t.Parallel()
	entries := []*raft.Log{{Index: 1, Term: 4}, {Index: 2, Term: 4}}
	for name, do := range map[string]func(*ballot, raft.LogStore) error{
		"an answer": func(b *ballot, _ raft.LogStore) error { return answered(b, false) },
		"an answer to a heartbeat": func(b *ballot, _ raft.LogStore) error {
			return answered(b, true)
		},
		"an entry": func(b *ballot, s raft.LogStore) error {
			return aGuard(b, s).StoreLogs(entries)
		},
		"a cut": func(b *ballot, s raft.LogStore) error {
			if err := s.StoreLogs(entries); err != nil {
				return err
			}
			return aGuard(b, s).DeleteRange(2, 2)
		},
		"a snapshot": func(b *ballot, _ raft.LogStore) error {
			_, err := notedSnapshots{raft.NewInmemSnapshotStore(), nil, b}.Create(1, 1, 4, raft.Configuration{}, 1, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			labtest.Bubble(t, func(t *testing.T) {
				store := raft.NewInmemStore()
				disk := &ballotDisk{StableStore: store, left: -1}
				b, err := openBallot(disk, 0)
				labtest.Must(t, err)
				labtest.Must(t, b.SetUint64([]byte(keyTerm), 4))
				disk.left = 0
				if err := do(b, store); !errors.Is(err, errCut) {
					t.Errorf("the disk takes nothing: %v", err)
				}
				disk.left = -1
				labtest.Must(t, do(b, store))
				again, err := openBallot(disk, 0)
				labtest.Must(t, err)
				if again.now.term != 4 {
					t.Errorf("it is written in term %d", again.now.term)
				}
			})
		})
	}
}

func aGuard(b *ballot, s raft.LogStore) *guardedLog {
	book, _ := newLedger(s)
	return &guardedLog{
		LogStore: s, ballot: b, mu: newTurn(), book: book, leads: func() bool { return false }, applied: func() uint64 { return 0 }, broken: func(error) {},
	}
}

// answered has a node answer a request.
func answered(b *ballot, heartbeat bool) error {
	done := make(chan struct{})
	defer close(done)
	_, under := raft.NewInmemTransport("a")
	f, err := newFreshOnly(under, 0, func() (uint64, uint64) { return 0, 0 }, done)
	if err != nil {
		return err
	}
	f.settle = b.settle
	out := make(chan raft.RPCResponse, 1)
	if heartbeat {
		kept := &keptHandler{votingTransport: f.votingTransport}
		f.votingTransport = kept
		f.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{}, nil) })
		kept.handle(raft.RPC{Command: &raft.AppendEntriesRequest{}, RespChan: out})
		return (<-out).Error
	}
	go func() {
		rpc := <-f.rpcs
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	}()
	f.pass(raft.RPC{Command: &raft.AppendEntriesRequest{}, RespChan: out})
	return (<-out).Error
}

// keptHandler is a transport that keeps the handler of heartbeats.
type keptHandler struct {
	votingTransport
	handle func(raft.RPC)
}

func (k *keptHandler) SetHeartbeatHandler(f func(raft.RPC)) { k.handle = f }

// FuzzBallot: whatever is on the disk is read as it was written, or refused.
func FuzzBallot(f *testing.F) {
	f.Add(encodeBallot(termAndVote{term: 7, voteTerm: 6, vote: []byte("a")}, 1007))
	f.Add([]byte{ballotFormat})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		s, beyond, err := decodeBallot(text)
		if err != nil {
			if !errors.Is(err, ErrDamagedBallot) {
				t.Error(err)
			}
			return
		}
		if again := encodeBallot(s, beyond); !bytes.Equal(again, text) {
			t.Errorf("%x is read as %+v, %d, which is written %x", text, s, beyond, again)
		}
	})
}
