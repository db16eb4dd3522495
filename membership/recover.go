package membership

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

// ErrNoSuccessor is returned for a log from which its node cannot go on alone.
var ErrNoSuccessor = errors.New("membership: no cluster can begin again from this log")

// Survivor is what the log of a node held.
type Survivor struct {
	Index, Term uint64    // of the newest entry
	Written     time.Time // when that entry's leader appended it, by its clock; zero if only a snapshot has it
	State       *fsm.State
}

// Recover makes the log in dir that of a cluster of another id, with node as its only
// voter, for when the majority of the old one is lost for good. It keeps what the log
// holds, entries that were perhaps never committed among them, and cannot know of what it
// lacks. Only for a copy that nobody uses: after an error the copy is of no use. It returns
// ErrNoSuccessor when node is no voter or witness of the cluster, or leaves it, and ErrLogGap.
//
// The other nodes stay members. Their sessions end as those of any lost node do.
func Recover(dir, node string, address raft.ServerAddress, cluster string) (Survivor, error) {
	store, err := openBolt(dir)
	if err != nil {
		return Survivor{}, err
	}
	if err := checkReach(dir, store); err != nil {
		return Survivor{}, errors.Join(err, store.Close())
	}
	if err := checkEntries(dir, store, "use the log of another voter"); err != nil {
		return Survivor{}, errors.Join(err, store.Close())
	}
	snaps, err := raft.NewFileSnapshotStore(dir, snapshotsKept, io.Discard)
	if err != nil {
		return Survivor{}, errors.Join(fmt.Errorf("membership: %w", err), store.Close())
	}
	out, err := newestEntry(store, snaps)
	if err == nil {
		err = forgetDamagedBallot(store, out.Term)
	}
	if err == nil {
		out.State, err = recoverOn(store, snaps, node, address, cluster)
	}
	return out, errors.Join(err, store.Close())
}

// newestEntry says how far a log goes.
func newestEntry(store raft.LogStore, snaps raft.SnapshotStore) (Survivor, error) {
	list, err := snaps.List()
	if err != nil {
		return Survivor{}, fmt.Errorf("membership: %w", err)
	}
	var out Survivor
	if len(list) > 0 { // the newest is first
		out.Index, out.Term = list[0].Index, list[0].Term
	}
	last, err := store.LastIndex()
	if err != nil || last <= out.Index {
		return out, err
	}
	var l raft.Log
	if err := store.GetLog(last, &l); err != nil {
		return out, fmt.Errorf("membership: entry %d: %w", last, err)
	}
	return Survivor{Index: l.Index, Term: l.Term, Written: l.AppendedAt}, nil
}

func recoverOn(store Store, snaps raft.SnapshotStore, node string, address raft.ServerAddress, cluster string) (*fsm.State, error) {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(node)
	conf.LogOutput = io.Discard
	_, trans := raft.NewInmemTransport(address)
	m := successor{NewMachine(), node, cluster}
	err := raft.RecoverCluster(conf, m, store, store, snaps, trans, raft.Configuration{
		Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(node), Address: address}},
	})
	if err != nil {
		if why := m.unfit(); why != nil { // RecoverCluster hides it
			return nil, why
		}
		return nil, fmt.Errorf("membership: recover: %w", err)
	}
	return m.State(), nil
}

// successor is the state machine of a log from which a cluster of another id goes on.
type successor struct {
	*Machine
	node, cluster string
}

// unfit says why the node cannot go on alone with the present state.
func (m successor) unfit() error {
	if err := m.Halted(); err != nil {
		return err
	}
	n, member := m.State().Nodes[m.node]
	switch {
	case !member:
		return fmt.Errorf("%w: it ends before node %s became a member", ErrNoSuccessor, m.node)
	case n.Role == fsm.RoleAgent:
		return fmt.Errorf("%w: node %s has the role agent, which never votes; use the log of a voter or a witness", ErrNoSuccessor, n.Name)
	case n.Removing:
		return fmt.Errorf("%w: node %s was being removed from the cluster", ErrNoSuccessor, n.Name)
	}
	return nil
}

// Snapshot is called when all entries are applied.
func (m successor) Snapshot() (raft.FSMSnapshot, error) {
	if err := m.unfit(); err != nil {
		return nil, err
	}
	s := m.State().WithoutKeys(m.node)
	s.Cluster.ID = m.cluster
	return snapshot{s}, nil
}
