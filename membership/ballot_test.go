package membership

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
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
	// settle comes before each answer, close at an end in good order.
	settle, close func() error
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
	nothing := func() error { return nil }
	e := &elector{store: disk, settle: nothing, close: nothing}
	if !old {
		b, err := openBallot(disk, 0)
		if err != nil {
			t.Fatal(err)
		}
		e.store, e.settle, e.close = b, b.settle, b.close
	}
	e.term, _ = e.store.GetUint64([]byte(keyTerm))
	return e
}

// history is what the lives of one node have done so far.
type history struct {
	given map[uint64]string // whom it has voted for
	told  uint64            // the greatest term that an answer relied on
	heard uint64            // the greatest term that anybody spoke of
	said  strings.Builder
}

func (h *history) gives(t *testing.T, term uint64, candidate string) {
	t.Helper()
	if was := h.given[term]; was != "" && was != candidate {
		t.Fatalf("in term %d it has voted for %s and for %s%s", term, was, candidate, h.said.String())
	}
	h.given[term] = candidate
}

// live has a node do something until the disk takes no more, or for a while; it returns whether it ended in good order.
func (h *history) live(t *testing.T, r *rand.Rand, e *elector, old bool) (ended bool) {
	for range 30 {
		term := max(2, e.term+uint64(r.IntN(4))) - 1
		if r.IntN(10) == 0 {
			term += termsBeyond - 2 + uint64(r.IntN(4))
		}
		h.heard = max(h.heard, term)
		switch r.IntN(6) {
		case 0:
			h.heard = max(h.heard, e.term+1)
			if e.stand() != nil {
				return false
			}
			fmt.Fprintf(&h.said, "; stands in %d", e.term)
			h.gives(t, e.term, "itself")
			continue
		case 1, 2:
			if term <= e.term {
				continue
			}
			if e.hear(term) != nil || e.settle() != nil {
				return false
			}
			fmt.Fprintf(&h.said, "; told %d", term)
			if !old {
				h.told = max(h.told, term)
			}
			continue
		}
		candidate := string(rune('a' + r.IntN(3)))
		ok, err := e.vote(term, candidate)
		fmt.Fprintf(&h.said, "; %s asks in %d: %v %v", candidate, term, ok, err)
		if err != nil {
			return false
		}
		if !old || ok { // an older version that only says no may leave no trace
			h.told = max(h.told, e.term)
		}
		if ok {
			h.gives(t, term, candidate)
		}
	}
	return e.close() == nil
}

// However often a node is cut off, and whichever version starts on its disk, it gives one vote in a
// term, does not fall behind a term that it has told, and does not start in one that nobody has spoken of, but for the
// version before on what a crash has left.
func TestOneVoteInATerm(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 1))
		disk := &ballotDisk{StableStore: raft.NewInmemStore(), left: -1}
		h := &history{given: map[uint64]string{}}
		crashed := false
		for range 12 {
			disk.left, disk.kept = r.IntN(25)-1, r.IntN(2) == 0
			old := r.IntN(4) == 0
			start := &ballotDisk{StableStore: disk.StableStore, left: -1}
			if !old && r.IntN(3) == 0 { // a start that is cut off, too
				start.left = r.IntN(3)
			}
			openElector(t, start, old)
			e := openElector(t, disk, old)
			fmt.Fprintf(&h.said, "\nseed %d, old %v: term %d", seed, old, e.term)
			if e.term < h.told {
				t.Fatalf("it starts in term %d and has told %d%s", e.term, h.told, h.said.String())
			}
			if ahead := e.term - min(e.term, h.heard); ahead > 0 && (!old || !crashed || ahead > termsBeyond) {
				t.Fatalf("it starts in term %d, and nobody has spoken of more than %d%s", e.term, h.heard, h.said.String())
			}
			h.heard = max(h.heard, e.term)
			crashed = !h.live(t, r, e, old)
		}
	}
}

// An election costs one write of the disk, now and then two more.
func TestAnElectionIsOneWrite(t *testing.T) {
	t.Parallel()
	disk := &ballotDisk{StableStore: raft.NewInmemStore(), left: -1}
	e := openElector(t, disk, false)
	const elections = 20 * termsBeyond
	for term := range uint64(elections) {
		if ok, err := e.vote(term+1, "b"); !ok || err != nil {
			t.Fatalf("term %d: %v, %v", term+1, ok, err)
		}
	}
	if most := elections + 2*(elections/termsBeyond+1); disk.writes > most {
		t.Errorf("%d elections took %d writes", elections, disk.writes)
	}
	before := disk.writes
	labtest.Must(t, e.settle())
	if disk.writes != before {
		t.Error("nothing has changed, and it was written")
	}
	labtest.Must(t, e.close())
	e = openElector(t, disk, false) // makes room while nobody waits
	before = disk.writes
	if ok, err := e.vote(elections+1, "c"); !ok || err != nil || disk.writes-before != 1 {
		t.Errorf("the first vote after a start: %v, %v, %d writes", ok, err, disk.writes-before)
	}
}

// A node that ends in good order, or that never votes, leaves the version before its term and its vote.
func TestTheVersionBeforeFindsItsTerm(t *testing.T) {
	t.Parallel()
	agent := raft.NewInmemStore()
	e := openElector(t, agent, false)
	labtest.Must(t, e.hear(5))
	labtest.Must(t, e.settle())
	if old := openElector(t, agent, true); old.term != 5 {
		t.Errorf("after a crash a node that never voted starts in term %d of 5", old.term)
	}
	voter := raft.NewInmemStore()
	e = openElector(t, voter, false)
	if ok, err := e.vote(7, "a"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	labtest.Must(t, e.close())
	old := openElector(t, voter, true)
	if old.term != 7 {
		t.Errorf("a voter that ended starts in term %d of 7", old.term)
	}
	for candidate, want := range map[string]bool{"a": true, "b": false} {
		if ok, err := old.vote(7, candidate); ok != want || err != nil {
			t.Errorf("%s asks again: %v, %v", candidate, ok, err)
		}
	}
}

// A heartbeat of a later term, which Raft takes beside its main loop, comes between a term and its vote.
func TestHeartbeatBetweenTermAndVote(t *testing.T) {
	t.Parallel()
	disk := raft.NewInmemStore()
	b, err := openBallot(disk, 0)
	labtest.Must(t, err)
	labtest.Must(t, b.SetUint64([]byte(keyTerm), 6)) // asked for a vote
	labtest.Must(t, b.SetUint64([]byte(keyTerm), 7)) // the heartbeat
	labtest.Must(t, b.settle())                      // and its answer
	labtest.Must(t, b.SetUint64([]byte(keyVoteTerm), 6))
	labtest.Must(t, b.Set([]byte(keyVoteFor), []byte("a")))
	labtest.Must(t, b.settle())
	if again, err := openBallot(disk, 0); err != nil || again.now.term != 7 || again.now.voteTerm != 6 {
		t.Errorf("%+v, %v", again.now, err)
	}
}

// One of two voters goes back to the version before, as docs/operating.md says, and votes again.
func TestBackToTheVersionBefore(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	back := c.followers()[0]
	votes := c.rest(back)
	eventually(t, "it knows", func() bool { ids, _ := back.node.Voters(); return len(ids) == 1 })
	back.close()
	store := must[Store](t)(openBolt(back.cfg.Dir))
	check(t, store.Set([]byte(keyBallot), nil)) // the version before does not look at it
	check(t, store.Close())
	back.open()
	back.reconcile(c.all)
	c.do(fsm.RestVote{Node: back.id.NodeID, Back: true})
	eventually(t, "it votes again", votes)
}

// The last one of a cluster begins again although its term and vote cannot be read.
func TestRecoverWithADamagedBallot(t *testing.T) {
	t.Parallel()
	disk := raft.NewInmemStore()
	e := openElector(t, disk, false)
	if ok, err := e.vote(7, "a"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	labtest.Must(t, disk.Set([]byte(keyBallot), []byte{ballotFormat, 2, 3}))
	labtest.Must(t, forgetDamagedBallot(disk, 5))
	if b, err := openBallot(disk, 5); err != nil || b.now.term < 7 {
		t.Errorf("%+v, %v", b, err)
	}
}

// A disk that refuses a vote ends the node: it would stand again and again, and spend the votes of others.
func TestRefusedVoteEndsTheNode(t *testing.T) {
	t.Parallel()
	disk := &ballotDisk{StableStore: raft.NewInmemStore(), left: 0}
	b, err := openBallot(disk, 0)
	labtest.Must(t, err)
	var why error
	b.broken = func(err error) { why = err }
	labtest.Must(t, b.SetUint64([]byte(keyTerm), 1))
	labtest.Must(t, b.SetUint64([]byte(keyVoteTerm), 1))
	if err := b.Set([]byte(keyVoteFor), []byte("a")); !errors.Is(err, errCut) || !errors.Is(why, errCut) {
		t.Errorf("%v, and the node ends for: %v", err, why)
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
