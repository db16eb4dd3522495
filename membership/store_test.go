package membership

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/testbed/labtest"
)

// badDisk is a log store whose writes can be held, delayed, or made to fail.
type badDisk struct {
	raft.LogStore
	mu    sync.Mutex
	gate  chan struct{} // writes wait until it is closed; nil = open
	delay time.Duration
	fail  error // after the entries were written: the worst kind
	lose  error // for deletions
}

func (d *badDisk) set(change func(*badDisk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// hold makes writes wait until the returned function is called.
func (d *badDisk) hold() (release func()) {
	gate := make(chan struct{})
	d.set(func(d *badDisk) { d.gate = gate })
	return func() {
		d.set(func(d *badDisk) { d.gate = nil })
		close(gate)
	}
}

func (d *badDisk) StoreLogs(logs []*raft.Log) error {
	d.mu.Lock()
	gate, delay, fail := d.gate, d.delay, d.fail
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
	time.Sleep(delay)
	return errors.Join(d.LogStore.StoreLogs(logs), fail)
}

func (d *badDisk) DeleteRange(lo, hi uint64) error {
	d.mu.Lock()
	lose := d.lose
	d.mu.Unlock()
	if lose != nil {
		return lose
	}
	return d.LogStore.DeleteRange(lo, hi)
}

// bench is a guard over a bad disk, outside of Raft.
type bench struct {
	*guardedLog
	disk   *badDisk
	leader bool
	done   uint64
	halted error
}

const benchLimit = 100 * time.Millisecond

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{disk: &badDisk{LogStore: raft.NewInmemStore()}, leader: true}
	b.guardedLog = &guardedLog{mu: newTurn(),
		LogStore: b.disk, ballot: must[*ballot](t)(openBallot(raft.NewInmemStore(), 0)), limit: func() time.Duration { return benchLimit }, book: must[*ledger](t)(newLedger(b.disk)), origin: time.Now(),
		leads: func() bool { return b.leader }, applied: func() uint64 { return b.done }, broken: func(err error) { b.halted = err }, stalled: func() {},
	}
	return b
}

func commands(from, to uint64) []*raft.Log {
	var out []*raft.Log
	for i := from; i <= to; i++ {
		out = append(out, &raft.Log{Index: i, Term: 1, Type: raft.LogCommand, Data: []byte{byte(i)}})
	}
	return out
}

func configuration(index uint64, ids ...string) *raft.Log {
	c := raft.Configuration{}
	for _, id := range ids {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	return &raft.Log{Index: index, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}
}

func (b *bench) wantEnd(t *testing.T, want uint64) {
	t.Helper()
	if got := must[uint64](t)(b.disk.LastIndex()); got != want {
		t.Fatalf("the log on disk ends at %d, want %d", got, want)
	}
}

func TestAFastWritePasses(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.disk.delay = benchLimit - 1
		check(t, b.StoreLogs(commands(1, 3)))
		check(t, b.StoreLog(commands(4, 4)[0]))
		check(t, b.StoreLogs(nil))
		b.wantEnd(t, 4)
		if b.Stalled() || time.Duration(b.longest.Load()) != benchLimit-1 {
			t.Errorf("stalled %v, longest write %v", b.Stalled(), time.Duration(b.longest.Load()))
		}
	})
}

func TestALeadersStalledWriteFailsAndIsTakenBack(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		b := newBench(t)
		check(t, b.StoreLogs(commands(1, 2)))
		release := b.disk.hold()
		start := time.Now()
		if err := b.StoreLogs(commands(3, 5)); !errors.Is(err, ErrDiskStalled) || time.Since(start) != benchLimit {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		if !b.Stalled() {
			t.Error("not called stalled")
		}
		if err := b.StoreLogs(commands(3, 3)); !errors.Is(err, ErrDiskStalled) || time.Since(start) != benchLimit {
			t.Errorf("while stalled, after %v: %v", time.Since(start), err)
		}
		release()
		synctest.Wait()
		b.wantEnd(t, 2) // nothing behind what Raft believes in
		if b.Stalled() {
			t.Error("still stalled after the write has ended")
		}
		check(t, b.StoreLogs(commands(3, 3)))
		b.wantEnd(t, 3)
		if b.halted != nil {
			t.Errorf("halted by %v", b.halted)
		}
	})
}

// The write may end at the very instant at which its limit does. Either way, what the
// caller is told is what the disk holds.
func TestAWriteThatEndsExactlyAtTheLimit(t *testing.T) {
	kept, refused := 0, 0
	for range 2000 {
		labtest.Bubble(t, func(t *testing.T) {
			b := newBench(t)
			b.disk.delay = benchLimit
			err := b.StoreLogs(commands(1, 2))
			synctest.Wait()
			if b.Stalled() {
				t.Fatal("stalled, and no write runs")
			}
			switch {
			case err == nil:
				kept++
				b.wantEnd(t, 2)
			case errors.Is(err, ErrDiskStalled):
				refused++
				b.wantEnd(t, 0)
			default:
				t.Fatal(err)
			}
			b.disk.delay = 0
			end := must[uint64](t)(b.disk.LastIndex())
			check(t, b.StoreLogs(commands(end+1, end+1)))
		})
	}
	t.Logf("kept %d, refused %d", kept, refused)
}

// A follower has no limit: Raft does not get over a write that fails after conflicting
// entries were removed, and nobody else waits for a follower.
func TestAFollowersStalledWriteWaits(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		b := newBench(t)
		b.leader = false
		b.disk.delay = 10 * benchLimit
		go func() {
			time.Sleep(2 * benchLimit)
			if !b.Stalled() {
				t.Error("a write that takes too long is not reported")
			}
		}()
		check(t, b.StoreLogs(commands(1, 2)))
		b.wantEnd(t, 2)
	})
}

// A leader that has stepped down writes as a follower: after its own late write was taken
// back, never before.
func TestAFollowersWriteComesAfterTheTakeBack(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		b := newBench(t)
		release := b.disk.hold()
		if err := b.StoreLogs(commands(1, 9)); !errors.Is(err, ErrDiskStalled) {
			t.Fatal(err)
		}
		b.leader = false
		release()
		check(t, b.StoreLogs(commands(1, 2)))
		b.wantEnd(t, 2)
	})
}

func TestAFailureOfTheDiskPassesThrough(t *testing.T) {
	b := newBench(t)
	failure := errors.New("input/output error")
	b.disk.fail = failure
	if err := b.StoreLogs(commands(1, 2)); !errors.Is(err, failure) {
		t.Fatalf("got %v", err)
	}
	b.disk.fail = nil
	// The entries got there although the write failed: they go before the next one comes.
	check(t, b.StoreLogs(commands(1, 1)))
	b.wantEnd(t, 1)
	if b.halted != nil {
		t.Errorf("halted by %v", b.halted)
	}
}

func TestWhatCannotBeTakenBackIsTriedAgain(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		b := newBench(t)
		failure := errors.New("input/output error")
		release := b.disk.hold()
		if err := b.StoreLogs(commands(1, 3)); !errors.Is(err, ErrDiskStalled) {
			t.Fatal(err)
		}
		b.disk.set(func(d *badDisk) { d.lose = failure })
		release()
		synctest.Wait()
		for range 2 {
			if err := b.StoreLogs(commands(1, 1)); !errors.Is(err, failure) {
				t.Fatalf("a write went in front of entries that should be gone: %v", err)
			}
		}
		b.disk.set(func(d *badDisk) { d.lose = nil })
		check(t, b.StoreLogs(commands(1, 1)))
		b.wantEnd(t, 1)
	})
}

// Raft acts on a configuration before it knows that the write failed, and keeps it.
func TestALeaderHaltsWhenItsConfigurationIsNotWritten(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		b := newBench(t)
		release := b.disk.hold()
		if err := b.StoreLogs([]*raft.Log{configuration(1, "n1")}); !errors.Is(err, ErrDiskStalled) {
			t.Fatal(err)
		}
		if !errors.Is(b.halted, ErrContradiction) {
			t.Errorf("halted by %v", b.halted)
		}
		release()
	})
}

// A follower that has removed its conflicting entries and cannot write the leader's goes
// on believing that it has them.
func TestAFollowerHaltsWhenItsLogIsCutAndNotContinued(t *testing.T) {
	for _, where := range []string{"write", "removal"} {
		b := newBench(t)
		check(t, b.StoreLogs(commands(1, 5)))
		b.leader, b.done = false, 2
		failure := errors.New("input/output error")
		if where == "removal" {
			b.disk.lose = failure
			if err := b.DeleteRange(4, 5); !errors.Is(err, failure) {
				t.Fatal(err)
			}
		} else {
			check(t, b.DeleteRange(4, 5))
			b.disk.fail = failure
			if err := b.StoreLogs(commands(4, 4)); !errors.Is(err, failure) {
				t.Fatal(err)
			}
		}
		if !errors.Is(b.halted, ErrContradiction) {
			t.Errorf("%s: halted by %v", where, b.halted)
		}
	}
}

func TestTheLedger(t *testing.T) {
	b := newBench(t)
	servers := func(ids ...string) []raft.Server {
		return raft.DecodeConfiguration(configuration(0, ids...).Data).Servers
	}
	want := func(newest uint64, index uint64, ids ...string) {
		t.Helper()
		if got := b.book.indexOf(servers(ids...)); got != index || b.book.newest() != newest {
			t.Errorf("configuration %v is entry %d, want %d; newest %d, want %d", ids, got, index, b.book.newest(), newest)
		}
	}
	want(0, 0)
	check(t, b.StoreLogs([]*raft.Log{configuration(1, "n1"), commands(2, 2)[0], configuration(3, "n1", "n2"), {Index: 4, Type: raft.LogNoop}}))
	want(3, 1, "n1")
	want(3, 3, "n1", "n2")
	want(3, unknownIndex, "n1", "n3")
	// The same servers again are another entry.
	check(t, b.StoreLogs([]*raft.Log{configuration(5, "n1")}))
	want(5, 5, "n1")
	// Raft cuts the end off and goes back to what it had.
	b.done = 3
	check(t, b.DeleteRange(5, 5))
	want(3, 1, "n1")
	// Compaction forgets nothing.
	check(t, b.DeleteRange(1, 3))
	want(3, 3, "n1", "n2")
	b.book.snapshot(9, servers("n4"))
	want(3, 9, "n4")
	for i := range uint64(1000) {
		b.book.stored(configuration(10+i, "n1", "x"))
	}
	if len(b.book.configs) > configsKept {
		t.Errorf("%d configurations are kept", len(b.book.configs))
	}
	want(1009, 1009, "n1", "x")
}

// A snapshot from the leader leaves old entries, a gap, and new ones.
func TestTheLedgerOfALogWithAGap(t *testing.T) {
	for _, tc := range []struct {
		after []*raft.Log
		want  uint64
	}{
		{[]*raft.Log{{Index: 20, Type: raft.LogNoop}}, 0},
		{[]*raft.Log{{Index: 20, Type: raft.LogCommand}, {Index: 21, Type: raft.LogNoop}}, 20},
	} {
		disk := raft.NewInmemStore()
		check(t, disk.StoreLogs(append(commands(1, 3), tc.after...)))
		if got := must[*ledger](t)(newLedger(disk)).atStart(); got != tc.want {
			t.Errorf("the machine has to see %d, want %d", got, tc.want)
		}
	}
}

// What was on disk at start and never committed must not be waited for.
func TestTheLedgerAtStart(t *testing.T) {
	disk := raft.NewInmemStore()
	check(t, disk.StoreLogs(append(commands(1, 8), &raft.Log{Index: 9, Type: raft.LogBarrier}, &raft.Log{Index: 10, Type: raft.LogNoop})))
	b := newBench(t)
	b.disk.LogStore = disk
	b.book = must[*ledger](t)(newLedger(disk))
	if b.book.atStart() != 8 {
		t.Fatalf("the machine has to see %d, want 8", b.book.atStart())
	}
	b.done = 4
	check(t, b.DeleteRange(6, 10))
	if b.book.atStart() != 5 {
		t.Errorf("after the cut it has to see %d, want 5", b.book.atStart())
	}
	check(t, b.StoreLogs(commands(6, 20)))
	if b.book.atStart() != 5 || b.book.newest() != 20 {
		t.Errorf("start %d, newest %d", b.book.atStart(), b.book.newest())
	}
}
