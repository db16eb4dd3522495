package shell

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// TestRefusedAsADuplicate: one cause is one line, and a process that another one keeps out ends.
func TestRefusedAsADuplicate(t *testing.T) {
	const length = 500 * time.Millisecond
	var logs bytes.Buffer
	now := lease.Instant(time.Hour)
	k := NewSessionClient(Config{
		Log: &still{state: fsm.New()}, Clock: func() lease.Instant { return now }, Logger: slog.New(slog.NewTextHandler(&logs, nil)), Lease: length,
	}, nil, nil)
	for ms := range 5 {
		if err := k.refused(fsm.Refuse(fsm.CodeInUse, "renewed %dms ago by another process", ms)); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(logs.String(), "\n"); n != 1 {
		t.Errorf("%d lines for one cause:\n%s", n, &logs)
	}
	refusal := fsm.Refuse(fsm.CodeInUse, "another process renews it")
	now = now.Add(duplicateLeases*length - 1)
	if err := k.refused(refusal); err != nil {
		t.Errorf("refused for less than %d leases: %v", duplicateLeases, err)
	}
	now++
	if err := k.refused(refusal); !errors.Is(err, ErrDuplicateNode) {
		t.Errorf("refused for %d leases: %v", duplicateLeases, err)
	}
	k.refused(fsm.Refuse(fsm.CodeUnsupported, "the fence does not know every HAVIP"))
	if err := k.refused(refusal); err != nil {
		t.Errorf("it counts from before another refusal: %v", err)
	}
}
