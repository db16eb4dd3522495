package agent

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/membership"
	"havip-cluster/membership/identity"
)

// TestVoterSetIsMadeOnce: on a real node, where it is asked for with each word of the lease.
func TestVoterSetIsMadeOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr).AddrPort()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir, id := dataDir(t)
	if err := membership.Bootstrap(identity.RaftDir(dir), id.NodeID, raft.ServerAddress(address.String())); err != nil {
		t.Fatal(err)
	}
	node, err := membership.Open(membership.Config{
		Dir: identity.RaftDir(dir), Node: id.NodeID, Listen: address, Server: id.ServerTLS(true), Client: id.ClientTLSTo,
		Heartbeat: id.Timers().RaftHeartbeat, LeaderLease: id.Timers().RaftLeaderLease, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	log := &raftLog{Node: node}
	for end := time.Now().Add(nodeWait); ; time.Sleep(10 * time.Millisecond) {
		if _, leads := node.Leading(); leads {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not lead")
		}
	}
	set := log.VoterSet()
	if len(set.Voters) != 1 || set.Voters[0] != id.NodeID || set.Index == 0 {
		t.Errorf("the voters are %+v", set)
	}
	if n := testing.AllocsPerRun(1000, func() { log.VoterSet() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if again := log.VoterSet(); again.ID != set.ID || again.Index != set.Index {
		t.Errorf("first %+v, then %+v", set, again)
	}
}
