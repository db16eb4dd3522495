package fsm

import (
	"fmt"
	"time"
)

// SnapshotPlan says how often each voter saves the state by itself, and how many files it keeps.
type SnapshotPlan struct {
	Every time.Duration `json:"every,omitempty"` // 0 = never
	Keep  int           `json:"keep,omitempty"`
}

// Bounds of a SnapshotPlan.
const (
	SnapshotEveryMin = time.Minute
	SnapshotEveryMax = 31 * 24 * time.Hour
	SnapshotKeepMax  = 1000
)

// setSnapshots checks and takes a plan.
func (s *State) setSnapshots(c Command, p SnapshotPlan) *Refusal {
	switch {
	case p.Every == 0:
		p.Keep = 0
	case p.Every < SnapshotEveryMin || p.Every > SnapshotEveryMax:
		return Refuse(CodeRange, "a snapshot every %s is not possible: %s to %s, or 0 for none", p.Every, SnapshotEveryMin, SnapshotEveryMax)
	case p.Keep < 1 || p.Keep > SnapshotKeepMax:
		return Refuse(CodeRange, "%d snapshots cannot be kept: 1 to %d", p.Keep, SnapshotKeepMax)
	}
	s.Cluster.Snapshots = p
	text := "no voter saves snapshots by itself any more"
	if p.Every != 0 {
		text = fmt.Sprintf("each voter saves a snapshot every %s and keeps %d", p.Every, p.Keep)
	}
	s.note(c, "cluster-changed", "", "", text)
	return nil
}
