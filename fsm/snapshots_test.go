package fsm

import (
	"strings"
	"testing"
	"time"
)

// TestSnapshotPlan: it is kept, bounded, told, in the snapshot, and 0 ends it.
func TestSnapshotPlan(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	w.refuses(SetCluster{Snapshots: &SnapshotPlan{Every: time.Hour, Keep: 3}}, CodeLevel, "upgrade it first")
	w.upgrade4()
	w.refuses(SetCluster{Snapshots: &SnapshotPlan{Every: time.Second, Keep: 3}}, CodeRange, "1m0s to 744h0m0s")
	w.refuses(SetCluster{Snapshots: &SnapshotPlan{Every: 32 * 24 * time.Hour, Keep: 3}}, CodeRange, "744h")
	w.refuses(SetCluster{Snapshots: &SnapshotPlan{Every: time.Hour}}, CodeRange, "1 to 1000")
	w.refuses(SetCluster{Snapshots: &SnapshotPlan{Every: time.Hour, Keep: 1001}}, CodeRange, "1 to 1000")
	w.must(SetCluster{Snapshots: &SnapshotPlan{Every: time.Hour, Keep: 3}})
	if !w.hasEvent("cluster-changed", "saves a snapshot every 1h0m0s and keeps 3") {
		t.Error("no event")
	}
	back, err := ReadSnapshot(strings.NewReader(string(snapshot(t, w.state))))
	if err != nil || back.Cluster.Snapshots != (SnapshotPlan{Every: time.Hour, Keep: 3}) {
		t.Errorf("%v, %+v", err, back.Cluster.Snapshots)
	}
	w.must(SetCluster{Snapshots: &SnapshotPlan{Keep: 9}})
	if w.state.Cluster.Snapshots != (SnapshotPlan{}) || !w.hasEvent("cluster-changed", "no voter saves") {
		t.Errorf("%+v", w.state.Cluster.Snapshots)
	}
}
