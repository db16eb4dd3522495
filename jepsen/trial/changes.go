package trial

import (
	"fmt"
	"slices"
	"time"

	"havip-cluster/jepsen/history"
)

// tellWait is how long the timelines of the last changes may take: the leader waits for the new
// owner's last word, and for a first frame.
const tellWait = 15 * time.Second

// readChanges takes the timelines of the watched HAVIPs, once all up to their present epochs are there.
// What is still missing then is for the checker.
func (r *run) readChanges() {
	end := time.Now().Add(tellWait)
	for {
		missing, err := r.readChangesOnce()
		if err == nil && missing == 0 || time.Now().After(end) {
			return
		}
		time.Sleep(wholePoll)
	}
}

func (r *run) readChangesOnce() (missing int, err error) {
	var placed []struct {
		Name  string `json:"name"`
		Epoch uint64 `json:"epoch"`
	}
	if err := r.anywhere("/v1/placement", &placed); err != nil {
		return 0, fmt.Errorf("trial: %w", err)
	}
	var told []struct {
		HAVIP, Kind, From, To string
		Epoch                 uint64
		Steps                 []struct{ Step, Node string }
	}
	if err := r.anywhere("/v1/failovers", &told); err != nil {
		return 0, fmt.Errorf("trial: %w", err)
	}
	for _, f := range told {
		known := slices.ContainsFunc(r.changes, func(c history.Change) bool {
			return c.HAVIP == f.HAVIP && c.Epoch == f.Epoch && c.To == f.To
		})
		if known || !slices.Contains(watched, f.HAVIP) {
			continue
		}
		c := history.Change{HAVIP: f.HAVIP, Epoch: f.Epoch, Kind: f.Kind, From: f.From, To: f.To}
		for _, s := range f.Steps {
			c.Steps, c.Nodes = append(c.Steps, s.Step), append(c.Nodes, s.Node)
		}
		r.changes = append(r.changes, c)
	}
	for _, p := range placed {
		if !slices.Contains(watched, p.Name) {
			continue
		}
		if !slices.ContainsFunc(r.changes, func(c history.Change) bool { return c.HAVIP == p.Name && c.Epoch == p.Epoch }) {
			missing++
		}
		r.marks = append(r.marks, history.Mark{Kind: history.MarkEpoch, At: r.lab.Now(), Text: p.Name, Value: p.Epoch})
	}
	return missing, nil
}
