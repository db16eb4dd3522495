package membership

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

// handLed is a node that a test leads by hand, one request after another.
type handLed struct {
	t     *testing.T
	p     *peer
	lead  *raft.InmemTransport
	at    raft.ServerAddress
	index uint64 // of the last entry sent
}

const handTerm = 7

func newHandLed(t *testing.T) *handLed {
	t.Helper()
	h := newEmptyHandLed(t)
	h.send(&raft.Log{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(h.servers("n-second"))})
	return h
}

func newEmptyHandLed(t *testing.T) *handLed {
	t.Helper()
	h := &handLed{t: t, p: newFounder(t), at: "10.9.9.2:1"}
	h.p.cfg.Dir = t.TempDir() // nothing that was bootstrapped
	h.p.cfg.Heartbeat, h.p.cfg.LeaderLease = time.Minute, time.Minute
	_, own := raft.NewInmemTransportWithTimeout(h.at, patience)
	_, h.lead = raft.NewInmemTransportWithTimeout("10.9.9.1:1", patience)
	h.lead.Connect(h.at, own)
	own.Connect(h.lead.LocalAddr(), h.lead)
	h.p.node = must[*Node](t)(OpenOn(h.p.cfg, Parts{
		Store: must[Store](t)(openBolt(h.p.cfg.Dir)), Transport: own,
		Snapshots: must[*raft.FileSnapshotStore](t)(raft.NewFileSnapshotStore(h.p.cfg.Dir, snapshotsKept, io.Discard)),
	}))
	return h
}

func (h *handLed) servers(also string) raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{
		{ID: "n-lead", Address: h.lead.LocalAddr()}, {ID: raft.ServerID(also), Address: "10.9.9.3:1"},
		{ID: raft.ServerID(h.p.cfg.Node), Address: h.at},
	}}
}

// send has the node append and commit an entry.
func (h *handLed) send(e *raft.Log) {
	h.t.Helper()
	req := &raft.AppendEntriesRequest{
		RPCHeader: h.header(), Term: handTerm, PrevLogEntry: h.index, LeaderCommitIndex: h.index + 1, Entries: []*raft.Log{e},
	}
	if h.index > 0 {
		req.PrevLogTerm = handTerm
	}
	h.index++
	e.Index, e.Term = h.index, handTerm
	var resp raft.AppendEntriesResponse
	check(h.t, h.lead.AppendEntries("", h.at, req, &resp))
	if !resp.Success {
		h.t.Fatalf("entry %d: %+v", h.index, resp)
	}
}

func (h *handLed) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n-lead"), Addr: []byte(h.lead.LocalAddr())}
}

func (h *handLed) do(b fsm.Body) {
	h.t.Helper()
	h.send(entry(h.t, 0, b))
	eventually(h.t, "it is applied", func() bool { return h.p.node.State().Index == h.index })
}

// snapshot is one of what the node has now, as a leader would send it.
func (h *handLed) snapshot() (raft.InstallSnapshotRequest, []byte) {
	h.t.Helper()
	f := h.p.node.raft.Snapshot()
	check(h.t, f.Error())
	meta, rc, err := f.Open()
	check(h.t, err)
	defer rc.Close()
	b := must[[]byte](h.t)(io.ReadAll(rc))
	return raft.InstallSnapshotRequest{
		RPCHeader: h.header(), SnapshotVersion: meta.Version, Term: handTerm, LastLogIndex: meta.Index, LastLogTerm: meta.Term,
		Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex, Size: int64(len(b)),
	}, b
}

// Found in simulation by seed 501008: a node that had been frozen installed a snapshot that
// was sent to it before the entries that it had applied since.
func TestAStaleSnapshotIsNotInstalled(t *testing.T) {
	h := newHandLed(t)
	h.do(initCluster())
	h.do(subnet(1))
	old, content := h.snapshot()
	h.do(subnet(2))
	h.send(&raft.Log{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(h.servers("n-third"))})
	h.do(subnet(3))

	var resp raft.InstallSnapshotResponse
	check(t, h.lead.InstallSnapshot("", h.at, &old, &resp, bytes.NewReader(content)))
	if !resp.Success || resp.Term != handTerm {
		t.Errorf("answered %+v: the leader sends it again and again", resp)
	}
	if s := h.p.node.State(); s.Index != h.index || !has(s, 3) {
		t.Errorf("the state went back from %d to %d", h.index, s.Index)
	}
	if ids, _ := h.p.node.Voters(); !strings.Contains(strings.Join(ids, " "), "n-third") {
		t.Errorf("the voters went back to %v", ids)
	}
	h.do(subnet(4)) // and it goes on

	old.Term = handTerm - 1
	check(t, h.lead.InstallSnapshot("", h.at, &old, &resp, bytes.NewReader(content)))
	if resp.Success || resp.Term != handTerm {
		t.Errorf("a leader of the past got %+v", resp)
	}
}

// A node whose log begins after a snapshot gets an older snapshot, and what follows on that:
// it has no entry there to compare with, and takes what is new all the same. (In simulation,
// seed 603833: it got snapshots without end, and nothing after them.)
func TestWhatFollowsAStaleSnapshotIsTaken(t *testing.T) {
	full := newHandLed(t)
	full.do(initCluster())
	full.do(subnet(1))
	old, oldContent := full.snapshot()
	full.do(subnet(2))
	full.do(subnet(3))
	now, nowContent := full.snapshot()

	h := newEmptyHandLed(t)
	var resp raft.InstallSnapshotResponse
	check(t, h.lead.InstallSnapshot("", h.at, &now, &resp, bytes.NewReader(nowContent)))
	check(t, h.lead.InstallSnapshot("", h.at, &old, &resp, bytes.NewReader(oldContent)))
	if !resp.Success {
		t.Fatalf("the older snapshot: %+v", resp)
	}
	for _, tc := range []struct {
		name string
		upTo uint64 // the last entry that is sent after the older snapshot
	}{
		{"less than it has", now.LastLogIndex - 1},
		{"what it has", now.LastLogIndex},
		{"one more", now.LastLogIndex + 1},
		{"two more, one of them again", now.LastLogIndex + 2},
	} {
		req := &raft.AppendEntriesRequest{
			RPCHeader: full.header(), Term: handTerm, PrevLogEntry: old.LastLogIndex, PrevLogTerm: handTerm, LeaderCommitIndex: tc.upTo,
		}
		for i := old.LastLogIndex + 1; i <= tc.upTo; i++ {
			e := entry(t, i, subnet(int(i)))
			e.Term = handTerm
			req.Entries = append(req.Entries, e)
		}
		var resp raft.AppendEntriesResponse
		check(t, h.lead.AppendEntries("", h.at, req, &resp))
		if !resp.Success {
			t.Errorf("%s: %+v", tc.name, resp)
		}
		want := max(tc.upTo, now.LastLogIndex)
		eventually(t, tc.name, func() bool { return h.p.node.State().Index == want })
		if s := h.p.node.State(); !has(s, 3) || has(s, int(want)) != (want > now.LastLogIndex) {
			t.Errorf("%s: the state has the wrong entries", tc.name)
		}
	}
}

// A node whose log goes on behind its snapshot takes what follows on that snapshot: Raft has
// no entry there to compare with, and its leader would ask for ever.
func TestWhatFollowsTheSnapshotIsTaken(t *testing.T) {
	h := newHandLed(t)
	h.do(initCluster())
	h.do(subnet(1))
	at, content := h.snapshot()
	h = newEmptyHandLed(t)
	var resp raft.InstallSnapshotResponse
	check(t, h.lead.InstallSnapshot("", h.at, &at, &resp, bytes.NewReader(content)))
	follow := func(first, last, committed uint64) bool {
		t.Helper()
		req := &raft.AppendEntriesRequest{RPCHeader: h.header(), Term: handTerm, PrevLogEntry: first - 1, PrevLogTerm: handTerm, LeaderCommitIndex: committed}
		for i := first; i <= last; i++ {
			e := entry(t, i, subnet(int(i)))
			e.Term = handTerm
			req.Entries = append(req.Entries, e)
		}
		var resp raft.AppendEntriesResponse
		check(t, h.lead.AppendEntries("", h.at, req, &resp))
		return resp.Success
	}
	next := at.LastLogIndex + 1
	if !follow(next, next+1, at.LastLogIndex) { // appended, not committed
		t.Fatal("what follows the snapshot is refused")
	}
	for _, tc := range []struct {
		name string
		last uint64
	}{{"less than it has", next}, {"what it has", next + 1}, {"more", next + 3}} {
		if !follow(next, tc.last, tc.last) {
			t.Errorf("%s is refused", tc.name)
		}
		eventually(t, tc.name, func() bool { return has(h.p.node.State(), int(tc.last)) })
	}
}

// A snapshot waits until Raft has answered what came before it: that may commit what makes
// the snapshot stale.
func TestSnapshotsAreJudgedInOrder(t *testing.T) {
	_, inner := raft.NewInmemTransportWithTimeout("10.9.9.2:1", patience)
	_, lead := raft.NewInmemTransportWithTimeout("10.9.9.1:1", patience)
	lead.Connect("10.9.9.2:1", inner)
	var index uint64 // guarded by the order of requests
	done := make(chan struct{})
	f, err := newFreshOnly(inner, time.Minute, func() (uint64, uint64) { return handTerm, index }, done)
	check(t, err)
	answers := make(chan error, 2)
	go func() {
		answers <- lead.AppendEntries("", "10.9.9.2:1", &raft.AppendEntriesRequest{Term: handTerm}, &raft.AppendEntriesResponse{})
	}()
	stopped := make(chan struct{})
	go func() { defer close(stopped); f.run() }()
	rpc := <-f.Consumer()
	go func() {
		req := &raft.InstallSnapshotRequest{Term: handTerm, LastLogIndex: 5, Size: 3}
		answers <- lead.InstallSnapshot("", "10.9.9.2:1", req, &raft.InstallSnapshotResponse{}, strings.NewReader("abc"))
	}()
	select {
	case rpc := <-f.Consumer():
		t.Fatalf("%T overtook", rpc.Command)
	case <-time.After(50 * time.Millisecond):
	}
	index = 5
	rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	check(t, <-answers)
	select {
	case rpc := <-f.Consumer():
		t.Fatalf("%T reached Raft", rpc.Command)
	case err := <-answers:
		check(t, err)
	case <-time.After(patience):
		t.Fatal("the stale snapshot has no answer")
	}
	close(done)
	<-stopped
}
